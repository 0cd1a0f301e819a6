use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys};

#[tokio::test]
async fn regions_live_and_die() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let post =
            async |region: Value| cloud.call("POST", "/identity/v3/regions", &admin, json!({ "region": region })).await;
        let made = post(json!({})).await.expect(201);
        assert_eq!(keys(&made["region"]), ["description", "id", "links", "parent_region_id"]);
        assert_eq!(made["region"]["id"].as_str().unwrap().len(), 32);
        let made = post(json!({"id": "R2", "parent_region_id": "RegionOne", "description": "d"})).await.expect(201);
        assert_eq!(made["region"]["id"], "R2");
        post(json!({"id": "R2"})).await.expect(409);
        post(json!({"id": "R9", "parent_region_id": "nothing"})).await.expect(404);
        let put = async |id: &str, region: Value| {
            cloud.call("PUT", &format!("/identity/v3/regions/{id}"), &admin, json!({ "region": region })).await
        };
        put("R3", json!({"parent_region_id": "R2"})).await.expect(201);
        put("R4", json!({"id": "R5"})).await.expect(400);
        let patch = async |id: &str, region: Value| {
            cloud.call("PATCH", &format!("/identity/v3/regions/{id}"), &admin, json!({ "region": region })).await
        };
        let changed = patch("R2", json!({"description": "e"})).await.expect(200);
        assert_eq!(changed["region"]["description"], "e");
        assert_eq!(changed["region"]["parent_region_id"], "RegionOne");
        patch("R2", json!({"parent_region_id": "R3"})).await.expect(400);
        let found = cloud.get("/identity/v3/regions?parent_region_id=R2", &admin).await.expect(200);
        assert_eq!(column(&found["regions"], "id"), ["R3"]);
        cloud.delete("/identity/v3/regions/RegionOne", &admin).await.expect(403);
        cloud.delete("/identity/v3/regions/R2", &admin).await.expect(204);
        cloud.get("/identity/v3/regions/R3", &admin).await.expect(404);
        let demo = cloud.demo().await;
        cloud.get("/identity/v3/regions/RegionOne", &demo).await.expect(200);
    }
}

#[tokio::test]
async fn services_and_endpoints_make_the_catalog() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let fields = json!({"type": "dns", "name": "designate", "description": "d", "more": "m"});
        let made = cloud.call("POST", "/identity/v3/services", &admin, json!({ "service": fields })).await.expect(201);
        assert_eq!(keys(&made["service"]), ["description", "enabled", "id", "links", "more", "name", "type"]);
        let service = made["service"]["id"].as_str().unwrap();
        let found = cloud.get("/identity/v3/services?type=dns", &admin).await.expect(200);
        assert_eq!(column(&found["services"], "id"), [service]);
        assert_eq!(
            cloud.get("/identity/v3/services?name=nova", &admin).await.expect(200)["services"][0]["type"],
            "compute"
        );

        let post = async |endpoint: Value| {
            cloud.call("POST", "/identity/v3/endpoints", &admin, json!({ "endpoint": endpoint })).await
        };
        let fields = json!({"service_id": service, "interface": "public", "url": "http://x/", "region": "RX"});
        let made = post(fields).await.expect(201);
        assert_eq!(
            keys(&made["endpoint"]),
            ["enabled", "id", "interface", "links", "region", "region_id", "service_id", "url"]
        );
        cloud.get("/identity/v3/regions/RX", &admin).await.expect(200);
        for bad in [
            json!({"service_id": service, "interface": "sideways", "url": "http://x"}),
            json!({"service_id": "nothing", "interface": "public", "url": "http://x"}),
            json!({"service_id": service, "interface": "public", "url": "http://x", "region_id": "nothing"}),
            json!({"service_id": service, "interface": "public", "url": "x"}),
            json!({"service_id": service, "interface": "public"}),
            json!({"interface": "public", "url": "http://x"}),
        ] {
            post(bad).await.expect(400);
        }
        let endpoint = made["endpoint"]["id"].as_str().unwrap();
        let found = async |query: &str| {
            let found = cloud.get(&format!("/identity/v3/endpoints?{query}"), &admin).await.expect(200);
            column(&found["endpoints"], "id")
        };
        assert_eq!(found(&format!("service_id={service}")).await, [endpoint]);
        assert_eq!(found("region_id=RX&interface=public").await, [endpoint]);
        assert_eq!(found("region=RX&interface=admin").await, [""; 0]);

        let in_catalog = async || {
            let catalog = cloud.get("/identity/v3/auth/catalog", &admin).await.expect(200);
            column(&catalog["catalog"], "type").contains(&"dns".to_owned())
        };
        assert!(in_catalog().await);
        let path = format!("/identity/v3/endpoints/{endpoint}");
        let body = json!({"endpoint": {"url": "http://y", "region_id": null}});
        let changed = cloud.call("PATCH", &path, &admin, body).await.expect(200);
        assert_eq!((&changed["endpoint"]["url"], &changed["endpoint"]["region"]), (&json!("http://y"), &Value::Null));
        let path = format!("/identity/v3/services/{service}");
        cloud.call("PATCH", &path, &admin, json!({"service": {"enabled": false}})).await.expect(200);
        assert!(!in_catalog().await);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&format!("/identity/v3/endpoints/{endpoint}"), &admin).await.expect(404);
        cloud.get(&path, &admin).await.expect(404);
    }
}

#[tokio::test]
async fn policies_are_kept() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let id = cloud.make("policies", "policy", json!({"type": "application/json", "blob": "{}", "x": "y"})).await;
        let path = format!("/identity/v3/policies/{id}");
        let shown = cloud.get(&path, &admin).await.expect(200);
        assert_eq!(keys(&shown["policy"]), ["blob", "id", "links", "type", "x"]);
        let changed = cloud.call("PATCH", &path, &admin, json!({"policy": {"type": "t"}})).await.expect(200);
        assert_eq!((&changed["policy"]["type"], &changed["policy"]["blob"]), (&json!("t"), &json!("{}")));
        let found = cloud.get("/identity/v3/policies?type=t", &admin).await.expect(200);
        assert_eq!(column(&found["policies"], "id"), [id.as_str()]);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
    }
}
