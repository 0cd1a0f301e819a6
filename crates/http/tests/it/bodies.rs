use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use serde::Deserialize;
use umbel_api::{Method, Route};
use umbel_core::Error;
use umbel_http::{Body, ByteStream, Bytes, Reply, Req, Router, Routes, oneshot};

use crate::support::{Answer, Keys, PUBLIC, ask, compute, send};

static JSON: Route = Route::new(Method::Post, "/json", "json", PUBLIC);
static COUNT: Route = Route::new(Method::Put, "/count", "count", PUBLIC);
static WHOLE: Route = Route::new(Method::Get, "/whole", "whole", PUBLIC);
static BROKEN: Route = Route::new(Method::Get, "/broken", "broken", PUBLIC);
static TWICE: Route = Route::new(Method::Get, "/twice", "twice", PUBLIC);

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// A download of 1,000 bytes a chunk.
fn chunks(count: usize, broken: bool) -> ByteStream {
    let chunk = |_| Ok(Bytes::from_static(&[7; 1000]));
    let end = broken.then(|| Err(Error::unavailable("The pool went away.").because("osd.3")));
    Box::pin(stream::iter((0..count).map(chunk).chain(end)))
}

fn router() -> Router {
    let routes = Routes::new(().into())
        .on(&JSON, async |_, mut req| {
            let named: Named = req.json().await?;
            Ok(Reply::bytes(200, "text/plain", named.name))
        })
        .on(&COUNT, async |_, mut req| {
            let mut stream = req.stream();
            let mut count = 0;
            while let Some(chunk) = stream.next().await {
                count += chunk?.len();
            }
            Ok(Reply::bytes(200, "text/plain", count.to_string()))
        })
        .on(&WHOLE, async |_, _| Ok(Reply::stream(200, "application/octet-stream", Some(5000), chunks(5, false))))
        .on(&BROKEN, async |_, _| Ok(Reply::stream(200, "application/octet-stream", Some(5000), chunks(2, true))))
        .on(&TWICE, async |_, _| Ok(Reply::empty(204).header("x-a", "1").header("X-A", "2").header("x-b", "a\nb")));
    let mut service = compute().routes(routes);
    service.max_json = 1000;
    Keys::new().app.router(vec![service])
}

async fn post(router: &Router, body: Body, length: Option<usize>) -> Answer {
    let mut request = http::Request::post("/compute/json");
    if let Some(length) = length {
        request = request.header("content-length", length);
    }
    send(router, request.body(body).unwrap()).await
}

fn pieces(text: &str, size: usize) -> Body {
    let pieces: Vec<_> = text.as_bytes().chunks(size).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    Body::from_stream(stream::iter(pieces))
}

#[tokio::test]
async fn json_is_read_in_whatever_pieces_it_comes() {
    let router = router();
    let text = r#"{"name": "web", "unknown": 1}"#;
    for size in [1, 2, 7, 1000] {
        assert_eq!(post(&router, pieces(text, size), None).await.text(), "web", "{size}");
    }
    assert_eq!(post(&router, text.into(), Some(text.len())).await.text(), "web");
}

#[tokio::test]
async fn bad_json_is_the_callers_fault() {
    let router = router();
    for (text, message) in [
        ("", "Malformed request body: EOF"),
        (r#"{"name""#, "Malformed request body: EOF"),
        ("name=web", "Malformed request body: expected"),
        (r#"{"name": 1}"#, "Invalid input: invalid type: integer `1`, expected a string"),
        ("{}", "Invalid input: missing field `name`"),
        ("\u{feff}{}", "Malformed request body"),
    ] {
        let answer = post(&router, text.into(), None).await;
        assert_eq!(answer.status, 400, "{text}");
        let fault = answer.json();
        let have = fault["badRequest"]["message"].as_str().unwrap();
        assert!(have.starts_with(message), "{text}: {have}");
    }
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    assert_eq!(post(&router, deep.into(), None).await.status, 400);
}

#[tokio::test]
async fn json_has_a_limit() {
    let router = router();
    let fitting = format!(r#"{{"name": "{}"}}"#, "x".repeat(988));
    assert_eq!(fitting.len(), 1000);
    for size in [1000, 100, 999] {
        assert_eq!(post(&router, pieces(&fitting, size), None).await.status, 200, "{size}");
    }
    let larger = format!("{fitting} ");
    for size in [1001, 100, 1000] {
        let answer = post(&router, pieces(&larger, size), None).await;
        assert_eq!((answer.status, &answer.json()["overLimit"]["code"]), (413, &413.into()), "{size}");
    }
    // By its announcement alone: nothing is read of it.
    let unread = Body::from_stream(stream::once(async { panic!("it was read") as Result<Bytes, std::io::Error> }));
    assert_eq!(post(&router, unread, Some(1001)).await.status, 413);
}

#[tokio::test]
async fn an_upload_has_none() {
    let router = router();
    let body = pieces(&"x".repeat(100_000), 4096);
    let answer = send(&router, http::Request::put("/compute/count").body(body).unwrap()).await;
    assert_eq!(answer.text(), "100000");
}

#[tokio::test]
async fn an_upload_that_breaks_is_an_error_to_its_handler() {
    let router = router();
    let chunks: [Result<Bytes, std::io::Error>; 2] = [Ok("abc".into()), Err(std::io::Error::other("reset"))];
    let body = Body::from_stream(stream::iter(chunks));
    let answer = send(&router, http::Request::put("/compute/count").body(body).unwrap()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["badRequest"]["message"], "The request body ended before it was complete.");
}

#[tokio::test]
async fn a_download_streams() {
    let router = router();
    let answer = ask(&router, "GET", "/compute/whole", &[]).await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 5000, Some("5000")));
    let head = ask(&router, "HEAD", "/compute/whole", &[]).await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("5000")));
}

#[tokio::test]
async fn a_download_that_breaks_does_not_look_whole() {
    let request = http::Request::get("/compute/broken").body(Body::empty()).unwrap();
    let response = oneshot(&router(), request).await;
    let error = response.into_body().collect().await.unwrap_err();
    assert!(!format!("{error:?}").contains("osd.3"), "{error:?}");
}

#[tokio::test]
async fn a_header_is_set_once_and_only_if_it_can_be_sent() {
    let answer = ask(&router(), "GET", "/compute/twice", &[]).await;
    assert_eq!((answer.status, answer.header("x-a"), answer.header("x-b")), (204, Some("2"), None));
}

#[test]
fn a_request_can_be_lent_to_what_waits() {
    fn shared<T: Send + Sync>() {}
    shared::<Req>();
}
