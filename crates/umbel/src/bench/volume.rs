//! What a user of volumes waits for, one volume after the other: made in each way, snapshotted, plugged into a running
//! server and out of it, booted from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use umbel_client::{Images, NewServer, Transport};
use umbel_core::{Error, GIB, Kind, Result};

use super::report::Figure;
use super::storage::{gone, made, reaches};
use super::{Bench, LIMIT, POLL, boot};
use crate::demo;

/// What the console of a guest that is up has: ours says so itself, others ask who is there.
const UP: [&str; 2] = [demo::READY, "login:"];

/// What the server boots that volumes are plugged into. A disk leaves a running server when its guest lets go of it, so
/// this one must be up: an image of the cloud, or a file that becomes one.
pub enum Guest {
    Image(String),
    File(PathBuf),
}

impl Guest {
    /// Without either, the disk that `make guest-image` builds.
    pub fn of(image: Option<String>, file: Option<PathBuf>) -> Result<Guest> {
        let built = || Some(PathBuf::from(".umbel/guest.img")).filter(|path| path.is_file());
        if let Some(file) = file.as_deref().filter(|file| !file.is_file()) {
            return Err(Error::not_found(format!("There is no guest image at {}.", file.display())));
        }
        let file = || file.or_else(built).map(Guest::File);
        image.map(Guest::Image).or_else(file).ok_or_else(|| {
            Error::bad_request(
                "Volumes are plugged into a guest that runs: name a bootable image of the cloud with \
                --image, or a file of one with --guest (`make guest-image` builds .umbel/guest.img).",
            )
        })
    }
}

/// Times by what was done, in the order in which it is done.
#[derive(Default)]
struct Times(BTreeMap<(usize, &'static str), Vec<Duration>>);

impl Times {
    fn add(&mut self, place: usize, what: &'static str, begun: Instant) {
        self.0.entry((place, what)).or_default().push(begun.elapsed());
    }
}

pub async fn run(bench: &Bench, transport: &Arc<dyn Transport>, guest: &Guest, runs: usize) -> Result<Vec<Figure>> {
    super::lift_quota(&bench.cloud, "block-storage", &["volumes", "gigabytes", "snapshots"]).await?;
    let bootable = match guest {
        Guest::Image(name) => find(bench, transport, name).await?,
        Guest::File(path) => boot::upload_bytes(bench, demo::bytes_of(path, |_| {}).await?).await?,
    };
    let new = NewServer { name: &bench.mark, image_id: &bootable, flavor_id: &bench.flavor, count: 1 };
    let server = bench.cloud.create_server(&new).await?;
    let image = boot::upload(bench, 2 * GIB).await?;
    bench.cloud.wait_active(&server, POLL, LIMIT).await?;
    demo::console_line(&bench.cloud, &server, &UP, Instant::now() + demo::BOOT).await?;
    let mut times = Times::default();
    for _ in 0..runs {
        once(bench, &image, &server, &mut times).await?;
    }
    bench.cloud.delete_server(&server).await?;
    bench.cloud.wait_gone(&server, POLL, LIMIT).await?;
    bench.cloud.delete("image", &format!("/v2/images/{image}")).await?;
    if let Guest::File(_) = guest {
        bench.cloud.delete("image", &format!("/v2/images/{bootable}")).await?;
    }
    bench.close().await?;
    Ok(times.0.iter().map(|((_, what), times)| Figure::of_times(*what, times)).collect())
}

/// The image of this name or, if there is none, of this id.
async fn find(bench: &Bench, transport: &Arc<dyn Transport>, name: &str) -> Result<String> {
    let images = Images::new(transport.clone(), bench.cloud.endpoint("image")?);
    let mut named = images.find(bench.cloud.token(), &[("name", name)]).await?;
    match (named.pop(), named.is_empty()) {
        (Some(image), true) => Ok(image.id),
        (Some(_), false) => Err(Error::conflict(format!("There are several images '{name}': give the id of one."))),
        (None, _) => match images.show(bench.cloud.token(), name).await {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::BadRequest) => {
                Err(Error::not_found(format!("There is no image '{name}'.")))
            }
            found => Ok(found?.id),
        },
    }
}

async fn once(bench: &Bench, image: &str, server: &str, times: &mut Times) -> Result<()> {
    let cloud = &bench.cloud;
    let volume = async |source: Value| {
        let mut body = json!({"name": bench.mark, "size": 2});
        if let (Some(body), Value::Object(source)) = (body.as_object_mut(), source) {
            body.extend(source);
        }
        made(cloud, "volume", "/volumes", &json!({"volume": body})).await
    };
    let begun = Instant::now();
    let blank = volume(json!({})).await?;
    times.add(0, "volume, empty", begun);

    let begun = Instant::now();
    let system = volume(json!({"imageRef": image})).await?;
    times.add(1, "volume from an image of 2 GiB", begun);

    let begun = Instant::now();
    let new = json!({"snapshot": {"name": bench.mark, "volume_id": system}});
    let snapshot = made(cloud, "snapshot", "/snapshots", &new).await?;
    times.add(2, "snapshot", begun);

    let begun = Instant::now();
    let copy = volume(json!({"snapshot_id": snapshot})).await?;
    times.add(3, "volume from a snapshot", begun);

    let attachments = format!("/servers/{server}/os-volume_attachments");
    let begun = Instant::now();
    let body = json!({"volumeAttachment": {"volumeId": blank}});
    let _: Value = cloud.post("compute", &attachments, None, &body).await?;
    reaches(cloud, "volume", &format!("/volumes/{blank}"), "in-use").await?;
    times.add(4, "attached to a running server", begun);

    let begun = Instant::now();
    cloud.delete("compute", &format!("{attachments}/{blank}")).await?;
    reaches(cloud, "volume", &format!("/volumes/{blank}"), "available").await?;
    times.add(5, "detached", begun);

    let begun = Instant::now();
    let booted = boot_from(bench, image).await?;
    times.add(6, "server with a new volume from an image of 2 GiB", begun);
    cloud.delete_server(&booted).await?;
    cloud.wait_gone(&booted, POLL, LIMIT).await?;

    gone(cloud, "/snapshots", &snapshot).await?;
    for volume in [&copy, &system, &blank] {
        let begun = Instant::now();
        gone(cloud, "/volumes", volume).await?;
        times.add(7, "volume deleted", begun);
    }
    Ok(())
}

async fn boot_from(bench: &Bench, image: &str) -> Result<String> {
    let disk = json!({"boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "volume",
        "volume_size": 2, "delete_on_termination": true});
    let server = json!({"name": bench.mark, "flavorRef": bench.flavor, "networks": "none",
        "block_device_mapping_v2": [disk]});
    let made: Value = bench.cloud.post("compute", "/servers", Some("2.37"), &json!({"server": server})).await?;
    let id = made["server"]["id"].as_str().unwrap_or_default().to_owned();
    bench.cloud.wait_active(&id, POLL, LIMIT).await?;
    Ok(id)
}
