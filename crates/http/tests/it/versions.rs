use std::collections::HashSet;

use umbel_api::{Method, Route, Rule};
use umbel_http::{FaultStyle, Router, Routes, Service};

use crate::support::{Keys, PUBLIC, ask, compute, echo};

static SHOW: Route = Route::new(Method::Get, "/v2.1/servers/{id}", "show", PUBLIC);
static CLOSED: Route = Route::new(Method::Get, "/v2.1/closed", "closed", Rule::Member);

fn router() -> Router {
    let routes = || Routes::new(().into()).on(&SHOW, echo).on(&CLOSED, echo);
    let network = Service::new("/network", FaultStyle::Network).routes(routes());
    Keys::new().app.router(vec![compute().routes(routes()), network])
}

#[tokio::test]
async fn answers_and_faults_name_their_version() {
    let router = router();
    for (method, uri, status) in [
        ("GET", "/compute/v2.1/servers/a", 200),
        ("HEAD", "/compute/v2.1/servers/a", 200),
        ("GET", "/compute/v2.1/closed", 401),
        ("GET", "/compute/v2.1/none", 404),
        ("PUT", "/compute/v2.1/servers/a", 405),
    ] {
        let answer = ask(&router, method, uri, &[("openstack-api-version", "compute 2.90")]).await;
        assert_eq!(answer.status, status, "{uri}");
        assert_eq!(answer.header("openstack-api-version"), Some("compute 2.90"), "{uri}");
        assert_eq!(answer.header("x-openstack-nova-api-version"), Some("2.90"), "{uri}");
        assert_eq!(answer.header("vary"), Some("OpenStack-API-Version, x-openstack-nova-api-version"), "{uri}");
    }
    let refused = ask(&router, "GET", "/compute/v2.1/servers/a", &[("openstack-api-version", "compute 2.999")]).await;
    assert_eq!((refused.status, refused.header("openstack-api-version")), (406, None));
    assert!(refused.text().contains("Minimum is 2.1 and maximum is 2.104"), "{}", refused.text());
    let unversioned = ask(&router, "GET", "/network/v2.1/servers/a", &[("openstack-api-version", "compute 9.9")]).await;
    assert_eq!((unversioned.status, unversioned.header("openstack-api-version")), (200, None));
}

#[tokio::test]
async fn each_answer_has_an_id_of_its_own() {
    let router = router();
    let mut seen = HashSet::new();
    for uri in
        ["/compute/v2.1/servers/a", "/compute/v2.1/servers/a", "/compute/none", "/compute/v2.1/closed", "/network/none"]
    {
        let answer = ask(&router, "GET", uri, &[]).await;
        let id = answer.header("x-openstack-request-id").unwrap().to_owned();
        assert!(id.len() == 40 && id.starts_with("req-"), "{id}");
        let legacy = answer.header("x-compute-request-id").map(str::to_owned);
        assert_eq!(legacy, uri.starts_with("/compute").then(|| id.clone()), "{uri}");
        assert!(seen.insert(id));
    }
}

#[tokio::test]
async fn a_callers_id_does_not_become_ours() {
    let router = router();
    let theirs = "req-00000000-0000-0000-0000-000000000001";
    let answer = ask(&router, "GET", "/compute/v2.1/servers/a", &[("x-openstack-request-id", theirs)]).await;
    assert_ne!(answer.header("x-openstack-request-id"), Some(theirs));
}
