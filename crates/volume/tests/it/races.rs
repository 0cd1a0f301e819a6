//! Two requests at once for the same thing, by two processes: one of them wins, the other is told precisely why not, and
//! rows, pools and quotas agree in the end ([`books`]). On all three engines.

use std::ops::RangeInclusive;
use std::pin::Pin;

use serde_json::{Value, json};
use umbel_core::{Rng, SystemRng};
use umbel_db::Engine;
use umbel_http::{Body, Router};
use umbel_volume::Config;

use crate::books;
use crate::cloud::{Answer, Cloud, send};
use crate::flows;

/// Whose token, what it asks for, and with what.
type Request = (String, &'static str, String, Value);
type Prepared<'a> = Pin<Box<dyn Future<Output = [Request; 2]> + 'a>>;

struct Race {
    name: &'static str,
    /// How many of the two may succeed: both where the one that comes later can still be done.
    winners: RangeInclusive<usize>,
    /// What the other may be told, as status and words.
    refusals: &'static [(u16, &'static str)],
    prepare: for<'a> fn(&'a Cloud) -> Prepared<'a>,
}

const fn race(
    name: &'static str,
    winners: RangeInclusive<usize>,
    refusals: &'static [(u16, &'static str)],
    prepare: for<'a> fn(&'a Cloud) -> Prepared<'a>,
) -> Race {
    Race { name, winners, refusals, prepare }
}

const RACES: &[Race] = &[
    race("delete, attach", 1..=1, &[(404, "could not be found"), (400, "attached")], |c| {
        Box::pin(both(c, "DELETE volume", "reserve"))
    }),
    race("delete, delete", 1..=1, &[(404, "could not be found")], |c| {
        Box::pin(both(c, "DELETE volume", "DELETE volume"))
    }),
    race("delete, snapshot", 1..=1, &[(404, "could not be found"), (400, "have snapshots")], |c| {
        Box::pin(both(c, "DELETE volume", "snapshot"))
    }),
    race("delete, back up", 1..=1, &[(404, "could not be found"), (400, "status must be")], |c| {
        Box::pin(both(c, "DELETE volume", "back up"))
    }),
    race("delete, clone", 1..=2, &[(404, "could not be found")], |c| Box::pin(both(c, "DELETE volume", "clone"))),
    race("attach, attach", 1..=1, &[(400, "to reserve")], |c| Box::pin(both(c, "reserve", "reserve elsewhere"))),
    race("attach, retype", 1..=1, &[(400, "status"), (400, "state"), (400, "attached")], |c| {
        Box::pin(both(c, "reserve", "retype"))
    }),
    race("extend, snapshot", 1..=2, &[(400, "must be available")], |c| Box::pin(both(c, "extend", "snapshot"))),
    race("extend, extend", 1..=1, &[(400, "to extend")], |c| Box::pin(both(c, "extend", "extend"))),
    race("extend, delete", 1..=1, &[(404, "could not be found"), (400, "status must be")], |c| {
        Box::pin(both(c, "extend", "DELETE volume"))
    }),
    race("revert, revert", 1..=1, &[(409, "must be available")], |c| Box::pin(reverts(c))),
    race("delete a snapshot, clone it", 1..=2, &[(404, "could not be found")], |c| Box::pin(snapshots(c))),
    race("accept, accept", 1..=1, &[(404, "could not be found"), (400, "awaiting-transfer")], |c| {
        Box::pin(transfers(c, false))
    }),
    race("accept, withdraw", 1..=1, &[(404, "could not be found"), (400, "awaiting-transfer")], |c| {
        Box::pin(transfers(c, true))
    }),
    race("detach, detach", 1..=2, &[(404, "could not be found")], |c| Box::pin(detachments(c))),
    race("delete a type, use it", 1..=1, &[(404, "could not be found"), (400, "still in use")], |c| {
        Box::pin(types(c, false))
    }),
    race("delete a type, change to it", 1..=1, &[(404, "could not be found"), (400, "still in use")], |c| {
        Box::pin(types(c, true))
    }),
    race("delete a group, join it", 1..=1, &[(404, "could not be found"), (400, "still contains")], |c| {
        Box::pin(groups(c, false, "create"))
    }),
    race("delete a group with its volumes, join it", 1..=2, &[(404, "could not be found")], |c| {
        Box::pin(groups(c, true, "create"))
    }),
    race("delete a group, add to it", 1..=1, &[(404, "could not be found"), (400, "still contains")], |c| {
        Box::pin(groups(c, false, "add"))
    }),
    race("delete a group, snapshot it", 1..=1, &[(404, "could not be found"), (400, "existing snapshots")], |c| {
        Box::pin(groups(c, true, "snapshot"))
    }),
    race("use the last of a quota twice", 1..=1, &[(413, "exceed")], |c| Box::pin(quotas(c))),
    race("manage a disk twice", 1..=1, &[(400, "already managed"), (400, "does not exist")], |c| Box::pin(manage(c))),
];

