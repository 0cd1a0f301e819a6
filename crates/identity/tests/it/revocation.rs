//! What takes a token back before its time: here at once, in other processes at their next poll.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::{ADMIN_PASSWORD, Cloud, DEMO_PASSWORD, call, config, project_scope};

async fn good(cloud: &Cloud, token: &str) -> bool {
    match cloud.on_token("GET", "?nocatalog", token, token).await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

/// A user with a role on a project by itself and on another by a group.
struct Holder {
    user: String,
    project: String,
    group: String,
    role: String,
}

async fn holder(cloud: &Cloud) -> Holder {
    let user = cloud.make("users", "user", json!({"name": "u", "password": "p"})).await;
    let project = cloud.make("projects", "project", json!({"name": "direct"})).await;
    let by_group = cloud.make("projects", "project", json!({"name": "by-group"})).await;
    let group = cloud.make("groups", "group", json!({"name": "g"})).await;
    let role = cloud.make("roles", "role", json!({"name": "r"})).await;
    cloud.grant(&format!("groups/{group}/users/{user}")).await;
    cloud.grant(&format!("projects/{project}/users/{user}/roles/{role}")).await;
    cloud.grant(&format!("projects/{by_group}/groups/{group}/roles/{role}")).await;
    Holder { user, project, group, role }
}

#[tokio::test]
async fn what_ends_a_token_ends_it_at_once() {
    for cloud in Cloud::all().await {
        let Holder { user, project, group, role } = holder(&cloud).await;
        let admin = cloud.admin().await;
        let token = async |name: &str| {
            cloud.tick();
            cloud.login("u", "p", project_scope(name)).await.token()
        };
        let change = async |method: &str, path: &str, body: Value| {
            cloud.tick();
            let answer = cloud.call(method, &format!("/identity/v3/{path}"), &admin, body).await;
            assert!(answer.status < 300, "{path}: {}", answer.body);
        };

        // A grant: tokens on that project, no others.
        let (direct, other) = (token("direct").await, token("by-group").await);
        let grant = format!("projects/{project}/users/{user}/roles/{role}");
        change("DELETE", &grant, Value::Null).await;
        assert!(!good(&cloud, &direct).await && good(&cloud, &other).await);
        change("PUT", &grant, Value::Null).await;

        // A place in a group.
        let other = token("by-group").await;
        change("DELETE", &format!("groups/{group}/users/{user}"), Value::Null).await;
        assert!(!good(&cloud, &other).await);
        change("PUT", &format!("groups/{group}/users/{user}"), Value::Null).await;

        // A group's grant.
        let (direct, other) = (token("direct").await, token("by-group").await);
        let by_group = cloud.get("/identity/v3/projects?name=by-group", &admin).await.expect(200);
        let by_group = by_group["projects"][0]["id"].as_str().unwrap();
        change("DELETE", &format!("projects/{by_group}/groups/{group}/roles/{role}"), Value::Null).await;
        assert!(good(&cloud, &direct).await && !good(&cloud, &other).await);

        // A project that is switched off and on again.
        let direct = token("direct").await;
        change("PATCH", &format!("projects/{project}"), json!({"project": {"enabled": false}})).await;
        assert!(!good(&cloud, &direct).await);
        cloud.login("u", "p", project_scope("direct")).await.expect(401);
        change("PATCH", &format!("projects/{project}"), json!({"project": {"enabled": true}})).await;
        assert!(!good(&cloud, &direct).await, "a token does not come back");

        // A role, renamed.
        let direct = token("direct").await;
        change("PATCH", &format!("roles/{role}"), json!({"role": {"name": "renamed"}})).await;
        assert!(!good(&cloud, &direct).await);

        // A user, switched off; a password, changed by an administrator.
        let direct = token("direct").await;
        change("PATCH", &format!("users/{user}"), json!({"user": {"enabled": false}})).await;
        assert!(!good(&cloud, &direct).await);
        cloud.login("u", "p", Value::Null).await.expect(401);
        change("PATCH", &format!("users/{user}"), json!({"user": {"enabled": true}})).await;
        let direct = token("direct").await;
        change("PATCH", &format!("users/{user}"), json!({"user": {"description": "harmless"}})).await;
        assert!(good(&cloud, &direct).await);
        change("PATCH", &format!("users/{user}"), json!({"user": {"password": "p"}})).await;
        assert!(!good(&cloud, &direct).await);

        // A role, deleted; then the project; then the user.
        let direct = token("direct").await;
        change("DELETE", &format!("roles/{role}"), Value::Null).await;
        assert!(!good(&cloud, &direct).await);
        let unscoped = cloud.login("u", "p", json!("unscoped")).await.token();
        change("DELETE", &format!("projects/{project}"), Value::Null).await;
        assert!(good(&cloud, &unscoped).await);
        change("DELETE", &format!("users/{user}"), Value::Null).await;
        assert!(!good(&cloud, &unscoped).await);
        assert!(good(&cloud, &admin).await);
    }
}

#[tokio::test]
async fn a_domain_takes_its_tokens_along() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let domain = cloud.make("domains", "domain", json!({"name": "d"})).await;
        let project = cloud.make("projects", "project", json!({"name": "p", "domain_id": domain})).await;
        let user = cloud.make("users", "user", json!({"name": "u", "domain_id": domain, "password": "p"})).await;
        let member = cloud.role("member").await;
        cloud.grant(&format!("projects/{project}/users/{user}/roles/{member}")).await;
        let login = async || {
            let identity = json!({"methods": ["password"], "password": {"user": {"id": user, "password": "p"}}});
            cloud.authenticate(json!({"identity": identity, "scope": {"project": {"id": project}}})).await
        };
        let token = login().await.token();
        let path = format!("/identity/v3/domains/{domain}");
        cloud.delete(&path, &admin).await.expect(403);
        cloud.tick();
        cloud.call("PATCH", &path, &admin, json!({"domain": {"enabled": false}})).await.expect(200);
        assert!(!good(&cloud, &token).await);
        login().await.expect(401);
        cloud.delete(&path, &admin).await.expect(204);
        for gone in [format!("users/{user}"), format!("projects/{project}"), format!("domains/{domain}")] {
            cloud.get(&format!("/identity/v3/{gone}"), &admin).await.expect(404);
        }
    }
}

