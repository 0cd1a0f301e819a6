use umbel_api::{Method, Route};
use umbel_http::{FaultStyle, Router, Routes, Service};

use crate::support::{Keys, PUBLIC, ask, compute, echo, project};

static ROOT: Route = Route::new(Method::Get, "/", "root", PUBLIC);
static LIST: Route = Route::new(Method::Get, "/v2.1/servers", "list", PUBLIC);
static CREATE: Route = Route::new(Method::Post, "/v2.1/servers", "create", PUBLIC);
static DETAIL: Route = Route::new(Method::Get, "/v2.1/servers/detail", "detail", PUBLIC);
static SHOW: Route = Route::new(Method::Get, "/v2.1/servers/{id}", "show", PUBLIC);
static RENAME: Route = Route::new(Method::Put, "/v2.1/servers/{name}/", "rename", PUBLIC);
static TAGS: Route = Route::new(Method::Get, "/v2.1/servers/{name}/tags/{id}", "tags", PUBLIC).since(2, 26);
static OLD: Route = Route::new(Method::Get, "/v2.1/certificates", "certificates", PUBLIC).until(2, 30);
static NEW: Route = Route::new(Method::Get, "/v2.1/certificates", "certificates", PUBLIC).since(2, 31);
static REST: Route = Route::new(Method::Get, "/files/{*rest}", "files", PUBLIC);

fn service() -> Service {
    let routes = Routes::new(().into());
    let all = [&ROOT, &LIST, &CREATE, &DETAIL, &SHOW, &RENAME, &TAGS, &OLD, &NEW, &REST];
    compute().routes(all.into_iter().fold(routes, |routes, route| routes.on(route, echo)))
}

fn router() -> Router {
    Keys::new().app.router(vec![service()])
}

async fn check(router: &Router, method: &str, uri: &str, version: &str, want: Result<&str, u16>) {
    let answer = ask(router, method, uri, &[("x-openstack-nova-api-version", version)]).await;
    let got = match answer.status {
        200 => Ok(answer.text()),
        other => Err(other),
    };
    assert_eq!(got, want, "{method} {uri} at {version}");
}

#[tokio::test]
async fn a_request_finds_its_route() {
    let router = router();
    check(&router, "GET", "/compute/v2.1/servers", "2.1", Ok("GET /v2.1/servers v2.1 []")).await;
    check(&router, "POST", "/compute/v2.1/servers", "2.1", Ok("POST /v2.1/servers v2.1 []")).await;
    check(&router, "GET", "/compute/v2.1/servers?limit=1", "2.1", Ok("GET /v2.1/servers v2.1 []")).await;
    check(&router, "GET", "/compute/v2.1/servers/detail", "2.1", Ok("GET /v2.1/servers/detail v2.1 []")).await;
    check(&router, "GET", "/compute/v2.1/servers/details", "2.1", Ok("GET /v2.1/servers/{id} v2.1 [id=details]")).await;
    check(&router, "PUT", "/compute/v2.1/servers/a", "2.1", Ok("PUT /v2.1/servers/{name}/ v2.1 [name=a]")).await;
    check(&router, "GET", "/compute/files/a/b%20c", "2.1", Ok("GET /files/{*rest} v2.1 [rest=a/b c]")).await;
    check(&router, "GET", "/compute/v2.1/nothing", "2.1", Err(404)).await;
    check(&router, "GET", "/compute/v2.1/servers/a/b/c", "2.1", Err(404)).await;
    check(&router, "DELETE", "/compute/v2.1/servers", "2.1", Err(405)).await;
    check(&router, "BREW", "/compute/v2.1/servers", "2.1", Err(405)).await;
    check(&router, "GET", "/compute/v2.1/servers", "2.105", Err(406)).await;
    check(&router, "GET", "/compute/v2.1/servers", "two", Err(400)).await;
    check(&router, "GET", "/volume/v3", "2.1", Err(404)).await;
}

#[tokio::test]
async fn a_version_chooses_among_routes() {
    let router = router();
    let tags = "/compute/v2.1/servers/s/tags/t";
    check(&router, "GET", tags, "2.25", Err(404)).await;
    check(&router, "GET", tags, "2.26", Ok("GET /v2.1/servers/{name}/tags/{id} v2.26 [id=t name=s]")).await;
    check(&router, "GET", tags, "latest", Ok("GET /v2.1/servers/{name}/tags/{id} v2.104 [id=t name=s]")).await;
    // The path does not exist yet, whatever is done to it.
    check(&router, "DELETE", tags, "2.25", Err(404)).await;
    check(&router, "DELETE", tags, "2.26", Err(405)).await;
    let certificates = "/compute/v2.1/certificates";
    check(&router, "GET", certificates, "2.30", Ok("GET /v2.1/certificates v2.30 []")).await;
    check(&router, "GET", certificates, "2.31", Ok("GET /v2.1/certificates v2.31 []")).await;
}

