use serde_json::{Value, json};
use umbel_identity::BootstrapSpec;

use crate::cloud::{ADMIN_PASSWORD, Cloud, column, project_scope, spec};

#[tokio::test]
async fn a_second_run_changes_only_what_it_should() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let lists = async || {
            let mut all = Vec::new();
            for list in ["users", "projects", "roles", "regions", "services", "role_inferences", "role_assignments"] {
                all.push(cloud.get(&format!("/identity/v3/{list}"), &admin).await.expect(200));
            }
            all
        };
        let before = lists().await;
        cloud.tick();
        assert_eq!(cloud.identity.bootstrap(&spec("http://cloud:1")).await.unwrap(), cloud.ids);
        assert_eq!(lists().await, before, "and the administrator's token is still good");
        // Another port.
        let old = cloud.get("/identity/v3/endpoints", &admin).await.expect(200);
        cloud.identity.bootstrap(&spec("http://cloud:2")).await.unwrap();
        let new = cloud.get("/identity/v3/endpoints", &admin).await.expect(200);
        assert_eq!(column(&old["endpoints"], "id"), column(&new["endpoints"], "id"));
        assert!(column(&new["endpoints"], "url").iter().all(|url| url.starts_with("http://cloud:2/")));
        let catalog = cloud.get("/identity/v3/auth/catalog", &admin).await.expect(200);
        assert_eq!(catalog["catalog"][0]["endpoints"][0]["url"], "http://cloud:2/compute/v2.1");
    }
}

#[tokio::test]
async fn two_at_once_make_one() {
    for cloud in Cloud::all().await {
        let (second, _, _) = cloud.second(crate::cloud::config()).await;
        let more = spec("http://cloud:3");
        let more = BootstrapSpec { region: "RegionTwo".to_owned(), service_password: Some("s".to_owned()), ..more };
        let (one, two) = tokio::join!(cloud.identity.bootstrap(&more), second.bootstrap(&more));
        assert_eq!((one.unwrap(), two.unwrap()), (cloud.ids.clone(), cloud.ids.clone()));
        let admin = cloud.admin().await;
        let found = cloud.get("/identity/v3/endpoints?region_id=RegionTwo", &admin).await.expect(200);
        assert_eq!(found["endpoints"].as_array().unwrap().len(), 6);
    }
}

#[tokio::test]
async fn an_operator_who_is_locked_out_gets_back_in() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let path = format!("/identity/v3/users/{}", cloud.ids.admin_user_id);
    cloud.tick();
    cloud.call("PATCH", &path, &admin, json!({"user": {"enabled": false, "password": "lost"}})).await.expect(200);
    cloud.login("admin", "lost", Value::Null).await.expect(401);
    let spec = BootstrapSpec { admin_password: "found".to_owned(), ..spec("http://cloud:1") };
    cloud.identity.bootstrap(&spec).await.unwrap();
    cloud.tick();
    cloud.login("admin", "found", project_scope("admin")).await.expect(201);
    cloud.login("admin", ADMIN_PASSWORD, Value::Null).await.expect(401);
}

#[tokio::test]
async fn the_service_user_has_a_token_and_no_password() {
    for cloud in Cloud::all().await {
        let token = cloud.identity.service_token().await.unwrap();
        let principal = cloud.verifier.verify(&token).unwrap();
        assert_eq!(principal.roles, ["service"]);
        assert_eq!(principal.project_id(), Some(cloud.ids.service_project_id.as_str()));
        cloud.login("service", "", Value::Null).await.expect(401);
        let with = BootstrapSpec { service_password: Some("s".to_owned()), ..spec("http://cloud:1") };
        cloud.identity.bootstrap(&with).await.unwrap();
        cloud.login("service", "s", project_scope("service")).await.expect(201);
    }
}
