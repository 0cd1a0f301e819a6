//! Every flow of the service, as a request that begins it and what must hold once it has ended, whoever died meanwhile.

use std::pin::Pin;

use serde_json::{Value, json};
use umbel_volume::Config;
use umbel_volume::backup::BackupConfig;

use crate::cloud::{Cloud, noise};

/// What a request was answered, put as what must become of it.
#[derive(Default)]
pub struct Promise {
    /// Paths of things, and their statuses.
    is: Vec<(String, &'static str)>,
    /// Volumes, and how their bytes begin.
    holds: Vec<(String, Vec<u8>)>,
    /// Paths of what is not there any more.
    gone: Vec<String>,
    /// Active, with data.
    images: Vec<String>,
}

impl Promise {
    fn of(path: &str, id: &str, status: &'static str) -> Promise {
        Promise::default().and(path, id, status)
    }

    fn and(mut self, path: &str, id: &str, status: &'static str) -> Promise {
        self.is.push((format!("{path}/{id}"), status));
        self
    }

    fn with(mut self, volume: &str, bytes: &[u8]) -> Promise {
        self.holds.push((volume.to_owned(), bytes.to_vec()));
        self
    }

    fn without(mut self, path: &str, id: &str) -> Promise {
        self.gone.push(format!("{path}/{id}"));
        self
    }

    pub async fn kept(&self, cloud: &Cloud, place: &str) {
        let admin = cloud.admin();
        for (path, status) in &self.is {
            let body = cloud.get(&admin, path).await.expect(200);
            let thing = body.as_object().unwrap().values().next().unwrap();
            assert_eq!(thing["status"], *status, "{place}: {path}: {thing}");
        }
        for (volume, bytes) in &self.holds {
            let host = cloud.show(volume).await["os-vol-host-attr:host"].clone();
            let pool = if host == "umbel@slow#slow" { &cloud.second } else { &cloud.pool };
            let found = crate::cloud::read(&**pool, &format!("volume-{volume}"), bytes.len()).await;
            assert!(found == *bytes, "{place}: the bytes of {volume} are others");
        }
        for path in &self.gone {
            assert_eq!(cloud.get(&admin, path).await.status, 404, "{place}: {path} is there");
        }
        for image in &self.images {
            let (bytes, urls) = cloud.images.data(image).expect(place);
            assert!(!bytes.is_empty() || !urls.is_empty(), "{place}: {image} has no data");
        }
    }
}

type Begun<'a> = Pin<Box<dyn Future<Output = Promise> + 'a>>;

/// A flow: what it is called in reports, its kind in the database, and how it is begun.
pub struct Case {
    pub name: &'static str,
    pub kind: &'static str,
    pub begin: for<'a> fn(&'a Cloud) -> Begun<'a>,
}

const fn case(name: &'static str, kind: &'static str, begin: for<'a> fn(&'a Cloud) -> Begun<'a>) -> Case {
    Case { name, kind, begin }
}

