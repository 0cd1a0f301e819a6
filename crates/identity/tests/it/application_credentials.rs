use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys, project_scope, token_auth, with_scope};

fn by_id(id: &Value, secret: &Value) -> Value {
    let credential = json!({"id": id, "secret": secret});
    json!({"identity": {"methods": ["application_credential"], "application_credential": credential}})
}

/// The demo user's id, a token, and where its credentials are.
async fn demo(cloud: &Cloud) -> (String, String, String) {
    let token = cloud.demo().await;
    let shown = cloud.on_token("GET", "", &token, &token).await.expect(200);
    let user = shown["token"]["user"]["id"].as_str().unwrap().to_owned();
    let path = format!("/identity/v3/users/{user}/application_credentials");
    (user, token, path)
}

async fn make(cloud: &Cloud, path: &str, token: &str, fields: Value) -> Value {
    let body = json!({ "application_credential": fields });
    cloud.call("POST", path, token, body).await.expect(201)["application_credential"].clone()
}

#[tokio::test]
async fn a_program_logs_in_with_its_own_secret() {
    for cloud in Cloud::all().await {
        let (user, token, path) = demo(&cloud).await;
        let made = make(&cloud, &path, &token, json!({"name": "ci", "roles": [{"name": "reader"}]})).await;
        assert_eq!(
            keys(&made),
            [
                "description",
                "expires_at",
                "id",
                "links",
                "name",
                "project_id",
                "roles",
                "secret",
                "system",
                "unrestricted",
                "user_id"
            ]
        );
        assert_eq!(made["secret"].as_str().unwrap().len(), 86);
        let answer = cloud.authenticate(by_id(&made["id"], &made["secret"])).await;
        let token = answer.token();
        let body = &answer.body["token"];
        assert_eq!(body["methods"], json!(["application_credential"]));
        assert_eq!(column(&body["roles"], "name"), ["reader"]);
        assert_eq!(body["project"]["name"], "demo");
        let told = json!({"id": made["id"], "name": "ci", "restricted": true});
        assert_eq!(body["application_credential"], told);
        let shown = cloud.on_token("GET", "", &token, &token).await.expect(200);
        assert_eq!(shown["token"]["application_credential"], told);
        let named = |user: Value| {
            let credential = json!({"name": "ci", "secret": made["secret"], "user": user});
            json!({"identity": {"methods": ["application_credential"], "application_credential": credential}})
        };
        cloud.authenticate(named(json!({"id": user}))).await.expect(201);
        cloud.authenticate(named(json!({"name": "demo", "domain": {"name": "Default"}}))).await.expect(201);
        cloud.authenticate(named(json!({"id": cloud.ids.admin_user_id}))).await.expect(401);
        cloud.authenticate(by_id(&made["id"], &json!("wrong"))).await.expect(401);
        cloud.authenticate(by_id(&json!("nothing"), &made["secret"])).await.expect(401);
        let shown = cloud.get(&format!("{path}/{}", made["id"].as_str().unwrap()), &token).await.expect(200);
        assert_eq!(shown["application_credential"]["secret"], Value::Null, "told once");
        let listed = cloud.get(&format!("{path}?name=ci"), &token).await.expect(200);
        assert_eq!(column(&listed["application_credentials"], "name"), ["ci"]);
    }
}

