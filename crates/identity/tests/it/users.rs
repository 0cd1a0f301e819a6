use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys, unique};

#[tokio::test]
async fn users_live_and_die() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let fields = json!({
            "name": "u1",
            "password": "secret",
            "email": "u@example.org",
            "description": "d",
            "default_project_id": cloud.ids.admin_project_id,
            "options": {"ignore_password_expiry": true}
        });
        let made = cloud.call("POST", "/identity/v3/users", &admin, json!({ "user": fields })).await.expect(201);
        let user = &made["user"];
        assert_eq!(
            keys(user),
            [
                "default_project_id",
                "description",
                "domain_id",
                "email",
                "enabled",
                "id",
                "links",
                "name",
                "options",
                "password_expires_at"
            ]
        );
        let id = user["id"].as_str().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(user["links"]["self"], format!("http://cloud:1/identity/v3/users/{id}"));
        assert_eq!((&user["domain_id"], &user["enabled"]), (&json!("default"), &json!(true)));
        let path = format!("/identity/v3/users/{id}");
        assert_eq!(cloud.get(&path, &admin).await.expect(200), made);
        let changes = json!({"user": {"name": "u2", "email": null, "options": {"ignore_password_expiry": null}}});
        let changed = cloud.call("PATCH", &path, &admin, changes).await.expect(200);
        assert_eq!(changed["user"]["name"], "u2");
        assert_eq!(changed["user"]["email"], Value::Null);
        assert_eq!(changed["user"]["description"], "d");
        assert_eq!(changed["user"]["options"], json!({}));
        cloud.login("u2", "secret", json!("unscoped")).await.expect(201);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
        cloud.delete(&path, &admin).await.expect(404);
        cloud.login("u2", "secret", json!("unscoped")).await.expect(401);
    }
}

#[tokio::test]
async fn a_name_is_taken_once_per_domain() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let post = async |user: Value| cloud.call("POST", "/identity/v3/users", &admin, json!({ "user": user })).await;
        let domain = cloud.make("domains", "domain", json!({"name": "d"})).await;
        post(json!({"name": "u"})).await.expect(201);
        let taken = post(json!({"name": "u"})).await.expect(409);
        assert_eq!(
            taken["error"]["message"],
            "Conflict occurred attempting to store user - Duplicate entry found with name u."
        );
        post(json!({"name": "U"})).await.expect(201);
        let other = post(json!({"name": "u", "domain_id": domain})).await.expect(201);
        let other = other["user"]["id"].as_str().unwrap();
        post(json!({"name": "u", "domain_id": "nothing"})).await.expect(404);
        let path = format!("/identity/v3/users/{other}");
        cloud.call("PATCH", &path, &admin, json!({"user": {"domain_id": "default"}})).await.expect(400);
        cloud.call("PATCH", &path, &admin, json!({"user": {"domain_id": domain}})).await.expect(200);
        let demo = cloud.get("/identity/v3/users?name=demo", &admin).await.expect(200);
        let demo = demo["users"][0]["id"].as_str().unwrap();
        let path = format!("/identity/v3/users/{demo}");
        cloud.call("PATCH", &path, &admin, json!({"user": {"name": "admin"}})).await.expect(409);
    }
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        for name in ["Alpha_1", "alpha%2", "beta"] {
            let enabled = name != "beta";
            cloud.make("users", "user", json!({"name": name, "enabled": enabled})).await;
        }
        let names = async |query: &str| {
            let found = cloud.get(&format!("/identity/v3/users{query}"), &admin).await.expect(200);
            let mut names = column(&found["users"], "name");
            names.sort();
            names
        };
        assert_eq!(names("").await, ["Alpha_1", "admin", "alpha%2", "beta", "demo", "service"]);
        assert_eq!(names("?name=beta").await, ["beta"]);
        assert_eq!(names("?name=BETA").await, [""; 0]);
        assert_eq!(names("?name__contains=lpha").await, ["Alpha_1", "alpha%2"]);
        assert_eq!(names("?name__startswith=alpha").await, ["alpha%2"]);
        assert_eq!(names("?name__istartswith=alpha").await, ["Alpha_1", "alpha%2"]);
        assert_eq!(names("?name__contains=%25").await, ["alpha%2"]);
        assert_eq!(names("?name__contains=_").await, ["Alpha_1"]);
        assert_eq!(names("?name__endswith=a").await, ["beta"]);
        assert_eq!(names("?enabled=false").await, ["beta"]);
        assert_eq!(names("?enabled=0&name=beta").await, ["beta"]);
        assert_eq!(names("?enabled=true&name=beta").await, [""; 0]);
        assert_eq!(names("?domain_id=nothing").await, [""; 0]);
        assert_eq!(names("?unknown=x").await.len(), 6);
        // Page by page is the whole.
        let (mut url, mut seen) = ("/identity/v3/users?limit=2".to_owned(), Vec::new());
        loop {
            let found = cloud.get(&url, &admin).await.expect(200);
            seen.extend(column(&found["users"], "name"));
            match found["links"]["next"].as_str() {
                Some(next) => {
                    assert_eq!(found["truncated"], true);
                    url = next.strip_prefix("http://cloud:1").unwrap().to_owned();
                }
                None => break,
            }
        }
        seen.sort();
        assert_eq!(seen, names("").await);
    }
}

