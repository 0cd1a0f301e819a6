use serde_json::{Value, json};

use crate::cloud::{Cloud, keys, message, new_server};

async fn limit(cloud: &Cloud, limits: Value) {
    cloud.admin().expect(200, "PUT", "/os-quota-sets/p", Some(json!({"quota_set": limits}))).await;
}

#[tokio::test]
async fn a_project_gets_no_more_than_its_quota() {
    let cloud = Cloud::new().await;
    limit(&cloud, json!({"cores": 2})).await;
    let first = cloud.member().create("a").await;
    cloud.member().create("b").await;
    let refused = cloud.member().expect(403, "POST", "/servers", Some(new_server("c"))).await;
    assert_eq!(message(&refused), "Quota exceeded for cores: Requested 1, but already used 2 of 2 cores");
    // Another project has its own.
    cloud.client("q", "member").create("d").await;
    // A deleted server frees its part at once.
    cloud.member().expect(204, "DELETE", &format!("/servers/{first}"), None).await;
    cloud.member().create("e").await;
}

#[tokio::test]
async fn a_request_for_many_gets_as_many_as_fit() {
    let cloud = Cloud::new().await;
    limit(&cloud, json!({"instances": 3})).await;
    let many = |min: u32, max: u32| {
        let mut body = new_server("vm");
        body["server"]["min_count"] = json!(min);
        body["server"]["max_count"] = json!(max);
        body
    };
    cloud.member().expect(403, "POST", "/servers", Some(many(4, 5))).await;
    cloud.member().expect(202, "POST", "/servers", Some(many(2, 5))).await;
    let list = cloud.member().get("/servers").await;
    assert_eq!(list["servers"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn requests_at_once_do_not_pass_the_quota() {
    let cloud = Cloud::new().await;
    limit(&cloud, json!({"instances": 3})).await;
    let calls = (0..12).map(|number| {
        let cloud = &cloud;
        async move { cloud.member().call("POST", "/servers", Some(new_server(&format!("vm{number}")))).await.status }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 9, "{statuses:?}");
}

#[tokio::test]
async fn limits_are_shown_by_version() {
    let cloud = Cloud::new().await;
    cloud.member().create("a").await;
    let limits = async |version: &str| cloud.member().at(version).get("/limits").await["limits"]["absolute"].clone();
    let newest = limits("2.104").await;
    assert_eq!((&newest["totalCoresUsed"], &newest["maxTotalCores"]), (&json!(1), &json!(20)));
    assert_eq!((&newest["totalRAMUsed"], &newest["totalInstancesUsed"]), (&json!(512), &json!(1)));
    for (version, count) in [("2.104", 11), ("2.57", 11), ("2.56", 13), ("2.38", 14), ("2.35", 19)] {
        assert_eq!(keys(&limits(version).await).len(), count, "{version}");
    }
}

#[tokio::test]
async fn quota_sets_have_the_resources_of_their_version() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    for (version, count) in [("2.57", 7), ("2.36", 10), ("2.35", 14)] {
        let body = admin.at(version).get("/os-quota-sets/p").await;
        assert_eq!(keys(&body["quota_set"]).len(), count + 1, "{version}");
        let body = admin.at(version).get("/os-quota-sets/p/detail").await;
        assert_eq!(body["quota_set"]["cores"], json!({"limit": 20, "in_use": 0, "reserved": 0}));
        let body = admin.at(version).get("/os-quota-sets/p/defaults").await;
        assert_eq!(keys(&body["quota_set"]).len(), count + 1, "{version}");
    }
    for (version, count) in [("2.57", 7), ("2.50", 10), ("2.49", 12), ("2.1", 12)] {
        let body = admin.at(version).get("/os-quota-class-sets/default").await;
        assert_eq!(keys(&body["quota_class_set"]).len(), count + 1, "{version}");
    }
}

#[tokio::test]
async fn limits_are_changed_by_administrators() {
    let cloud = Cloud::new().await;
    let (admin, path) = (cloud.admin(), "/os-quota-sets/p");
    let set = |limits: Value| Some(json!({"quota_set": limits}));
    cloud.member().expect(403, "PUT", path, set(json!({"cores": 100}))).await;
    cloud.client("q", "member").expect(403, "GET", path, None).await;
    let updated = admin.expect(200, "PUT", path, set(json!({"cores": "7", "force": true}))).await;
    assert_eq!(updated["quota_set"]["cores"], json!(7));
    assert!(updated["quota_set"].get("id").is_none());
    assert_eq!(cloud.member().get(path).await["quota_set"]["cores"], json!(7));
    for bad in [json!({"cores": -2}), json!({"nonsense": 1}), json!({"cores": "x"}), json!({"floating_ips": 1})] {
        admin.expect(400, "PUT", path, set(bad)).await;
    }
    // Below what is used only by force.
    cloud.member().create("a").await;
    admin.expect(400, "PUT", path, set(json!({"instances": 0}))).await;
    admin.expect(200, "PUT", path, set(json!({"instances": 0, "force": true}))).await;
    admin.expect(202, "DELETE", path, None).await;
    assert_eq!(cloud.member().get(path).await["quota_set"]["instances"], json!(10));
    let class = Some(json!({"quota_class_set": {"instances": 1}}));
    admin.expect(200, "PUT", "/os-quota-class-sets/default", class).await;
    assert_eq!(cloud.member().get(path).await["quota_set"]["instances"], json!(1));
}
