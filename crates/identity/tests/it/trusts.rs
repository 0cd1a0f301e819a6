use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::{Cloud, DEMO_PASSWORD, column, keys, password_auth, project_scope, token_auth};

/// A user `t` to lend to, and what the demo user lends of its own.
struct Lending {
    trustor: String,
    trustee: String,
    project: String,
    token: String,
}

const ALL: &str = "/identity/v3/OS-TRUST/trusts";

async fn lending(cloud: &Cloud) -> Lending {
    let trustee = cloud.make("users", "user", json!({"name": "t", "password": "p"})).await;
    let token = cloud.demo().await;
    let me = cloud.on_token("GET", "", &token, &token).await.expect(200);
    Lending {
        trustor: me["token"]["user"]["id"].as_str().unwrap().to_owned(),
        trustee,
        project: cloud.ids.demo_project_id.clone().unwrap(),
        token,
    }
}

impl Lending {
    fn fields(&self, changes: Value) -> Value {
        let mut fields = json!({
            "trustor_user_id": self.trustor,
            "trustee_user_id": self.trustee,
            "project_id": self.project,
            "impersonation": false,
            "roles": [{"name": "reader"}]
        });
        fields.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({ "trust": fields })
    }

    async fn make(&self, cloud: &Cloud, changes: Value) -> Value {
        cloud.call("POST", ALL, &self.token, self.fields(changes)).await.expect(201)["trust"].clone()
    }
}

fn scope(trust: &Value) -> Value {
    json!({"OS-TRUST:trust": {"id": trust["id"]}})
}

#[tokio::test]
async fn trusts_live_and_die() {
    for cloud in Cloud::all().await {
        let lending = lending(&cloud).await;
        let trust = lending.make(&cloud, json!({"expires_at": "2027-01-01T00:00:00Z"})).await;
        assert_eq!(
            keys(&trust),
            [
                "deleted_at",
                "expires_at",
                "id",
                "impersonation",
                "links",
                "project_id",
                "redelegated_trust_id",
                "redelegation_count",
                "remaining_uses",
                "roles",
                "roles_links",
                "trustee_user_id",
                "trustor_user_id"
            ]
        );
        assert_eq!(trust["expires_at"], "2027-01-01T00:00:00.000000Z");
        let path = format!("{ALL}/{}", trust["id"].as_str().unwrap());
        assert_eq!(trust["links"]["self"], format!("http://cloud:1{path}"));
        let trustee = cloud.login("t", "p", Value::Null).await.token();
        let (admin, other) = (cloud.admin().await, cloud.identity.service_token().await.unwrap());
        for token in [&lending.token, &trustee, &admin] {
            assert_eq!(cloud.get(&path, token).await.expect(200)["trust"], trust);
        }
        let roles = cloud.get(&format!("{path}/roles"), &trustee).await.expect(200);
        assert_eq!(column(&roles["roles"], "name"), ["reader"]);
        let role = roles["roles"][0]["id"].as_str().unwrap();
        cloud.get(&format!("{path}/roles/{role}"), &trustee).await.expect(200);
        cloud.get(&format!("{path}/roles/nothing"), &trustee).await.expect(404);
        let ids = async |query: &str, token: &str| {
            let found = cloud.get(&format!("{ALL}{query}"), token).await.expect(200);
            column(&found["trusts"], "id")
        };
        let own = [trust["id"].as_str().unwrap()];
        assert_eq!(ids(&format!("?trustor_user_id={}", lending.trustor), &lending.token).await, own);
        assert_eq!(ids(&format!("?trustee_user_id={}", lending.trustee), &trustee).await, own);
        assert_eq!(ids("", &admin).await, own);
        cloud.get(ALL, &trustee).await.expect(403);
        cloud.get(&format!("{ALL}?trustor_user_id={}", lending.trustor), &trustee).await.expect(403);
        cloud.delete(&path, &trustee).await.expect(403);
        cloud.delete(&path, &other).await.expect(403);
        cloud.delete(&path, &lending.token).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
        cloud.delete(&path, &admin).await.expect(404);
    }
}

