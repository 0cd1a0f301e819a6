//! Endpoints by what they have in common: a named filter, and the endpoints that pass it. Groups are not bound to
//! projects (`/endpoint_groups/{id}/projects` is not served): a project's catalog always is the whole one.

use serde::{Deserialize, Serialize};

use super::{SelfLink, nullable};
use crate::{Method, Route, Rule};

const ALL: &str = "/v3/OS-EP-FILTER/endpoint_groups";
const ONE: &str = "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}";
const ENDPOINTS_OF: &str = "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints";

pub static LIST: Route = Route::new(Method::Get, ALL, "identity:list_endpoint_groups", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, ALL, "identity:create_endpoint_group", Rule::Admin);
pub static SHOW: Route = Route::new(Method::Get, ONE, "identity:get_endpoint_group", Rule::Authenticated);
pub static UPDATE: Route = Route::new(Method::Patch, ONE, "identity:update_endpoint_group", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "identity:delete_endpoint_group", Rule::Admin);
pub static ENDPOINTS: Route = Route::new(
    Method::Get,
    ENDPOINTS_OF,
    "identity:list_endpoints_associated_with_endpoint_group",
    Rule::Authenticated,
);

#[derive(Deserialize)]
pub struct EndpointGroupRequest {
    pub endpoint_group: EndpointGroupFields,
}

#[derive(Default, Deserialize)]
pub struct EndpointGroupFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub description: Option<Option<String>>,
    #[serde(default)]
    pub filters: Option<serde_json::Value>,
}

/// What an endpoint must have to be in the group; all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointFilters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct EndpointGroup {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub filters: EndpointFilters,
    pub links: SelfLink,
}