#[tokio::test]
async fn a_credential_gives_no_more_than_it_says() {
    for cloud in Cloud::all().await {
        let (_, token, path) = demo(&cloud).await;
        let post = async |token: &str, fields: Value| {
            cloud.call("POST", &path, token, json!({ "application_credential": fields })).await
        };
        post(&token, json!({"name": "x", "roles": [{"name": "admin"}]})).await.expect(400);
        post(&token, json!({"name": "x", "expires_at": "2001-01-01T00:00:00"})).await.expect(400);
        post(&token, json!({"name": "x", "expires_at": "soon"})).await.expect(400);
        post(&token, json!({})).await.expect(400);
        let admin = cloud.admin().await;
        post(&admin, json!({"name": "x"})).await.expect(403);
        let made = make(&cloud, &path, &token, json!({"name": "a"})).await;
        post(&token, json!({"name": "a"})).await.expect(409);
        let from = cloud.authenticate(by_id(&made["id"], &made["secret"])).await.token();
        // No other scope, no further secrets; another token for the same is fine.
        let scoped = with_scope(by_id(&made["id"], &made["secret"])["identity"].clone(), project_scope("demo"));
        cloud.authenticate(scoped).await.expect(401);
        cloud.authenticate(token_auth(&from, json!("unscoped"))).await.expect(401);
        cloud.authenticate(token_auth(&from, json!({"project": {"id": cloud.ids.admin_project_id}}))).await.expect(401);
        let again = cloud.authenticate(token_auth(&from, Value::Null)).await.expect(201);
        assert_eq!(again["token"]["application_credential"]["id"], made["id"]);
        post(&from, json!({"name": "b"})).await.expect(403);
        let body = json!({"credential": {"type": "cert", "blob": "x", "user_id": made["user_id"]}});
        cloud.call("POST", "/identity/v3/credentials", &from, body).await.expect(403);
        // A role that came after the token, though not by a token that was to have less.
        let late = cloud.make("roles", "role", json!({"name": "late"})).await;
        let project = cloud.ids.demo_project_id.as_ref().unwrap();
        let user = made["user_id"].as_str().unwrap();
        cloud.grant(&format!("projects/{project}/users/{user}/roles/{late}")).await;
        post(&token, json!({"name": "l", "roles": [{"id": late}]})).await.expect(201);
        let fields = json!({
            "name": "f", "unrestricted": true, "secret": "chosen", "roles": [{"name": "member"}]
        });
        let free = make(&cloud, &path, &token, fields).await;
        let free = cloud.authenticate(by_id(&free["id"], &json!("chosen"))).await.token();
        post(&free, json!({"name": "c"})).await.expect(201);
        post(&free, json!({"name": "m", "roles": [{"id": late}]})).await.expect(400);
    }
}

#[tokio::test]
async fn a_credential_ends_with_what_it_stands_on() {
    for cloud in Cloud::all().await {
        let (user, token, path) = demo(&cloud).await;
        let admin = cloud.admin().await;
        let made = make(&cloud, &path, &token, json!({"name": "a"})).await;
        let login = async |made: &Value| cloud.authenticate(by_id(&made["id"], &made["secret"])).await;
        // Deleted by its owner: its tokens too.
        let from = login(&made).await.token();
        cloud.tick();
        cloud.delete(&format!("{path}/{}", made["id"].as_str().unwrap()), &token).await.expect(204);
        login(&made).await.expect(401);
        cloud.on_token("GET", "", &from, &from).await.expect(401);
        // The grant taken away.
        let made = make(&cloud, &path, &token, json!({"name": "b"})).await;
        login(&made).await.expect(201);
        let grant = format!(
            "/identity/v3/projects/{}/users/{user}/roles/{}",
            cloud.ids.demo_project_id.as_ref().unwrap(),
            cloud.role("member").await
        );
        cloud.delete(&grant, &admin).await.expect(204);
        login(&made).await.expect(401);
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
        login(&made).await.expect(401);
        // Its own time.
        cloud.tick();
        let token = cloud.demo().await;
        let soon = "2026-11-18T11:10:00Z";
        let made = make(&cloud, &path, &token, json!({"name": "c", "expires_at": soon})).await;
        assert_eq!(made["expires_at"], "2026-11-18T11:10:00.000000");
        let body = login(&made).await.expect(201);
        assert_eq!(body["token"]["expires_at"], "2026-11-18T11:10:00.000000Z");
        cloud.clock.advance(Duration::from_secs(600));
        login(&made).await.expect(401);
        // The user switched off.
        let made = make(&cloud, &path, &token, json!({"name": "d"})).await;
        let body = json!({"user": {"enabled": false}});
        cloud.call("PATCH", &format!("/identity/v3/users/{user}"), &admin, body).await.expect(200);
        login(&made).await.expect(401);
    }
}

