//! Who may do what: every route there is, and every action, with each kind of token.
//!
//! * nobody: 401;
//! * who has no role in the project: 403;
//! * a reader: 403 for what changes something, and no refusal for what does not;
//! * a member: 403 for what is for administrators;
//! * a member of another project: 404, as of things that are not there;
//! * an administrator: no refusal.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use umbel_api::{Method, Route, Rule};
use umbel_db::Engine;
use umbel_volume::backup::BackupConfig;
use umbel_volume::{Config, service};

use crate::cloud::Cloud;

const SERVER: &str = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f0001";
const NOWHERE: &str = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9fffff";

/// One thing of each kind, of project `p`; ids by the name that routes have for them.
type Things = BTreeMap<&'static str, String>;

async fn new_cloud() -> Cloud {
    let backup = BackupConfig { pool: Some("slow".to_owned()), ..BackupConfig::default() };
    Cloud::with(Engine::Sqlite, Config { backup, ..Config::default() }).await
}

async fn made(cloud: &Cloud, token: &str, path: &str, noun: &str, body: Value) -> String {
    let answer = cloud.post(token, path, json!({ noun: body })).await;
    assert!((200..300).contains(&answer.status), "{path}: {}", String::from_utf8_lossy(&answer.bytes));
    let answer: Value = serde_json::from_slice(&answer.bytes).unwrap();
    cloud.work().await;
    answer[noun]["id"].as_str().unwrap().to_owned()
}

async fn things(cloud: &Cloud) -> Things {
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let kind = json!({"name": "v", "extra_specs": {"volume_backend_name": "fast"}});
    let kind = made(cloud, &admin, "/types", "volume_type", kind).await;
    let special = made(cloud, &admin, "/types", "volume_type", json!({"name": "w", "extra_specs": {"k": "v"}})).await;
    let group_type = made(cloud, &admin, "/group_types", "group_type", json!({"name": "g"})).await;
    let qos = made(cloud, &admin, "/qos-specs", "qos_specs", json!({"name": "q", "consumer": "front-end"})).await;
    let volume = cloud.volume(&token, json!({"size": 1, "metadata": {"k": "v"}})).await;
    let snapshot = json!({"volume_id": volume, "metadata": {"k": "v"}});
    let snapshot = made(cloud, &token, "/snapshots", "snapshot", snapshot).await;
    let held = cloud.volume(&token, json!({"size": 1})).await;
    let attachment = json!({"volume_uuid": held, "instance_uuid": SERVER});
    let attachment = made(cloud, &token, "/attachments", "attachment", attachment).await;
    let given = cloud.volume(&token, json!({"size": 1})).await;
    let transfer = made(cloud, &token, "/volume-transfers", "transfer", json!({"volume_id": given})).await;
    let backup = made(cloud, &token, "/backups", "backup", json!({"volume_id": volume})).await;
    let group = json!({"group_type": group_type, "volume_types": [kind]});
    let group = made(cloud, &token, "/groups", "group", group).await;
    cloud.volume(&token, json!({"size": 1, "volume_type": kind, "group_id": group})).await;
    let group_snapshot = made(cloud, &token, "/group_snapshots", "group_snapshot", json!({"group_id": group})).await;
    // Messages come of what fails, later.
    [
        ("volume_id", volume),
        ("snapshot_id", snapshot),
        ("attachment_id", attachment),
        ("transfer_id", transfer),
        ("backup_id", backup),
        ("group_id", group),
        ("group_snapshot_id", group_snapshot),
        ("message_id", NOWHERE.to_owned()),
        ("type_id", special),
        ("group_type", group_type),
        ("qos_id", qos),
        ("project_id", "p".to_owned()),
        ("key", "k".to_owned()),
    ]
    .into()
}

/// Parameters that name a project's own things.
const OWNED: [&str; 8] = [
    "volume_id",
    "snapshot_id",
    "attachment_id",
    "transfer_id",
    "backup_id",
    "group_id",
    "group_snapshot_id",
    "message_id",
];

fn params(route: &Route) -> Vec<&'static str> {
    let inner = |part: &'static str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
    route.path.split('/').filter_map(inner).collect()
}

/// The path with an id for each of its parameters.
fn filled(route: &Route, things: &Things) -> String {
    let group_types = route.path.starts_with("/v3/group_types");
    let part = |part: &'static str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some("type_id") if group_types => things["group_type"].clone(),
        Some(name) => things.get(name).cloned().unwrap_or_else(|| "x".to_owned()),
        None => part.to_owned(),
    };
    route.path.strip_prefix("/v3").unwrap().split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A body that is good enough for the thing to be looked for.