pub const CASES: &[Case] = &[
    case("create from nothing", "volume_create", |c| Box::pin(create(c, From::Nothing))),
    case("create from an image by cloning", "volume_create", |c| Box::pin(create(c, From::Image))),
    case("create from an image by copying", "volume_create", |c| Box::pin(create(c, From::HiddenImage))),
    case("create from an image of another format", "volume_create", |c| Box::pin(create(c, From::Qcow2))),
    case("create from a snapshot", "volume_create", |c| Box::pin(create(c, From::Snapshot))),
    case("create from a volume", "volume_create", |c| Box::pin(create(c, From::Volume))),
    case("create from a volume, larger", "volume_create", |c| Box::pin(create(c, From::Larger))),
    case("create from a volume of another backend", "volume_create", |c| Box::pin(create(c, From::Elsewhere))),
    case("create a clone of clones", "volume_flatten", |c| Box::pin(create(c, From::Deep))),
    case("create from a backup", "backup_restore", |c| Box::pin(create(c, From::Backup))),
    case("extend", "volume_extend", |c| Box::pin(extend(c, false))),
    case("extend in use", "volume_extend", |c| Box::pin(extend(c, true))),
    case("extend with a snapshot on its way", "volume_extend", |c| Box::pin(snapshot_then_extend(c))),
    case("revert", "volume_revert", |c| Box::pin(revert(c, false))),
    case("revert what has grown", "volume_revert", |c| Box::pin(revert(c, true))),
    case("snapshot", "snapshot_create", |c| Box::pin(snapshot(c))),
    case("snapshots delete", "snapshot_delete", |c| Box::pin(delete_snapshot(c, false))),
    case("snapshots delete under clones", "snapshot_delete", |c| Box::pin(delete_snapshot(c, true))),
    case("delete", "volume_delete", |c| Box::pin(delete(c, ""))),
    case("delete with children", "volume_delete", |c| Box::pin(delete(c, "?cascade=true"))),
    case("delete while it is cloned", "volume_delete", |c| Box::pin(delete_under_clone(c))),
    case("delete while it is made", "volume_delete", |c| Box::pin(delete_new(c, "volumes"))),
    case("delete a snapshot while it is made", "snapshot_delete", |c| Box::pin(delete_new(c, "snapshots"))),
    case("delete by force what is held", "volume_delete", |c| Box::pin(delete_held(c))),
    case("move by retype", "volume_move", |c| Box::pin(relocate(c, true))),
    case("move by migration", "volume_move", |c| Box::pin(relocate(c, false))),
    case("upload", "volume_upload", |c| Box::pin(upload(c, "raw"))),
    case("upload as qcow2", "volume_upload", |c| Box::pin(upload(c, "qcow2"))),
    case("manage", "volume_manage", |c| Box::pin(manage(c))),
    case("manage a snapshot", "snapshot_manage", |c| Box::pin(manage_snapshot(c))),
    case("reimage", "volume_reimage", |c| Box::pin(reimage(c, From::Image, false))),
    case("reimage under a snapshot", "volume_reimage", |c| Box::pin(reimage(c, From::Image, true))),
    case("reimage from another format", "volume_reimage", |c| Box::pin(reimage(c, From::Qcow2, false))),
    case("backup", "backup_create", |c| Box::pin(backup(c, From::Volume))),
    case("backup an increment", "backup_create", |c| Box::pin(backup(c, From::Backup))),
    case("backup a snapshot", "backup_create", |c| Box::pin(backup(c, From::Snapshot))),
    case("backups restore over a volume", "backup_restore", |c| Box::pin(restore_over(c))),
    case("backups delete", "backup_delete", |c| Box::pin(delete_backup(c, false))),
    case("backups delete an increment", "backup_delete", |c| Box::pin(delete_backup(c, true))),
    case("group from a group", "group_create", |c| Box::pin(group_from(c, false))),
    case("group from a group snapshot", "group_create", |c| Box::pin(group_from(c, true))),
    case("groups delete", "volume_delete", |c| Box::pin(delete_group(c))),
    case("groups delete while made", "group_create", |c| Box::pin(delete_new_group(c))),
    case("groups snapshot", "group_snapshot_create", |c| Box::pin(group_snapshot(c))),
    case("groups delete a snapshot", "snapshot_delete", |c| Box::pin(delete_group_snapshot(c))),
];