#[tokio::test]
async fn access_rules_are_kept() {
    for cloud in Cloud::all().await {
        let (user, token, path) = demo(&cloud).await;
        let rule = json!({"service": "compute", "method": "GET", "path": "/v2.1/servers"});
        let made = make(&cloud, &path, &token, json!({"name": "a", "access_rules": [rule]})).await;
        let id = made["access_rules"][0]["id"].as_str().unwrap();
        let rules = format!("/identity/v3/users/{user}/access_rules");
        let listed = cloud.get(&rules, &token).await.expect(200);
        assert_eq!(column(&listed["access_rules"], "path"), ["/v2.1/servers"]);
        cloud.get(&format!("{rules}/{id}"), &token).await.expect(200);
        cloud.delete(&format!("{rules}/{id}"), &token).await.expect(403);
        // The same words are the same rule, and a rule can be named by its id.
        let again = make(&cloud, &path, &token, json!({"name": "b", "access_rules": [rule, {"id": id}]})).await;
        assert_eq!(again["access_rules"].as_array().unwrap()[0]["id"], id);
        for bad in [
            json!({"service": "compute", "method": "LOOK", "path": "/"}),
            json!({"service": "compute", "method": "GET", "path": "x"}),
            json!({"method": "GET", "path": "/"}),
        ] {
            let body = json!({"application_credential": {"name": "x", "access_rules": [bad]}});
            cloud.call("POST", &path, &token, body).await.expect(400);
        }
        for made in [&made, &again] {
            cloud.delete(&format!("{path}/{}", made["id"].as_str().unwrap()), &token).await.expect(204);
        }
        cloud.delete(&format!("{rules}/{id}"), &token).await.expect(204);
        cloud.get(&format!("{rules}/{id}"), &token).await.expect(404);
    }
}

#[tokio::test]
async fn access_rules_travel_in_the_token() {
    for cloud in Cloud::all().await {
        let (user, token, path) = demo(&cloud).await;
        let own = format!("/identity/v3/users/{user}");
        let rule = |path: &str| json!({"service": "identity", "method": "GET", "path": path});
        let fields = json!({"name": "a", "access_rules": [rule("/v3/users/*"), rule("/v3/auth/projects")]});
        let made = make(&cloud, &path, &token, fields).await;
        let login = cloud.authenticate(by_id(&made["id"], &made["secret"])).await;
        let from = login.token();
        let mut told = column(&login.body["token"]["application_credential"]["access_rules"], "path");
        told.sort();
        assert_eq!(told, ["/v3/auth/projects", "/v3/users/*"]);
        let shown = cloud.on_token("GET", "", &from, &from).await.expect(200);
        assert_eq!(shown["token"]["application_credential"], login.body["token"]["application_credential"]);
        cloud.get(&own, &from).await.expect(200);
        cloud.get("/identity/v3/auth/projects", &from).await.expect(200);
        cloud.get(&format!("{own}/projects"), &from).await.expect(401);
        cloud.get("/identity/v3/auth/catalog", &from).await.expect(401);
        // A token made from it is as narrow.
        let again = cloud.authenticate(token_auth(&from, Value::Null)).await.token();
        cloud.get(&own, &again).await.expect(200);
        cloud.get(&format!("{own}/projects"), &again).await.expect(401);
        // More than a token can hold.
        let rules: Vec<Value> = (0..100).map(|number| rule(&format!("/{number}/{}", "x".repeat(100)))).collect();
        let body = json!({"application_credential": {"name": "x", "access_rules": rules}});
        cloud.call("POST", &path, &token, body).await.expect(400);
    }
}
