use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use umbel_core::{Error, Kind, Result, Timestamp};

use crate::transport::{Body, Transport, collect};
use crate::{Auth, CloudConfig};

/// Answers of JSON beyond this are a fault: a page of 1,000 servers has about 2 MB.
const MAX_ANSWER: usize = 64 << 20;

/// One call of a service.
pub struct Call<'a> {
    /// Type in the catalog: `compute`, `image`.
    pub service: &'a str,
    pub method: Method,
    /// Below the endpoint, with the query.
    pub path: &'a str,
    /// `OpenStack-API-Version`, without the service: `2.100`.
    pub version: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Body,
}

impl<'a> Call<'a> {
    pub fn new(service: &'a str, method: Method, path: &'a str) -> Self {
        Call { service, method, path, version: None, headers: &[], body: Body::Empty }
    }

    #[must_use]
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = Some(version);
        self
    }

    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, &'a str)]) -> Self {
        self.headers = headers;
        self
    }

    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

/// A cloud that has let us in: a token and the endpoints of its catalog.
#[derive(Clone)]
pub struct Cloud {
    transport: Arc<dyn Transport>,
    endpoints: Arc<BTreeMap<String, String>>,
    token: Arc<str>,
    pub project_id: Option<String>,
    pub user_id: String,
    /// When the token ends.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    user: Named,
    project: Option<Named>,
    expires_at: String,
    #[serde(default)]
    catalog: Vec<CatalogService>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
pub(crate) struct CatalogService {
    #[serde(rename = "type")]
    pub kind: String,
    pub endpoints: Vec<CatalogEndpoint>,
}

#[derive(Deserialize)]
pub(crate) struct CatalogEndpoint {
    pub interface: String,
    pub region_id: Option<String>,
    pub url: String,
}

impl Cloud {
    pub async fn connect(config: &CloudConfig, transport: Arc<dyn Transport>) -> Result<Cloud> {
        let url = tokens_url(&config.auth.auth_url);
        let (token, body) = ask_token(&*transport, &url, &config.auth).await?;
        let mut endpoints = BTreeMap::new();
        for service in body.catalog {
            let fits = |endpoint: &&CatalogEndpoint| {
                endpoint.interface == config.interface
                    && config.region_name.as_ref().is_none_or(|region| endpoint.region_id.as_ref() == Some(region))
            };
            if let Some(endpoint) = service.endpoints.iter().find(fits) {
                endpoints.insert(service.kind, endpoint.url.trim_end_matches('/').to_owned());
            }
        }
        Ok(Cloud {
            transport,
            endpoints: Arc::new(endpoints),
            token: token.into(),
            project_id: body.project.map(|project| project.id),
            user_id: body.user.id,
            expires_at: Timestamp::parse(&body.expires_at)?,
        })
    }

    /// Only asks for a token and throws it away: what a login costs.
    pub async fn login(config: &CloudConfig, transport: &dyn Transport) -> Result<String> {
        let url = tokens_url(&config.auth.auth_url);
        Ok(ask_token(transport, &url, &config.auth).await?.0)
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// The endpoint of a service type, as the catalog has it.
    pub fn endpoint(&self, service: &str) -> Result<&str> {
        self.endpoints
            .get(service)
            .map(String::as_str)
            .ok_or_else(|| Error::not_found(format!("The catalog has no endpoint for '{service}'.")))
    }

    /// Sends the call; any status is an answer.
    pub async fn send(&self, call: Call<'_>) -> Result<http::Response<Body>> {
        let url = format!("{}{}", self.endpoint(call.service)?, call.path);
        let mut request = http::Request::builder().method(call.method).uri(url).header("x-auth-token", &*self.token);
        if let Some(version) = call.version {
            request = request.header("openstack-api-version", format!("{} {version}", versioned(call.service)));
        }
        for (name, value) in call.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(Error::internal)?;
            request = request.header(name, HeaderValue::from_str(value).map_err(Error::internal)?);
        }
        self.transport.send(request.body(call.body).map_err(Error::internal)?).await
    }

    /// Sends the call; a status that says no is an error with the service's own message.
    pub async fn bytes(&self, call: Call<'_>) -> Result<Bytes> {
        let response = self.send(call).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER).await?;
        accepted(status, &bytes)?;
        Ok(bytes)
    }

