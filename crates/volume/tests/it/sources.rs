//! Where volumes' data come from, on other pools too, and what servers that have them are told.

use std::sync::Arc;

use serde_json::{Value, json};
use umbel_core::SystemRng;
use umbel_db::Engine;
use umbel_driver::{LocalPool, LocalStore, Mode, Operation, Pool, Simulation, WriteOptions};
use umbel_volume::Config;
use umbel_workflow::Crash;

use crate::cloud::{Cloud, gib, noise, stream_of};

/// A disk of 4 clusters of which the first has data, as a qcow2 image of version 3.
pub fn qcow2(data: &[u8]) -> Vec<u8> {
    const CLUSTER: usize = 64 << 10;
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(4 * CLUSTER as u64).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(CLUSTER as u64).to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    put(2 * CLUSTER, &(3 * CLUSTER as u64).to_be_bytes());
    put(3 * CLUSTER, data);
    image
}

#[tokio::test]
async fn images_of_other_formats_become_raw_volumes() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let bytes = noise(7, 64 << 10);
    let image = cloud.images.add("qcow2", &qcow2(&bytes), json!({})).await;
    let id = cloud.volume(&token, json!({"size": 1, "imageRef": image})).await;
    assert_eq!(cloud.read(&id, bytes.len()).await, bytes);
    assert_eq!(cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap().size, gib(1));
    assert_eq!(cloud.disks().await, [format!("volume-{id}")]);

    // Its raw twin becomes its data between the look at it and the download.
    let replaced = cloud.images.add("vdi", &noise(9, 4_096), json!({})).await;
    cloud.images.replace(&replaced, "raw", &bytes);
    let copy = cloud.volume(&token, json!({"size": 1, "imageRef": replaced})).await;
    assert_eq!(cloud.read(&copy, bytes.len()).await, bytes);
    cloud.delete(&token, &format!("/volumes/{copy}")).await.expect(202);
    cloud.work().await;

    // Amazon's are taken as they are.
    let old = cloud.images.add("ami", &bytes, json!({})).await;
    let plain = cloud.volume(&token, json!({"size": 1, "imageRef": old})).await;
    assert_eq!(cloud.read(&plain, bytes.len()).await, bytes);
    cloud.delete(&token, &format!("/volumes/{plain}")).await.expect(202);
    cloud.work().await;

    let empty = cloud.images.add("raw", &[], json!({})).await;
    let blank = cloud.volume(&token, json!({"size": 1, "imageRef": empty})).await;
    let info = cloud.pool.stat(&format!("volume-{blank}")).await.unwrap().unwrap();
    assert_eq!((info.size, info.parent.is_some()), (gib(1), false));
    cloud.delete(&token, &format!("/volumes/{blank}")).await.expect(202);
    cloud.work().await;

    for (format, bytes) in [("vmdk", noise(8, 4_096)), ("ploop", noise(8, 4_096))] {
        let unfit = cloud.images.add(format, &bytes, json!({})).await;
        let id = cloud.begin(&token, json!({"size": 1, "imageRef": unfit})).await;
        cloud.work().await;
        assert_eq!(cloud.show(&id).await["status"], "error");
        assert_eq!(cloud.disks().await.len(), 1);
        let told = cloud.get(&token, &format!("/messages?resource_uuid={id}")).await.expect(200)["messages"].clone();
        assert_eq!(told[0]["event_id"], "VOLUME_VOLUME_005_903", "{told}");
    }
}

/// What a death in the midst of a copy leaves, where the image can be cloned by the time that another process goes on.
#[tokio::test]
async fn a_part_of_a_copy_is_not_taken_for_a_clone() {
    let bytes = noise(11, 1 << 20);
    let (cloud, id) = dead_in_a_copy(&bytes).await;
    let part = WriteOptions { min_size: gib(1), ..WriteOptions::default() };
    cloud.pool.write(&format!("volume-{id}"), stream_of(bytes[..4_096].to_vec()), part).await.unwrap();
    cloud.images.tell_locations();
    cloud.world.heal();
    let (other, _) = cloud.another().await;
    cloud.work_with(&other, Crash::never()).await;
    assert_eq!(cloud.show(&id).await["status"], "available");
    assert!(cloud.read(&id, bytes.len()).await == bytes);
    assert!(cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap().parent.is_some(), "it is a clone");
}

/// A volume whose process died as it was about to copy an image to it.
async fn dead_in_a_copy(bytes: &[u8]) -> (Cloud, String) {
    for nth in 0.. {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let image = cloud.images.add("raw", bytes, json!({})).await;
        cloud.images.hide_locations();
        let id = cloud.begin(&token, json!({"size": 1, "imageRef": image})).await;
        let at = cloud.work_until_change(&cloud.volumes, nth).await.expect("it copies");
        if at.operation == Operation::Write {
            return (cloud, id);
        }
    }
    unreachable!()
}

