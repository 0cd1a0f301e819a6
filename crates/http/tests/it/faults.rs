use serde_json::{Value, json};
use umbel_api::{Method, Route};
use umbel_core::{Error, Kind, Result};
use umbel_http::{FaultStyle, Reply, Req, Router, Routes, Service};

use crate::support::{Keys, PUBLIC, ask};

static FAIL: Route = Route::new(Method::Get, "/fail/{name}", "fail", PUBLIC);
static WRITE: Route = Route::new(Method::Post, "/fail/{name}", "fail", PUBLIC);

const KINDS: [(&str, Kind, u16); 10] = [
    ("bad", Kind::BadRequest, 400),
    ("unauthorized", Kind::Unauthorized, 401),
    ("forbidden", Kind::Forbidden, 403),
    ("missing", Kind::NotFound, 404),
    ("method", Kind::MethodNotAllowed, 405),
    ("conflict", Kind::Conflict, 409),
    ("large", Kind::TooLarge, 413),
    ("internal", Kind::Internal, 500),
    ("space", Kind::NoSpace, 500),
    ("busy", Kind::Busy, 503),
];

async fn fail(_: std::sync::Arc<()>, req: Req) -> Result<Reply> {
    let name = req.param("name")?;
    match KINDS.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, _)) => Err(Error::new(*kind, "What the caller may read.").because("password=hunter2")),
        None if name == "panic" => panic!("hunter2 was the password"),
        None => Ok(Reply::empty(204)),
    }
}

const STYLES: [FaultStyle; 5] =
    [FaultStyle::Compute, FaultStyle::Identity, FaultStyle::Image, FaultStyle::Network, FaultStyle::Placement];

fn router(style: FaultStyle) -> Router {
    let routes = Routes::new(().into()).on(&FAIL, fail).on(&WRITE, fail);
    Keys::new().app.router(vec![Service::new("/s", style).routes(routes)])
}

/// What a client of this service reads the message from.
fn want(style: FaultStyle, status: u16, request_id: &str) -> Value {
    let message = "What the caller may read.";
    let title = http::StatusCode::from_u16(status).unwrap().canonical_reason().unwrap();
    if status == 401 {
        return json!({"error": {"code": 401, "title": "Unauthorized", "message": message}});
    }
    match style {
        FaultStyle::Compute => {
            let name = match status {
                400 => "badRequest",
                403 => "forbidden",
                404 => "itemNotFound",
                405 => "badMethod",
                409 => "conflictingRequest",
                413 => return json!({"overLimit": {"code": 413, "message": message, "retryAfter": "0"}}),
                503 => "serviceUnavailable",
                _ => "computeFault",
            };
            json!({name: {"code": status, "message": message}})
        }
        FaultStyle::Identity => json!({"error": {"code": status, "title": title, "message": message}}),
        FaultStyle::Image => json!({"code": format!("{status} {title}"), "title": title, "message": message}),
        FaultStyle::Network => {
            json!({"NeutronError": {"type": title.replace(' ', ""), "message": message, "detail": ""}})
        }
        FaultStyle::Placement => json!({"errors": [
            {"status": status, "title": title, "detail": message, "request_id": request_id}]}),
    }
}

#[tokio::test]
async fn each_service_words_its_faults() {
    for style in STYLES {
        let router = router(style);
        for (name, _, status) in KINDS {
            for method in ["GET", "POST"] {
                let answer = ask(&router, method, &format!("/s/fail/{name}"), &[]).await;
                let id = answer.header("x-openstack-request-id").unwrap();
                assert_eq!(answer.status, status, "{style:?} {name}");
                assert_eq!(answer.json(), want(style, status, id), "{style:?} {name}");
                assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
                assert_eq!(answer.header("retry-after").is_some(), name == "busy", "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_quota_is_each_services_own_status() {
    assert_eq!(Kind::OverQuota.status(), 403);
    let check = async |style, want| {
        let routes = Routes::new(().into())
            .on(&FAIL, async |_, _: Req| Err::<Reply, _>(Error::new(Kind::OverQuota, "No more.")));
        let router = Keys::new().app.router(vec![Service::new("/s", style).routes(routes)]);
        assert_eq!(ask(&router, "GET", "/s/fail/x", &[]).await.status, want, "{style:?}");
    };
    check(FaultStyle::Compute, 403).await;
    check(FaultStyle::Image, 413).await;
    check(FaultStyle::Network, 409).await;
}

#[tokio::test]
async fn an_image_client_that_does_not_ask_for_json_gets_a_nested_message() {
    let router = router(FaultStyle::Image);
    let body = async |accept: &str| ask(&router, "GET", "/s/fail/missing", &[("accept", accept)]).await.json();
    let flat = want(FaultStyle::Image, 404, "");
    assert_eq!(body("application/json").await, flat);
    assert_eq!(body("text/plain, application/json;q=0.5").await, flat);
    assert_eq!(body("*/*").await, want(FaultStyle::Identity, 404, ""));
    assert_eq!(body("text/html").await, want(FaultStyle::Identity, 404, ""));
}

#[tokio::test]
async fn a_panic_is_a_fault_and_nothing_more() {
    for style in STYLES {
        let router = router(style);
        for method in ["GET", "POST"] {
            let answer = ask(&router, method, "/s/fail/panic", &[]).await;
            assert_eq!(answer.status, 500);
            let text = answer.text();
            assert!(text.contains("An unexpected internal error occurred.") && !text.contains("hunter2"), "{text}");
            assert!(answer.header("x-openstack-request-id").is_some());
            assert_eq!(ask(&router, method, "/s/fail/none", &[]).await.status, 204);
        }
    }
}
