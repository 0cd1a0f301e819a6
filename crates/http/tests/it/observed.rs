use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::filter::LevelFilter;
use umbel_api::{Method, Route};
use umbel_core::Error;
use umbel_http::{App, FaultStyle, Reply, Req, Routes, Service};

use crate::support::{Keys, PUBLIC, ask};

static THING: Route = Route::new(Method::Get, "/things/{id}", "thing", PUBLIC);
static BREAK: Route = Route::new(Method::Post, "/things", "break", PUBLIC);

/// A service by a name that no other test counts under.
fn service(prefix: &'static str) -> Service {
    let routes = Routes::new(().into())
        .on(&THING, async |_, _: Req| Ok(Reply::empty(204)))
        .on(&BREAK, async |_, _: Req| Err::<Reply, _>(Error::internal("disk on fire")));
    Service::new(prefix, FaultStyle::Network).routes(routes)
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let app = Keys::new().app;
    let router = app.router(vec![service("/counted")]);
    for uri in ["/counted/things/1", "/counted/things/2", "/counted/nothing", "/counted/\"}nothing"] {
        ask(&router, "GET", &uri.replace('"', "%22").replace('}', "%7D"), &[]).await;
    }
    ask(&router, "POST", "/counted/things", &[]).await;
    ask(&router, "PUT", "/counted/things", &[]).await;
    assert_eq!(ask(&router, "GET", "/metrics", &[]).await.status, 404, "not where clients are");
    let answer = ask(&App::metrics_router(), "GET", "/metrics", &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let counts = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains("_total{service=\"counted\"")).map(str::to_owned).collect()
    };
    let want = [
        r#"umbel_http_requests_total{service="counted",method="",route="",status="404"} 2"#,
        r#"umbel_http_requests_total{service="counted",method="",route="",status="405"} 1"#,
        r#"umbel_http_requests_total{service="counted",method="GET",route="/things/{id}",status="204"} 2"#,
        r#"umbel_http_requests_total{service="counted",method="POST",route="/things",status="500"} 1"#,
    ];
    assert_eq!(counts(answer.text()), want);
    assert_eq!(counts(&app.metrics()), want);
    let count = r#"umbel_http_request_duration_seconds_count{service="counted",method="GET",route="/things/{id}"} 2"#;
    assert!(answer.text().lines().any(|line| line == count), "{}", answer.text());
    assert_eq!(ask(&app.alone(service("/counted")), "GET", "/metrics", &[]).await.status, 404);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn of(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(LevelFilter::DEBUG)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_request_is_one_line_and_a_failure_one_more() {
    let log = Log::default();
    let _guard = log.of();
    let router = Keys::new().app.router(vec![service("/logged")]);
    let theirs = "req-00000000-0000-0000-0000-000000000001";
    let headers = [("x-openstack-request-id", theirs)];
    let answer = ask(&router, "GET", "/logged/things/7?secret=1", &headers).await;
    let id = answer.header("x-openstack-request-id").unwrap();
    let lines = log.take();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    for part in ["DEBUG", id, theirs, "GET", "/things/{id}", "status=204", "ms=", "/logged/things/7"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("secret"), "{line}");

    ask(&router, "POST", "/logged/things", &[("x-openstack-request-id", "req-; evil")]).await;
    let lines = log.take();
    let [failure, line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(failure.contains("ERROR") && failure.contains("disk on fire") && failure.contains("req-"), "{failure}");
    assert!(line.contains("DEBUG") && line.contains("status=500") && !line.contains("evil"), "{line}");
}
