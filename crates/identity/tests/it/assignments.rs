use serde_json::{Value, json};

use crate::cloud::{Cloud, column};

#[tokio::test]
async fn grants_stand_where_they_were_put() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let user = cloud.make("users", "user", json!({"name": "u"})).await;
        let group = cloud.make("groups", "group", json!({"name": "g"})).await;
        let project = cloud.make("projects", "project", json!({"name": "p"})).await;
        let (role, other) = (cloud.role("member").await, cloud.role("reader").await);
        let targets = [format!("projects/{project}"), "domains/default".to_owned(), "system".to_owned()];
        for target in &targets {
            for actor in [format!("users/{user}"), format!("groups/{group}")] {
                let all = format!("/identity/v3/{target}/{actor}/roles");
                let one = format!("{all}/{role}");
                cloud.get(&one, &admin).await.expect(404);
                cloud.call("PUT", &one, &admin, Value::Null).await.expect(204);
                cloud.call("PUT", &one, &admin, Value::Null).await.expect(204);
                cloud.call("HEAD", &one, &admin, Value::Null).await.expect(204);
                cloud.get(&one, &admin).await.expect(204);
                cloud.get(&format!("{all}/{other}"), &admin).await.expect(404);
                let listed = cloud.get(&all, &admin).await.expect(200);
                assert_eq!(column(&listed["roles"], "name"), ["member"], "{all}");
                cloud.delete(&format!("{all}/{other}"), &admin).await.expect(404);
                cloud.delete(&one, &admin).await.expect(204);
                cloud.delete(&one, &admin).await.expect(404);
                if target == "system" {
                    continue;
                }
                let inherited = format!("/identity/v3/OS-INHERIT/{target}/{actor}/roles");
                let one = format!("{inherited}/{role}/inherited_to_projects");
                cloud.call("PUT", &one, &admin, Value::Null).await.expect(204);
                cloud.get(&one, &admin).await.expect(204);
                let listed = cloud.get(&format!("{inherited}/inherited_to_projects"), &admin).await.expect(200);
                assert_eq!(column(&listed["roles"], "name"), ["member"]);
                assert_eq!(cloud.get(&all, &admin).await.expect(200)["roles"], json!([]), "another grant");
                cloud.delete(&one, &admin).await.expect(204);
            }
        }
        for missing in [
            format!("projects/nothing/users/{user}/roles/{role}"),
            format!("projects/{project}/users/nobody/roles/{role}"),
            format!("projects/{project}/users/{user}/roles/nothing"),
            format!("domains/{project}/users/{user}/roles/{role}"),
        ] {
            cloud.call("PUT", &format!("/identity/v3/{missing}"), &admin, Value::Null).await.expect(404);
        }
    }
}

#[tokio::test]
async fn assignments_are_listed_as_they_stand_and_as_they_work() {
    for cloud in Cloud::all().await {
        let admin = cloud.admin().await;
        let user = cloud.make("users", "user", json!({"name": "u"})).await;
        let group = cloud.make("groups", "group", json!({"name": "g"})).await;
        cloud.grant(&format!("groups/{group}/users/{user}")).await;
        let top = cloud.make("projects", "project", json!({"name": "top"})).await;
        let below = cloud.make("projects", "project", json!({"name": "below", "parent_id": top})).await;
        let (member, reader) = (cloud.role("member").await, cloud.role("reader").await);
        cloud.grant(&format!("projects/{top}/users/{user}/roles/{reader}")).await;
        cloud.grant(&format!("OS-INHERIT/projects/{top}/groups/{group}/roles/{member}/inherited_to_projects")).await;
        let list = async |query: &str| {
            let found = cloud.get(&format!("/identity/v3/role_assignments?{query}"), &admin).await.expect(200);
            found["role_assignments"].clone()
        };
        let count = |list: &Value| list.as_array().unwrap().len();

        let standing = list(&format!("user.id={user}")).await;
        assert_eq!(
            standing,
            json!([{
                "links": {
                    "assignment":
                        format!("http://cloud:1/identity/v3/projects/{top}/users/{user}/roles/{reader}")
                },
                "scope": {"project": {"id": top}},
                "user": {"id": user},
                "role": {"id": reader}
            }])
        );
        assert_eq!(count(&list(&format!("group.id={group}")).await), 1);
        assert_eq!(count(&list(&format!("scope.project.id={top}")).await), 2);
        assert_eq!(count(&list(&format!("role.id={member}&scope.project.id={top}")).await), 1);
        assert_eq!(count(&list("scope.OS-INHERIT:inherited_to=projects").await), 1);
        assert_eq!(count(&list("scope.system=all").await), 1);
        assert_eq!(count(&list(&format!("scope.project.id={top}&include_subtree=true")).await), 2);

        let working = list(&format!("user.id={user}&effective&include_names=true")).await;
        let mut seen: Vec<String> = working
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                format!(
                    "{} {}",
                    one["scope"]["project"]["name"].as_str().unwrap(),
                    one["role"]["name"].as_str().unwrap()
                )
            })
            .collect();
        seen.sort();
        assert_eq!(seen, ["below member", "below reader", "top reader"]);
        let implied = working.as_array().unwrap().iter().find(|one| one["scope"]["project"]["id"] == json!(below));
        let implied = implied.unwrap();
        assert_eq!(implied["scope"]["OS-INHERIT:inherited_to"], "projects");
        assert_eq!(implied["links"]["membership"], format!("http://cloud:1/identity/v3/groups/{group}/users/{user}"));
        assert_eq!(implied["user"], json!({"id": user, "name": "u", "domain": {"id": "default", "name": "Default"}}));
        assert_eq!(implied["scope"]["project"]["domain"], json!({"id": "default", "name": "Default"}));
        assert_eq!(count(&list(&format!("scope.project.id={below}&effective")).await), 2);

        for bad in [
            "effective&group.id=x",
            "scope.project.id=x&scope.domain.id=y",
            "user.id=x&group.id=y",
            "scope.system=some",
            "include_subtree=true",
        ] {
            cloud.get(&format!("/identity/v3/role_assignments?{bad}"), &admin).await.expect(400);
        }
    }
}
