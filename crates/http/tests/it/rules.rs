//! Tokens with access rules: each service holds them to these, without asking anyone.

use umbel_api::{Method, Route, Rule};
use umbel_core::{AccessRule, AppCredential, Principal};
use umbel_http::{FaultStyle, Reply, Router, Routes, Service};

use crate::support::{Keys, ask, project};

static LIST: Route = Route::new(Method::Get, "/v2.1/servers", "p:list", Rule::Reader);
static CREATE: Route = Route::new(Method::Post, "/v2.1/servers", "p:create", Rule::Member);
static SHOW: Route = Route::new(Method::Get, "/v2.1/servers/{id}", "p:show", Rule::Reader);
static VERSIONS: Route = Route::new(Method::Get, "/", "p:versions", Rule::Public);
static TOKENS: Route = Route::new(Method::Get, "/v3/auth/tokens", "p:tokens", Rule::Authenticated);

fn router(keys: &Keys) -> Router {
    let with = |prefix, style, routes: &[&'static Route]| {
        let routes = routes
            .iter()
            .fold(Routes::new(().into()), |routes, route| routes.on(route, async |_, _| Ok(Reply::empty(204))));
        Service::new(prefix, style).routes(routes)
    };
    keys.app.router(vec![
        with("/compute", FaultStyle::Compute, &[&LIST, &CREATE, &SHOW, &VERSIONS]),
        with("/identity", FaultStyle::Identity, &[&TOKENS, &LIST]),
    ])
}

fn token(keys: &Keys, rules: &[(&str, &str, &str)]) -> String {
    let plain = keys.app.verifier.verify(&keys.member()).unwrap();
    let rule = |(service, method, path): &(&str, &str, &str)| AccessRule {
        service: (*service).to_owned(),
        method: (*method).to_owned(),
        path: (*path).to_owned(),
    };
    let access_rules = rules.iter().map(rule).collect();
    let credential = AppCredential { id: "c".into(), unrestricted: false, trust: None, access_rules };
    let principal = Principal { application_credential: Some(credential), ..(*plain).clone() };
    keys.signer.sign(&principal).unwrap()
}

#[tokio::test]
async fn a_token_is_good_for_what_its_rules_say() {
    let keys = Keys::new();
    let router = router(&keys);
    let status = async |token: &str, method: &str, path: &str| {
        ask(&router, method, path, &[("x-auth-token", token)]).await.status
    };
    let narrow = token(&keys, &[("compute", "GET", "/v2.1/servers"), ("compute", "POST", "/v2.1/servers")]);
    assert_eq!(status(&narrow, "GET", "/compute/v2.1/servers").await, 204);
    assert_eq!(status(&narrow, "GET", "/compute/v2.1/servers?limit=1").await, 204);
    assert_eq!(status(&narrow, "POST", "/compute/v2.1/servers").await, 204);
    assert_eq!(status(&narrow, "GET", "/compute/v2.1/servers/1").await, 401);
    assert_eq!(status(&narrow, "GET", "/identity/v2.1/servers").await, 401, "another service");
    assert_eq!(status(&narrow, "GET", "/identity/v3/auth/tokens").await, 204, "which it may always ask about");
    assert_eq!(status(&narrow, "GET", "/compute/").await, 204, "which needs no token");
    let wide = token(&keys, &[("compute", "GET", "/v2.1/**")]);
    assert_eq!(status(&wide, "GET", "/compute/v2.1/servers/1").await, 204);
    assert_eq!(status(&wide, "POST", "/compute/v2.1/servers").await, 401);
    let free = token(&keys, &[]);
    assert_eq!(status(&free, "POST", "/compute/v2.1/servers").await, 204);
}

/// What a service asks another in the course of an allowed request was not in anybody's rules.
#[tokio::test]
async fn a_service_passes_on_what_was_allowed() {
    let keys = Keys::new();
    let router = router(&keys);
    let narrow = token(&keys, &[("compute", "POST", "/v2.1/servers")]);
    let (service, user) = (keys.token(project(), &["service"]), keys.member());
    let with = async |beside: &str| {
        let headers = [("x-auth-token", narrow.as_str()), ("x-service-token", beside)];
        ask(&router, "GET", "/compute/v2.1/servers/1", &headers).await.status
    };
    assert_eq!(with(&service).await, 204);
    assert_eq!(with(&user).await, 401, "no service's token");
}