#[tokio::test]
async fn local_pools_do_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = LocalStore::open(dir.path(), &SystemRng::new()).await.unwrap();
    let mut pools = Vec::new();
    for name in ["fast", "slow", "images"] {
        pools.push(Arc::new(LocalPool::open(&files, name, name).await.unwrap()) as Arc<dyn Pool>);
    }
    let pools: [Arc<dyn Pool>; 3] = pools.try_into().map_err(|_| ()).unwrap();
    let cloud = Cloud::over(Engine::Sqlite, Config::default(), Simulation::new(Mode::default()), pools).await;
    let token = cloud.member("p");
    let bytes = noise(9, 1 << 20);
    let image = cloud.images.add("raw", &bytes, json!({})).await;
    let first = cloud.volume(&token, json!({"size": 1, "imageRef": image})).await;
    let snapshot = cloud.snapshot(&token, &first).await;
    cloud.write(&first, &noise(10, 4_096)).await;
    let second = cloud.volume(&token, json!({"snapshot_id": snapshot})).await;
    let third = cloud.volume(&token, json!({"source_volid": second, "size": 2})).await;
    cloud.act(&token, &first, json!({"revert": {"snapshot_id": snapshot}})).await.expect(202);
    cloud.act(&token, &second, json!({"os-extend": {"new_size": 3}})).await.expect(202);
    cloud.work().await;
    for (id, size) in [(&first, 1), (&second, 3), (&third, 2)] {
        assert_eq!(cloud.read(id, bytes.len()).await, bytes, "{size}");
        assert_eq!(cloud.pool.stat(&format!("volume-{id}")).await.unwrap().unwrap().size, gib(size));
    }
    for id in [&first, &second, &third] {
        cloud.delete(&token, &format!("/volumes/{id}?cascade=true")).await.expect(202);
    }
    cloud.work().await;
    for _ in 0..4 {
        cloud.volumes.sweep().await;
    }
    assert!(cloud.disks().await.is_empty() && cloud.pool.hidden().await.unwrap().is_empty());
}

#[tokio::test]
async fn clones_of_clones_are_made_to_stand_alone_past_a_depth() {
    let config = Config { max_clone_depth: 2, ..Config::default() };
    let cloud = Cloud::with(Engine::Sqlite, config).await;
    let token = cloud.member("p");
    let mut last = cloud.volume(&token, json!({"size": 1})).await;
    let mut clones = Vec::new();
    for _ in 0..3 {
        last = cloud.volume(&token, json!({"source_volid": last})).await;
        clones.push(cloud.pool.stat(&format!("volume-{last}")).await.unwrap().unwrap().parent.is_some());
        assert_eq!(cloud.show(&last).await["metadata"], json!({}), "nothing is said of what is over");
    }
    assert_eq!(clones, [true, true, false]);
}

/// What compute needs to know when a guest's disk grows.
#[tokio::test]
async fn servers_are_told_that_their_volumes_have_grown() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.volume(&token, json!({"size": 1})).await;
    let server = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001";
    let service = cloud.service();
    let body = json!({"attachment": {"volume_uuid": id, "instance_uuid": server, "connector": {"host": "h"}}});
    let made = cloud.post(&token, "/attachments", body).await.expect(200);
    let attachment = made["attachment"]["id"].as_str().unwrap();
    let done = json!({"os-complete": {}});
    cloud.post(&service, &format!("/attachments/{attachment}/action"), done).await.expect(204);
    let grow = json!({"os-extend": {"new_size": 2}});
    let path = format!("/volumes/{id}/action");
    cloud.call_at("3.41", &token, "POST", &path, grow.clone()).await.refused(400, "must be available to extend");
    cloud.post(&token, &path, grow).await.expect(202);
    cloud.work().await;
    assert_eq!(*cloud.servers.told.lock(), [(server.to_owned(), id.clone())]);
    assert_eq!(cloud.show(&id).await["status"], "in-use");
    cloud.delete(&token, &format!("/volumes/{id}")).await.refused(400, "still attached");
    let refused = json!({"snapshot": {"volume_id": id, "force": false}});
    cloud.call_at("3.65", &token, "POST", "/snapshots", refused).await.refused(400, "must be available");
    cloud.post(&token, "/snapshots", json!({"snapshot": {"volume_id": id}})).await.expect(202);
}

#[tokio::test]
async fn bodies_are_as_their_version_has_them() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let id = cloud.volume(&admin, json!({"size": 1})).await;
    let since = [
        ("3.13", "group_id"),
        ("3.21", "provider_id"),
        ("3.48", "shared_targets"),
        ("3.61", "cluster_name"),
        ("3.63", "volume_type_id"),
        ("3.65", "consumes_quota"),
    ];
    for (version, member) in since {
        let minor: u32 = version[2..].parse().unwrap();
        for (version, there) in [(version.to_owned(), true), (format!("3.{}", minor - 1), false)] {
            let path = format!("/volumes/{id}");
            let body = cloud.call_at(&version, &admin, "GET", &path, Value::Null).await.expect(200);
            assert_eq!(body["volume"].get(member).is_some(), there, "{member} in {version}");
        }
    }
    let versions = cloud.get(&admin, "").await.expect(200);
    assert_eq!((&versions["versions"][0]["id"], &versions["versions"][0]["version"]), (&json!("v3.0"), &json!("3.71")));
}
