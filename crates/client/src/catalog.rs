use http::Method;
use serde::Deserialize;
use umbel_core::{Error, Result};

use crate::cloud::{CatalogService, accepted};
use crate::transport::{Body, Transport, collect};

const MAX_ANSWER: usize = 4 << 20;

#[derive(Deserialize)]
struct Catalog {
    catalog: Vec<CatalogService>,
}

/// Where a service of any region is, as the catalog of this token says. `identity` is identity's root, with or without
/// `/v3`. `NotFound` if the catalog names no such place.
pub async fn find_endpoint(
    transport: &dyn Transport,
    identity: &str,
    token: &str,
    service: &str,
    region: &str,
    interface: &str,
) -> Result<String> {
    let root = identity.trim_end_matches('/');
    let root = root.strip_suffix("/v3").unwrap_or(root);
    let request = http::Request::builder()
        .method(Method::GET)
        .uri(format!("{root}/v3/auth/catalog"))
        .header("x-auth-token", token)
        .body(Body::Empty)
        .map_err(|error| Error::internal(error).because("asking identity for the catalog"))?;
    let response = transport.send(request).await?;
    let status = response.status();
    let bytes = collect(response.into_body(), MAX_ANSWER).await?;
    accepted(status, &bytes)?;
    let answer: Catalog =
        serde_json::from_slice(&bytes).map_err(|error| Error::internal(error).because("reading identity's catalog"))?;
    answer
        .catalog
        .iter()
        .filter(|entry| entry.kind == service)
        .flat_map(|entry| &entry.endpoints)
        .find(|endpoint| endpoint.interface == interface && endpoint.region_id.as_deref() == Some(region))
        .map(|endpoint| endpoint.url.trim_end_matches('/').to_owned())
        .ok_or_else(|| {
            Error::not_found(format!("The catalog has no {interface} endpoint for '{service}' in region '{region}'."))
        })
}
