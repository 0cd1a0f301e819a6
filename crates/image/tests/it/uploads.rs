//! Data on their way in.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use umbel_core::Kind;
use umbel_db::Engine;
use umbel_driver::{LocalPool, LocalStore, Mode, Operation, Pool, SimulatedPool, Simulation};
use umbel_http::Body;
use umbel_image::Config;

use crate::cloud::{Cloud, body, eventually, fed, file, image, noise};

const SHA512_OF_ABC: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

/// Queued, without a trace in any pool.
async fn untouched(cloud: &Cloud, id: &str) {
    let shown = cloud.show(id).await;
    assert_eq!((&shown["status"], &shown["size"]), (&json!("queued"), &Value::Null));
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn an_upload_makes_an_image_active() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.tick();
        cloud.upload(&token, &id, b"abc").await.expect(204);
        let shown = cloud.show(&id).await;
        assert_eq!(shown["status"], "active", "{engine:?}");
        assert_eq!((&shown["size"], &shown["virtual_size"]), (&json!(3), &json!(3)));
        assert_eq!(shown["checksum"], "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!((&shown["os_hash_algo"], &shown["os_hash_value"]), (&json!("sha512"), &json!(SHA512_OF_ABC)));
        assert_eq!(shown["updated_at"], "2026-11-18T11:06:41Z");
        let disk = cloud.pool.stat(&id).await.unwrap().unwrap();
        assert_eq!((disk.size, disk.snapshots), (3, vec!["snap".to_owned()]));
        cloud.upload(&token, &id, b"abc").await.refused(409, "from active to saving");
    }
}

/// On local files, through a socket-like stream of uneven pieces.
#[tokio::test]
async fn a_large_image_goes_through_in_pieces() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::open(root.path(), &umbel_core::SystemRng::new()).await.unwrap();
    let open_pool = async |name: &str| {
        let pool: std::sync::Arc<dyn Pool> = std::sync::Arc::new(LocalPool::open(&store, name, name).await.unwrap());
        pool
    };
    let pools = [open_pool("fast").await, open_pool("slow").await];
    let world = Simulation::new(Mode::default());
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), world, pools).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let mut bytes = vec![0; 24 << 20];
    bytes[..3 << 20].copy_from_slice(&noise(1, 3 << 20));
    bytes[20 << 20..].copy_from_slice(&noise(2, 4 << 20));
    let pieces = bytes.chunks(99_991).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    cloud.upload_with(&token, &id, &[], body(pieces)).await.expect(204);
    assert!(cloud.get(&token, &file(&id)).await.bytes == bytes);
    assert_eq!(cloud.show(&id).await["size"], 24 << 20);
    let clone = cloud.pool.location(&id, "snap");
    cloud.pool.clone_disk(&clone, "server_disk", 0).await.unwrap();
    cloud.delete(&token, &image(&id)).await.expect(204);
    cloud.pool.remove("server_disk").await.unwrap();
    cloud.images.sweep().await;
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn a_store_can_be_chosen() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let to = |store| [("x-image-meta-store", store)];
    cloud.upload_with(&token, &id, &to("none"), Body::from("data")).await.refused(400, "none");
    cloud.upload_with(&token, &id, &to("slow"), Body::from("data")).await.expect(204);
    assert_eq!(cloud.show(&id).await["stores"], "slow");
    assert_eq!((cloud.pool.list().await.unwrap().len(), cloud.second.list().await.unwrap().len()), (0, 1));
    assert_eq!(cloud.get(&token, &file(&id)).await.bytes, "data");
    cloud.delete(&token, &image(&id)).await.expect(204);
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_uploaded_is_refused() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    for kind in ["", "application/json", "text/plain"] {
        let headers = [("x-auth-token", token.as_str()), ("content-type", kind)];
        cloud.send("PUT", &file(&id), &headers, Body::from("x")).await.refused(415, "octet-stream");
    }
    let bare = cloud.create(&token, json!({})).await;
    cloud.upload(&token, &bare, b"x").await.refused(400, "disk_format");
    cloud.upload(&token, "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d", b"x").await.expect(404);
    untouched(&cloud, &id).await;
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        let cut = body(vec![Ok(noise(1, 500_000).into()), Err(std::io::Error::other("connection reset"))]);
        cloud.upload_with(&token, &id, &[], cut).await.expect(400);
        untouched(&cloud, &id).await;
        // Told sizes that the data do not have.
        for (size, pieces) in [("1000", 999), ("1000", 1001)] {
            let headers = [("x-openstack-image-size", size)];
            let sent = body(vec![Ok(noise(1, pieces).into())]);
            cloud.upload_with(&token, &id, &headers, sent).await.expect(400);
            untouched(&cloud, &id).await;
        }
        let both = [("x-openstack-image-size", "3"), ("content-length", "4")];
        cloud.upload_with(&token, &id, &both, Body::from("data")).await.refused(400, "differ");
        let bad = [("x-openstack-image-size", "many")];
        cloud.upload_with(&token, &id, &bad, Body::from("data")).await.refused(400, "size");
        // And the image is as good as new.
        let told = [("x-openstack-image-size", "4")];
        cloud.upload_with(&token, &id, &told, body(vec![Ok("data".into())])).await.expect(204);
        assert_eq!(cloud.get(&token, &file(&id)).await.bytes, "data");
    }
}

