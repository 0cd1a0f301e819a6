//! Backups: full and incremental, into files and into a pool, of simulated and of local disks.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use umbel_core::{GIB, SystemRng};
use umbel_db::Engine;
use umbel_driver::{Change, LocalPool, LocalStore, Mode, Pool, Simulation, no_progress};
use umbel_volume::Config;
use umbel_volume::backup::BackupConfig;
use umbel_workflow::Crash;
use umbel_workflow::harness::at_every_moment;

use crate::cloud::{Cloud, ids, noise};

const CHUNK: u64 = 4 << 20;

fn into_files(dir: &Path) -> Config {
    let backup = BackupConfig { directory: Some(dir.to_owned()), ..BackupConfig::default() };
    Config { backup, ..Config::default() }
}

fn into_pool() -> Config {
    let backup = BackupConfig { pool: Some("slow".to_owned()), ..BackupConfig::default() };
    Config { backup, ..Config::default() }
}

async fn simulated(config: Config) -> Cloud {
    Cloud::with(Engine::Sqlite, config).await
}

/// `fast` and `slow` are pools of one store of files.
async fn local(config: Config, dir: &Path) -> Cloud {
    let store = LocalStore::open(dir, &SystemRng::new()).await.unwrap();
    let pool = async |name: &str| Arc::new(LocalPool::open(&store, name, name).await.unwrap()) as Arc<dyn Pool>;
    let pools = [pool("fast").await, pool("slow").await, pool("images").await];
    Cloud::over(Engine::Sqlite, config, Simulation::new(Mode::default()), pools).await
}

async fn patch(cloud: &Cloud, volume: &str, changes: Vec<Change>) {
    let changes = Box::pin(futures_util::stream::iter(changes.into_iter().map(Ok)));
    cloud.pool.patch(&format!("volume-{volume}"), changes, no_progress()).await.unwrap();
}

fn data(offset: u64, seed: u64, length: usize) -> Change {
    Change::Data { offset, bytes: Bytes::from(noise(seed, length)) }
}