    pub async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::internal(error).because("reading a service's answer"))
    }

    pub async fn get<T: DeserializeOwned>(&self, service: &str, path: &str, version: Option<&str>) -> Result<T> {
        let mut call = Call::new(service, Method::GET, path);
        call.version = version;
        self.json(call).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        service: &str,
        path: &str,
        version: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(Error::internal)?;
        let mut call = Call::new(service, Method::POST, path).headers(&[("content-type", "application/json")]);
        call.version = version;
        self.json(call.body(Body::Bytes(body.into()))).await
    }

    pub async fn delete(&self, service: &str, path: &str) -> Result<()> {
        self.bytes(Call::new(service, Method::DELETE, path)).await.map(drop)
    }
}

/// What a service of this type is called where a version of its API is asked for. The volume service has kept its old
/// word, whatever the catalog calls it.
fn versioned(service: &str) -> &str {
    match service {
        "block-storage" | "volumev3" => "volume",
        other => other,
    }
}

/// A status below 400, or the error that the service told.
pub(crate) fn accepted(status: StatusCode, body: &[u8]) -> Result<()> {
    if status.as_u16() < 400 {
        return Ok(());
    }
    let kind = match status.as_u16() {
        400 => Kind::BadRequest,
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        413 => Kind::TooLarge,
        416 => Kind::RangeNotSatisfiable,
        503 => Kind::Unavailable,
        _ => Kind::Internal,
    };
    let message = message(body).unwrap_or_else(|| format!("The service answered {status}."));
    Err(Error::new(kind, message).because(format!("the service answered {status}")))
}

/// The message in a fault, wherever the service puts it.
fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let direct = value.get("message").and_then(|message| message.as_str());
    let nested = || value.as_object()?.values().find_map(|fault| fault.get("message")?.as_str());
    direct.or_else(nested).map(str::to_owned)
}

fn tokens_url(auth_url: &str) -> String {
    let base = auth_url.trim_end_matches('/');
    let base = base.strip_suffix("/v3").unwrap_or(base);
    format!("{base}/v3/auth/tokens")
}

async fn ask_token(transport: &dyn Transport, url: &str, auth: &Auth) -> Result<(String, TokenBody)> {
    let body = serde_json::to_vec(&auth_body(auth)).map_err(Error::internal)?;
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(url)
        .header("content-type", "application/json")
        .body(Body::Bytes(body.into()))
        .map_err(|error| Error::bad_request(format!("'{url}' is not a URL.")).because(error))?;
    let response = transport.send(request).await?;
    let status = response.status();
    let token = response.headers().get("x-subject-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
    let bytes = collect(response.into_body(), MAX_ANSWER).await?;
    accepted(status, &bytes)?;
    let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(Error::internal)?;
    Ok((token.ok_or_else(|| Error::internal("identity answered without a token"))?, answer.token))
}

fn auth_body(auth: &Auth) -> serde_json::Value {
    let domain = |id: &Option<String>, name: &Option<String>| match (id, name) {
        (Some(id), _) => json!({"id": id}),
        (None, Some(name)) => json!({"name": name}),
        (None, None) => json!({"id": "default"}),
    };
    if let Some(id) = &auth.application_credential_id {
        let credential = json!({"id": id, "secret": auth.application_credential_secret});
        return json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": credential}}});
    }
    let user = match &auth.user_id {
        Some(id) => json!({"id": id, "password": auth.password}),
        None => json!({
            "name": auth.username,
            "domain": domain(&auth.user_domain_id, &auth.user_domain_name),
            "password": auth.password,
        }),
    };
    let mut body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
    body["auth"]["scope"] = match (&auth.project_id, &auth.project_name, &auth.system_scope) {
        (Some(id), _, _) => json!({"project": {"id": id}}),
        (None, Some(name), _) => {
            json!({"project": {"name": name, "domain": domain(&auth.project_domain_id, &auth.project_domain_name)}})
        }
        (None, None, Some(_)) => json!({"system": {"all": true}}),
        (None, None, None) => return body,
    };
    body
}