const P: &str = "p";
const SERVER: &str = "6e1f6d0e-3f3b-4c7e-9d51-0a6f1d9f000";

async fn volume(cloud: &Cloud) -> String {
    cloud.volume(&cloud.member(P), json!({"size": 1})).await
}

/// One that nothing has yet.
fn name() -> String {
    SystemRng::new().uuid().to_string()
}

/// Two things that are done to one volume.
async fn both(cloud: &Cloud, first: &str, second: &str) -> [Request; 2] {
    let id = volume(cloud).await;
    [asked(cloud, first, &id).await, asked(cloud, second, &id).await]
}

async fn asked(cloud: &Cloud, what: &str, id: &str) -> Request {
    let token = cloud.member(P);
    let action = format!("/volumes/{id}/action");
    let reserve = |server| json!({"attachment": {"volume_uuid": id, "instance_uuid": format!("{SERVER}{server}")}});
    match what {
        "DELETE volume" => (token, "DELETE", format!("/volumes/{id}"), Value::Null),
        "reserve" => (token, "POST", "/attachments".into(), reserve(1)),
        "reserve elsewhere" => (token, "POST", "/attachments".into(), reserve(2)),
        "snapshot" => (token, "POST", "/snapshots".into(), json!({"snapshot": {"volume_id": id}})),
        "back up" => (token, "POST", "/backups".into(), json!({"backup": {"volume_id": id}})),
        "clone" => (token, "POST", "/volumes".into(), json!({"volume": {"source_volid": id}})),
        "extend" => (token, "POST", action, json!({"os-extend": {"new_size": 2}})),
        _ => {
            let name = name();
            let body = json!({"volume_type": {"name": name, "extra_specs": {"volume_backend_name": "slow"}}});
            cloud.post(&cloud.admin(), "/types", body).await.expect(200);
            (token, "POST", action, json!({"os-retype": {"new_type": name, "migration_policy": "on-demand"}}))
        }
    }
}

async fn reverts(cloud: &Cloud) -> [Request; 2] {
    let (id, token) = (volume(cloud).await, cloud.member(P));
    let [one, two] = [cloud.snapshot(&token, &id).await, cloud.snapshot(&token, &id).await];
    [one, two].map(|snapshot| {
        let body = json!({"revert": {"snapshot_id": snapshot}});
        (token.clone(), "POST", format!("/volumes/{id}/action"), body)
    })
}

async fn snapshots(cloud: &Cloud) -> [Request; 2] {
    let (id, token) = (volume(cloud).await, cloud.member(P));
    let snapshot = cloud.snapshot(&token, &id).await;
    let clone = json!({"volume": {"snapshot_id": snapshot}});
    [
        (token.clone(), "DELETE", format!("/snapshots/{snapshot}"), Value::Null),
        (token, "POST", "/volumes".into(), clone),
    ]
}

async fn transfers(cloud: &Cloud, withdraw: bool) -> [Request; 2] {
    let (id, giver) = (volume(cloud).await, cloud.member(P));
    let made = cloud.post(&giver, "/volume-transfers", json!({"transfer": {"volume_id": id}})).await.expect(202);
    let path = format!("/volume-transfers/{}", made["transfer"]["id"].as_str().unwrap());
    let accept = |project: &str| {
        let body = json!({"accept": {"auth_key": made["transfer"]["auth_key"]}});
        (cloud.member(project), "POST", format!("{path}/accept"), body)
    };
    match withdraw {
        true => [accept("q"), (giver, "DELETE", path.clone(), Value::Null)],
        false => [accept("q"), accept("r")],
    }
}

async fn detachments(cloud: &Cloud) -> [Request; 2] {
    let (id, service) = (volume(cloud).await, cloud.service());
    let connector = json!({"host": "h"});
    let server = format!("{SERVER}1");
    let body = json!({"attachment": {"volume_uuid": id, "instance_uuid": server, "connector": connector}});
    let made = cloud.post(&cloud.member(P), "/attachments", body).await.expect(200);
    let path = format!("/attachments/{}", made["attachment"]["id"].as_str().unwrap());
    cloud.post(&service, &format!("{path}/action"), json!({"os-complete": {}})).await.expect(204);
    [1, 2].map(|_| (service.clone(), "DELETE", path.clone(), Value::Null))
}

