use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys};

#[tokio::test]
async fn projects_live_and_die() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let fields = json!({"name": "p1", "note": {"a": [1]}, "tags": ["b", "a"]});
        let made = cloud.call("POST", "/identity/v3/projects", &admin, json!({ "project": fields })).await.expect(201);
        let project = &made["project"];
        assert_eq!(
            keys(project),
            [
                "description",
                "domain_id",
                "enabled",
                "id",
                "is_domain",
                "links",
                "name",
                "note",
                "options",
                "parent_id",
                "tags"
            ]
        );
        assert_eq!(project["parent_id"], "default");
        assert_eq!(project["note"], json!({"a": [1]}));
        let id = project["id"].as_str().unwrap();
        let path = format!("/identity/v3/projects/{id}");
        assert_eq!(cloud.get(&path, &admin).await.expect(200)["project"]["tags"], json!(["a", "b"]));
        let patch = async |fields: Value| cloud.call("PATCH", &path, &admin, json!({ "project": fields })).await;
        let changed = patch(json!({"name": "p2", "description": "x", "note": null})).await.expect(200);
        assert_eq!(changed["project"]["name"], "p2");
        assert_eq!(changed["project"]["note"], Value::Null);
        patch(json!({"parent_id": cloud.ids.admin_project_id})).await.expect(403);
        patch(json!({"domain_id": "other"})).await.expect(400);
        patch(json!({"is_domain": true})).await.expect(400);
        patch(json!({"name": "admin"})).await.expect(409);
        patch(json!({"id": "other"})).await.expect(400);
        patch(json!({"options": {"immutable": true}})).await.expect(200);
        patch(json!({"name": "p3"})).await.expect(403);
        cloud.delete(&path, &admin).await.expect(403);
        patch(json!({"options": {"immutable": null}})).await.expect(200);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
    }
}

#[tokio::test]
async fn projects_form_a_tree() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let make = async |name: &str, parent: &str| {
            let body = json!({"project": {"name": name, "parent_id": parent}});
            cloud.call("POST", "/identity/v3/projects", &admin, body).await
        };
        let id = |body: Value| body["project"]["id"].as_str().unwrap().to_owned();
        let a = id(make("a", "default").await.expect(201));
        let b = id(make("b", &a).await.expect(201));
        let c = id(make("c", &b).await.expect(201));
        let d = id(make("d", &c).await.expect(201));
        make("e", &d).await.expect(403);
        make("e", "nothing").await.expect(404);
        let path = format!("/identity/v3/projects/{b}");
        let show = async |query: &str| cloud.get(&format!("{path}?{query}"), &admin).await.expect(200);
        assert_eq!(show("parents_as_ids").await["project"]["parents"], json!({ &a: {"default": null} }));
        assert_eq!(show("subtree_as_ids").await["project"]["subtree"], json!({ &c: { &d: null } }));
        assert_eq!(show("subtree_as_list").await["project"]["subtree"], json!([]), "no role there");
        let member = cloud.role("member").await;
        cloud.grant(&format!("projects/{d}/users/{}/roles/{member}", cloud.ids.admin_user_id)).await;
        assert_eq!(show("subtree_as_list").await["project"]["subtree"][0]["project"]["name"], "d");
        cloud.get(&format!("{path}?parents_as_ids&parents_as_list"), &admin).await.expect(400);
        let found = cloud.get(&format!("/identity/v3/projects?parent_id={b}"), &admin).await.expect(200);
        assert_eq!(column(&found["projects"], "name"), ["c"]);
        cloud.delete(&path, &admin).await.expect(403);
        cloud.call("PATCH", &path, &admin, json!({"project": {"enabled": false}})).await.expect(403);
    }
}

