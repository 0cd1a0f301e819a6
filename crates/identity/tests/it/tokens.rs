use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::{
    ADMIN_PASSWORD, Cloud, DEMO_PASSWORD, call, column, keys, password_auth, project_scope, token_auth, with_scope,
};

#[tokio::test]
async fn a_project_token_says_all_it_should() {
    for cloud in Cloud::all().await {
        let answer = cloud.login("admin", ADMIN_PASSWORD, project_scope("admin")).await;
        let id = answer.token();
        let token = &answer.body["token"];
        assert_eq!(
            keys(token),
            ["audit_ids", "catalog", "expires_at", "is_domain", "issued_at", "methods", "project", "roles", "user"]
        );
        assert_eq!(token["methods"], json!(["password"]));
        assert_eq!(
            token["user"],
            json!({
                "domain": {"id": "default", "name": "Default"},
                "id": cloud.ids.admin_user_id,
                "name": "admin",
                "password_expires_at": null
            })
        );
        assert_eq!(
            token["project"],
            json!({
                "domain": {"id": "default", "name": "Default"},
                "id": cloud.ids.admin_project_id,
                "name": "admin"
            })
        );
        assert_eq!(token["is_domain"], false);
        assert_eq!(column(&token["roles"], "name"), ["admin", "manager", "member", "reader"]);
        assert_eq!(token["audit_ids"].as_array().unwrap().len(), 1);
        assert_eq!(token["audit_ids"][0].as_str().unwrap().len(), 22);
        assert_eq!(token["issued_at"], "2026-11-18T11:06:40.000000Z");
        assert_eq!(token["expires_at"], "2026-11-18T12:06:40.000000Z");
        let compute = &token["catalog"][0];
        assert_eq!(keys(compute), ["endpoints", "id", "name", "type"]);
        assert_eq!((&compute["type"], &compute["name"]), (&json!("compute"), &json!("nova")));
        assert_eq!(column(&compute["endpoints"], "interface"), ["admin", "internal", "public"]);
        assert_eq!(keys(&compute["endpoints"][0]), ["id", "interface", "region", "region_id", "url"]);
        assert_eq!(column(&compute["endpoints"], "region"), ["RegionOne"; 3]);
        assert_eq!(column(&compute["endpoints"], "url"), ["http://cloud:1/compute/v2.1"; 3]);
        // What validates it later says the same.
        let shown = cloud.on_token("GET", "", &id, &id).await;
        assert_eq!(shown.headers["x-subject-token"].to_str().unwrap(), id);
        assert_eq!(shown.expect(200)["token"], *token);
    }
}

#[tokio::test]
async fn scopes_are_as_asked() {
    for cloud in Cloud::all().await {
        let admin = |scope: Value| cloud.login("admin", ADMIN_PASSWORD, scope);
        let system = admin(json!({"system": {"all": true}})).await.expect(201);
        assert_eq!(system["token"]["system"], json!({"all": true}));
        assert_eq!(column(&system["token"]["roles"], "name"), ["admin", "manager", "member", "reader"]);
        for scope in [json!({"unscoped": {}}), json!("unscoped"), Value::Null] {
            let unscoped = admin(scope).await.expect(201);
            assert_eq!(keys(&unscoped["token"]), ["audit_ids", "expires_at", "issued_at", "methods", "user"]);
        }
        for scope in [
            json!({"project": {"id": cloud.ids.admin_project_id}}),
            json!({"project": {"name": "admin", "domain": {"name": "Default"}}}),
        ] {
            let token = admin(scope).await.expect(201);
            assert_eq!(token["token"]["project"]["id"], cloud.ids.admin_project_id);
        }
        admin(json!({"domain": {"id": "default"}})).await.expect(401);
        let admin_role = cloud.role("admin").await;
        cloud.grant(&format!("domains/default/users/{}/roles/{admin_role}", cloud.ids.admin_user_id)).await;
        for scope in [json!({"domain": {"id": "default"}}), json!({"domain": {"name": "Default"}})] {
            let token = admin(scope).await.expect(201);
            assert_eq!(token["token"]["domain"], json!({"id": "default", "name": "Default"}));
        }
    }
}

