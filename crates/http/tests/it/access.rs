use std::time::Duration;

use umbel_api::{Method, Route, Rule};
use umbel_core::Scope;
use umbel_http::{FaultStyle, Reply, Router, Routes, Service};

use crate::support::{Keys, ask, project};

static PUBLIC: Route = Route::new(Method::Get, "/public", "p:public", Rule::Public);
static AUTHENTICATED: Route = Route::new(Method::Get, "/authenticated", "p:authenticated", Rule::Authenticated);
static READER: Route = Route::new(Method::Get, "/reader", "p:reader", Rule::Reader);
static MEMBER: Route = Route::new(Method::Get, "/member", "p:member", Rule::Member);
static ADMIN: Route = Route::new(Method::Get, "/admin", "p:admin", Rule::Admin);
static SERVICE: Route = Route::new(Method::Get, "/service", "p:service", Rule::Service);

const ALL: [&Route; 6] = [&PUBLIC, &AUTHENTICATED, &READER, &MEMBER, &ADMIN, &SERVICE];

fn router(keys: &Keys) -> Router {
    keys.app.router(vec![service()])
}

fn service() -> Service {
    let routes = ALL.into_iter().fold(Routes::new(().into()), |routes, route| {
        routes.on(route, async |_, req| {
            let who = req.ctx.user_id().unwrap_or("nobody").to_owned();
            let text = format!("{who} {} {}", req.ctx.token.is_some(), req.ctx.is_service());
            Ok(Reply::bytes(200, "text/plain", text))
        })
    });
    Service::new("/identity", FaultStyle::Identity).routes(routes)
}

async fn statuses(router: &Router, headers: &[(&str, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for route in ALL {
        statuses.push(ask(router, "GET", &format!("/identity{}", route.path), headers).await.status);
    }
    statuses
}

#[tokio::test]
async fn a_rule_decides_who_comes_in() {
    let keys = Keys::new();
    let router = router(&keys);
    let domain = || Scope::Domain { id: "default".into(), name: "Default".into() };
    let check = async |scope: Scope, roles: &[&str], want: [u16; 6]| {
        let token = keys.token(scope.clone(), roles);
        assert_eq!(statuses(&router, &[("x-auth-token", &token)]).await, want, "{scope:?} {roles:?}");
    };
    assert_eq!(statuses(&router, &[]).await, [200, 401, 401, 401, 401, 401]);
    check(Scope::Unscoped, &[], [200, 200, 403, 403, 403, 403]).await;
    check(project(), &[], [200, 200, 403, 403, 403, 403]).await;
    check(project(), &["reader"], [200, 200, 200, 403, 403, 403]).await;
    check(project(), &["Member", "reader"], [200, 200, 200, 200, 403, 403]).await;
    check(domain(), &["member", "reader"], [200, 200, 403, 403, 403, 403]).await;
    check(project(), &["service"], [200, 200, 403, 403, 403, 200]).await;
    check(project(), &["admin", "member", "reader"], [200; 6]).await;
    check(Scope::System, &["admin"], [200; 6]).await;
}

#[tokio::test]
async fn a_bad_token_is_none() {
    let keys = Keys::new();
    let router = router(&keys);
    let expired = keys.member();
    keys.clock.advance(Duration::from_secs(61));
    let foreign = {
        let mut token = keys.member();
        token.replace_range(token.len() - 8.., "AAAAAAAA");
        token
    };
    for token in ["nonsense", expired.as_str(), foreign.as_str(), ""] {
        let public = ask(&router, "GET", "/identity/public", &[("x-auth-token", token)]).await;
        assert_eq!((public.status, public.text()), (200, "nobody false false"), "{token}");
        let refused = ask(&router, "GET", "/identity/authenticated", &[("x-auth-token", token)]).await;
        assert_eq!(refused.status, 401, "{token}");
        assert_eq!(refused.json()["error"]["message"], "The request you have made requires authentication.");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Keystone uri="));
    }
    let good = ask(&router, "GET", "/identity/public", &[("x-auth-token", &keys.member())]).await;
    assert_eq!(good.text(), "user true false");
}

/// A service without a user's token, for a user whom it names.
#[tokio::test]
async fn a_service_works_on_behalf_where_that_is_open() {
    let keys = Keys::new();
    let (closed, open) = (router(&keys), keys.app.router(vec![service().on_behalf()]));
    let (user, service) = (keys.member(), keys.token(project(), &["service", "admin"]));
    let named = [("x-umbel-project-id", "other"), ("x-umbel-user-id", "someone")];
    let with = |first: (&'static str, &str)| {
        [(first.0, first.1.to_owned()), (named[0].0, "other".into()), (named[1].0, "someone".into())]
    };
    let ask = async |router: &Router, first: (&'static str, &str)| {
        let headers = with(first);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        statuses(router, &headers).await
    };
    // A member of the project, and neither an administrator nor a service.
    assert_eq!(ask(&open, ("x-service-token", &service)).await, [200, 200, 200, 200, 403, 403]);
    let headers = [("x-service-token", service.as_str()), named[0], named[1]];
    let answer = crate::support::ask(&open, "GET", "/identity/member", &headers).await;
    assert_eq!(answer.text(), "someone false false");
    // Not everywhere, not by a user, and not beside a user's token, good or bad.
    assert_eq!(ask(&closed, ("x-service-token", &service)).await, [200, 401, 401, 401, 401, 401]);
    assert_eq!(ask(&open, ("x-service-token", &user)).await, [200, 401, 401, 401, 401, 401]);
    for token in [user.as_str(), "nonsense"] {
        let both = [("x-service-token", service.as_str()), ("x-auth-token", token), named[0], named[1]];
        let answer = crate::support::ask(&open, "GET", "/identity/public", &both).await;
        assert!(!answer.text().starts_with("someone"), "{}", answer.text());
    }
    assert_eq!(ask(&open, ("x-auth-token", &user)).await, [200, 200, 200, 200, 403, 403]);
}

#[tokio::test]
async fn a_service_speaks_for_a_user() {
    let keys = Keys::new();
    let router = router(&keys);
    let (user, service) = (keys.member(), keys.token(project(), &["service"]));
    let both = [("x-auth-token", user.as_str()), ("x-service-token", service.as_str())];
    let answer = ask(&router, "GET", "/identity/service", &both).await;
    assert_eq!((answer.status, answer.text()), (200, "user true true"));
    // It adds to a user's rights what a service may, and stands for no user.
    let alone = [("x-service-token", service.as_str())];
    assert_eq!(ask(&router, "GET", "/identity/service", &alone).await.status, 401);
    let weak = [("x-auth-token", user.as_str()), ("x-service-token", user.as_str())];
    assert_eq!(ask(&router, "GET", "/identity/service", &weak).await.status, 403);
    for path in ["/identity/service", "/identity/public"] {
        let bad = [("x-auth-token", user.as_str()), ("x-service-token", "nonsense")];
        assert_eq!(ask(&router, "GET", path, &bad).await.status, 401, "{path}");
    }
}