/// What a volume holds where the patterns are: chunks 0 to 5, and the volume's end.
async fn content(cloud: &Cloud, volume: &str) -> Vec<u8> {
    let disk = format!("volume-{volume}");
    let mut bytes = crate::cloud::read(&*cloud.pool, &disk, 6 * CHUNK as usize).await;
    let mut end = cloud.pool.read(&disk, None, GIB - CHUNK, CHUNK).await.unwrap();
    while let Some(piece) = futures_util::StreamExt::next(&mut end).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

async fn begin(cloud: &Cloud, token: &str, body: Value) -> String {
    let answer = cloud.post(token, "/backups", json!({ "backup": body })).await.expect(202);
    answer["backup"]["id"].as_str().unwrap().to_owned()
}

async fn backup(cloud: &Cloud, token: &str, body: Value) -> String {
    let id = begin(cloud, token, body).await;
    cloud.work().await;
    let shown = show(cloud, &id).await;
    assert_eq!(shown["status"], "available", "{shown}");
    id
}

async fn show(cloud: &Cloud, id: &str) -> Value {
    cloud.get(&cloud.admin(), &format!("/backups/{id}")).await.expect(200)["backup"].clone()
}

async fn restore(cloud: &Cloud, token: &str, id: &str) -> String {
    let answer = cloud.post(token, &format!("/backups/{id}/restore"), json!({"restore": {}})).await.expect(202);
    cloud.work().await;
    let volume = answer["restore"]["volume_id"].as_str().unwrap().to_owned();
    assert_eq!(cloud.show(&volume).await["status"], "available", "{:?}", cloud.show(&volume).await);
    volume
}

/// A pattern, three increments, each restored; then once more after a backup in the middle of the work was deleted.
async fn integrity(cloud: Cloud) {
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1, "metadata": {"k": "v"}})).await;
    let mut wanted = Vec::new();
    let rounds = [
        vec![data(0, 1, 100_000), data(2 * CHUNK - 512, 2, 1024), data(GIB - 4096, 3, 4096)],
        vec![data(8192, 4, 4096), data(4 * CHUNK, 5, 3 * CHUNK as usize / 2)],
        vec![Change::Zero { offset: 2 * CHUNK - 512, length: 512 }, Change::Zero { offset: 4 * CHUNK, length: CHUNK }],
        vec![data(CHUNK + 4096, 6, 4096), data(GIB - CHUNK, 7, 512)],
    ];
    for (round, changes) in rounds.into_iter().enumerate() {
        patch(&cloud, &volume, changes).await;
        let id = backup(&cloud, &token, json!({"volume_id": volume, "incremental": round > 0})).await;
        assert_eq!(show(&cloud, &id).await["is_incremental"], round > 0);
        wanted.push((id, content(&cloud, &volume).await));
        let snapshots = cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap().snapshots;
        assert_eq!(snapshots, [format!("backup.{}", wanted[round].0)], "one is kept for the next increment");
    }
    assert_eq!(show(&cloud, &wanted[3].0).await["object_count"], 2, "an increment has what changed");
    for (id, bytes) in &wanted {
        let restored = restore(&cloud, &token, id).await;
        assert!(content(&cloud, &restored).await == *bytes, "{id}");
        assert_eq!(cloud.show(&restored).await["metadata"]["k"], "v");
    }
    // The last one, and with it the snapshot that the next is compared with, goes: the next one reads the volume.
    cloud.delete(&token, &format!("/backups/{}", wanted[3].0)).await.expect(202);
    cloud.work().await;
    cloud.get(&token, &format!("/backups/{}", wanted[3].0)).await.expect(404);
    patch(&cloud, &volume, vec![data(3 * CHUNK, 8, 4096)]).await;
    let id = backup(&cloud, &token, json!({"volume_id": volume, "incremental": true})).await;
    assert_eq!(show(&cloud, &id).await["object_count"], 3, "compared by content");
    let bytes = content(&cloud, &volume).await;
    // Over the content of the volume itself, which has moved on.
    patch(&cloud, &volume, vec![data(0, 9, 5 * CHUNK as usize)]).await;
    let over = json!({"restore": {"volume_id": volume}});
    cloud.post(&token, &format!("/backups/{id}/restore"), over).await.expect(202);
    cloud.work().await;
    assert!(content(&cloud, &volume).await == bytes);
    assert_eq!(show(&cloud, &id).await["status"], "available");
}

#[tokio::test]
async fn simulated_disks_come_back_from_files() {
    let dir = tempfile::tempdir().unwrap();
    integrity(simulated(into_files(dir.path())).await).await;
}

#[tokio::test]
async fn simulated_disks_come_back_from_a_pool() {
    integrity(simulated(into_pool()).await).await;
}