/// Backups go to the second pool, and clones of clones of clones are copied.
pub fn config() -> Config {
    let backup = BackupConfig { pool: Some("slow".to_owned()), ..BackupConfig::default() };
    Config { backup, max_clone_depth: 2, ..Config::default() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Nothing,
    Image,
    HiddenImage,
    Qcow2,
    Snapshot,
    Volume,
    Larger,
    Elsewhere,
    Deep,
    Backup,
}

const P: &str = "p";

/// A name of disks and snapshots that are not ours.
pub const THEIRS: &str = "theirs";

fn bytes() -> Vec<u8> {
    noise(5, 40_000)
}

/// A volume that holds [`bytes`].
async fn filled(cloud: &Cloud) -> String {
    let id = cloud.volume(&cloud.member(P), json!({"size": 1})).await;
    cloud.write(&id, &bytes()).await;
    id
}

async fn slow_type(cloud: &Cloud) {
    let body = json!({"volume_type": {"name": "slow", "extra_specs": {"volume_backend_name": "slow"}}});
    cloud.post(&cloud.admin(), "/types", body).await.expect(200);
}

async fn post(cloud: &Cloud, path: &str, body: Value) -> String {
    let answer = cloud.post(&cloud.member(P), path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {}", String::from_utf8_lossy(&answer.bytes));
    let body: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
    let thing = body.as_object().and_then(|all| all.values().next().cloned()).unwrap_or_default();
    thing["id"].as_str().unwrap_or_default().to_owned()
}

async fn image(cloud: &Cloud, from: From) -> String {
    match from {
        From::Qcow2 => cloud.images.add("qcow2", &crate::sources::qcow2(&noise(5, 64 << 10)), json!({})).await,
        _ => cloud.images.add("raw", &bytes(), json!({})).await,
    }
}

async fn create(cloud: &Cloud, from: From) -> Promise {
    let mut want = bytes();
    let volume = match from {
        From::Nothing => {
            want = vec![0; 4_096];
            json!({"size": 1})
        }
        From::Image | From::HiddenImage | From::Qcow2 => {
            let image = image(cloud, from).await;
            if from == From::HiddenImage {
                cloud.images.hide_locations();
            }
            json!({"size": 1, "imageRef": image})
        }
        From::Snapshot => {
            let origin = filled(cloud).await;
            let snapshot = cloud.snapshot(&cloud.member(P), &origin).await;
            cloud.write(&origin, b"later").await;
            json!({"snapshot_id": snapshot})
        }
        From::Volume => json!({"source_volid": filled(cloud).await}),
        From::Larger => json!({"source_volid": filled(cloud).await, "size": 2}),
        From::Elsewhere => {
            slow_type(cloud).await;
            json!({"source_volid": filled(cloud).await, "volume_type": "slow"})
        }
        From::Deep => {
            let mut last = filled(cloud).await;
            for _ in 0..2 {
                last = cloud.volume(&cloud.member(P), json!({"source_volid": last})).await;
            }
            json!({"source_volid": last})
        }
        From::Backup => {
            let origin = filled(cloud).await;
            json!({"size": 1, "backup_id": backed_up(cloud, &origin).await})
        }
    };
    let id = cloud.begin(&cloud.member(P), volume).await;
    Promise::of("/volumes", &id, "available").with(&id, &want)
}

async fn act(cloud: &Cloud, token: &str, volume: &str, action: Value) -> Value {
    let answer = cloud.act(token, volume, action).await;
    assert!((200..300).contains(&answer.status), "{}", String::from_utf8_lossy(&answer.bytes));
    serde_json::from_slice(&answer.bytes).unwrap_or_default()
}

const SERVER: &str = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001";

async fn attached(cloud: &Cloud, volume: &str) {
    let body = json!({"attachment": {"volume_uuid": volume, "instance_uuid": SERVER, "connector": {"host": "h"}}});
    let id = post(cloud, "/attachments", body).await;
    let done = json!({"os-complete": {}});
    cloud.post(&cloud.service(), &format!("/attachments/{id}/action"), done).await.expect(204);
}

async fn extend(cloud: &Cloud, in_use: bool) -> Promise {
    let id = filled(cloud).await;
    if in_use {
        attached(cloud, &id).await;
    }
    act(cloud, &cloud.member(P), &id, json!({"os-extend": {"new_size": 3}})).await;
    Promise::of("/volumes", &id, if in_use { "in-use" } else { "available" }).with(&id, &bytes())
}

/// The snapshot is of the size that its row says, whichever comes first.
async fn snapshot_then_extend(cloud: &Cloud) -> Promise {
    let id = filled(cloud).await;
    let snapshot = post(cloud, "/snapshots", json!({"snapshot": {"volume_id": id}})).await;
    let clone = cloud.begin(&cloud.member(P), json!({"source_volid": id})).await;
    act(cloud, &cloud.member(P), &id, json!({"os-extend": {"new_size": 3}})).await;
    Promise::of("/volumes", &id, "available").and("/snapshots", &snapshot, "available").and(
        "/volumes",
        &clone,
        "available",
    )
}

async fn revert(cloud: &Cloud, grown: bool) -> Promise {
    let (id, token) = (filled(cloud).await, cloud.member(P));
    let snapshot = cloud.snapshot(&token, &id).await;
    cloud.write(&id, &noise(6, 50_000)).await;
    if grown {
        act(cloud, &token, &id, json!({"os-extend": {"new_size": 3}})).await;
        cloud.work().await;
    }
    act(cloud, &token, &id, json!({"revert": {"snapshot_id": snapshot}})).await;
    Promise::of("/volumes", &id, "available").and("/snapshots", &snapshot, "available").with(&id, &bytes())
}

async fn snapshot(cloud: &Cloud) -> Promise {
    let id = filled(cloud).await;
    let snapshot = post(cloud, "/snapshots", json!({"snapshot": {"volume_id": id}})).await;
    Promise::of("/snapshots", &snapshot, "available")
}

async fn delete_snapshot(cloud: &Cloud, cloned: bool) -> Promise {
    let (id, token) = (filled(cloud).await, cloud.member(P));
    let snapshot = cloud.snapshot(&token, &id).await;
    let mut promise = Promise::of("/volumes", &id, "available").with(&id, &bytes());
    if cloned {
        let clone = cloud.begin(&token, json!({"snapshot_id": snapshot})).await;
        promise = promise.and("/volumes", &clone, "available").with(&clone, &bytes());
    }
    cloud.delete(&token, &format!("/snapshots/{snapshot}")).await.expect(202);
    promise.without("/snapshots", &snapshot)
}

async fn delete(cloud: &Cloud, how: &str) -> Promise {
    let (id, token) = (filled(cloud).await, cloud.member(P));
    let mut promise = Promise::default();
    if !how.is_empty() {
        let snapshot = cloud.snapshot(&token, &id).await;
        let clone = cloud.volume(&token, json!({"snapshot_id": snapshot})).await;
        promise = promise.without("/snapshots", &snapshot).with(&clone, &bytes());
    }
    cloud.delete(&token, &format!("/volumes/{id}{how}")).await.expect(202);
    promise.without("/volumes", &id)
}

async fn delete_under_clone(cloud: &Cloud) -> Promise {
    let (id, token) = (filled(cloud).await, cloud.member(P));
    let clone = cloud.begin(&token, json!({"source_volid": id})).await;
    cloud.delete(&token, &format!("/volumes/{id}")).await.expect(202);
    Promise::of("/volumes", &clone, "available").with(&clone, &bytes()).without("/volumes", &id)
}

/// By force, with the flow that makes it on its way.
async fn delete_new(cloud: &Cloud, what: &str) -> Promise {
    let (token, origin) = (cloud.member(P), filled(cloud).await);
    let id = match what {
        "volumes" => cloud.begin(&token, json!({"source_volid": origin})).await,
        _ => post(cloud, "/snapshots", json!({"snapshot": {"volume_id": origin}})).await,
    };
    let force = json!({"os-force_delete": {}});
    cloud.post(&cloud.admin(), &format!("/{what}/{id}/action"), force).await.expect(202);
    Promise::of("/volumes", &origin, "available").with(&origin, &bytes()).without(&format!("/{what}"), &id)
}

/// Its reservation and the offer of it go with it.
async fn delete_held(cloud: &Cloud) -> Promise {
    let (reserved, offered) = (filled(cloud).await, filled(cloud).await);
    let body = json!({"attachment": {"volume_uuid": reserved, "instance_uuid": SERVER}});
    let attachment = post(cloud, "/attachments", body).await;
    let transfer = post(cloud, "/volume-transfers", json!({"transfer": {"volume_id": offered}})).await;
    for id in [&reserved, &offered] {
        act(cloud, &cloud.admin(), id, json!({"os-force_delete": {}})).await;
    }
    Promise::default()
        .without("/volumes", &reserved)
        .without("/volumes", &offered)
        .without("/attachments", &attachment)
        .without("/volume-transfers", &transfer)
}

async fn relocate(cloud: &Cloud, retype: bool) -> Promise {
    slow_type(cloud).await;
    let id = filled(cloud).await;
    let action = match retype {
        true => json!({"os-retype": {"new_type": "slow", "migration_policy": "on-demand"}}),
        false => json!({"os-migrate_volume": {"host": "umbel@slow#slow"}}),
    };
    act(cloud, &cloud.admin(), &id, action).await;
    Promise::of("/volumes", &id, "available").with(&id, &bytes())
}

async fn upload(cloud: &Cloud, format: &str) -> Promise {
    let id = filled(cloud).await;
    let action = json!({"os-volume_upload_image": {"image_name": "i", "disk_format": format}});
    let begun = act(cloud, &cloud.member(P), &id, action).await;
    let image = begun["os-volume_upload_image"]["image_id"].as_str().unwrap().to_owned();
    let promise = Promise { images: vec![image], ..Promise::default() };
    promise.and("/volumes", &id, "available").with(&id, &bytes())
}

async fn manage(cloud: &Cloud) -> Promise {
    let id = filled(cloud).await;
    cloud.pool.rename(&format!("volume-{id}"), THEIRS).await.unwrap();
    act(cloud, &cloud.admin(), &id, json!({"os-unmanage": {}})).await;
    let token = cloud.token(P, &["admin", "member"]);
    let body = json!({"volume": {"host": "umbel@fast#fast", "ref": {"source-name": THEIRS}}});
    let made = cloud.post(&token, "/os-volume-manage", body).await.expect(202);
    let id = made["volume"]["id"].as_str().unwrap().to_owned();
    Promise::of("/volumes", &id, "available").with(&id, &bytes())
}

async fn manage_snapshot(cloud: &Cloud) -> Promise {
    let (id, admin) = (filled(cloud).await, cloud.admin());
    cloud.pool.snapshot(&format!("volume-{id}"), THEIRS).await.unwrap();
    let body = json!({"snapshot": {"volume_id": id, "ref": {"source-name": THEIRS}}});
    let made = cloud.post(&admin, "/os-snapshot-manage", body).await.expect(202);
    Promise::of("/snapshots", made["snapshot"]["id"].as_str().unwrap(), "available").with(&id, &bytes())
}

async fn reimage(cloud: &Cloud, from: From, kept: bool) -> Promise {
    let id = cloud.volume(&cloud.member(P), json!({"size": 1})).await;
    cloud.write(&id, &noise(9, 30_000)).await;
    if kept {
        cloud.snapshot(&cloud.member(P), &id).await;
    }
    let image = image(cloud, from).await;
    act(cloud, &cloud.member(P), &id, json!({"os-reimage": {"image_id": image}})).await;
    Promise::of("/volumes", &id, "available").with(&id, &bytes())
}

async fn begin_backup(cloud: &Cloud, body: Value) -> String {
    post(cloud, "/backups", json!({ "backup": body })).await
}

async fn backed_up(cloud: &Cloud, volume: &str) -> String {
    let id = begin_backup(cloud, json!({"volume_id": volume})).await;
    cloud.work().await;
    id
}

async fn backup(cloud: &Cloud, of: From) -> Promise {
    let volume = filled(cloud).await;
    let mut body = json!({"volume_id": volume});
    let mut promise = Promise::default();
    match of {
        From::Backup => {
            let full = backed_up(cloud, &volume).await;
            cloud.write(&volume, &noise(8, 4_096)).await;
            body["incremental"] = json!(true);
            promise = promise.and("/backups", &full, "available");
        }
        From::Snapshot => {
            let snapshot = cloud.snapshot(&cloud.member(P), &volume).await;
            body["snapshot_id"] = json!(snapshot);
            promise = promise.and("/snapshots", &snapshot, "available");
        }
        _ => {}
    }
    let id = begin_backup(cloud, body).await;
    promise.and("/backups", &id, "available").and("/volumes", &volume, "available")
}

async fn restore_over(cloud: &Cloud) -> Promise {
    let volume = filled(cloud).await;
    let id = backed_up(cloud, &volume).await;
    cloud.write(&volume, &noise(8, 60_000)).await;
    post(cloud, &format!("/backups/{id}/restore"), json!({"restore": {"volume_id": volume}})).await;
    Promise::of("/volumes", &volume, "available").with(&volume, &bytes()).and("/backups", &id, "available")
}

async fn delete_backup(cloud: &Cloud, increment: bool) -> Promise {
    let (volume, token) = (filled(cloud).await, cloud.member(P));
    let full = backed_up(cloud, &volume).await;
    let mut promise = Promise::of("/volumes", &volume, "available").with(&volume, &bytes());
    let mut victim = full.clone();
    if increment {
        victim = begin_backup(cloud, json!({"volume_id": volume, "incremental": true})).await;
        cloud.work().await;
        promise = promise.and("/backups", &full, "available");
    }
    cloud.delete(&token, &format!("/backups/{victim}")).await.expect(202);
    promise.without("/backups", &victim)
}

/// A group of two volumes.
async fn group(cloud: &Cloud) -> (String, [String; 2]) {
    let (admin, token) = (cloud.admin(), cloud.member(P));
    let of = cloud.post(&admin, "/group_types", json!({"group_type": {"name": "g"}})).await.expect(202);
    let of = of["group_type"]["id"].as_str().unwrap();
    let body = json!({"group": {"name": "g", "group_type": of, "volume_types": ["__DEFAULT__"]}});
    let id = post(cloud, "/groups", body).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        let volume = cloud.volume(&token, json!({"size": 1, "group_id": id})).await;
        cloud.write(&volume, &bytes()).await;
        members.push(volume);
    }
    (id, members.try_into().unwrap())
}

async fn begin_group_snapshot(cloud: &Cloud, group: &str) -> String {
    post(cloud, "/group_snapshots", json!({"group_snapshot": {"group_id": group}})).await
}

async fn group_from(cloud: &Cloud, snapshot: bool) -> Promise {
    let (id, members) = group(cloud).await;
    let source = match snapshot {
        true => {
            let taken = begin_group_snapshot(cloud, &id).await;
            cloud.work().await;
            for volume in &members {
                cloud.write(volume, &noise(7, 60_000)).await;
            }
            json!({"group_snapshot_id": taken})
        }
        false => json!({"source_group_id": id}),
    };
    let copy = post(cloud, "/groups/action", json!({ "create-from-src": source })).await;
    let shown = cloud.get(&cloud.member(P), &format!("/groups/{copy}?list_volume=true")).await.expect(200);
    let mut promise = Promise::of("/groups", &copy, "available").and("/groups", &id, "available");
    for volume in shown["group"]["volumes"].as_array().unwrap() {
        let volume = volume.as_str().unwrap();
        promise = promise.and("/volumes", volume, "available").with(volume, &bytes());
    }
    promise
}

async fn delete_group(cloud: &Cloud) -> Promise {
    let (id, [one, two]) = group(cloud).await;
    post(cloud, &format!("/groups/{id}/action"), json!({"delete": {"delete-volumes": true}})).await;
    Promise::default().without("/groups", &id).without("/volumes", &one).without("/volumes", &two)
}

/// The points in time that it was to be made of stay with nobody.
async fn delete_new_group(cloud: &Cloud) -> Promise {
    let (id, [one, two]) = group(cloud).await;
    let copy = post(cloud, "/groups/action", json!({"create-from-src": {"source_group_id": id}})).await;
    post(cloud, &format!("/groups/{copy}/action"), json!({"delete": {"delete-volumes": true}})).await;
    Promise::default().without("/groups", &copy).with(&one, &bytes()).with(&two, &bytes())
}

async fn group_snapshot(cloud: &Cloud) -> Promise {
    let (id, _) = group(cloud).await;
    let taken = begin_group_snapshot(cloud, &id).await;
    Promise::of("/group_snapshots", &taken, "available")
}

async fn delete_group_snapshot(cloud: &Cloud) -> Promise {
    let (id, members) = group(cloud).await;
    let taken = begin_group_snapshot(cloud, &id).await;
    cloud.work().await;
    cloud.delete(&cloud.member(P), &format!("/group_snapshots/{taken}")).await.expect(202);
    members
        .iter()
        .fold(Promise::default(), |promise, id| promise.with(id, &bytes()))
        .without("/group_snapshots", &taken)
}