async fn types(cloud: &Cloud, retype: bool) -> [Request; 2] {
    let (admin, token) = (cloud.admin(), cloud.member(P));
    let made = cloud.post(&admin, "/types", json!({"volume_type": {"name": name()}})).await.expect(200);
    let id = made["volume_type"]["id"].as_str().unwrap();
    let delete = (admin, "DELETE", format!("/types/{id}"), Value::Null);
    if retype {
        let path = format!("/volumes/{}/action", volume(cloud).await);
        return [delete, (token, "POST", path, json!({"os-retype": {"new_type": id}}))];
    }
    [delete, (token, "POST", "/volumes".into(), json!({"volume": {"size": 1, "volume_type": id}}))]
}

async fn groups(cloud: &Cloud, with_volumes: bool, then: &str) -> [Request; 2] {
    let token = cloud.member(P);
    let of = cloud.post(&cloud.admin(), "/group_types", json!({"group_type": {"name": name()}})).await.expect(202);
    let of = of["group_type"]["id"].as_str().unwrap();
    let body = json!({"group": {"group_type": of, "volume_types": ["__DEFAULT__"]}});
    let made = cloud.post(&token, "/groups", body).await.expect(202);
    let id = made["group"]["id"].as_str().unwrap();
    let delete = json!({"delete": {"delete-volumes": with_volumes}});
    let delete = (token.clone(), "POST", format!("/groups/{id}/action"), delete);
    let other = match then {
        "create" => ("POST", "/volumes".to_owned(), json!({"volume": {"size": 1, "group_id": id}})),
        "add" => ("PUT", format!("/groups/{id}"), json!({"group": {"add_volumes": volume(cloud).await}})),
        _ => ("POST", "/group_snapshots".to_owned(), json!({"group_snapshot": {"group_id": id}})),
    };
    [delete, (token, other.0, other.1, other.2)]
}

async fn quotas(cloud: &Cloud) -> [Request; 2] {
    let project = name();
    cloud.volume(&cloud.member(&project), json!({"size": 1})).await;
    let limit = json!({"quota_set": {"volumes": 2}});
    cloud.put(&cloud.admin(), &format!("/os-quota-sets/{project}"), limit).await.expect(200);
    [1, 2].map(|_| (cloud.member(&project), "POST", "/volumes".into(), json!({"volume": {"size": 1}})))
}

async fn manage(cloud: &Cloud) -> [Request; 2] {
    cloud.pool.create(flows::THEIRS, crate::cloud::gib(1)).await.unwrap();
    let body = json!({"volume": {"host": "umbel@fast#fast", "ref": {"source-name": flows::THEIRS}}});
    [1, 2].map(|_| (cloud.token(P, &["admin", "member"]), "POST", "/os-volume-manage".into(), body.clone()))
}

async fn ask(router: &Router, (token, method, path, body): &Request) -> Answer {
    let (kind, body) = match body {
        Value::Null => ("", Body::empty()),
        body => ("application/json", Body::from(body.to_string())),
    };
    let headers = [("x-auth-token", token.as_str()), ("content-type", kind), ("openstack-api-version", "volume 3.71")];
    send(router, method, &format!("/volume/v3{path}"), &headers, body).await
}

async fn run(race: &Race, cloud: &Cloud, other: &Router, place: &str) {
    let [first, second] = (race.prepare)(cloud).await;
    let (one, two) = tokio::join!(ask(&cloud.router, &first), ask(other, &second));
    let answers = [one, two];
    let won = answers.iter().filter(|answer| answer.status < 300).count();
    let told: Vec<_> = answers.iter().map(|one| (one.status, String::from_utf8_lossy(&one.bytes))).collect();
    assert!(race.winners.contains(&won), "{place}: {told:?}");
    for (status, words) in told.iter().filter(|(status, _)| *status >= 300) {
        let fits = race.refusals.iter().any(|(wanted, some)| wanted == status && words.contains(some));
        assert!(fits, "{place}: {status}: {words}");
    }
    cloud.work().await;
    cloud.volumes.sweep().await;
    cloud.work().await;
    books::check(cloud, place).await;
}

/// One cloud for all: a database of a server takes seconds to make.
async fn all_on(engine: Engine) {
    let unlimited = ["volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes", "groups"];
    let quota = unlimited.map(|name| (name.to_owned(), -1)).into();
    let cloud = Cloud::with(engine, Config { quota, ..flows::config() }).await;
    let (_process, other) = cloud.another().await;
    for race in RACES {
        // Who is first is the machine's to say: a few rounds meet more than one order.
        for round in 0..3 {
            run(race, &cloud, &other, &format!("{} on {}, round {round}", race.name, engine.name())).await;
        }
    }
}

#[tokio::test]
async fn one_of_two_wins_on_sqlite() {
    all_on(Engine::Sqlite).await;
}

#[tokio::test]
async fn one_of_two_wins_on_postgresql() {
    all_on(Engine::Postgres).await;
}

#[tokio::test]
async fn one_of_two_wins_on_mariadb() {
    all_on(Engine::MariaDb).await;
}