#[tokio::test]
async fn a_slash_at_the_end_makes_no_difference() {
    let router = router();
    let root = Ok("GET / v2.1 []");
    for uri in ["/compute", "/compute/", "/compute?a=b", "/compute/?a=b"] {
        check(&router, "GET", uri, "2.1", root).await;
    }
    check(&router, "GET", "/compute/v2.1/servers/", "2.1", Ok("GET /v2.1/servers v2.1 []")).await;
    check(&router, "GET", "/compute/v2.1/servers/a/", "2.1", Ok("GET /v2.1/servers/{id} v2.1 [id=a]")).await;
    check(&router, "PUT", "/compute/v2.1/servers/a/", "2.1", Ok("PUT /v2.1/servers/{name}/ v2.1 [name=a]")).await;
}

#[tokio::test]
async fn alone_a_service_has_no_prefix() {
    let router = Keys::new().app.alone(service());
    check(&router, "GET", "/", "2.1", Ok("GET / v2.1 []")).await;
    check(&router, "GET", "/v2.1/servers/", "2.1", Ok("GET /v2.1/servers v2.1 []")).await;
    check(&router, "GET", "/compute/v2.1/servers", "2.1", Err(404)).await;
    let lost = ask(&router, "GET", "/nothing", &[]).await;
    assert_eq!(lost.json()["itemNotFound"]["code"], 404);
    assert!(lost.header("x-compute-request-id").is_some());
}

#[tokio::test]
async fn what_no_route_fits_is_a_fault_of_the_service() {
    let bare = Service::new("/network", FaultStyle::Network).routes(Routes::new(().into()).on(&LIST, echo));
    let router = Keys::new().app.router(vec![service(), bare]);
    for uri in ["/network", "/network/", "/network/x", "/network/v2.1/x/y/"] {
        let answer = ask(&router, "GET", uri, &[]).await;
        assert_eq!((answer.status, &answer.json()["NeutronError"]["type"]), (404, &"NotFound".into()), "{uri}");
    }
    let answer = ask(&router, "GET", "/compute/x", &[]).await;
    assert_eq!(answer.json()["itemNotFound"]["message"], "The resource could not be found.");
}

#[tokio::test]
async fn a_refused_method_is_told_the_others() {
    let router = router();
    let allow = async |uri: &str| ask(&router, "DELETE", uri, &[]).await.header("allow").map(str::to_owned);
    assert_eq!(allow("/compute/v2.1/servers").await.as_deref(), Some("GET, HEAD, POST"));
    assert_eq!(allow("/compute/v2.1/servers/a").await.as_deref(), Some("GET, HEAD, PUT"));
    assert_eq!(allow("/compute/x").await, None);
}

#[tokio::test]
async fn head_is_a_get_without_its_body() {
    let router = router();
    let get = ask(&router, "GET", "/compute/v2.1/servers", &[]).await;
    let head = ask(&router, "HEAD", "/compute/v2.1/servers", &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(ask(&router, "HEAD", "/compute/v2.1/nothing", &[]).await.body.len(), 0);
}

#[tokio::test]
async fn parameters_are_decoded_once() {
    let router = router();
    let show = async |segment: &str| {
        let answer = ask(&router, "GET", &format!("/compute/v2.1/servers/{segment}"), &[]).await;
        (answer.status, answer.text().to_owned())
    };
    let found = |value: &str| (200, format!("GET /v2.1/servers/{{id}} v2.1 [id={value}]"));
    assert_eq!(show("a%20b").await, found("a b"));
    assert_eq!(show("a%2Fb").await, found("a/b"));
    assert_eq!(show("%C3%A4").await, found("ä"));
    assert_eq!(show("a%2520b").await, found("a%20b"));
    assert_eq!(show("a+b").await, found("a+b"));
    let (status, body) = show("%FF").await;
    assert_eq!(status, 400);
    assert!(body.contains(r#"{"badRequest":"#), "{body}");
}

#[tokio::test]
async fn a_path_may_name_the_tokens_project() {
    let keys = Keys::new();
    let router = keys.app.router(vec![service().project_below("/v2.1")]);
    let member = keys.member();
    let ask_as = async |token: &str, uri: &str| {
        let answer = ask(&router, "GET", uri, &[("x-auth-token", token)]).await;
        (answer.status, answer.text().to_owned())
    };
    let found = ask_as(&member, "/compute/v2.1/project/servers/a").await;
    assert_eq!(found, (200, "GET /v2.1/servers/{id} v2.1 [id=a]".to_owned()));
    let found = ask_as(&member, "/compute/v2.1/project/servers/detail").await;
    assert_eq!(found, (200, "GET /v2.1/servers/detail v2.1 []".to_owned()));
    let (status, text) = ask_as(&member, "/compute/v2.1/another/servers/a").await;
    assert!(status == 400 && text.contains("doesn't match Context's project_id 'project'"), "{status} {text}");
    let admin = keys.token(project(), &["admin"]);
    assert_eq!(ask_as(&admin, "/compute/v2.1/another/servers").await.0, 200);
}
