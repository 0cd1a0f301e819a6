//! Consumers, endpoint groups, and domains' configuration.

use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys};

#[tokio::test]
async fn consumers_show_their_secret_once() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let all = "/identity/v3/OS-OAUTH1/consumers";
        let made = cloud.call("POST", all, &admin, json!({"consumer": {"description": "d", "x": 1}})).await.expect(201);
        assert_eq!(keys(&made["consumer"]), ["description", "id", "links", "secret", "x"]);
        let id = made["consumer"]["id"].as_str().unwrap().to_owned();
        let path = format!("{all}/{id}");
        let shown = cloud.get(&path, &admin).await.expect(200);
        assert_eq!(keys(&shown["consumer"]), ["description", "id", "links", "x"]);
        let change = async |fields: Value| cloud.call("PATCH", &path, &admin, json!({ "consumer": fields })).await;
        let changed = change(json!({"description": null})).await.expect(200);
        assert_eq!(changed["consumer"]["description"], Value::Null);
        change(json!({"secret": "mine"})).await.expect(400);
        change(json!({"id": "other"})).await.expect(400);
        let listed = cloud.get(all, &admin).await.expect(200);
        assert_eq!(column(&listed["consumers"], "id"), [id.as_str()]);
        cloud.get(&path, &cloud.demo().await).await.expect(403);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
        cloud.delete(&path, &admin).await.expect(404);
    }
}

#[tokio::test]
async fn endpoint_groups_hold_what_passes_their_filter() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let all = "/identity/v3/OS-EP-FILTER/endpoint_groups";
        let services = cloud.get("/identity/v3/services?type=compute", &admin).await.expect(200);
        let service = services["services"][0]["id"].clone();
        let fields = json!({"name": "g", "filters": {"service_id": service, "interface": "public"}});
        let id = cloud.make("OS-EP-FILTER/endpoint_groups", "endpoint_group", fields).await;
        let path = format!("{all}/{id}");
        let shown = cloud.get(&path, &admin).await.expect(200);
        assert_eq!(keys(&shown["endpoint_group"]), ["description", "filters", "id", "links", "name"]);
        cloud.call("HEAD", &path, &admin, Value::Null).await.expect(200);
        let members = cloud.get(&format!("{path}/endpoints"), &admin).await.expect(200);
        assert_eq!(column(&members["endpoints"], "interface"), ["public"]);
        assert_eq!(members["endpoints"][0]["service_id"], service);
        let change =
            async |fields: Value| cloud.call("PATCH", &path, &admin, json!({ "endpoint_group": fields })).await;
        let changed = change(json!({"description": "d", "filters": {"region_id": "nowhere"}})).await.expect(200);
        assert_eq!(changed["endpoint_group"]["filters"], json!({"region_id": "nowhere"}));
        assert_eq!(cloud.get(&format!("{path}/endpoints"), &admin).await.expect(200)["endpoints"], json!([]));
        for filters in [json!({}), json!({"url": "x"}), json!({"interface": "none"})] {
            change(json!({ "filters": filters })).await.expect(400);
        }
        let found = cloud.get(&format!("{all}?name=g"), &admin).await.expect(200);
        assert_eq!(column(&found["endpoint_groups"], "id"), [id.as_str()]);
        assert_eq!(cloud.get(&format!("{all}?name=h"), &admin).await.expect(200)["endpoint_groups"], json!([]));
        cloud.get(&path, &cloud.demo().await).await.expect(403);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
    }
}

#[tokio::test]
async fn a_domain_is_configured_by_group_and_option() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let domain = cloud.make("domains", "domain", json!({"name": "d", "enabled": false})).await;
        let call = async |method: &str, rest: &str, config: Value| {
            let body = if config.is_null() { Value::Null } else { json!({ "config": config }) };
            cloud.call(method, &format!("/identity/v3/domains/{domain}/config{rest}"), &admin, body).await
        };
        call("GET", "", Value::Null).await.expect(404);
        let config = json!({"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://x", "password": "secret"}});
        let public = json!({"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://x"}});
        assert_eq!(call("PUT", "", config.clone()).await.expect(201)["config"], public);
        assert_eq!(call("PUT", "", config).await.expect(200)["config"], public);
        assert_eq!(call("GET", "", Value::Null).await.expect(200)["config"], public);
        assert_eq!(call("GET", "/ldap", Value::Null).await.expect(200)["config"], json!({"ldap": {"url": "ldap://x"}}));
        assert_eq!(call("GET", "/ldap/url", Value::Null).await.expect(200)["config"], json!({"url": "ldap://x"}));
        call("GET", "/ldap/user", Value::Null).await.expect(404);
        call("GET", "/ldap/password", Value::Null).await.expect(404);
        // An update of a part needs the part, and names nothing else.
        let all = call("PATCH", "/identity", json!({"identity": {"list_limit": 7}})).await.expect(200);
        assert_eq!(all["config"]["identity"], json!({"driver": "ldap", "list_limit": 7}));
        assert_eq!(all["config"]["ldap"], json!({"url": "ldap://x"}));
        let all = call("PATCH", "/identity/driver", json!({"driver": "sql"})).await.expect(200);
        assert_eq!(all["config"]["identity"]["driver"], "sql");
        call("PATCH", "/ldap/user", json!({"user": "u"})).await.expect(404);
        for (rest, config) in [
            ("/ldap", json!({"identity": {"driver": "sql"}})),
            ("/identity/driver", json!({"list_limit": 1})),
            ("", json!({"oslo": {"x": 1}})),
            ("", json!({"identity": {"x": 1}})),
            ("", json!({})),
            ("", json!("x")),
            ("/oslo", json!({"oslo": {"x": 1}})),
        ] {
            call("PATCH", rest, config).await.expect(403);
        }
        call("DELETE", "/identity/driver", Value::Null).await.expect(204);
        call("GET", "/identity/driver", Value::Null).await.expect(404);
        call("DELETE", "/identity", Value::Null).await.expect(204);
        call("DELETE", "/identity", Value::Null).await.expect(404);
        assert_eq!(call("GET", "", Value::Null).await.expect(200)["config"], json!({"ldap": {"url": "ldap://x"}}));
        cloud.get(&format!("/identity/v3/domains/{domain}/config"), &cloud.demo().await).await.expect(403);
        // It goes with its domain.
        cloud.delete(&format!("/identity/v3/domains/{domain}"), &admin).await.expect(204);
        call("GET", "", Value::Null).await.expect(404);
        call("PUT", "", json!({"identity": {"driver": "sql"}})).await.expect(404);
    }
}

#[tokio::test]
async fn defaults_of_a_domains_configuration_are_shown() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let get = async |rest: &str| cloud.get(&format!("/identity/v3/domains/config{rest}/default"), &admin).await;
    assert_eq!(keys(&get("").await.expect(200)["config"]), ["identity", "ldap"]);
    let identity = json!({"identity": {"driver": "sql", "list_limit": null}});
    assert_eq!(get("/identity").await.expect(200)["config"], identity);
    assert_eq!(get("/ldap/use_tls").await.expect(200)["config"], json!({"use_tls": false}));
    get("/oslo").await.expect(403);
    get("/ldap/x").await.expect(403);
    get("/ldap/password").await.expect(403);
}