#[tokio::test]
async fn a_default_project_is_taken_where_it_can_be() {
    for cloud in Cloud::all().await {
        let demo_project = cloud.ids.demo_project_id.clone().unwrap();
        let admin = cloud.admin().await;
        let user = cloud
            .make("users", "user", json!({"name": "u", "password": "p", "default_project_id": demo_project}))
            .await;
        let scope = |body: Value| body["token"]["project"]["id"].clone();
        assert_eq!(scope(cloud.login("u", "p", Value::Null).await.expect(201)), Value::Null, "no role yet");
        let member = cloud.role("member").await;
        cloud.grant(&format!("projects/{demo_project}/users/{user}/roles/{member}")).await;
        assert_eq!(scope(cloud.login("u", "p", Value::Null).await.expect(201)), json!(demo_project));
        assert_eq!(scope(cloud.login("u", "p", json!("unscoped")).await.expect(201)), Value::Null);
        let disable = json!({"project": {"enabled": false}});
        cloud.call("PATCH", &format!("/identity/v3/projects/{demo_project}"), &admin, disable).await.expect(200);
        assert_eq!(scope(cloud.login("u", "p", Value::Null).await.expect(201)), Value::Null, "disabled");
    }
}

#[tokio::test]
async fn every_refusal_looks_the_same() {
    let cloud = Cloud::new().await;
    let same = json!({"error": {
        "code": 401,
        "title": "Unauthorized",
        "message": "The request you have made requires authentication."
    }});
    let demo = |scope: Value| password_auth("demo", DEMO_PASSWORD, scope);
    let by_id = |id: &str| {
        json!({"identity": {
            "methods": ["password"],
            "password": {"user": {"id": id, "password": ADMIN_PASSWORD}}
        }})
    };
    for auth in [
        password_auth("admin", "wrong", Value::Null),
        password_auth("nobody", ADMIN_PASSWORD, Value::Null),
        password_auth("service", "", Value::Null),
        by_id("nobody"),
        demo(project_scope("admin")),
        demo(project_scope("nothing")),
        demo(json!({"system": {"all": true}})),
        demo(json!({"domain": {"id": "default"}})),
        demo(json!({"domain": {"id": "nothing"}})),
        json!({"identity": {"methods": []}}),
    ] {
        assert_eq!(cloud.authenticate(auth.clone()).await.expect(401), same, "{auth}");
    }
    cloud.authenticate(token_auth("nonsense", Value::Null)).await.expect(404);
    let unknown = cloud.authenticate(json!({"identity": {"methods": ["retina"]}})).await;
    assert_eq!(unknown.expect(401)["error"]["message"], "Attempted to authenticate with an unsupported method.");
}

#[tokio::test]
async fn a_chain_of_tokens_keeps_its_end() {
    let cloud = Cloud::new().await;
    let first = cloud.login("admin", ADMIN_PASSWORD, json!("unscoped")).await;
    let (first_token, first) = (first.token(), &first.body["token"]);
    cloud.clock.advance(Duration::from_secs(600));
    let second = cloud.authenticate(token_auth(&first_token, project_scope("admin"))).await;
    let (second_token, second) = (second.token(), &second.body["token"]);
    assert_eq!(second["expires_at"], first["expires_at"]);
    assert_ne!(second["issued_at"], first["issued_at"]);
    assert_eq!(second["methods"], json!(["token", "password"]));
    assert_eq!(second["audit_ids"][1], first["audit_ids"][0]);
    let third = cloud.authenticate(token_auth(&second_token, json!({"system": {"all": true}}))).await.expect(201);
    assert_eq!(third["token"]["audit_ids"][1], first["audit_ids"][0]);
    assert_eq!(third["token"]["audit_ids"].as_array().unwrap().len(), 2);
    // Taking back one that was derived leaves the first, taking back the first takes all.
    cloud.on_token("DELETE", "", &second_token, &second_token).await.expect(204);
    cloud.on_token("GET", "", &second_token, &second_token).await.expect(401);
    let fourth = cloud.authenticate(token_auth(&first_token, project_scope("admin"))).await.token();
    cloud.on_token("DELETE", "", &fourth, &first_token).await.expect(204);
    cloud.on_token("GET", "", &fourth, &fourth).await.expect(401);
    cloud.authenticate(token_auth(&first_token, project_scope("admin"))).await.expect(404);
}