#[tokio::test]
async fn a_rule_taken_back_ends_the_tokens_of_its_role() {
    let cloud = Cloud::new().await;
    let (strong, weak) = (cloud.make("roles", "role", json!({"name": "strong"})).await, cloud.role("reader").await);
    let project = cloud.ids.demo_project_id.clone().unwrap();
    let user = cloud.make("users", "user", json!({"name": "u", "password": "p"})).await;
    cloud.grant(&format!("projects/{project}/users/{user}/roles/{strong}")).await;
    let admin = cloud.admin().await;
    let rule = format!("/identity/v3/roles/{strong}/implies/{weak}");
    cloud.call("PUT", &rule, &admin, Value::Null).await.expect(201);
    let answer = cloud.login("u", "p", project_scope("demo")).await;
    let token = answer.token();
    assert_eq!(crate::cloud::column(&answer.body["token"]["roles"], "name"), ["reader", "strong"]);
    cloud.tick();
    cloud.delete(&rule, &admin).await.expect(204);
    assert!(!good(&cloud, &token).await);
    cloud.tick();
    let answer = cloud.login("u", "p", project_scope("demo")).await.expect(201);
    assert_eq!(crate::cloud::column(&answer["token"]["roles"], "name"), ["strong"]);
}

#[tokio::test]
async fn other_processes_learn_of_it() {
    for cloud in Cloud::all().await {
        let demo = cloud.demo().await;
        let (second, verifier, _) = cloud.second(config()).await;
        assert!(verifier.verify(&demo).is_ok());
        cloud.on_token("DELETE", "", &demo, &demo).await.expect(204);
        second.poll_revocations().await.unwrap();
        assert!(verifier.verify(&demo).is_err());
        // And one that starts only now.
        let (_, verifier, _) = cloud.second(config()).await;
        assert!(verifier.verify(&demo).is_err());
        assert_eq!(umbel_identity::load_keys(&cloud.temp.db).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn another_process_does_not_log_in_by_old_rules() {
    for cloud in Cloud::all().await {
        let (_, _, router) = cloud.second(config()).await;
        let auth = || json!({"auth": crate::cloud::password_auth("demo", DEMO_PASSWORD, project_scope("demo"))});
        let path = "/identity/v3/auth/tokens?nocatalog";
        let roles = async || {
            let body = call(&router, "POST", path, &[], auth()).await.expect(201);
            crate::cloud::column(&body["token"]["roles"], "name")
        };
        assert_eq!(roles().await, ["member", "reader"]);
        let admin = cloud.admin().await;
        let (member, reader) = (cloud.role("member").await, cloud.role("reader").await);
        cloud.delete(&format!("/identity/v3/roles/{member}/implies/{reader}"), &admin).await.expect(204);
        // No time has passed: what it holds in memory is young, and still not used.
        assert_eq!(roles().await, ["member"]);
    }
}

#[tokio::test]
async fn events_are_told_to_services_and_forgotten_in_time() {
    for cloud in Cloud::all().await {
        let (demo, admin) = (cloud.demo().await, cloud.admin().await);
        let user = cloud.make("users", "user", json!({"name": "u", "password": "p"})).await;
        cloud.delete(&format!("/identity/v3/users/{user}"), &admin).await.expect(204);
        cloud.on_token("DELETE", "", &demo, &demo).await.expect(204);
        let service = cloud.identity.service_token().await.unwrap();
        let events = cloud.get("/identity/v3/OS-REVOKE/events", &service).await.expect(200);
        let events = events["events"].as_array().unwrap();
        assert!(events.iter().any(|event| event["user_id"] == json!(user)), "{events:?}");
        assert!(events.iter().any(|event| event["audit_id"].is_string()));
        assert!(events.iter().any(|event| event["audit_chain_id"].is_string()));
        let demo = cloud.demo().await;
        cloud.get("/identity/v3/OS-REVOKE/events", &demo).await.expect(403);
        assert_eq!(cloud.identity.collect_garbage().await.unwrap(), 0);
        cloud.clock.advance(Duration::from_secs(50 * 3600));
        assert_eq!(cloud.identity.collect_garbage().await.unwrap(), 3);
    }
}

#[tokio::test]
async fn a_new_password_ends_tokens_and_is_remembered_by_nobody() {
    let cloud = Cloud::new().await;
    let token = cloud.demo().await;
    let user = cloud.on_token("GET", "", &token, &token).await.expect(200);
    let user = user["token"]["user"]["id"].as_str().unwrap();
    let path = format!("/identity/v3/users/{user}/password");
    let body = |old: &str, new: &str| json!({"user": {"original_password": old, "password": new}});
    cloud.tick();
    cloud.call("POST", &path, "", body("wrong", "new")).await.expect(401);
    assert!(good(&cloud, &token).await);
    cloud.call("POST", &path, &token, body(DEMO_PASSWORD, "new")).await.expect(204);
    assert!(!good(&cloud, &token).await);
    cloud.tick();
    cloud.login("demo", DEMO_PASSWORD, Value::Null).await.expect(401);
    cloud.login("demo", "new", Value::Null).await.expect(201);
    cloud.call("POST", "/identity/v3/users/nobody/password", "", body(ADMIN_PASSWORD, "x")).await.expect(401);
}
