//! A bootstrapped identity service in this process, and a client for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use umbel_auth::{Signer, SigningKey, Verifier};
use umbel_core::{ManualClock, Rng, SystemRng, Timestamp};
use umbel_db::Engine;
use umbel_db::testing::{TempDb, open};
use umbel_http::{App, Body, Router, oneshot};
use umbel_identity::{
    BootstrapSpec, Bootstrapped, Config, CredentialKey, DemoSpec, EndpointSpec, Identity, IdentitySchema, service,
};

pub const ADMIN_PASSWORD: &str = "correct horse";
pub const DEMO_PASSWORD: &str = "battery staple";

pub struct Cloud {
    pub identity: Arc<Identity>,
    pub verifier: Arc<Verifier>,
    pub clock: Arc<ManualClock>,
    pub ids: Bootstrapped,
    pub temp: TempDb<IdentitySchema>,
    pub router: Router,
    seed: [u8; 32],
}

/// A reply, read whole.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
    pub size: usize,
}

impl Answer {
    /// Panics with the body unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub fn token(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.body);
        self.headers["x-subject-token"].to_str().unwrap().to_owned()
    }
}

pub fn spec(url: &str) -> BootstrapSpec {
    BootstrapSpec {
        admin_password: ADMIN_PASSWORD.to_owned(),
        service_password: None,
        region: "RegionOne".to_owned(),
        endpoints: vec![
            EndpointSpec::new("identity", "keystone", "Identity", &format!("{url}/identity/v3")),
            EndpointSpec::new("compute", "nova", "Compute", &format!("{url}/compute/v2.1")),
        ],
        demo: Some(DemoSpec { password: DEMO_PASSWORD.to_owned() }),
    }
}

pub fn config() -> Config {
    Config { credential_key: Some(CredentialKey([3; 32])), ..Config::default() }
}

impl Cloud {
    pub async fn new() -> Cloud {
        Cloud::on(Engine::Sqlite).await
    }

    /// One on each engine.
    pub async fn all() -> Vec<Cloud> {
        let mut all = Vec::new();
        for engine in Engine::ALL {
            all.push(Cloud::on(engine).await);
        }
        all
    }

    pub async fn on(engine: Engine) -> Cloud {
        let temp = open::<IdentitySchema>(engine).await;
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_000_000)));
        let seed = SigningKey::generate(&SystemRng::new());
        let (identity, verifier, router) = process(&temp, seed, clock.clone(), config()).await;
        let ids = identity.bootstrap(&spec("http://cloud:1")).await.unwrap();
        Cloud { identity, verifier, clock, ids, temp, router, seed }
    }

    /// Another process of the same role on the same database.
    pub async fn second(&self, config: Config) -> (Arc<Identity>, Arc<Verifier>, Router) {
        process(&self.temp, self.seed, self.clock.clone(), config).await
    }

    pub fn tick(&self) {
        self.clock.advance(Duration::from_secs(1));
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        call(&self.router, method, path, &[("x-auth-token", token)], body).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, Value::Null).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call("DELETE", path, token, Value::Null).await
    }

    /// GET, HEAD or DELETE on a token.
    pub async fn on_token(&self, method: &str, query: &str, token: &str, subject: &str) -> Answer {
        let headers = [("x-auth-token", token), ("x-subject-token", subject)];
        call(&self.router, method, &format!("/identity/v3/auth/tokens{query}"), &headers, Value::Null).await
    }

    pub async fn authenticate(&self, auth: Value) -> Answer {
        call(&self.router, "POST", "/identity/v3/auth/tokens", &[], json!({ "auth": auth })).await
    }

    pub async fn login(&self, user: &str, password: &str, scope: Value) -> Answer {
        self.authenticate(password_auth(user, password, scope)).await
    }

    pub async fn admin(&self) -> String {
        self.login("admin", ADMIN_PASSWORD, project_scope("admin")).await.token()
    }

    pub async fn demo(&self) -> String {
        self.login("demo", DEMO_PASSWORD, project_scope("demo")).await.token()
    }

    /// POSTs to a collection and gives the id of what was made.
    pub async fn make(&self, collection: &str, name: &str, fields: Value) -> String {
        let token = self.admin().await;
        let body = json!({ name: fields });
        let answer = self.call("POST", &format!("/identity/v3/{collection}"), &token, body).await;
        answer.expect(201)[name]["id"].as_str().unwrap().to_owned()
    }

    pub async fn grant(&self, path: &str) {
        let token = self.admin().await;
        self.call("PUT", &format!("/identity/v3/{path}"), &token, Value::Null).await.expect(204);
    }

    pub async fn role(&self, name: &str) -> String {
        let token = self.admin().await;
        let found = self.get(&format!("/identity/v3/roles?name={name}"), &token).await.expect(200);
        found["roles"][0]["id"].as_str().unwrap().to_owned()
    }
}

async fn process(
    temp: &TempDb<IdentitySchema>,
    seed: [u8; 32],
    clock: Arc<ManualClock>,
    config: Config,
) -> (Arc<Identity>, Arc<Verifier>, Router) {
    let signer = Signer::new(SigningKey::from_seed(&seed).unwrap());
    let verifier = Arc::new(Verifier::new(vec![signer.public()], Arc::default(), clock.clone()));
    let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
    let identity = Identity::new(temp.db.clone(), signer, verifier.clone(), clock, rng.clone(), config).await.unwrap();
    let identity = Arc::new(identity);
    let app = App { verifier: verifier.clone(), rng };
    let router = app.router(vec![service(identity.clone())]);
    (identity, verifier, router)
}

pub async fn call(router: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
    call_raw(router, method, path, headers, bytes).await
}

pub async fn call_raw(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut request = http::Request::builder().method(method).uri(path).header("host", "cloud:1");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let reply = oneshot(router, request.body(body.into()).unwrap()).await;
    let (parts, body) = reply.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = match bytes.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}")),
    };
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, size: bytes.len() }
}

/// With a scope unless it is null.
pub fn with_scope(identity: Value, scope: Value) -> Value {
    match scope {
        Value::Null => json!({ "identity": identity }),
        scope => json!({ "identity": identity, "scope": scope }),
    }
}

pub fn password_auth(user: &str, password: &str, scope: Value) -> Value {
    let user = json!({"name": user, "domain": {"id": "default"}, "password": password});
    with_scope(json!({"methods": ["password"], "password": {"user": user}}), scope)
}

pub fn token_auth(token: &str, scope: Value) -> Value {
    with_scope(json!({"methods": ["token"], "token": {"id": token}}), scope)
}

pub fn project_scope(name: &str) -> Value {
    json!({"project": {"name": name, "domain": {"id": "default"}}})
}

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The names of an object's members, sorted.
pub fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
    keys.sort();
    keys
}

/// One member of each item of a list, in order.
pub fn column(list: &Value, name: &str) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|item| item[name].as_str().unwrap_or("").to_owned()).collect()
}