#[tokio::test]
async fn two_methods_must_be_one_user() {
    let cloud = Cloud::new().await;
    let demo = cloud.demo().await;
    let auth = |user: &str, password: &str| {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": password});
        let identity = json!({"methods": ["password", "token"], "password": {"user": user}, "token": {"id": demo}});
        with_scope(identity, project_scope("demo"))
    };
    let both = cloud.authenticate(auth("demo", DEMO_PASSWORD)).await.expect(201);
    assert_eq!(both["token"]["methods"], json!(["password", "token"]));
    cloud.authenticate(auth("admin", ADMIN_PASSWORD)).await.expect(401);
    cloud.authenticate(auth("demo", "wrong")).await.expect(401);
}

#[tokio::test]
async fn tokens_are_shown_to_whom_they_concern() {
    let cloud = Cloud::new().await;
    let (admin, demo) = (cloud.admin().await, cloud.demo().await);
    cloud.on_token("GET", "", &demo, &demo).await.expect(200);
    cloud.on_token("GET", "", &admin, &demo).await.expect(200);
    cloud.on_token("GET", "", &demo, &admin).await.expect(403);
    cloud.on_token("DELETE", "", &demo, &admin).await.expect(403);
    cloud.on_token("GET", "", &admin, "nonsense").await.expect(404);
    cloud.on_token("GET", "", &admin, "").await.expect(404);
    cloud.on_token("GET", "", "", &admin).await.expect(401);
    let service = cloud.identity.service_token().await.unwrap();
    cloud.on_token("GET", "", &service, &demo).await.expect(200);
    let head = cloud.on_token("HEAD", "", &admin, &demo).await;
    assert_eq!((head.status, head.size), (200, 0));
    let plain = cloud.on_token("GET", "?nocatalog", &admin, &demo).await.expect(200);
    assert_eq!(plain["token"]["catalog"], Value::Null);
    let scope = password_auth("demo", DEMO_PASSWORD, project_scope("demo"));
    let path = "/identity/v3/auth/tokens?nocatalog";
    let made = call(&cloud.router, "POST", path, &[], json!({ "auth": scope })).await.expect(201);
    assert_eq!(made["token"]["catalog"], Value::Null);
}

#[tokio::test]
async fn an_expired_token_is_good_for_a_while_where_that_is_asked() {
    let cloud = Cloud::new().await;
    let old = cloud.demo().await;
    cloud.clock.advance(Duration::from_secs(3600));
    let admin = cloud.admin().await;
    cloud.on_token("GET", "", &old, &old).await.expect(401);
    cloud.on_token("GET", "", &admin, &old).await.expect(404);
    cloud.on_token("GET", "?allow_expired=1", &admin, &old).await.expect(200);
    cloud.clock.advance(Duration::from_secs(48 * 3600));
    let admin = cloud.admin().await;
    cloud.on_token("GET", "?allow_expired=1", &admin, &old).await.expect(404);
}