/// Over a socket that breaks in the middle, with a length and in chunks.
#[tokio::test]
async fn an_upload_whose_client_goes_leaves_nothing() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let server = umbel_http::serve("127.0.0.1:0".parse().unwrap(), cloud.router.clone()).await.unwrap();
    for (framing, piece) in [("content-length: 600000", ""), ("transfer-encoding: chunked", "493e0\r\n")] {
        let id = cloud.queued(&token, "raw").await;
        let mut client = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "PUT {} HTTP/1.1\r\nhost: a\r\nx-auth-token: {token}\r\ncontent-type: application/octet-stream\r\n\
             {framing}\r\n\r\n{piece}",
            file(&id)
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&noise(1, 300_000)).await.unwrap();
        eventually("the bytes arrive", async || {
            let watch = cloud.images.watch_upload(id.parse().unwrap());
            watch.is_some_and(|watch| *watch.borrow() == 300_000)
        })
        .await;
        assert_eq!(cloud.show(&id).await["status"], "saving");
        drop(client);
        eventually("the image is queued again", async || cloud.show(&id).await["status"] == "queued").await;
        untouched(&cloud, &id).await;
        eventually("the upload is forgotten", async || cloud.images.watch_upload(id.parse().unwrap()).is_none()).await;
    }
    server.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_second_upload_is_refused_while_the_first_runs() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let (pieces, stream) = fed();
    pieces.send("da".into()).unwrap();
    let first = cloud.upload_with(&token, &id, &[], stream);
    let second = async {
        eventually("the first has begun", async || cloud.show(&id).await["status"] == "saving").await;
        cloud.upload(&token, &id, b"other").await.refused(409, "from saving to saving");
        cloud.get(&token, &file(&id)).await.expect(204);
        pieces.send("ta".into()).unwrap();
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(first, second);
    answer.expect(204);
    assert_eq!(cloud.get(&token, &file(&id)).await.bytes, "data");
}

#[tokio::test]
async fn of_many_uploads_at_once_one_wins() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        let uploads = (0..6_u64).map(|seed| {
            let (cloud, token, id) = (&cloud, &token, &id);
            async move { (seed, cloud.upload(token, id, &noise(seed, 50_000)).await.status) }
        });
        let answers = futures_util::future::join_all(uploads).await;
        let won: Vec<u64> = answers.iter().filter(|(_, status)| *status == 204).map(|(seed, _)| *seed).collect();
        assert_eq!(won.len(), 1, "{engine:?}: {answers:?}");
        assert!(answers.iter().all(|(_, status)| [204, 409].contains(status)), "{answers:?}");
        assert!(cloud.get(&token, &file(&id)).await.bytes == noise(won[0], 50_000));
    }
}