#[tokio::test]
async fn hashes_of_a_keystone_are_taken_over() {
    for cloud in Cloud::all().await {
        let name = unique("old");
        let id = cloud.make("users", "user", json!({"name": name})).await;
        cloud.login(&name, "secret", json!("unscoped")).await.expect(401);
        let bcrypt = "$2b$04$xh16DpgvBzPmh/BDq3ICJeS41gjoF2.Dqcf0HsFIPW6WmY1fvF5tK";
        let hash = async |new: Option<&str>| {
            umbel_db::tx!(cloud.temp.db, "set a hash", |tx| {
                if let Some(new) = new {
                    let sql = "UPDATE users SET password_hash = ? WHERE id = ?";
                    tx.execute(sql, umbel_db::args![new, &id]).await?;
                }
                let sql = "SELECT password_hash FROM users WHERE id = ?";
                tx.fetch_one(sql, umbel_db::args![&id]).await?.text("password_hash")
            })
            .unwrap()
        };
        hash(Some(bcrypt)).await;
        cloud.login(&name, "wrong", json!("unscoped")).await.expect(401);
        assert_eq!(hash(None).await, bcrypt);
        let token = cloud.login(&name, "secret", json!("unscoped")).await.token();
        assert!(hash(None).await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(cloud.verifier.verify(&token).is_ok(), "a renewed hash is no new password");
        cloud.login(&name, "secret", json!("unscoped")).await.expect(201);
        cloud.login(&name, "wrong", json!("unscoped")).await.expect(401);
    }
}

#[tokio::test]
async fn groups_have_members() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let group = cloud.make("groups", "group", json!({"name": "g", "description": "d", "x": 1})).await;
        let user = cloud.make("users", "user", json!({"name": "u"})).await;
        let path = format!("/identity/v3/groups/{group}");
        let shown = cloud.get(&path, &admin).await.expect(200);
        assert_eq!(keys(&shown["group"]), ["description", "domain_id", "id", "links", "name", "x"]);
        let member = format!("{path}/users/{user}");
        cloud.get(&member, &admin).await.expect(404);
        cloud.call("PUT", &member, &admin, Value::Null).await.expect(204);
        cloud.call("PUT", &member, &admin, Value::Null).await.expect(204);
        cloud.call("HEAD", &member, &admin, Value::Null).await.expect(204);
        cloud.get(&member, &admin).await.expect(204);
        let users = cloud.get(&format!("{path}/users"), &admin).await.expect(200);
        assert_eq!(column(&users["users"], "id"), [user.as_str()]);
        let groups = cloud.get(&format!("/identity/v3/users/{user}/groups"), &admin).await.expect(200);
        assert_eq!(column(&groups["groups"], "name"), ["g"]);
        cloud.delete(&member, &admin).await.expect(204);
        cloud.delete(&member, &admin).await.expect(404);
        cloud.call("PUT", &format!("{path}/users/nobody"), &admin, Value::Null).await.expect(404);
        let changed = cloud.call("PATCH", &path, &admin, json!({"group": {"name": "h"}})).await.expect(200);
        assert_eq!((&changed["group"]["name"], &changed["group"]["description"]), (&json!("h"), &json!("d")));
        let found = cloud.get("/identity/v3/groups?name=h", &admin).await.expect(200);
        assert_eq!(column(&found["groups"], "id"), [group.as_str()]);
        cloud.call("POST", "/identity/v3/groups", &admin, json!({"group": {"name": "h"}})).await.expect(409);
        cloud.delete(&path, &admin).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
    }
}
