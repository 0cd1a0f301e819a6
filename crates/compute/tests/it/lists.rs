//! Lists over cells against an oracle: all servers in memory, filtered and sorted in the plainest way.

use std::time::{Duration, Instant};

use serde_json::Value;
use umbel_auth::Visible;
use umbel_bus::Power;
use umbel_compute::model::{Server, ServerId, deleted};
use umbel_compute::store::server_list::{Deleted, Field, Order, ServerFilter, SortKey, list};
use umbel_compute::store::{server_map, servers};
use umbel_compute::{Cell, Config};
use umbel_core::Timestamp;
use umbel_db::testing::open_all;
use umbel_db::{Direction, read, tx};

use crate::cloud::{Client, Cloud};
use crate::support::{running, server, server_id};

/// Puts a server straight into a cell and the map.
async fn put(cloud: &Cloud, cell: usize, server: &Server) {
    let cell = &cloud.cells.with_hosts()[cell];
    tx!(cell.db, "put", |tx| servers::insert(tx, server).await).unwrap();
    tx!(cloud.api, "put", |tx| {
        server_map::insert(tx, server).await?;
        server_map::place(tx, server.id, cell.id).await
    })
    .unwrap();
}

/// All ids that the list has, page by page.
async fn ids(client: &Client<'_>, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut path = path.to_owned();
    loop {
        let page = client.get(&path).await;
        for one in page["servers"].as_array().unwrap() {
            found.push(one["id"].as_str().unwrap().to_owned());
        }
        match page["servers_links"][0]["href"].as_str() {
            Some(next) => path = next.split_once("/v2.1").unwrap().1.to_owned(),
            None => return found,
        }
        assert!(found.len() < 10_000, "the pages do not end");
    }
}

/// Thirty servers over three cells and a few on their way, with equal names and times among them.
async fn populated() -> (Cloud, Vec<Server>) {
    let cloud = Cloud::with_cells(3, Config::default()).await;
    let mut all = Vec::new();
    for number in 0..30_u128 {
        let project = if number % 5 == 0 { "q" } else { "p" };
        let mut vm = running(number + 1, project, &format!("cell{}-h1", number % 3 + 1));
        let mut spec = (*vm.spec).clone();
        spec.created_at = Timestamp::from_secs(1_000 + (number / 4) as i64);
        vm.spec = spec.into();
        vm.state.name = format!("{}-{}", ["web", "Db", "äpp"][number as usize % 3], number % 7);
        vm.state.updated_at = Timestamp::from_secs(2_000 + (number * 7 % 11) as i64);
        if number % 4 == 1 {
            vm.state.power = Some(Power::Shutdown);
        }
        if number % 6 == 2 {
            vm.state.tags = vec!["red".into(), "blue".into()];
        }
        put(&cloud, number as usize % 3, &vm).await;
        all.push(vm);
    }
    for number in 0..4_u128 {
        let vm = server(100 + number, "p");
        tx!(cloud.api, "request", |tx| {
            umbel_compute::store::build_requests::insert(tx, &vm).await?;
            server_map::insert(tx, &vm).await
        })
        .unwrap();
        all.push(vm);
    }
    (cloud, all)
}

fn oracle(all: &[Server], keep: impl Fn(&Server) -> bool, by: &[(SortKey, Direction)]) -> Vec<String> {
    let order = Order::new(by);
    let mut kept: Vec<&Server> = all.iter().filter(|server| keep(server)).collect();
    kept.sort_by(|a, b| order.compare(&order.key(a), &order.key(b)));
    kept.into_iter().map(|server| server.id.to_string()).collect()
}