fn body(route: &Route, things: &Things) -> Value {
    let id = |name: &str| things[name].clone();
    match (route.method, route.path) {
        (Method::Get | Method::Delete, _) => Value::Null,
        (_, "/v3/volumes") => json!({"volume": {"size": 1, "source_volid": id("volume_id")}}),
        (_, "/v3/volumes/{volume_id}") => json!({"volume": {"name": "mine"}}),
        (_, "/v3/snapshots") => json!({"snapshot": {"volume_id": id("volume_id")}}),
        (_, "/v3/snapshots/{snapshot_id}") => json!({"snapshot": {"name": "mine"}}),
        (_, path) if path.ends_with("/metadata") => json!({"metadata": {"k": "mine"}}),
        (_, path) if path.ends_with("/metadata/{key}") => json!({"meta": {"k": "mine"}}),
        (_, "/v3/attachments") => json!({"attachment": {"volume_uuid": id("volume_id"), "instance_uuid": SERVER}}),
        (_, "/v3/attachments/{attachment_id}") => json!({"attachment": {"connector": {"host": "h"}}}),
        (_, "/v3/attachments/{attachment_id}/action") => json!({"os-complete": {}}),
        (_, "/v3/backups") => json!({"backup": {"volume_id": id("volume_id")}}),
        (_, "/v3/backups/{backup_id}") => json!({"backup": {"name": "mine"}}),
        (_, "/v3/backups/{backup_id}/restore") => json!({"restore": {}}),
        (_, "/v3/groups") => json!({"group": {"group_type": id("group_type"), "volume_types": [id("type_id")]}}),
        (_, "/v3/groups/action") => json!({"create-from-src": {"source_group_id": id("group_id")}}),
        (_, "/v3/groups/{group_id}") => json!({"group": {"name": "mine"}}),
        (_, "/v3/groups/{group_id}/action") => json!({"delete": {"delete-volumes": true}}),
        (_, "/v3/group_snapshots") => json!({"group_snapshot": {"group_id": id("group_id")}}),
        (_, "/v3/volume-transfers" | "/v3/os-volume-transfer") => json!({"transfer": {"volume_id": id("volume_id")}}),
        (_, path) if path.ends_with("/accept") => json!({"accept": {"auth_key": "guessed"}}),
        (_, path) if path.ends_with("/action") => json!({"os-nothing": {}}),
        _ => json!({}),
    }
}

async fn call(cloud: &Cloud, token: &str, route: &Route, things: &Things) -> (u16, String) {
    let version = format!("3.{}", route.versions.max.minor.min(71));
    let (path, body) = (filled(route, things), body(route, things));
    let answer = cloud.call_at(&version, token, route.method.name(), &path, body).await;
    let told = format!("{} {path}: {} {}", route.method.name(), answer.status, String::from_utf8_lossy(&answer.bytes));
    (answer.status, told)
}

fn table(cloud: &Cloud) -> Vec<&'static Route> {
    let table = service(cloud.volumes.clone()).table();
    assert!(table.len() > 130, "{}", table.len());
    // Those that need no token have no rule either.
    table.into_iter().filter(|route| route.rule != Rule::Public).collect()
}

#[tokio::test]
async fn every_route_wants_a_token_with_a_role() {
    let cloud = new_cloud().await;
    let things = things(&cloud).await;
    let stranger = cloud.token("p", &[]);
    for route in table(&cloud) {
        for token in ["", "forged"] {
            let (status, told) = call(&cloud, token, route, &things).await;
            assert_eq!(status, 401, "{told}");
        }
        // Actions have rules of their own: see below.
        if route.rule != Rule::Authenticated {
            let (status, told) = call(&cloud, &stranger, route, &things).await;
            assert_eq!(status, 403, "{told}");
        }
    }
}

