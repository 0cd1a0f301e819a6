use umbel_api::{Method, Route};
use umbel_http::{Page, Reply, Router, Routes, next_link};

use crate::support::{Keys, PUBLIC, ask, compute};

static LIST: Route = Route::new(Method::Get, "/v2.1/servers", "list", PUBLIC);

fn router() -> Router {
    let routes = Routes::new(().into()).on(&LIST, async |_, req| {
        let page = Page::of(&req, 1000)?;
        let text = format!("{} {:?} {}", page.limit, page.marker, next_link(&req, &req.url("/v2.1/servers"), "m/2"));
        Ok(Reply::bytes(200, "text/plain", text))
    });
    Keys::new().app.router(vec![compute().routes(routes)])
}

#[tokio::test]
async fn a_page_knows_where_the_next_one_is() {
    let router = router();
    let check = async |query: &str, want: &str| {
        let headers = [("host", "cloud:8000"), ("x-forwarded-proto", "https")];
        let answer = ask(&router, "GET", &format!("/compute/v2.1/servers{query}"), &headers).await;
        assert_eq!(answer.text(), want, "{query}");
    };
    let url = "https://cloud:8000/compute/v2.1/servers";
    check("", &format!("1000 None {url}?marker=m%2F2")).await;
    check("?limit=2&marker=m1", &format!("2 Some(\"m1\") {url}?limit=2&marker=m%2F2")).await;
    check("?limit=5000&name=a%20b%26c", &format!("1000 None {url}?limit=5000&name=a%20b%26c&marker=m%2F2")).await;
    for bad in ["?limit=-1", "?limit=x", "?limit="] {
        assert_eq!(ask(&router, "GET", &format!("/compute/v2.1/servers{bad}"), &[]).await.status, 400, "{bad}");
    }
}