#[tokio::test]
async fn only_ones_own_can_be_lent() {
    let cloud = Cloud::new().await;
    let lending = lending(&cloud).await;
    let late = cloud.make("roles", "role", json!({"name": "late"})).await;
    for (changes, status) in [
        (json!({"roles": []}), 403),
        (json!({"roles": [{"id": "nothing"}]}), 404),
        (json!({"roles": [{"name": "admin"}]}), 404),
        (json!({"roles": [{"id": late}]}), 404),
        (json!({"roles": [{}]}), 400),
        (json!({"trustor_user_id": lending.trustee}), 403),
        (json!({"trustee_user_id": "nobody"}), 404),
        (json!({"project_id": cloud.ids.admin_project_id}), 404),
        (json!({"project_id": null}), 400),
        (json!({"impersonation": null}), 400),
        (json!({"remaining_uses": 0}), 400),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), 400),
        (json!({"expires_at": "soon"}), 400),
        (json!({"allow_redelegation": true}), 403),
    ] {
        let answer = cloud.call("POST", ALL, &lending.token, lending.fields(changes.clone())).await;
        assert_eq!(answer.status, status, "{changes}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_trustee_gets_what_was_lent_and_no_more() {
    for cloud in Cloud::all().await {
        let lending = lending(&cloud).await;
        let plain = lending.make(&cloud, json!({})).await;
        let as_me = lending.make(&cloud, json!({"impersonation": true})).await;
        for (trust, user) in [(&plain, &lending.trustee), (&as_me, &lending.trustor)] {
            let answer = cloud.login("t", "p", scope(trust)).await;
            let token = answer.token();
            let body = &answer.body["token"];
            assert_eq!(body["user"]["id"], json!(user));
            assert_eq!(column(&body["roles"], "name"), ["reader"]);
            assert_eq!(body["project"]["name"], "demo");
            assert_eq!(
                body["OS-TRUST:trust"],
                json!({
                    "id": trust["id"],
                    "trustor_user": {"id": lending.trustor},
                    "trustee_user": {"id": lending.trustee},
                    "impersonation": trust["impersonation"]
                })
            );
            let shown = cloud.on_token("GET", "?nocatalog", &token, &token).await.expect(200);
            assert_eq!(shown["token"]["OS-TRUST:trust"], body["OS-TRUST:trust"]);
            // Neither another token nor a secret of its own comes of it.
            for scope in [Value::Null, json!("unscoped"), project_scope("demo"), scope(trust)] {
                cloud.authenticate(token_auth(&token, scope)).await.expect(403);
            }
            let path = format!("/identity/v3/users/{user}/application_credentials");
            let body = json!({"application_credential": {"name": "x"}});
            cloud.call("POST", &path, &token, body).await.expect(403);
            cloud.call("POST", ALL, &token, lending.fields(json!({}))).await.expect(403);
        }
        cloud.login("t", "wrong", scope(&plain)).await.expect(401);
        cloud.login("demo", DEMO_PASSWORD, scope(&plain)).await.expect(401);
        cloud.login("t", "p", json!({"OS-TRUST:trust": {"id": "nothing"}})).await.expect(401);
        cloud.login("t", "p", json!({"OS-TRUST:trust": {}})).await.expect(400);
        // By a token of the trustee, as good as by its password.
        let trustee = cloud.login("t", "p", Value::Null).await.token();
        cloud.authenticate(token_auth(&trustee, scope(&plain))).await.expect(201);
    }
}

#[tokio::test]
async fn uses_and_time_run_out() {
    for cloud in Cloud::all().await {
        let lending = lending(&cloud).await;
        let twice = lending.make(&cloud, json!({"remaining_uses": 2})).await;
        let path = format!("{ALL}/{}", twice["id"].as_str().unwrap());
        cloud.login("t", "wrong", scope(&twice)).await.expect(401);
        cloud.login("t", "p", scope(&twice)).await.expect(201);
        assert_eq!(cloud.get(&path, &lending.token).await.expect(200)["trust"]["remaining_uses"], 1);
        let both = tokio::join!(
            cloud.authenticate(password_auth("t", "p", scope(&twice))),
            cloud.authenticate(password_auth("t", "p", scope(&twice)))
        );
        let mut statuses = [both.0.status, both.1.status];
        statuses.sort();
        assert_eq!(statuses, [201, 401], "the last use is one");
        cloud.get(&path, &lending.token).await.expect(404);
        let soon = lending.make(&cloud, json!({"expires_at": "2026-11-18T11:10:00Z"})).await;
        let token = cloud.login("t", "p", scope(&soon)).await.expect(201);
        assert_eq!(token["token"]["expires_at"], "2026-11-18T11:10:00.000000Z");
        cloud.clock.advance(Duration::from_secs(600));
        cloud.login("t", "p", scope(&soon)).await.expect(401);
    }
}

/// Whichever of the two ends, for whichever of the two the token names.
#[tokio::test]
async fn a_trust_ends_with_what_it_stands_on() {
    for cloud in Cloud::all().await {
        let lending = lending(&cloud).await;
        let admin = cloud.admin().await;
        let trusts =
            [lending.make(&cloud, json!({})).await, lending.make(&cloud, json!({"impersonation": true})).await];
        let tokens = async || {
            cloud.tick();
            let mut all = Vec::new();
            for trust in &trusts {
                all.push(cloud.login("t", "p", scope(trust)).await.token());
            }
            all
        };
        let change = async |method: &str, path: String, body: Value| {
            cloud.tick();
            let answer = cloud.call(method, &format!("/identity/v3/{path}"), &admin, body).await;
            assert!(answer.status < 300, "{path}: {}", answer.body);
        };
        let user = |enabled: bool| json!({"user": {"enabled": enabled}});
        for id in [&lending.trustor, &lending.trustee] {
            let held = tokens().await;
            change("PATCH", format!("users/{id}"), user(false)).await;
            for token in &held {
                cloud.on_token("GET", "", token, token).await.expect(401);
            }
            cloud.login("t", "p", scope(&trusts[0])).await.expect(401);
            change("PATCH", format!("users/{id}"), user(true)).await;
        }
        let held = tokens().await;
        let member = cloud.role("member").await;
        let grant = format!("projects/{}/users/{}/roles/{member}", lending.project, lending.trustor);
        change("DELETE", grant, Value::Null).await;
        for token in &held {
            cloud.on_token("GET", "", token, token).await.expect(401);
        }
        cloud.login("t", "p", scope(&trusts[0])).await.expect(401);
        change("DELETE", format!("users/{}", lending.trustor), Value::Null).await;
        assert_eq!(cloud.get(ALL, &admin).await.expect(200)["trusts"], json!([]));
    }
}