#[tokio::test]
async fn readers_read_and_members_administer_nothing() {
    let cloud = new_cloud().await;
    let things = things(&cloud).await;
    let (reader, member) = (cloud.token("p", &["reader"]), cloud.member("p"));
    for route in table(&cloud) {
        let (status, told) = call(&cloud, &reader, route, &things).await;
        match route.rule {
            Rule::Reader => {
                assert_eq!(route.method, Method::Get, "{told}");
                assert!(status < 300 || (status == 404 && told.contains(NOWHERE)) || unknown(route), "{told}");
            }
            Rule::Authenticated => {}
            _ => assert_eq!(status, 403, "{told}"),
        }
        if route.rule == Rule::Admin || route.rule == Rule::Service {
            let (status, told) = call(&cloud, &member, route, &things).await;
            assert_eq!(status, 403, "{told}");
        }
    }
}

/// Its parameter is none of a thing that was made, or of one that readers are not shown.
fn unknown(route: &Route) -> bool {
    route.path.contains("{alias}") || route.path.ends_with("/extra_specs/{key}")
}

#[tokio::test]
async fn other_projects_things_are_not_there() {
    let cloud = new_cloud().await;
    let things = things(&cloud).await;
    let foreign = cloud.member("q");
    let owned = |route: &Route| params(route).iter().any(|name| OWNED.contains(name));
    let refers = |route: &Route| route.method == Method::Post && params(route).is_empty();
    let mut checked = 0;
    for route in table(&cloud) {
        let tenants = matches!(route.rule, Rule::Reader | Rule::Member | Rule::Authenticated);
        // Types are everybody's.
        if !tenants || !(owned(route) || refers(route)) || (route.path, route.method) == ("/v3/groups", Method::Post) {
            continue;
        }
        checked += 1;
        let (status, told) = call(&cloud, &foreign, route, &things).await;
        match route.path {
            // That is what transfers are for; the key is wrong.
            path if path.ends_with("/accept") => assert_eq!(status, 400, "{told}"),
            // There is no action of this name.
            path if route.rule == Rule::Authenticated && path.ends_with("/action") => assert!(status >= 400, "{told}"),
            _ => assert_eq!(status, 404, "{told}"),
        }
    }
    assert!(checked > 45, "{checked}");
    // In bodies, and in lists.
    let (volume, snapshot) = (&things["volume_id"], &things["snapshot_id"]);
    let post = async |path: &str, body: Value| cloud.post(&foreign, path, body).await.status;
    assert_eq!(post("/volumes", json!({"volume": {"snapshot_id": snapshot}})).await, 404);
    assert_eq!(post("/volumes", json!({"volume": {"size": 1, "backup_id": things["backup_id"]}})).await, 404);
    assert_eq!(post("/backups", json!({"backup": {"volume_id": volume, "snapshot_id": snapshot}})).await, 404);
    let source = json!({"create-from-src": {"group_snapshot_id": things["group_snapshot_id"]}});
    assert_eq!(post("/groups/action", source).await, 404);
    let own = cloud.volume(&foreign, json!({"size": 1})).await;
    assert_eq!(cloud.act(&foreign, &own, json!({"revert": {"snapshot_id": snapshot}})).await.status, 404);
    let into = json!({"restore": {"volume_id": own}});
    assert_eq!(post(&format!("/backups/{}/restore", things["backup_id"]), into).await, 404);
    for list in ["volumes", "snapshots", "attachments", "backups", "groups", "group_snapshots", "volume-transfers"] {
        let listed = cloud.get(&foreign, &format!("/{list}?all_tenants=1")).await.expect(200);
        let mine = listed.as_object().unwrap().values().next().unwrap().as_array().unwrap().clone();
        assert!(mine.iter().all(|one| one["id"] == json!(own)), "{list}: {listed}");
    }
    cloud.get(&foreign, "/os-quota-sets/p").await.expect(403);
    // And nothing has happened to them.
    assert_eq!(cloud.show(volume).await["metadata"], json!({"k": "v"}));
    assert_eq!(cloud.show_snapshot(snapshot).await["metadata"], json!({"k": "v"}));
}

