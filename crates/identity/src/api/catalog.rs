//! Services and endpoints.

use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::endpoints::{Endpoint, EndpointRequest};
use umbel_api::identity::services::{Service, ServiceRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::catalog as service;
use crate::store::catalog::{EndpointFilter, EndpointRow, ServiceRow};

const SERVICE: &str = "service";
const ENDPOINT: &str = "endpoint";

fn service_body(req: &Req, row: ServiceRow) -> Service {
    Service {
        links: SelfLink::new(&req.root, &format!("services/{}", row.id)),
        id: row.id,
        service_type: row.kind,
        name: row.name,
        enabled: row.enabled,
        extra: row.extra,
    }
}

pub(super) async fn list_services(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let (kind, name) = (query.given("type"), query.text_filter("name"));
    let rows =
        service::list_services(&identity, &req.ctx, req.route.policy, kind.as_deref(), name.as_ref(), &window).await?;
    Ok(page(&req, &window, "services", rows, |row| &row.id, |row| service_body(&req, row)))
}

pub(super) async fn create_service(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ServiceRequest { service } = req.json().await?;
    let row = service::create_service(&identity, service).await?;
    Ok(one(201, SERVICE, service_body(&req, row)))
}

pub(super) async fn show_service(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show_service(&identity, &req.ctx, req.route.policy, req.param("service_id")?).await?;
    Ok(one(200, SERVICE, service_body(&req, row)))
}

pub(super) async fn update_service(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ServiceRequest { service } = req.json().await?;
    let row = service::update_service(&identity, req.param("service_id")?, service).await?;
    Ok(one(200, SERVICE, service_body(&req, row)))
}

pub(super) async fn delete_service(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete_service(&identity, req.param("service_id")?).await?;
    Ok(no_content())
}

pub(super) fn endpoint_body(req: &Req, row: EndpointRow) -> Endpoint {
    Endpoint {
        links: SelfLink::new(&req.root, &format!("endpoints/{}", row.id)),
        id: row.id,
        interface: row.interface,
        region: row.region_id.clone(),
        region_id: row.region_id,
        service_id: row.service_id,
        url: row.url,
        enabled: row.enabled,
        extra: row.extra,
    }
}

pub(super) async fn list_endpoints(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let filter = EndpointFilter {
        interface: query.given("interface"),
        service_id: query.given("service_id"),
        region_id: query.given("region_id").or_else(|| query.given("region")),
    };
    let rows = service::list_endpoints(&identity, &req.ctx, req.route.policy, &filter, &window).await?;
    Ok(page(&req, &window, "endpoints", rows, |row| &row.id, |row| endpoint_body(&req, row)))
}

pub(super) async fn create_endpoint(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let EndpointRequest { endpoint } = req.json().await?;
    let row = service::create_endpoint(&identity, endpoint).await?;
    Ok(one(201, ENDPOINT, endpoint_body(&req, row)))
}

pub(super) async fn show_endpoint(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show_endpoint(&identity, &req.ctx, req.route.policy, req.param("endpoint_id")?).await?;
    Ok(one(200, ENDPOINT, endpoint_body(&req, row)))
}

pub(super) async fn update_endpoint(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let EndpointRequest { endpoint } = req.json().await?;
    let row = service::update_endpoint(&identity, req.param("endpoint_id")?, endpoint).await?;
    Ok(one(200, ENDPOINT, endpoint_body(&req, row)))
}

pub(super) async fn delete_endpoint(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete_endpoint(&identity, req.param("endpoint_id")?).await?;
    Ok(no_content())
}
