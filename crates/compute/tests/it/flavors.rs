use serde_json::{Value, json};

use crate::cloud::{Cloud, keys, message};

fn new(id: &str, name: &str) -> Value {
    json!({"flavor": {"id": id, "name": name, "ram": "256", "vcpus": 1, "disk": 2}})
}

#[tokio::test]
async fn flavors_have_the_members_of_their_version() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    for (minor, short, long) in [(1, 3, 11), (54, 3, 11), (55, 4, 12), (61, 4, 13), (104, 4, 13)] {
        let client = member.at(&format!("2.{minor}"));
        let list = client.get("/flavors").await;
        assert_eq!(keys(&list["flavors"][0]).len(), short, "2.{minor}");
        let detail = client.get("/flavors/detail").await;
        assert_eq!(keys(&detail["flavors"][0]).len(), long, "2.{minor}");
        let show = client.get("/flavors/1").await;
        assert_eq!(keys(&show["flavor"]).len(), long, "2.{minor}");
        let swap = if minor >= 75 { json!(0) } else { json!("") };
        assert_eq!(show["flavor"]["swap"], swap, "2.{minor}");
    }
    let show = member.get("/flavors/1").await["flavor"].clone();
    assert_eq!((&show["name"], &show["ram"], &show["rxtx_factor"]), (&json!("m1.tiny"), &json!(512), &json!(1.0)));
    member.expect(404, "GET", "/flavors/none", None).await;
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let cloud = Cloud::new().await;
    let member = cloud.member();
    let ids = |body: &Value| -> Vec<String> {
        body["flavors"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&member.get("/flavors").await), ["1", "2", "3", "4", "42", "5"]);
    assert_eq!(ids(&member.get("/flavors?minRam=8192").await), ["4", "5"]);
    assert_eq!(ids(&member.get("/flavors?minDisk=40&sort_key=memory_mb&sort_dir=desc").await), ["5", "4", "3"]);
    let mut found = Vec::new();
    let mut path = "/flavors/detail?limit=2".to_owned();
    loop {
        let page = member.get(&path).await;
        found.extend(ids(&page));
        match page["flavors_links"][0]["href"].as_str() {
            Some(next) => path = next.split_once("/v2.1").unwrap().1.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, ["1", "2", "3", "4", "42", "5"]);
    member.expect(400, "GET", "/flavors?marker=none", None).await;
    member.expect(400, "GET", "/flavors?limit=-1", None).await;
    member.expect(400, "GET", "/flavors?minRam=much", None).await;
}

#[tokio::test]
async fn administrators_make_flavors() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let made = admin.expect(200, "POST", "/flavors", Some(new("x1", "small"))).await["flavor"].clone();
    assert_eq!((&made["ram"], &made["os-flavor-access:is_public"]), (&json!(256), &json!(true)));
    let refused = admin.expect(409, "POST", "/flavors", Some(new("x1", "other"))).await;
    assert_eq!(message(&refused), "Flavor with ID x1 already exists.");
    admin.expect(409, "POST", "/flavors", Some(new("x2", "small"))).await;
    let mut auto = new("auto", "named");
    auto["flavor"]["description"] = json!("d");
    let made = admin.expect(200, "POST", "/flavors", Some(auto)).await["flavor"].clone();
    assert_eq!((made["id"].as_str().unwrap().len(), &made["description"]), (36, &json!("d")));
    for (name, value) in [
        ("ram", json!(0)),
        ("vcpus", json!("x")),
        ("disk", json!(-1)),
        ("name", json!("")),
        ("id", json!("a/b")),
        ("rxtx_factor", json!(0)),
        ("colour", json!("blue")),
        ("os-flavor-access:is_public", json!("maybe")),
    ] {
        let mut bad = new("x3", "third");
        bad["flavor"][name] = value;
        admin.expect(400, "POST", "/flavors", Some(bad)).await;
    }
    let changed = admin.expect(200, "PUT", "/flavors/x1", Some(json!({"flavor": {"description": "new"}}))).await;
    assert_eq!(changed["flavor"]["description"], json!("new"));
    admin.at("2.54").expect(404, "PUT", "/flavors/x1", Some(json!({"flavor": {"description": "new"}}))).await;
    admin.expect(202, "DELETE", "/flavors/x1", None).await;
    admin.expect(404, "DELETE", "/flavors/x1", None).await;
}