/// Actions of a volume and what they take, and whether a reader, a member and an administrator may.
fn actions(things: &Things, image: &str) -> Vec<(&'static str, Value, Who)> {
    vec![
        ("os-attach", json!({"instance_uuid": SERVER, "mountpoint": "/dev/vdb"}), Who::Member),
        ("os-detach", json!({}), Who::Member),
        ("os-reserve", json!({}), Who::Member),
        ("os-unreserve", json!({}), Who::Member),
        ("os-begin_detaching", json!({}), Who::Member),
        ("os-roll_detaching", json!({}), Who::Member),
        ("os-initialize_connection", json!({"connector": {"host": "h"}}), Who::Member),
        ("os-terminate_connection", json!({"connector": {"host": "h"}}), Who::Member),
        ("os-extend", json!({"new_size": 2}), Who::Member),
        ("os-set_bootable", json!({"bootable": true}), Who::Member),
        ("os-update_readonly_flag", json!({"readonly": true}), Who::Member),
        ("os-set_image_metadata", json!({"metadata": {"k": "v"}}), Who::Member),
        ("os-show_image_metadata", json!({}), Who::Reader),
        ("os-unset_image_metadata", json!({"key": "k"}), Who::Member),
        ("revert", json!({"snapshot_id": things["snapshot_id"]}), Who::Member),
        ("os-volume_upload_image", json!({"image_name": "i"}), Who::Member),
        ("os-retype", json!({"new_type": "v", "migration_policy": "never"}), Who::Member),
        ("os-reimage", json!({"image_id": image}), Who::Member),
        ("os-reset_status", json!({"status": "error"}), Who::Admin),
        ("os-force_delete", json!({}), Who::Admin),
        ("os-force_detach", json!({"attachment_id": things["attachment_id"]}), Who::Admin),
        ("os-migrate_volume", json!({"host": "umbel@slow#slow"}), Who::Admin),
        ("os-migrate_volume_completion", json!({"new_volume": NOWHERE}), Who::Admin),
        ("os-unmanage", json!({}), Who::Admin),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Reader,
    Member,
    Admin,
}

#[tokio::test]
async fn every_action_has_its_rule() {
    let cloud = new_cloud().await;
    let things = things(&cloud).await;
    let volume = &things["volume_id"];
    let (reader, member, foreign) = (cloud.token("p", &["reader"]), cloud.member("p"), cloud.member("q"));
    let image = cloud.images.add("raw", b"bytes", json!({})).await;
    for (name, body, who) in actions(&things, &image) {
        let act = async |token: &str| {
            let answer = cloud.act(token, volume, json!({ name: body })).await;
            (answer.status, format!("{name}: {} {}", answer.status, String::from_utf8_lossy(&answer.bytes)))
        };
        let (status, told) = act("").await;
        assert_eq!(status, 401, "{told}");
        if who > Who::Reader {
            let (status, told) = act(&reader).await;
            assert_eq!(status, 403, "a reader, {told}");
        }
        let (status, told) = act(&foreign).await;
        match who {
            Who::Admin => assert_eq!(status, 403, "another project's, {told}"),
            _ => assert_eq!(status, 404, "another project's, {told}"),
        }
        if who == Who::Admin {
            let (status, told) = act(&member).await;
            assert_eq!(status, 403, "a member, {told}");
        }
    }
    let snapshot = format!("/snapshots/{}/action", things["snapshot_id"]);
    for action in
        [json!({"os-reset_status": {"status": "error"}}), json!({"os-force_delete": {}}), json!({"os-unmanage": {}})]
    {
        for token in [&reader, &member, &foreign] {
            let answer = cloud.post(token, &snapshot, action.clone()).await;
            assert_eq!(answer.status, 403, "{action} {}", String::from_utf8_lossy(&answer.bytes));
        }
    }
    // For compute on behalf of the snapshot's owner, by upstream's default.
    let told = json!({"os-update_snapshot_status": {"status": "available"}});
    cloud.post(&reader, &snapshot, told.clone()).await.expect(403);
    cloud.post(&foreign, &snapshot, told).await.expect(404);
    let shown = cloud.show(volume).await;
    assert_eq!(
        (&shown["status"], &shown["size"], &shown["bootable"]),
        (&json!("available"), &json!(1), &json!("false"))
    );
}

#[tokio::test]
async fn an_administrator_is_refused_nothing() {
    let cloud = new_cloud().await;
    let mut things = things(&cloud).await;
    let admin = cloud.admin();
    for route in table(&cloud).into_iter().filter(|route| route.method == Method::Get) {
        let (status, told) = call(&cloud, &admin, route, &things).await;
        assert!(!matches!(status, 401 | 403 | 500..), "{told}");
    }
    // What changes things is tried with ids of nothing.
    things.values_mut().for_each(|id| *id = NOWHERE.to_owned());
    for route in table(&cloud).into_iter().filter(|route| route.method != Method::Get && route.rule != Rule::Service) {
        let (status, told) = call(&cloud, &admin, route, &things).await;
        assert!(!matches!(status, 401 | 403) && (status < 500 || status == 501), "{told}");
    }
}
