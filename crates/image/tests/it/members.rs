//! Sharing with projects.

use serde_json::{Value, json};
use umbel_db::Engine;
use umbel_image::Config;

use crate::cloud::{Cloud, ids, image};

fn members(id: &str) -> String {
    format!("{}/members", image(id))
}

#[tokio::test]
async fn a_member_decides_what_is_in_its_lists() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let (owner, member) = (cloud.member("p"), cloud.member("q"));
        let id = cloud.create(&owner, json!({})).await;
        let made = cloud.call(&owner, "POST", &members(&id), json!({"member": "q"})).await.expect(200);
        assert_eq!((&made["member_id"], &made["image_id"]), (&json!("q"), &json!(id)));
        assert_eq!((&made["status"], &made["schema"]), (&json!("pending"), &json!("/v2/schemas/member")));
        let listed = async |query: &str| {
            !ids(&cloud.get(&member, &format!("/image/v2/images{query}")).await.expect(200)).is_empty()
        };
        let own = format!("{}/q", members(&id));
        let say = async |status: &str| {
            cloud.call(&member, "PUT", &own, json!({"status": status})).await.expect(200)["status"].clone()
        };
        // By id a member finds it whatever it has said.
        cloud.get(&member, &image(&id)).await.expect(200);
        assert!(!listed("").await && listed("?member_status=pending").await && listed("?member_status=all").await);
        assert_eq!(say("accepted").await, "accepted");
        assert!(listed("").await && listed("?visibility=shared").await && !listed("?member_status=rejected").await);
        assert_eq!(say("rejected").await, "rejected");
        assert!(!listed("").await && listed("?member_status=rejected").await);
        cloud.get(&member, &image(&id)).await.expect(200);
        // A member may use the image, not change it.
        cloud.patch(&member, &id, json!([{"op": "add", "path": "/x", "value": "1"}])).await.expect(403);
        cloud.delete(&member, &image(&id)).await.expect(403);
        cloud.delete(&owner, &own).await.expect(204);
        cloud.get(&member, &image(&id)).await.expect(404);
        cloud.delete(&owner, &own).await.expect(404);
    }
}

#[tokio::test]
async fn only_the_right_ones_touch_members() {
    let cloud = Cloud::new().await;
    let (owner, member, other) = (cloud.member("p"), cloud.member("q"), cloud.member("r"));
    let id = cloud.create(&owner, json!({})).await;
    let (all, one) = (members(&id), format!("{}/q", members(&id)));
    cloud.call(&owner, "POST", &all, json!({"member": "q"})).await.expect(200);
    cloud.call(&owner, "POST", &all, json!({"member": "s"})).await.expect(200);
    cloud.call(&owner, "POST", &all, json!({"member": "q"})).await.refused(409, "duplicated");
    cloud.call(&owner, "POST", &all, json!({"member": ""})).await.expect(400);
    cloud.call(&owner, "POST", &all, json!({})).await.expect(400);
    cloud.call(&member, "POST", &all, json!({"member": "r"})).await.expect(403);
    cloud.call(&other, "POST", &all, json!({"member": "r"})).await.expect(404);
    cloud.call(&owner, "PUT", &one, json!({"status": "accepted"})).await.expect(403);
    cloud.call(&other, "PUT", &one, json!({"status": "accepted"})).await.expect(404);
    cloud.call(&member, "PUT", &one, json!({"status": "maybe"})).await.expect(400);
    cloud.call(&member, "PUT", &format!("{all}/s"), json!({"status": "accepted"})).await.expect(404);
    cloud.call(&cloud.admin(), "PUT", &one, json!({"status": "accepted"})).await.expect(200);
    cloud.delete(&member, &one).await.expect(403);
    let seen = async |token: &str| {
        let body = cloud.get(token, &all).await.expect(200);
        assert_eq!(body["schema"], "/v2/schemas/members");
        body["members"].as_array().unwrap().iter().map(|m| m["member_id"].as_str().unwrap().to_owned()).collect()
    };
    let (by_owner, by_member): (Vec<String>, Vec<String>) = (seen(&owner).await, seen(&member).await);
    assert_eq!((by_owner, by_member), (vec!["q".to_owned(), "s".to_owned()], vec!["q".to_owned()]));
    cloud.get(&other, &all).await.expect(404);
    cloud.get(&member, &one).await.expect(200);
    cloud.get(&member, &format!("{all}/s")).await.expect(404);
}

#[tokio::test]
async fn only_shared_images_have_members() {
    let cloud = Cloud::new().await;
    let owner = cloud.member("p");
    let id = cloud.create(&owner, json!({"visibility": "private"})).await;
    cloud.call(&owner, "POST", &members(&id), json!({"member": "q"})).await.refused(403, "shared");
    cloud.get(&owner, &members(&id)).await.refused(403, "shared");
    cloud.get(&owner, &format!("{}/q", members(&id))).await.expect(404);
    // Sharing ends when the image is made private, and is there again when it is shared.
    let set = |value: &str| json!([{"op": "replace", "path": "/visibility", "value": value}]);
    cloud.patch(&owner, &id, set("shared")).await.expect(200);
    cloud.call(&owner, "POST", &members(&id), json!({"member": "q"})).await.expect(200);
    cloud.patch(&owner, &id, set("private")).await.expect(200);
    cloud.get(&cloud.member("q"), &image(&id)).await.expect(404);
    cloud.patch(&owner, &id, set("shared")).await.expect(200);
    cloud.get(&cloud.member("q"), &image(&id)).await.expect(200);
}

#[tokio::test]
async fn there_is_a_limit_of_members() {
    let cloud = Cloud::with(Engine::Sqlite, Config { max_members: 2, ..Config::default() }).await;
    let owner = cloud.member("p");
    let id = cloud.create(&owner, json!({})).await;
    for (member, status) in [("a", 200), ("b", 200), ("c", 413)] {
        cloud.call(&owner, "POST", &members(&id), json!({"member": member})).await.expect(status);
    }
    let _: Value = cloud.delete(&owner, &format!("{}/a", members(&id))).await.expect(204);
    cloud.call(&owner, "POST", &members(&id), json!({"member": "c"})).await.expect(200);
}
