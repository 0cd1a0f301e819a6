//! Disks from images that cannot be cloned.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use umbel_agent::HostPool;
use umbel_bus::{DiskSource, ImageSource};
use umbel_core::SystemRng;
use umbel_driver::{LocalPool, LocalStore, Pool};
use uuid::Uuid;

use crate::world::{MIB, World, absent, disk_name, domain, names, present};

fn source(disk_format: &str, size: usize) -> ImageSource {
    ImageSource {
        image_id: "image".into(),
        locations: Vec::new(),
        disk_format: disk_format.into(),
        container_format: "bare".into(),
        size: Some(size as u64),
        virtual_size: None,
    }
}

/// 2 MiB, the second half zeros.
fn content() -> Vec<u8> {
    (0..2 * MIB).map(|at| if at < MIB { (at % 251) as u8 } else { 0 }).collect()
}

fn qemu_img(args: &[&str]) {
    let done = Command::new("qemu-img").args(args).output();
    let done = done.expect("qemu-img is missing: run scripts/deps.sh, or install qemu-utils");
    assert!(done.status.success(), "qemu-img {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The content as an image of this format.
fn converted(format: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("raw"), content()).unwrap();
    qemu_img(&["convert", "-f", "raw", "-O", format, &path("raw"), &path("image")]);
    std::fs::read(path("image")).unwrap()
}

async fn bytes_of(pool: &dyn Pool, disk: &str) -> Vec<u8> {
    let size = pool.stat(disk).await.unwrap().unwrap().size;
    let chunks: Vec<Bytes> = pool.read(disk, None, 0, size).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

/// Boots from these bytes, and says how that went: the disk's content, or the fault.
async fn boot(image: ImageSource, bytes: Vec<u8>) -> Result<(String, Vec<u8>), String> {
    boot_of(image, bytes, None).await
}

/// The same, where the image service tells what the bytes are.
async fn boot_of(image: ImageSource, bytes: Vec<u8>, format: Option<&str>) -> Result<(String, Vec<u8>), String> {
    let (world, id) = (World::new(), Uuid::new_v4());
    world.images.formats.lock().extend(format.map(|format| (image.image_id.clone(), format.to_owned())));
    world.images.bytes.lock().insert(image.image_id.clone(), bytes.into());
    let _agent = world.agent();
    world.want(id, present(domain(id, "vms", DiskSource::Image(image)))).await;
    let made = world.cell.done(id).await;
    let outcome = match made.fault {
        Some(fault) => Err(fault),
        None => {
            world.assert_runs(id, "imported").await;
            assert_eq!(names(&made), ["disk_import", "config_drive", "domain_start"]);
            Ok((made.steps[0].detail.clone(), bytes_of(&world.pool, &disk_name(id)).await))
        }
    };
    world.want(id, absent(id, "vms")).await;
    world.cell.done(id).await;
    world.assert_gone(id, "import").await;
    outcome
}

fn assert_content(disk: &[u8]) {
    let content = content();
    assert_eq!(disk.len() as u64, 4 * MIB);
    assert!(disk[..content.len()] == content[..] && disk[content.len()..].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_raw_image_without_a_location_is_streamed() {
    let (why, disk) = boot(source("raw", content().len()), content()).await.unwrap();
    assert_eq!(why, "imported into pool vms: the image service names no place to clone from");
    assert_content(&disk);
}

/// The image service keeps a raw disk beside an image of another format, and names that one's place.
#[tokio::test]
async fn the_twin_of_an_image_is_cloned() {
    let (world, id) = (World::new(), Uuid::new_v4());
    let raw = futures_util::stream::iter([Ok(Bytes::from(content()))]);
    world.pool.write("twin", Box::pin(raw), Default::default()).await.unwrap();
    world.pool.snapshot("twin", "snap").await.unwrap();
    let image = ImageSource { locations: vec![world.pool.location("twin", "snap").to_string()], ..source("qcow2", 9) };
    let _agent = world.agent();
    world.want(id, present(domain(id, "vms", DiskSource::Image(image)))).await;
    let made = world.cell.done(id).await;
    assert_eq!((made.fault.as_deref(), names(&made)[0]), (None, "disk_clone"));
    assert_content(&bytes_of(&world.pool, &disk_name(id)).await);
    world.want(id, absent(id, "vms")).await;
    assert_eq!(world.cell.done(id).await.fault, None);
}

#[tokio::test]
async fn an_image_elsewhere_is_imported_and_the_reason_told() {
    let image = ImageSource {
        locations: vec!["https://example.org/image".into(), "rbd://other/images/image/snap".into()],
        ..source("raw", content().len())
    };
    let (why, disk) = boot(image, content()).await.unwrap();
    assert!(why.contains("rbd://other/images/image/snap"), "{why}");
    assert_content(&disk);
}

#[tokio::test]
async fn other_formats_are_converted() {
    for format in ["qcow2", "vmdk", "vdi"] {
        let image = converted(format);
        let (why, disk) = boot(source(format, image.len()), image).await.unwrap();
        assert_eq!(why, format!("imported into pool vms: image is {format}"));
        assert_content(&disk);
    }
}

/// The image's raw twin has become its data since the server was asked for.
#[tokio::test]
async fn data_that_were_replaced_are_read_as_what_they_are() {
    let (_, disk) = boot_of(source("vdi", 9), content(), Some("raw")).await.unwrap();
    assert_content(&disk);
}

#[tokio::test]
async fn bad_images_are_refused() {
    let check = |name: &'static str, image: ImageSource, bytes: Vec<u8>, want: &'static str| async move {
        let fault = boot(image, bytes).await.unwrap_err();
        assert_eq!(fault, want, "{name}");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    qemu_img(&["create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", &path("backed"), "1M"]);
    let backed = std::fs::read(path("backed")).unwrap();
    check("backing file", source("qcow2", backed.len()), backed, "The qcow2 image has a backing file.").await;

    let data_file = format!("data_file={}", path("data"));
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data_file, &path("split"), "1M"]);
    let split = std::fs::read(path("split")).unwrap();
    check(
        "data file",
        source("qcow2", split.len()),
        split,
        "The qcow2 image has an external data file, or features that are not known.",
    )
    .await;

    qemu_img(&["create", "-q", "-f", "qcow2", &path("large"), "5M"]);
    let large = std::fs::read(path("large")).unwrap();
    check("too large", source("qcow2", large.len()), large, "Flavor's disk is too small for requested image.").await;

    check("not qcow2", source("qcow2", 9), b"not qcow2".to_vec(), "The qcow2 image has no header of version 2 or 3.")
        .await;
    check("unknown", source("ploop", 1), vec![1], "Images of format 'ploop' cannot be booted.").await;
    let ova = ImageSource { container_format: "ova".into(), ..source("raw", 1) };
    check("container", ova, vec![1], "Images in a container of format 'ova' cannot be booted.").await;
    check("cut short", source("raw", 2), vec![1], "1 bytes came of the 2 announced.").await;
}

#[tokio::test]
async fn an_import_ends_when_the_server_is_deleted() {
    let (world, id) = (World::new(), Uuid::new_v4());
    world.images.bytes.lock().insert("image".into(), content().into());
    world.images.stuck.lock().push("image".into());
    let _agent = world.agent();
    for format in ["raw", "qcow2"] {
        world.want(id, present(domain(id, "vms", DiskSource::Image(source(format, 9 << 20))))).await;
        world.want(id, absent(id, "vms")).await;
        assert_eq!(world.cell.done(id).await.fault, None, "{format}");
        world.assert_gone(id, format).await;
    }
}

#[tokio::test]
async fn local_pools_clone_and_import() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let store = LocalStore::open(dir.path(), &SystemRng::new()).await.unwrap();
    let images = LocalPool::open(&store, "images", "images").await.unwrap();
    let disks = Arc::new(LocalPool::open(&store, "local", "vms").await.unwrap());
    let data = futures_util::stream::iter([Ok(Bytes::from(content()))]);
    images.write("image", Box::pin(data), Default::default()).await.unwrap();
    images.snapshot("image", "snap").await.unwrap();
    let qcow2 = converted("qcow2");
    world.images.bytes.lock().insert("image".into(), qcow2.clone().into());
    let pool = HostPool { pool: disks.clone(), tier: "hdd".into(), driver: "local".into(), shared: false };
    let _agent = world.agent_with(vec![pool], |link| Arc::new(link));
    let raw =
        ImageSource { locations: vec![images.location("image", "snap").to_string()], ..source("raw", content().len()) };
    for (image, step) in [(raw, "disk_clone"), (source("qcow2", qcow2.len()), "disk_import")] {
        let id = Uuid::new_v4();
        world.want(id, present(domain(id, "local", DiskSource::Image(image)))).await;
        let made = world.cell.done(id).await;
        assert_eq!((made.fault.as_deref(), names(&made)[0]), (None, step));
        assert_content(&bytes_of(&*disks, &disk_name(id)).await);
        world.want(id, absent(id, "local")).await;
        assert_eq!(world.cell.done(id).await.fault, None);
        assert_eq!(disks.list().await.unwrap(), Vec::<String>::new());
    }
}