#[tokio::test]
async fn pages_over_cells_equal_the_oracle() {
    let (cloud, all) = populated().await;
    let mine = |server: &Server| server.spec.project_id == "p";
    let name = |server: &Server, part: &str| server.state.name.to_lowercase().contains(part);
    let (asc, desc) = (Direction::Asc, Direction::Desc);
    let created = SortKey::Field(Field::CreatedAt);
    let member = cloud.member();
    let check = async |query: &str, want: Vec<String>| {
        for limit in [1, 3, 7, 1_000] {
            let got = ids(&member, &format!("/servers?limit={limit}&{query}")).await;
            assert_eq!(got, want, "{query} by {limit}");
            let got = ids(&member, &format!("/servers/detail?limit={limit}&{query}")).await;
            assert_eq!(got, want, "{query} in detail by {limit}");
        }
    };
    check("", oracle(&all, mine, &[(created, desc)])).await;
    check("sort_key=created_at&sort_dir=asc", oracle(&all, mine, &[(created, asc)])).await;
    check("sort_key=display_name&sort_dir=asc", oracle(&all, mine, &[(SortKey::Name, asc)])).await;
    let two = [(SortKey::VmState, asc), (SortKey::UpdatedAt, desc)];
    check("sort_key=vm_state&sort_dir=asc&sort_key=updated_at&sort_dir=desc", oracle(&all, mine, &two)).await;
    check("name=web", oracle(&all, |vm| mine(vm) && name(vm, "web"), &[])).await;
    check(
        "name=DB-[0-3]$",
        oracle(&all, |vm| mine(vm) && name(vm, "db-") && !name(vm, "-4") && !name(vm, "-5") && !name(vm, "-6"), &[]),
    )
    .await;
    check("name=%C3%84PP", oracle(&all, |vm| mine(vm) && name(vm, "äpp"), &[])).await;
    let off = |vm: &Server| mine(vm) && vm.state.power == Some(Power::Shutdown);
    check("status=SHUTOFF", oracle(&all, off, &[])).await;
    let on = |vm: &Server| mine(vm) && vm.state.power == Some(Power::Running);
    check("status=active", oracle(&all, on, &[])).await;
    check("status=BUILD", oracle(&all, |vm| mine(vm) && vm.state.host.is_none(), &[])).await;
    check("status=SHUTOFF&status=ACTIVE", oracle(&all, |vm| on(vm) || off(vm), &[])).await;
    check("tags=red,blue", oracle(&all, |vm| mine(vm) && !vm.state.tags.is_empty(), &[])).await;
    check("not-tags-any=red", oracle(&all, |vm| mine(vm) && vm.state.tags.is_empty(), &[])).await;
    check("flavor=9", vec![]).await;
    check("ip=10.0.0.1", vec![]).await;
    let since = Timestamp::from_secs(2_005);
    let late = |vm: &Server| mine(vm) && vm.state.updated_at >= since;
    check(&format!("changes-since={}", since.iso()), oracle(&all, late, &[])).await;

    let admin = cloud.admin();
    assert_eq!(ids(&admin, "/servers?all_tenants=1&limit=4").await, oracle(&all, |_| true, &[]));
    let theirs = |vm: &Server| vm.spec.project_id == "q";
    assert_eq!(ids(&admin, "/servers?project_id=q&limit=2").await, oracle(&all, theirs, &[]));
    let on_host = |vm: &Server| vm.state.host.as_ref().is_some_and(|host| host.name == "cell2-h1");
    assert_eq!(ids(&admin, "/servers?all_tenants=1&host=cell2-h1").await, oracle(&all, on_host, &[]));
    // Without being asked for all, an administrator has the project's own.
    assert!(ids(&admin, "/servers").await.is_empty());
    // What only administrators filter by does nothing for others.
    assert_eq!(ids(&member, "/servers?host=nowhere").await, oracle(&all, mine, &[]));
}