#[tokio::test]
async fn local_disks_come_back_from_files() {
    let (files, disks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    integrity(local(into_files(files.path()), disks.path()).await).await;
}

#[tokio::test]
async fn local_disks_come_back_from_a_pool() {
    let disks = tempfile::tempdir().unwrap();
    integrity(local(into_pool(), disks.path()).await).await;
}

#[tokio::test]
async fn nothing_is_left_of_deleted_backups() {
    let dir = tempfile::tempdir().unwrap();
    for config in [into_pool(), into_files(dir.path())] {
        let files = config.backup.directory.clone();
        let cloud = simulated(config).await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        cloud.write(&volume, b"one").await;
        let full = backup(&cloud, &token, json!({"volume_id": volume})).await;
        let increment = backup(&cloud, &token, json!({"volume_id": volume, "incremental": true})).await;
        let path = |id: &str| format!("/backups/{id}");
        assert_eq!(show(&cloud, &full).await["has_dependent_backups"], true);
        cloud.delete(&token, &path(&full)).await.refused(400, "Incremental backups exist for this backup.");
        let force = json!({"os-force_delete": {}});
        cloud.post(&cloud.admin(), &format!("{}/action", path(&full)), force).await.refused(400, "Incremental");
        for id in [&increment, &full] {
            cloud.delete(&token, &path(id)).await.expect(202);
            cloud.work().await;
            cloud.get(&token, &path(id)).await.expect(404);
        }
        let disk = format!("volume-{volume}");
        assert_eq!(cloud.disks().await, [disk.as_str()]);
        assert!(cloud.pool.stat(&disk).await.unwrap().unwrap().snapshots.is_empty());
        if let Some(root) = files {
            assert_eq!(std::fs::read_dir(root).unwrap().count(), 0, "neither files nor folders are left");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_refused() {
    let cloud = simulated(into_pool()).await;
    let (token, other) = (cloud.member("p"), cloud.member("q"));
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let ask = async |token: &str, body: Value| cloud.post(token, "/backups", json!({ "backup": body })).await;
    ask(&token, json!({"volume_id": volume, "incremental": true})).await.refused(400, "No backups available");
    ask(&other, json!({"volume_id": volume})).await.expect(404);
    ask(&token, json!({"volume_id": "x"})).await.expect(400);
    let id = begin(&cloud, &token, json!({"volume_id": volume})).await;
    assert_eq!(cloud.show(&volume).await["status"], "backing-up");
    ask(&token, json!({"volume_id": volume})).await.refused(400, "must be available or in-use");
    cloud
        .post(&token, &format!("/backups/{id}/restore"), json!({"restore": {}}))
        .await
        .refused(400, "must be available");
    cloud.delete(&token, &format!("/backups/{id}")).await.refused(400, "must be available or error");
    cloud.work().await;
    assert_eq!(cloud.show(&volume).await["status"], "available");
    for path in [format!("/backups/{id}"), format!("/backups/{id}/restore")] {
        let method = if path.ends_with("restore") { "POST" } else { "GET" };
        let body = if method == "POST" { json!({"restore": {}}) } else { Value::Null };
        cloud.call(&other, method, &path, body).await.expect(404);
    }
    // Without a place for backups there is no such service.
    let none = Cloud::new().await;
    let volume = none.volume(&token, json!({"size": 1})).await;
    let answer = none.post(&none.member("p"), "/backups", json!({"backup": {"volume_id": volume}})).await;
    answer.expect(503);
}

#[tokio::test]
async fn backups_are_made_of_snapshots_and_volumes_of_backups() {
    let cloud = simulated(into_pool()).await;
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    cloud.write(&volume, b"then").await;
    let snapshot = cloud.snapshot(&token, &volume).await;
    cloud.write(&volume, b"now!").await;
    let old = backup(&cloud, &token, json!({"volume_id": volume, "snapshot_id": snapshot})).await;
    let new = backup(&cloud, &token, json!({"volume_id": volume, "incremental": true})).await;
    assert_eq!(show(&cloud, &old).await["snapshot_id"], snapshot.as_str());
    assert_eq!(cloud.show_snapshot(&snapshot).await["status"], "available");
    let made = cloud.volume(&token, json!({"size": 2, "backup_id": old, "name": "mine"})).await;
    assert_eq!(cloud.read(&made, 4).await, b"then");
    let shown = cloud.show(&made).await;
    assert_eq!((shown["name"].as_str(), shown["size"].as_u64()), (Some("mine"), Some(2)));
    let made = restore(&cloud, &token, &new).await;
    assert_eq!(cloud.read(&made, 4).await, b"now!");
    let small = json!({"volume": {"size": 1, "backup_id": old, "snapshot_id": snapshot}});
    cloud.post(&token, "/volumes", small).await.refused(400, "one source");
}

#[tokio::test]
async fn records_go_to_other_clouds() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = simulated(into_files(dir.path())).await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    cloud.write(&volume, b"kept").await;
    let id = backup(&cloud, &token, json!({"volume_id": volume, "name": "b"})).await;
    let record = cloud.get(&admin, &format!("/backups/{id}/export_record")).await.expect(200)["backup-record"].clone();
    assert!(record["backup_service"].as_str().unwrap().starts_with("cinder.backup.drivers"));
    cloud
        .post(&admin, "/backups/import_record", json!({ "backup-record": record }))
        .await
        .refused(400, "already exists");
    // As Tempest does it: under another id, the same data.
    let mut inner: Value =
        serde_json::from_slice(&STANDARD.decode(record["backup_url"].as_str().unwrap()).unwrap()).unwrap();
    let copy = "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d";
    inner["id"] = json!(copy);
    let mut second = record.clone();
    second["backup_url"] = json!(STANDARD.encode(inner.to_string()));
    let made = cloud.post(&admin, "/backups/import_record", json!({ "backup-record": second })).await.expect(201);
    assert_eq!(made["backup"]["id"], copy);
    cloud.delete(&token, &format!("/backups/{id}")).await.expect(202);
    cloud.work().await;
    let restored = restore(&cloud, &admin, copy).await;
    assert_eq!(cloud.read(&restored, 4).await, b"kept");
    cloud.delete(&admin, &format!("/backups/{copy}")).await.expect(202);
    cloud.work().await;
    cloud.post(&admin, "/backups/import_record", json!({ "backup-record": second })).await.refused(400, "not there");
    for bad in ["", "AAAA", "!"] {
        let body = json!({"backup-record": {"backup_service": record["backup_service"], "backup_url": bad}});
        cloud.post(&admin, "/backups/import_record", body).await.expect(400);
    }
}

#[tokio::test]
async fn lists_are_filtered_paged_and_counted() {
    let cloud = simulated(into_pool()).await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    let mut all = Vec::new();
    for name in ["a", "b", "ab"] {
        all.push(backup(&cloud, &token, json!({"volume_id": volume, "name": name, "metadata": {"k": name}})).await);
    }
    let list = async |query: &str| cloud.get(&token, &format!("/backups{query}")).await.expect(200);
    assert_eq!(ids(&list("?sort=name:asc").await["backups"]), [&all[0], &all[2], &all[1]].map(String::as_str));
    assert_eq!(ids(&list("?name=b").await["backups"]), [all[1].as_str()]);
    assert_eq!(list("?name~=a&limit=1&with_count=true").await["count"], 2);
    let page = list("?limit=2&sort=created_at:asc").await;
    assert!(page["backups_links"][0]["href"].as_str().unwrap().contains(&all[1]));
    let next = list(&format!("?limit=2&sort=created_at:asc&marker={}", all[1])).await;
    assert_eq!(ids(&next["backups"]), [all[2].as_str()]);
    cloud.get(&cloud.member("q"), &format!("/backups?marker={}", all[1])).await.expect(400);
    assert!(ids(&cloud.get(&admin, "/backups").await.expect(200)["backups"]).is_empty());
    assert_eq!(ids(&cloud.get(&admin, "/backups/detail?all_tenants=1").await.expect(200)["backups"]).len(), 3);
    let detail = list(&format!("/detail?volume_id={volume}&name=ab")).await;
    assert_eq!(detail["backups"][0]["metadata"], json!({"k": "ab"}));
    let path = format!("/backups/{}", all[0]);
    let change = json!({"backup": {"name": "new", "description": "d", "metadata": {"x": "y"}}});
    assert_eq!(cloud.put(&token, &path, change).await.expect(200)["backup"]["name"], "new");
    let shown = show(&cloud, &all[0]).await;
    assert_eq!((&shown["description"], &shown["metadata"]), (&json!("d"), &json!({"x": "y"})));
    let reset = json!({"os-reset_status": {"status": "error"}});
    cloud.post(&token, &format!("{path}/action"), reset.clone()).await.expect(403);
    cloud.post(&admin, &format!("{path}/action"), reset).await.expect(202);
    assert_eq!(show(&cloud, &all[0]).await["status"], "error");
}

#[tokio::test]
async fn a_backup_is_finished_by_another_process() {
    for pool in [true, false] {
        let places = at_every_moment(async |crash| {
            let dir = tempfile::tempdir().unwrap();
            let cloud = simulated(if pool { into_pool() } else { into_files(dir.path()) }).await;
            let token = cloud.member("p");
            let volume = cloud.volume(&token, json!({"size": 1})).await;
            cloud.write(&volume, b"full").await;
            backup(&cloud, &token, json!({"volume_id": volume})).await;
            cloud.write(&volume, b"more").await;
            let id = begin(&cloud, &token, json!({"volume_id": volume, "incremental": true})).await;
            cloud.work_with(&cloud.volumes, crash.clone()).await;
            let (other, _) = cloud.another().await;
            cloud.work_with(&other, Crash::never()).await;
            let place = crash.place();
            let shown = show(&cloud, &id).await;
            assert_eq!((&shown["status"], &shown["object_count"]), (&json!("available"), &json!(1)), "{place}");
            assert_eq!(cloud.show(&volume).await["status"], "available", "{place}");
            let info = cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap();
            assert_eq!(info.snapshots, [format!("backup.{id}")], "{place}");
            let restored = restore(&cloud, &token, &id).await;
            assert_eq!(cloud.read(&restored, 4).await, b"more", "{place}");
        })
        .await;
        assert!(places.len() > 8, "{places:?}");
    }
}

#[tokio::test]
async fn a_restore_is_finished_by_another_process() {
    for over in [true, false] {
        let places = at_every_moment(async |crash| {
            let cloud = simulated(into_pool()).await;
            let token = cloud.member("p");
            let volume = cloud.volume(&token, json!({"size": 1})).await;
            cloud.write(&volume, b"kept").await;
            let id = backup(&cloud, &token, json!({"volume_id": volume})).await;
            cloud.write(&volume, b"lost").await;
            let body = if over { json!({"restore": {"volume_id": volume}}) } else { json!({"restore": {}}) };
            let answer = cloud.post(&token, &format!("/backups/{id}/restore"), body).await.expect(202);
            let target = answer["restore"]["volume_id"].as_str().unwrap().to_owned();
            cloud.work_with(&cloud.volumes, crash.clone()).await;
            let (other, _) = cloud.another().await;
            cloud.work_with(&other, Crash::never()).await;
            let place = crash.place();
            assert_eq!(cloud.show(&target).await["status"], "available", "{place}");
            assert_eq!(show(&cloud, &id).await["status"], "available", "{place}");
            assert_eq!(cloud.read(&target, 4).await, b"kept", "{place}");
        })
        .await;
        assert!(places.len() > 8, "{places:?}");
    }
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let places = at_every_moment(async |crash| {
        let cloud = simulated(into_pool()).await;
        let token = cloud.member("p");
        let volume = cloud.volume(&token, json!({"size": 1})).await;
        cloud.write(&volume, b"kept").await;
        cloud.world.fail_next(umbel_driver::Operation::Patch, 100, umbel_core::Kind::NoSpace);
        let id = begin(&cloud, &token, json!({"volume_id": volume})).await;
        cloud.work_with(&cloud.volumes, crash.clone()).await;
        let (other, _) = cloud.another().await;
        cloud.work_with(&other, Crash::never()).await;
        let place = crash.place();
        let shown = show(&cloud, &id).await;
        assert_eq!(shown["status"], "error", "{place}");
        assert!(!shown["fail_reason"].is_null(), "{place}");
        assert_eq!(cloud.show(&volume).await["status"], "available", "{place}");
        assert_eq!(cloud.disks().await, [format!("volume-{volume}")], "{place}");
        let info = cloud.pool.stat(&format!("volume-{volume}")).await.unwrap().unwrap();
        assert!(info.snapshots.is_empty(), "{place}");
    })
    .await;
    assert!(places.len() > 5, "{places:?}");
}

#[tokio::test]
async fn damage_is_found_when_a_backup_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = simulated(into_files(dir.path())).await;
    let token = cloud.member("p");
    let volume = cloud.volume(&token, json!({"size": 1})).await;
    cloud.write(&volume, b"kept").await;
    let id = backup(&cloud, &token, json!({"volume_id": volume})).await;
    let file = dir.path().join(&id[..2]).join(&id).join("00000000.data");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let over = json!({"restore": {"volume_id": volume}});
    cloud.post(&token, &format!("/backups/{id}/restore"), over).await.expect(202);
    cloud.work().await;
    assert_eq!(cloud.show(&volume).await["status"], "error_restoring");
    assert_eq!(show(&cloud, &id).await["status"], "available");
}