#[tokio::test]
async fn a_caller_learns_where_it_may_go() {
    for cloud in Cloud::all().await {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let projects = cloud.get("/identity/v3/auth/projects", &demo).await.expect(200);
        assert_eq!(column(&projects["projects"], "name"), ["demo"]);
        assert_eq!(projects["links"]["self"], "http://cloud:1/identity/v3/auth/projects");
        let projects = cloud.get("/identity/v3/auth/projects", &admin).await.expect(200);
        assert_eq!(projects["projects"].as_array().unwrap().len(), 2);
        let domains = cloud.get("/identity/v3/auth/domains", &admin).await.expect(200);
        assert_eq!(domains["domains"], json!([]));
        let system = cloud.get("/identity/v3/auth/system", &admin).await.expect(200);
        assert_eq!(system["system"], json!([{"all": true}]));
        let system = cloud.get("/identity/v3/auth/system", &demo).await.expect(200);
        assert_eq!(system["system"], json!([]));
        let catalog = cloud.get("/identity/v3/auth/catalog", &demo).await.expect(200);
        assert_eq!(column(&catalog["catalog"], "type"), ["compute", "identity"]);
        let unscoped = cloud.login("demo", DEMO_PASSWORD, json!("unscoped")).await.token();
        cloud.get("/identity/v3/auth/catalog", &unscoped).await.expect(403);
        let projects = cloud.get("/identity/v3/auth/projects", &unscoped).await.expect(200);
        assert_eq!(column(&projects["projects"], "name"), ["demo"]);
    }
}

#[tokio::test]
async fn roles_come_by_groups_and_from_above() {
    for cloud in Cloud::all().await {
        let user = cloud.make("users", "user", json!({"name": "u", "password": "p"})).await;
        let member = cloud.role("member").await;
        let top = cloud.make("projects", "project", json!({"name": "top"})).await;
        let below = cloud.make("projects", "project", json!({"name": "below", "parent_id": top})).await;
        let other = cloud.make("projects", "project", json!({"name": "other"})).await;
        let may = async |id: &str| {
            let answer = cloud.login("u", "p", json!({"project": {"id": id}})).await;
            assert!(matches!(answer.status, 201 | 401), "{}", answer.body);
            answer.status == 201
        };
        let group = cloud.make("groups", "group", json!({"name": "g"})).await;
        cloud.grant(&format!("projects/{other}/groups/{group}/roles/{member}")).await;
        assert!(!may(&other).await);
        cloud.grant(&format!("groups/{group}/users/{user}")).await;
        assert!(may(&other).await);
        let inherit = format!("users/{user}/roles/{member}/inherited_to_projects");
        cloud.grant(&format!("OS-INHERIT/projects/{top}/{inherit}")).await;
        assert!(!may(&top).await, "inherited by those below only");
        assert!(may(&below).await);
        let fresh = cloud.make("projects", "project", json!({"name": "fresh"})).await;
        assert!(!may(&fresh).await);
        cloud.grant(&format!("OS-INHERIT/domains/default/{inherit}")).await;
        assert!(may(&fresh).await && may(&top).await);
        let token = cloud.login("u", "p", json!({"project": {"id": fresh}})).await.token();
        let projects = cloud.get("/identity/v3/auth/projects", &token).await.expect(200);
        assert_eq!(projects["projects"].as_array().unwrap().len(), 7, "all of the domain: {projects}");
    }
}

#[tokio::test]
async fn the_catalog_knows_its_reader() {
    for cloud in Cloud::all().await {
        let service = cloud.make("services", "service", json!({"type": "volumev3", "name": "cinder"})).await;
        let url = "http://cloud:1/volume/v3/$(project_id)s";
        cloud
            .make(
                "endpoints",
                "endpoint",
                json!({"service_id": service, "interface": "public", "url": url, "region_id": "RegionOne"}),
            )
            .await;
        let demo = cloud.login("demo", DEMO_PASSWORD, project_scope("demo")).await.expect(201);
        let id = demo["token"]["project"]["id"].as_str().unwrap();
        let volume = &demo["token"]["catalog"][2];
        assert_eq!(volume["type"], "volumev3");
        assert_eq!(volume["endpoints"][0]["url"], format!("http://cloud:1/volume/v3/{id}"));
        let system = cloud.login("admin", ADMIN_PASSWORD, json!({"system": {"all": true}})).await.expect(201);
        assert_eq!(system["token"]["catalog"][2]["endpoints"], json!([]), "no project to fill in");
    }
}
