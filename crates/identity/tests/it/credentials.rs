use serde_json::{Value, json};

use crate::cloud::{Cloud, column, keys};

#[tokio::test]
async fn ec2_keys_are_credentials() {
    for cloud in Cloud::all().await {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let me = cloud.on_token("GET", "", &demo, &demo).await.expect(200);
        let (user, project) = (me["token"]["user"]["id"].as_str().unwrap(), &me["token"]["project"]["id"]);
        let path = format!("/identity/v3/users/{user}/credentials/OS-EC2");
        let made = cloud.call("POST", &path, &demo, json!({"tenant_id": project})).await.expect(201);
        let key = &made["credential"];
        assert_eq!(keys(key), ["access", "links", "secret", "tenant_id", "trust_id", "user_id"]);
        let one = format!("{path}/{}", key["access"].as_str().unwrap());
        assert_eq!(key["links"]["self"], format!("http://cloud:1{one}"));
        assert_eq!(cloud.get(&one, &admin).await.expect(200), made);
        assert_eq!(cloud.get(&path, &demo).await.expect(200)["credentials"], json!([key]));
        let as_credential = cloud.get("/identity/v3/credentials?type=ec2", &demo).await.expect(200);
        assert!(as_credential["credentials"][0]["blob"].as_str().unwrap().contains(key["access"].as_str().unwrap()));
        cloud.call("POST", &path, &demo, json!({"tenant_id": "nothing"})).await.expect(404);
        cloud.call("POST", &path, &demo, json!({})).await.expect(400);
        let theirs = format!("/identity/v3/users/{}/credentials/OS-EC2", cloud.ids.admin_user_id);
        cloud.get(&theirs, &demo).await.expect(403);
        cloud.get(&format!("{theirs}/{}", key["access"].as_str().unwrap()), &admin).await.expect(404);
        cloud.delete(&one, &demo).await.expect(204);
        cloud.delete(&one, &demo).await.expect(404);
    }
}

#[tokio::test]
async fn credentials_live_sealed_and_die() {
    for cloud in Cloud::all().await {
        let (admin, demo) = (cloud.admin().await, cloud.demo().await);
        let me = cloud.on_token("GET", "", &demo, &demo).await.expect(200);
        let (user, project) = (&me["token"]["user"]["id"], &me["token"]["project"]["id"]);
        let post = async |fields: Value, token: &str| {
            cloud.call("POST", "/identity/v3/credentials", token, json!({ "credential": fields })).await
        };
        let blob = r#"{"access": "a", "secret": "sesame"}"#;
        let ec2 = json!({"type": "ec2", "blob": blob, "user_id": user, "project_id": project});
        let made = post(ec2.clone(), &demo).await.expect(201);
        assert_eq!(keys(&made["credential"]), ["blob", "id", "links", "project_id", "type", "user_id"]);
        // SHA-256 of "a", by which EC2 requests find it.
        let id = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(made["credential"]["id"], id);
        post(ec2, &demo).await.expect(409);
        post(json!({"type": "ec2", "blob": blob, "user_id": user}), &demo).await.expect(400);
        post(json!({"type": "cert", "blob": blob}), &demo).await.expect(400);
        post(json!({"type": "ec2", "blob": "x", "user_id": user, "project_id": project}), &demo).await.expect(400);
        let stored = umbel_db::read!(cloud.temp.db, "look", |tx| {
            let row = tx.fetch_one("SELECT content FROM credentials", umbel_db::args![]).await?;
            row.text("content")
        });
        assert!(stored.unwrap().starts_with("sealed:"));
        let path = format!("/identity/v3/credentials/{id}");
        assert_eq!(cloud.get(&path, &admin).await.expect(200)["credential"]["blob"], blob);
        let body = json!({"credential": {"blob": "{\"access\":\"a\",\"secret\":\"t\"}"}});
        cloud.call("PATCH", &path, &demo, body).await.expect(200);
        // Others' are neither seen nor told of.
        let theirs =
            post(json!({"type": "cert", "blob": "x", "user_id": cloud.ids.admin_user_id}), &admin).await.expect(201);
        let theirs = theirs["credential"]["id"].as_str().unwrap();
        for id in [theirs, "nothing"] {
            cloud.get(&format!("/identity/v3/credentials/{id}"), &demo).await.expect(403);
            cloud.delete(&format!("/identity/v3/credentials/{id}"), &demo).await.expect(403);
        }
        let ids = async |query: &str, token: &str| {
            let found = cloud.get(&format!("/identity/v3/credentials{query}"), token).await.expect(200);
            let mut ids = column(&found["credentials"], "id");
            ids.sort();
            ids
        };
        assert_eq!(ids("", &demo).await, [id]);
        assert_eq!(ids(&format!("?user_id={}", cloud.ids.admin_user_id), &demo).await, [""; 0]);
        assert_eq!(ids("?type=ec2", &admin).await, [id]);
        assert_eq!(ids("", &admin).await.len(), 2);
        let steal = json!({"type": "cert", "blob": "x", "user_id": cloud.ids.admin_user_id});
        post(steal, &demo).await.expect(403);
        cloud.delete(&path, &demo).await.expect(204);
        cloud.get(&path, &admin).await.expect(404);
    }
}