#[tokio::test]
async fn an_image_deleted_in_the_middle_of_its_upload_is_gone() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let (pieces, stream) = fed();
    pieces.send(noise(1, 100_000).into()).unwrap();
    let upload = cloud.upload_with(&token, &id, &[], stream);
    let delete = async {
        eventually("the upload has begun", async || cloud.show(&id).await["status"] == "saving").await;
        cloud.delete(&token, &image(&id)).await.expect(204);
        cloud.get(&token, &image(&id)).await.expect(404);
        drop(pieces);
    };
    let (answer, ()) = tokio::join!(upload, delete);
    answer.expect(410);
    assert!(cloud.disks().await.is_empty());
    // Its row is gone too: the id is free.
    cloud.create(&token, json!({"id": id})).await;
}

#[tokio::test]
async fn limits_are_413() {
    let config = Config { max_image_size: 1_000, user_storage_quota: Some(1_500), ..Config::default() };
    for engine in Engine::ALL {
        let cloud = Cloud::with(engine, config.clone()).await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.upload_with(&token, &id, &[("x-openstack-image-size", "1001")], Body::empty()).await.expect(413);
        let unsaid = body(vec![Ok(noise(1, 600).into()), Ok(noise(1, 600).into())]);
        cloud.upload_with(&token, &id, &[], unsaid).await.refused(413, "1000 bytes");
        untouched(&cloud, &id).await;
        cloud.upload(&token, &id, &noise(1, 1_000)).await.expect(204);
        let next = cloud.queued(&token, "raw").await;
        cloud.upload(&token, &next, &noise(1, 501)).await.refused(413, "500 bytes");
        cloud.upload(&token, &next, &noise(1, 500)).await.expect(204);
        // Other projects have their own, and what is deleted counts no more.
        cloud.active(&cloud.member("q"), &noise(1, 1_000)).await;
        cloud.delete(&token, &image(&id)).await.expect(204);
        cloud.active(&token, &noise(1, 1_000)).await;
    }
}

#[tokio::test]
async fn a_full_pool_says_so() {
    let world = Simulation::new(Mode::default());
    let small =
        || std::sync::Arc::new(SimulatedPool::with_capacity(&world, "small", 100_000)) as std::sync::Arc<dyn Pool>;
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), world.clone(), [small(), small()]).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    cloud.upload(&token, &id, &noise(1, 1 << 20)).await.refused(413, "storage media is full");
    untouched(&cloud, &id).await;
}

#[tokio::test]
async fn a_pool_that_fails_leaves_the_image_queued() {
    for operation in [Operation::Write, Operation::Snapshot] {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.world.fail_next(operation, 1, Kind::Unavailable);
        cloud.upload(&token, &id, b"data").await.expect(503);
        untouched(&cloud, &id).await;
        // Even if the clean-up fails at first.
        cloud.world.fail_next(operation, 1, Kind::Unavailable);
        cloud.world.fail_next(Operation::Remove, 1, Kind::Unavailable);
        cloud.upload(&token, &id, b"data").await.expect(503);
        assert_eq!(cloud.show(&id).await["status"], "saving");
        assert_eq!(cloud.images.sweep().await.uploads, 1);
        untouched(&cloud, &id).await;
        cloud.upload(&token, &id, b"data").await.expect(204);
    }
}

#[tokio::test]
async fn a_silent_sender_is_given_up() {
    let cloud = Cloud::with(Engine::Sqlite, Config { upload_idle_seconds: 0, ..Config::default() }).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let (pieces, stream) = fed();
    pieces.send("da".into()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), cloud.upload_with(&token, &id, &[], stream)).await;
    answer.unwrap().refused(503, "silent");
    untouched(&cloud, &id).await;
}