#[tokio::test]
async fn bad_questions_are_refused() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    for bad in [
        "limit=-1",
        "limit=x",
        "marker=11111111-2222-3333-4444-555555555555",
        "marker=x",
        "sort_key=colour",
        "sort_dir=up&sort_key=uuid",
        "status=SLEEPY",
        "changes-since=yesterday",
        "changes-since=2026-01-02T00:00:00Z&changes-before=2026-01-01T00:00:00Z",
        "nonsense=1",
        "name=*",
        "all_tenants=maybe",
    ] {
        member.expect(400, "GET", &format!("/servers?{bad}"), None).await;
    }
    member.expect(403, "GET", "/servers?status=DELETED", None).await;
    // An older version takes no notice of what it does not know.
    for fine in ["nonsense=1", "tags=a", "status=RESCUE"] {
        member.at("2.25").get(&format!("/servers?{fine}")).await;
    }
    assert!(member.at("2.37").get("/servers?status=SLEEPY").await["servers"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn deleted_servers_are_for_administrators_and_for_changes() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    cloud.member().expect(204, "DELETE", &format!("/servers/{id}"), None).await;
    cloud.reach(id, None).await;
    let want = [id.to_string()];
    assert!(ids(&cloud.member(), "/servers").await.is_empty());
    assert!(ids(&cloud.member(), "/servers?deleted=true").await.is_empty());
    assert_eq!(ids(&cloud.admin(), "/servers?all_tenants=1&deleted=true").await, want);
    assert_eq!(ids(&cloud.admin(), "/servers?all_tenants=1&status=deleted").await, want);
    assert_eq!(ids(&cloud.member(), "/servers?changes-since=2026-11-21T09:00:00Z").await, want);
    let detail = cloud.admin().get("/servers/detail?all_tenants=1&deleted=true").await;
    assert_eq!(detail["servers"][0]["status"], "DELETED");
}

#[tokio::test]
async fn a_cell_that_is_down_leaves_the_others_and_its_map() {
    let (cloud, all) = populated().await;
    cloud.cells.with_hosts()[1].db.close().await;
    let started = Instant::now();
    let lost = |vm: &Server| vm.state.host.as_ref().is_some_and(|host| host.name == "cell2-h1");
    let mine = |vm: &Server| vm.spec.project_id == "p";
    let created = [(SortKey::Field(Field::CreatedAt), Direction::Desc)];
    let known = oracle(&all, |vm| mine(vm) && !lost(vm), &created);
    let unknown = oracle(&all, |vm| mine(vm) && lost(vm), &created);
    let want = [known.clone(), unknown.clone()].concat();
    for limit in [4, 1_000] {
        assert_eq!(ids(&cloud.member(), &format!("/servers?limit={limit}")).await, want, "by {limit}");
    }
    let detail = cloud.member().get("/servers/detail").await;
    let last = detail["servers"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(crate::cloud::keys(&last), ["created", "id", "links", "status", "tenant_id"]);
    assert_eq!((&last["status"], &last["tenant_id"]), (&Value::from("UNKNOWN"), &Value::from("p")));
    // An older version has no word for it, and a filter asks for what the map does not know.
    assert_eq!(ids(&cloud.member().at("2.68"), "/servers").await, known);
    assert!(!ids(&cloud.member(), "/servers?name=web").await.iter().any(|id| unknown.contains(id)));
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// The two ways to say which servers a list shows agree, on every engine.
#[tokio::test]
async fn filters_in_memory_and_in_sql_agree() {
    for temp in open_all::<Cell>().await {
        let (cloud, mut all) = (&temp.db, Vec::new());
        for number in 1..=24_u128 {
            let mut vm = running(number, if number % 3 == 0 { "q" } else { "p" }, "h1");
            vm.state.name = format!("{}{}", ["B", "a", "ä", "Z"][number as usize % 4], number % 5);
            vm.state.power = Some(if number % 2 == 0 { Power::Running } else { Power::Shutdown });
            if number % 4 == 0 {
                vm.state.tags = vec!["x".into()];
                vm.state.metadata.insert("k".into(), format!("v{}", number % 8));
            }
            if number % 6 == 0 {
                vm.state.tags.push("y".into());
            }
            if number % 11 == 0 {
                vm.state = deleted(&vm, Timestamp(77));
            }
            tx!(cloud, "insert", |tx| servers::insert(tx, &vm).await).unwrap();
            all.push(vm);
        }
        let base = ServerFilter::new(Visible::All);
        let with = |change: &dyn Fn(&mut ServerFilter)| {
            let mut filter = base.clone();
            change(&mut filter);
            filter
        };
        let filters = [
            base.clone(),
            ServerFilter::new(Visible::Project("q".into())),
            with(&|filter| filter.deleted = Deleted::Only),
            with(&|filter| filter.deleted = Deleted::Any),
            with(&|filter| filter.statuses = Some(vec![umbel_compute::model::Status::Active])),
            with(&|filter| filter.statuses = Some(vec![])),
            with(&|filter| filter.vm_states = Some(vec!["stopped".into()])),
            with(&|filter| filter.tags = vec!["x".into(), "y".into()]),
            with(&|filter| filter.tags_any = vec!["x".into(), "y".into()]),
            with(&|filter| filter.not_tags = vec!["x".into(), "y".into()]),
            with(&|filter| filter.not_tags_any = vec!["x".into(), "y".into()]),
            with(&|filter| filter.metadata = vec![("k".into(), "v4".into())]),
            with(&|filter| filter.changes_since = Some(Timestamp::from_secs(5))),
            with(&|filter| filter.changes_before = Some(Timestamp::from_secs(5))),
            with(&|filter| filter.equal = vec![(Field::Host, "h1".into()), (Field::Locked, false.into())]),
        ];
        let keys = [SortKey::Name, SortKey::VmState, SortKey::UpdatedAt, SortKey::Field(Field::Id)];
        for filter in &filters {
            for key in keys {
                for direction in [Direction::Asc, Direction::Desc] {
                    let order = Order::new(&[(key, direction)]);
                    let want = oracle(&all, |vm| filter.matches(vm), &[(key, direction)]);
                    let mut got: Vec<ServerId> = Vec::new();
                    let mut after = None;
                    loop {
                        let page =
                            read!(cloud, "page", |tx| list(tx, filter, &order, after.as_deref(), 5).await).unwrap();
                        after = page.last().map(|last| order.key(last));
                        got.extend(page.iter().map(|server| server.id));
                        if page.len() < 5 {
                            break;
                        }
                    }
                    let got: Vec<String> = got.iter().map(ServerId::to_string).collect();
                    assert_eq!(got, want, "{:?} {filter:?} {key:?} {direction:?}", cloud.engine());
                }
            }
        }
        assert_eq!(all[0].id, server_id(1));
    }
}
