use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use umbel_api::identity::keys::{Key, KeySet};
use umbel_api::identity::revocations::RevocationEvent;
use umbel_core::{Error, Result};

use crate::cloud::accepted;
use crate::transport::{Body, Transport, collect};

/// What a service needs of identity in order to judge tokens by itself.
#[derive(Clone)]
pub struct TokenTrust {
    transport: Arc<dyn Transport>,
    /// Identity's root, without `/v3`.
    endpoint: Arc<str>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<RevocationEvent>,
}

const MAX_ANSWER: usize = 64 << 20;

impl TokenTrust {
    pub fn new(transport: Arc<dyn Transport>, endpoint: &str) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        let endpoint = endpoint.strip_suffix("/v3").unwrap_or(endpoint);
        TokenTrust { transport, endpoint: endpoint.into() }
    }

    /// Every key that a valid token may be signed with.
    pub async fn keys(&self) -> Result<Vec<Key>> {
        Ok(self.get::<KeySet>("/v3/OS-TOKEN/keys", None).await?.keys)
    }

    /// What was revoked since a moment, as [`umbel_core::Timestamp::iso_micros`] writes it. Only services may know.
    pub async fn revocations(&self, service_token: &str, since: &str) -> Result<Vec<RevocationEvent>> {
        let path = format!("/v3/OS-REVOKE/events?since={since}");
        Ok(self.get::<Events>(&path, Some(service_token)).await?.events)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, token: Option<&str>) -> Result<T> {
        let mut request = http::Request::builder().method(Method::GET).uri(format!("{}{path}", self.endpoint));
        if let Some(token) = token {
            request = request.header("x-auth-token", token);
        }
        let request = request
            .body(Body::Empty)
            .map_err(|error| Error::bad_request(format!("'{}' is not a URL.", self.endpoint)).because(error))?;
        let response = self.transport.send(request).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER).await?;
        accepted(status, &bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::internal(error).because("reading identity's answer"))
    }
}
