//! Data on their way out.

use umbel_http::Body;

use crate::cloud::{Cloud, file, noise};

#[tokio::test]
async fn data_come_back_as_they_went_in() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let bytes = noise(1, 3_000_001);
    let id = cloud.active(&token, &bytes).await;
    let shown = cloud.show(&id).await;
    let answer = cloud.get(&token, &file(&id)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-md5"), shown["checksum"].as_str().unwrap());
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("content-length"), "3000001");
    assert!(answer.bytes == bytes);
    let head = cloud.send("HEAD", &file(&id), &[("x-auth-token", &token)], Body::empty()).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[tokio::test]
async fn no_data_are_204() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let answer = cloud.get(&token, &file(&id)).await;
    assert_eq!((answer.status, answer.bytes.len()), (204, 0));
    let empty = cloud.active(&token, b"").await;
    let answer = cloud.get(&token, &file(&empty)).await;
    assert_eq!((answer.status, answer.bytes.len()), (200, 0));
}

#[tokio::test]
async fn parts_are_sent() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let bytes = noise(2, 1_000_000);
    let id = cloud.active(&token, &bytes).await;
    let ask = async |range: &str| {
        cloud.send("GET", &file(&id), &[("x-auth-token", &token), ("range", range)], Body::empty()).await
    };
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-99", 10, 99),
        ("bytes=999999-", 999_999, 999_999),
        ("bytes=-5", 999_995, 999_999),
        ("bytes=500000-9999999", 500_000, 999_999),
    ] {
        let answer = ask(range).await;
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/1000000"));
        assert_eq!(answer.header("content-length"), (last - first + 1).to_string());
        assert_eq!(answer.header("content-md5"), "");
        assert!(answer.bytes == bytes[first..=last], "{range}");
    }
    for range in ["bytes=1000000-", "bytes=5-4", "bytes=0-1,5-6", "bytes=x-y"] {
        let answer = ask(range).await;
        assert_eq!(answer.header("content-range"), "bytes */1000000", "{range}");
        answer.refused(416, "range");
    }
    assert_eq!(ask("lines=1-2").await.status, 200);
}
