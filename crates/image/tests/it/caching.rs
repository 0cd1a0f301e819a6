//! The image cache's lists.

use serde_json::json;
use umbel_db::Engine;
use umbel_http::Body;

use crate::cloud::{Cloud, image};

const CACHE: &str = "/image/v2/cache";

#[tokio::test]
async fn what_is_asked_for_counts_as_cached() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let (token, admin) = (cloud.member("p"), cloud.admin());
        let id = cloud.active(&token, b"data").await;
        let of = |id: &str| format!("{CACHE}/{id}");
        cloud.get(&token, CACHE).await.expect(403);
        cloud.call(&admin, "PUT", &of("non-existing-image-id"), json!(null)).await.expect(404);
        let queued = cloud.queued(&token, "raw").await;
        cloud.call(&admin, "PUT", &of(&queued), json!(null)).await.expect(400);
        cloud.call(&admin, "PUT", &of(&id), json!(null)).await.expect(202);
        cloud.call(&admin, "PUT", &of(&id), json!(null)).await.expect(202);
        let now = 1_795_000_000;
        let entry = json!({"image_id": id, "hits": 0, "last_accessed": now, "last_modified": now, "size": 4});
        assert_eq!(cloud.get(&admin, CACHE).await.expect(200), json!({"cached_images": [entry], "queued_images": []}));
        let clear = async |target: &str| {
            let headers = [("x-auth-token", admin.as_str()), ("x-image-cache-clear-target", target)];
            cloud.send("DELETE", CACHE, &headers, Body::empty()).await
        };
        clear("invalid").await.expect(400);
        clear("queue").await.expect(204);
        assert_eq!(cloud.get(&admin, CACHE).await.expect(200)["cached_images"][0]["image_id"], json!(id));
        cloud.delete(&admin, &of(&id)).await.expect(204);
        cloud.delete(&admin, &of(&id)).await.expect(204);
        cloud.delete(&admin, &of("00000000-1111-2222-3333-444455556666")).await.expect(404);
        cloud.call(&admin, "PUT", &of(&id), json!(null)).await.expect(202);
        clear("").await.expect(204);
        let none = json!({"cached_images": [], "queued_images": []});
        assert_eq!(cloud.get(&admin, CACHE).await.expect(200), none);
        // An image that is deleted is not cached any more.
        cloud.call(&admin, "PUT", &of(&id), json!(null)).await.expect(202);
        cloud.delete(&token, &image(&id)).await.expect(204);
        assert_eq!(cloud.get(&admin, CACHE).await.expect(200), none);
    }
}
