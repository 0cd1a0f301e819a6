use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys};

#[tokio::test]
async fn roles_live_and_die() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let post = async |role: Value| cloud.call("POST", "/identity/v3/roles", &admin, json!({ "role": role })).await;
        let made = post(json!({"name": "r1"})).await.expect(201);
        assert_eq!(keys(&made["role"]), ["description", "domain_id", "id", "links", "name", "options"]);
        assert_eq!(made["role"]["domain_id"], Value::Null);
        post(json!({"name": "r1"})).await.expect(409);
        let own = post(json!({"name": "r1", "domain_id": "default"})).await.expect(201);
        post(json!({"name": "r1", "domain_id": "nothing"})).await.expect(404);
        let names = async |query: &str| {
            let found = cloud.get(&format!("/identity/v3/roles{query}"), &admin).await.expect(200);
            let mut names = column(&found["roles"], "name");
            names.sort();
            names
        };
        assert_eq!(names("").await, ["admin", "manager", "member", "r1", "reader", "service"]);
        assert_eq!(names("?domain_id=default").await, ["r1"]);
        assert_eq!(names("?name=r1").await, ["r1"]);
        let path = format!("/identity/v3/roles/{}", own["role"]["id"].as_str().unwrap());
        let changed = cloud.call("PATCH", &path, &admin, json!({"role": {"description": "d"}})).await.expect(200);
        assert_eq!(changed["role"]["description"], "d");
        cloud.delete(&path, &admin).await.expect(204);
        let path = format!("/identity/v3/roles/{}", cloud.role("admin").await);
        cloud.call("PATCH", &path, &admin, json!({"role": {"name": "x"}})).await.expect(403);
        cloud.delete(&path, &admin).await.expect(403);
    }
}

#[tokio::test]
async fn roles_imply_roles() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let (a, b) = (
            cloud.make("roles", "role", json!({"name": "a"})).await,
            cloud.make("roles", "role", json!({"name": "b"})).await,
        );
        let rule = format!("/identity/v3/roles/{a}/implies/{b}");
        cloud.get(&rule, &admin).await.expect(404);
        let made = cloud.call("PUT", &rule, &admin, Value::Null).await.expect(201);
        assert_eq!(made["role_inference"]["prior_role"]["name"], "a");
        assert_eq!(made["role_inference"]["implies"]["name"], "b");
        assert_eq!(cloud.get(&rule, &admin).await.expect(200), made);
        cloud.call("HEAD", &rule, &admin, Value::Null).await.expect(204);
        let all = cloud.get(&format!("/identity/v3/roles/{a}/implies"), &admin).await.expect(200);
        assert_eq!(column(&all["role_inference"]["implies"], "name"), ["b"]);
        let rules = cloud.get("/identity/v3/role_inferences", &admin).await.expect(200);
        assert_eq!(rules["role_inferences"].as_array().unwrap().len(), 4);
        let admin_role = cloud.role("admin").await;
        let bad = format!("/identity/v3/roles/{a}/implies/{admin_role}");
        cloud.call("PUT", &bad, &admin, Value::Null).await.expect(403);
        let bad = format!("/identity/v3/roles/{a}/implies/nothing");
        cloud.call("PUT", &bad, &admin, Value::Null).await.expect(404);
        cloud.delete(&rule, &admin).await.expect(204);
        cloud.delete(&rule, &admin).await.expect(404);
    }
}

#[tokio::test]
async fn a_role_of_a_domain_gives_what_it_implies() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let domain = cloud.make("domains", "domain", json!({"name": "d"})).await;
        let project = cloud.make("projects", "project", json!({"name": "p", "domain_id": domain})).await;
        let user = cloud.make("users", "user", json!({"name": "u", "password": "p"})).await;
        let own = cloud.make("roles", "role", json!({"name": "own", "domain_id": domain})).await;
        let elsewhere = format!("/identity/v3/projects/{}/users/{user}/roles/{own}", cloud.ids.admin_project_id);
        cloud.call("PUT", &elsewhere, &admin, Value::Null).await.expect(403);
        cloud.grant(&format!("projects/{project}/users/{user}/roles/{own}")).await;
        let scope = json!({"project": {"id": project}});
        cloud.login("u", "p", scope.clone()).await.expect(401);
        let member = cloud.role("member").await;
        let rule = format!("/identity/v3/roles/{own}/implies/{member}");
        cloud.call("PUT", &rule, &admin, Value::Null).await.expect(201);
        let token = cloud.login("u", "p", scope).await.expect(201);
        assert_eq!(column(&token["token"]["roles"], "name"), ["member", "reader"]);
        let token = cloud.login("u", "p", json!({"project": {"id": project}})).await.token();
        cloud.tick();
        cloud.delete(&format!("/identity/v3/roles/{own}"), &admin).await.expect(204);
        cloud.on_token("GET", "", &token, &token).await.expect(401);
        cloud.on_token("GET", "", &admin, &admin).await.expect(200);
    }
}
