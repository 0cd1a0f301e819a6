//! Tasks, for administrators.

use std::time::Duration;

use serde_json::{Value, json};
use umbel_db::Engine;

use crate::cloud::Cloud;

const TASKS: &str = "/image/v2/tasks";

fn legacy(from: &str) -> Value {
    json!({"type": "import", "input": {
        "import_from": from,
        "import_from_format": "qcow2",
        "image_properties": {"name": "n", "disk_format": "qcow2", "container_format": "bare", "visibility": "public"},
    }})
}

#[tokio::test]
async fn tasks_are_listed_shown_and_forgotten() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let (token, admin) = (cloud.member("p"), cloud.admin());
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let id = cloud.queued(&token, "raw").await;
            cloud.stage(&token, &id, b"data").await.expect(204);
            cloud.import(&token, &id, json!({"method": {"name": "glance-direct"}})).await.expect(202);
            let of_image = cloud.get(&token, &format!("/image/v2/images/{id}/tasks")).await.expect(200);
            tasks.push(of_image["tasks"][0]["id"].as_str().unwrap().to_owned());
            cloud.tick();
        }
        cloud.get(&token, TASKS).await.expect(403);
        let list = cloud.get(&admin, TASKS).await.expect(200);
        let listed: Vec<&str> =
            list["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
        assert_eq!(listed, [tasks[2].as_str(), &tasks[1], &tasks[0]]);
        assert!(list["tasks"][0].get("input").is_none() && list["tasks"][0]["status"] == "pending");
        let page = cloud.get(&admin, &format!("{TASKS}?limit=2")).await.expect(200);
        let next = page["next"].as_str().unwrap();
        let rest = cloud.get(&admin, &format!("/image{next}")).await.expect(200);
        assert_eq!(rest["tasks"][0]["id"], json!(tasks[0]));
        assert!(rest.get("next").is_none());
        cloud.work().await;
        let shown = cloud.get(&admin, &format!("{TASKS}/{}", tasks[0])).await.expect(200);
        assert_eq!((&shown["status"], &shown["owner"]), (&json!("success"), &json!("p")));
        assert_eq!(shown["self"], format!("/v2/tasks/{}", tasks[0]));
        assert!(shown["expires_at"].is_string());
        let done = cloud.get(&admin, &format!("{TASKS}?status=success&type=api_image_import")).await.expect(200);
        assert_eq!(done["tasks"].as_array().unwrap().len(), 3);
        cloud.get(&admin, &format!("{TASKS}?status=odd")).await.expect(400);
        cloud.get(&admin, &format!("{TASKS}?marker=odd")).await.expect(400);
        cloud.get(&admin, &format!("{TASKS}/odd")).await.expect(404);
        cloud.delete(&admin, &format!("{TASKS}/{}", tasks[0])).await.expect(405);
        cloud.clock.advance(Duration::from_secs(49 * 3600));
        cloud.images.sweep().await;
        // The token's time is over too.
        cloud.get(&cloud.admin(), &format!("{TASKS}/{}", tasks[0])).await.expect(404);
    }
}

#[tokio::test]
async fn the_old_import_makes_its_image() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    cloud.call(&cloud.member("p"), "POST", TASKS, legacy("http://a.example/x")).await.expect(403);
    for wrong in ["file:///etc/passwd", "ftp://a.example/x", "http://127.0.0.1/x", "x"] {
        cloud.call(&admin, "POST", TASKS, legacy(wrong)).await.expect(400);
    }
    let mut other = legacy("http://a.example/x");
    other["type"] = json!("export");
    cloud.call(&admin, "POST", TASKS, other).await.expect(400);
    let answer = cloud.call(&admin, "POST", TASKS, legacy("http://no-such-host.invalid/x.qcow2")).await;
    assert!(answer.header("location").contains("/v2/tasks/"));
    let task = answer.expect(201);
    assert_eq!((&task["type"], &task["status"]), (&json!("import"), &json!("pending")));
    let id = task["image_id"].as_str().unwrap();
    assert_eq!(cloud.show(id).await["status"], "importing");
    cloud.work().await;
    let task = cloud.get(&admin, &format!("{TASKS}/{}", task["id"].as_str().unwrap())).await.expect(200);
    assert_eq!((&task["status"], &task["result"]), (&json!("failure"), &json!(null)));
    assert_eq!(cloud.show(id).await["status"], "queued");
}