#[tokio::test]
async fn domains_are_projects_of_their_own() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let body = json!({"domain": {"name": "d1", "description": "x", "foo": "bar"}});
        let made = cloud.call("POST", "/identity/v3/domains", &admin, body.clone()).await.expect(201);
        assert_eq!(keys(&made["domain"]), ["description", "enabled", "foo", "id", "links", "name", "options", "tags"]);
        let id = made["domain"]["id"].as_str().unwrap();
        cloud.call("POST", "/identity/v3/domains", &admin, body).await.expect(409);
        let found = cloud.get("/identity/v3/domains?name=d1", &admin).await.expect(200);
        assert_eq!(column(&found["domains"], "id"), [id]);
        assert_eq!(found["links"]["self"], "http://cloud:1/identity/v3/domains?name=d1");
        let all = cloud.get("/identity/v3/projects?is_domain=true", &admin).await.expect(200);
        assert_eq!(all["projects"].as_array().unwrap().len(), 2);
        assert_eq!(all["projects"][0]["domain_id"], Value::Null);
        let shown = cloud.get(&format!("/identity/v3/projects/{id}"), &admin).await.expect(200);
        assert_eq!(shown["project"]["is_domain"], true);
        cloud.get(&format!("/identity/v3/domains/{}", cloud.ids.admin_project_id), &admin).await.expect(404);
        cloud.delete(&format!("/identity/v3/projects/{id}"), &admin).await.expect(403);
        let body = json!({"project": {"name": "d2", "is_domain": true}});
        let made = cloud.call("POST", "/identity/v3/projects", &admin, body).await.expect(201);
        assert_eq!(made["project"]["domain_id"], Value::Null);
        let path = format!("/identity/v3/projects/{}", made["project"]["id"].as_str().unwrap());
        cloud.delete(&path, &admin).await.expect(403);
        cloud.call("PATCH", &path, &admin, json!({"project": {"enabled": false}})).await.expect(200);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
        let explicit = "0123456789abcdef0123456789abcdef";
        let body = json!({"domain": {"name": "d3", "explicit_domain_id": explicit}});
        let made = cloud.call("POST", "/identity/v3/domains", &admin, body).await.expect(201);
        assert_eq!(made["domain"]["id"], explicit);
        let path = "/identity/v3/domains/default";
        cloud.delete(path, &admin).await.expect(403);
    }
}

#[tokio::test]
async fn tags_are_kept_and_searched() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let id = cloud.make("projects", "project", json!({"name": "p"})).await;
        let path = format!("/identity/v3/projects/{id}/tags");
        let put = async |tail: &str, body: Value| cloud.call("PUT", &format!("{path}{tail}"), &admin, body).await;
        let tags = put("", json!({"tags": ["red", "blue"]})).await.expect(200);
        assert_eq!(tags["tags"], json!(["blue", "red"]));
        put("/green", Value::Null).await.expect(201);
        put("/a,b", Value::Null).await.expect(400);
        put("", json!({"tags": ["a/b"]})).await.expect(400);
        cloud.get(&format!("{path}/green"), &admin).await.expect(204);
        cloud.get(&format!("{path}/nothing"), &admin).await.expect(404);
        let names = async |query: &str| {
            let found = cloud.get(&format!("/identity/v3/projects?{query}"), &admin).await.expect(200);
            column(&found["projects"], "name").contains(&"p".to_owned())
        };
        assert!(names("tags=red,blue").await);
        assert!(!names("tags=red,black").await);
        assert!(names("tags-any=red,black").await);
        assert!(!names("not-tags=red,blue").await);
        assert!(names("not-tags=red,black").await);
        assert!(!names("not-tags-any=red,black").await);
        cloud.delete(&format!("{path}/red"), &admin).await.expect(204);
        cloud.delete(&format!("{path}/red"), &admin).await.expect(404);
        assert_eq!(cloud.get(&path, &admin).await.expect(200)["tags"], json!(["blue", "green"]));
        cloud.delete(&path, &admin).await.expect(204);
        assert_eq!(cloud.get(&path, &admin).await.expect(200)["tags"], json!([]));
    }
}
