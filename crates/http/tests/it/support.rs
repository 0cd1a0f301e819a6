use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use umbel_api::{Microversion, Rule};
use umbel_auth::{Signer, SigningKey, Verifier};
use umbel_core::{Clock, ManualClock, Principal, Result, Scope, SeededRng, Timestamp};
use umbel_http::{App, Body, Bytes, FaultStyle, Reply, Req, Router, Service, StatusCode, Versions, oneshot};

pub const COMPUTE: Versions = Versions {
    service: "compute",
    legacy_header: Some("x-openstack-nova-api-version"),
    min: Microversion::new(2, 1),
    max: Microversion::new(2, 104),
};

/// A signer and what believes it.
pub struct Keys {
    pub signer: Signer,
    pub clock: Arc<ManualClock>,
    pub app: App,
}

impl Keys {
    pub fn new() -> Self {
        let rng = Arc::new(SeededRng::new(7));
        let signer = Signer::new(SigningKey::from_seed(&SigningKey::generate(&*rng)).unwrap());
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let verifier = Arc::new(Verifier::new(vec![signer.public()], Arc::default(), clock.clone()));
        Keys { signer, clock, app: App { verifier, rng } }
    }

    pub fn token(&self, scope: Scope, roles: &[&str]) -> String {
        let principal = Principal {
            user_id: "user".into(),
            user_name: "user".into(),
            user_domain_id: "default".into(),
            user_domain_name: "Default".into(),
            scope,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            audit_ids: vec!["audit".into()],
            methods: vec!["password".into()],
            issued_at: self.clock.now(),
            expires_at: self.clock.now().plus(Duration::from_secs(60)),
            application_credential: None,
        };
        self.signer.sign(&principal).unwrap()
    }

    pub fn member(&self) -> String {
        self.token(project(), &["member", "reader"])
    }
}

pub fn project() -> Scope {
    Scope::Project {
        id: "project".into(),
        name: "project".into(),
        domain_id: "default".into(),
        domain_name: "Default".into(),
    }
}

pub fn compute() -> Service {
    Service::new("/compute", FaultStyle::Compute).versions(COMPUTE)
}

/// Says what it was asked, as tests look at it.
pub async fn echo(_: Arc<()>, req: Req) -> Result<Reply> {
    let names = ["id", "name", "rest"];
    let params: Vec<String> =
        names.iter().filter_map(|name| req.param(name).ok().map(|value| format!("{name}={value}"))).collect();
    let text = format!("{} {} v{} [{}]", req.route.method.name(), req.route.path, req.version, params.join(" "));
    Ok(Reply::bytes(200, "text/plain", text))
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        Some(value)
    }
}

pub async fn send(router: &Router, request: http::Request<Body>) -> Answer {
    let (parts, body) = oneshot(router, request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: status(parts.status), headers: parts.headers, body }
}

fn status(status: StatusCode) -> u16 {
    status.as_u16()
}

pub fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> http::Request<Body> {
    let builder = http::Request::builder().method(method).uri(uri);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(Body::empty()).unwrap()
}

pub async fn ask(router: &Router, method: &str, uri: &str, headers: &[(&str, &str)]) -> Answer {
    send(router, request(method, uri, headers)).await
}

pub const PUBLIC: Rule = Rule::Public;

/// Asks again until the answer is yes; panics after ten seconds.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