#[tokio::test]
async fn private_flavors_are_for_some() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let mut private = new("secret", "secret");
    private["flavor"]["os-flavor-access:is_public"] = json!(false);
    admin.expect(200, "POST", "/flavors", Some(private)).await;
    cloud.member().expect(404, "GET", "/flavors/secret", None).await;
    let seen = async || {
        let list = cloud.member().get("/flavors").await;
        list["flavors"].as_array().unwrap().iter().any(|one| one["id"] == "secret")
    };
    assert!(!seen().await);
    let add = json!({"addTenantAccess": {"tenant": "p"}});
    let access = admin.expect(200, "POST", "/flavors/secret/action", Some(add.clone())).await;
    let have: Vec<_> = access["flavor_access"].as_array().unwrap().iter().map(|one| one["tenant_id"].clone()).collect();
    assert_eq!(have, [json!("admin-project"), json!("p")]);
    assert!(seen().await);
    admin.expect(409, "POST", "/flavors/secret/action", Some(add.clone())).await;
    admin.expect(409, "POST", "/flavors/1/action", Some(add.clone())).await;
    admin.expect(404, "GET", "/flavors/1/os-flavor-access", None).await;
    cloud.member().expect(403, "POST", "/flavors/secret/action", Some(add)).await;
    let remove = json!({"removeTenantAccess": {"tenant": "p"}});
    admin.expect(200, "POST", "/flavors/secret/action", Some(remove.clone())).await;
    admin.expect(404, "POST", "/flavors/secret/action", Some(remove)).await;
    assert!(!seen().await);
    let all = admin.get("/flavors?is_public=None").await;
    assert_eq!(all["flavors"].as_array().unwrap().len(), 7);
    let private = admin.get("/flavors?is_public=false").await;
    assert_eq!(private["flavors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn extra_specs_are_checked_from_2_86() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let path = "/flavors/1/os-extra_specs";
    let set = |specs: Value| Some(json!({"extra_specs": specs}));
    admin.expect(400, "POST", path, set(json!({"hw:nonsense": "1"}))).await;
    admin.at("2.85").expect(200, "POST", path, set(json!({"hw:nonsense": "1"}))).await;
    admin.expect(200, "POST", path, set(json!({"storage:tier": "ssd", "hw:cpu_policy": "shared"}))).await;
    admin.expect(400, "POST", path, set(json!({"a/b": "1"}))).await;
    let specs = cloud.member().get(path).await;
    assert_eq!(keys(&specs["extra_specs"]), ["hw:cpu_policy", "hw:nonsense", "storage:tier"]);
    assert_eq!(cloud.member().get(&format!("{path}/storage:tier")).await, json!({"storage:tier": "ssd"}));
    let changed = admin.expect(200, "PUT", &format!("{path}/storage:tier"), Some(json!({"storage:tier": "hdd"}))).await;
    assert_eq!(changed, json!({"storage:tier": "hdd"}));
    admin.expect(400, "PUT", &format!("{path}/storage:tier"), Some(json!({"other": "hdd"}))).await;
    admin.expect(200, "DELETE", &format!("{path}/hw:nonsense"), None).await;
    admin.expect(404, "DELETE", &format!("{path}/hw:nonsense"), None).await;
    cloud.member().expect(404, "GET", &format!("{path}/hw:nonsense"), None).await;
    cloud.member().expect(403, "POST", path, set(json!({"a": "b"}))).await;
}
