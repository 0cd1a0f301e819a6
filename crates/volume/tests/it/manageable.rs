use serde_json::{Value, json};

use crate::cloud::{Cloud, gib};

fn names(list: &Value) -> Vec<String> {
    let name = |one: &Value| one["reference"]["source-name"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn a_volume_leaves_the_books_and_comes_back() {
    let cloud = Cloud::new().await;
    let (token, admin) = (cloud.member("p"), cloud.admin());
    let old = cloud.volume(&token, json!({"size": 2})).await;
    let snapshot = cloud.snapshot(&token, &old).await;
    let bytes = crate::cloud::noise(4, 5_000);
    cloud.write(&old, &bytes).await;
    let unmanage = json!({"os-unmanage": {}});
    cloud.act(&token, &old, unmanage.clone()).await.refused(403, "volume_unmanage");
    cloud.act(&admin, &old, unmanage.clone()).await.refused(400, "snapshots");
    cloud.post(&admin, &format!("/snapshots/{snapshot}/action"), unmanage.clone()).await.expect(202);
    cloud.act(&admin, &old, unmanage).await.expect(202);
    cloud.get(&admin, &format!("/volumes/{old}")).await.refused(404, &old);
    let disk = format!("volume-{old}");
    let host = "umbel%40fast%23fast";
    let list = cloud.get(&admin, &format!("/manageable_volumes/detail?host={host}")).await.expect(200);
    let one = &list["manageable-volumes"][0];
    assert_eq!((&one["reference"]["source-name"], &one["size"]), (&json!(disk), &json!(2)));
    assert_eq!((&one["safe_to_manage"], &one["cinder_id"]), (&json!(true), &Value::Null));
    cloud.get(&token, &format!("/manageable_volumes?host={host}")).await.expect(403);

    let body = json!({"volume": {"host": "umbel@fast#fast", "ref": {"source-name": disk}, "name": "back",
        "bootable": "true", "volume_type": "__DEFAULT__", "availability_zone": "nova"}});
    let new = cloud.post(&admin, "/os-volume-manage", body.clone()).await.expect(202)["volume"].clone();
    cloud.work().await;
    let id = new["id"].as_str().unwrap();
    let shown = cloud.show(id).await;
    assert_eq!((&shown["status"], &shown["size"], &shown["name"]), (&json!("available"), &json!(2), &json!("back")));
    assert_eq!(cloud.read(id, bytes.len()).await, bytes);
    cloud.post(&admin, "/manageable_volumes", body).await.refused(400, "does not exist");
    let again = json!({"volume": {"host": "umbel@fast#fast", "ref": {"source-name": format!("volume-{id}")}}});
    cloud.post(&admin, "/manageable_volumes", again).await.refused(400, "already managed");

    let reference = format!("snapshot-{snapshot}");
    let list = cloud.get(&admin, &format!("/manageable_snapshots?host={host}")).await.expect(200);
    assert_eq!(names(&list["manageable-snapshots"]), std::slice::from_ref(&reference));
    let body = json!({"snapshot": {"volume_id": id, "ref": {"source-name": reference}, "name": "s",
        "metadata": {"k": "v"}}});
    let made = cloud.post(&admin, "/os-snapshot-manage", body).await.expect(202)["snapshot"].clone();
    cloud.work().await;
    let made = cloud.show_snapshot(made["id"].as_str().unwrap()).await;
    assert_eq!(
        (&made["status"], &made["size"], &made["metadata"]),
        (&json!("available"), &json!(2), &json!({"k": "v"}))
    );
}

#[tokio::test]
async fn what_could_be_managed_is_shown_in_pages() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    for (name, size) in [("a", 3), ("b", 1), ("c", 2)] {
        cloud.second.create(name, gib(size)).await.unwrap();
    }
    let check = async |query: &str, expected: &[&str]| {
        let path = format!("/manageable_volumes?host=umbel%40slow%23slow&{query}");
        let list = cloud.get(&admin, &path).await.expect(200);
        assert_eq!(names(&list["manageable-volumes"]), expected, "{query}");
    };
    check("", &["c", "b", "a"]).await;
    check("sort=reference:asc&limit=2", &["a", "b"]).await;
    check("sort=reference:asc&limit=2&marker=b", &["c"]).await;
    check("sort=size:asc", &["b", "c", "a"]).await;
    cloud.get(&admin, "/manageable_volumes?host=umbel%40slow%23slow&sort=colour").await.refused(400, "sort keys");
    cloud.get(&admin, "/manageable_volumes").await.refused(400, "host must be set");
}
