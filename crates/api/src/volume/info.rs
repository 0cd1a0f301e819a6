//! What clients ask to learn what there is: extensions, filters of lists. And the clusters of upstream's active-active
//! mode, of which there are none here: any process does any work.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Route, Rule};

pub static EXTENSIONS: Route = Route::new(Method::Get, "/v3/extensions", "volume:extensions", Rule::Reader);
pub static EXTENSION: Route = Route::new(Method::Get, "/v3/extensions/{alias}", "volume:extensions", Rule::Reader);
pub static FILTERS: Route =
    Route::new(Method::Get, "/v3/resource_filters", "volume:get_all_resource_filters", Rule::Reader).since(3, 33);

pub static CLUSTERS: Route = Route::new(Method::Get, "/v3/clusters", "clusters:get_all", Rule::Admin).since(3, 7);
pub static CLUSTERS_DETAIL: Route =
    Route::new(Method::Get, "/v3/clusters/detail", "clusters:get_all", Rule::Admin).since(3, 7);
pub static CLUSTER: Route = Route::new(Method::Get, "/v3/clusters/{name}", "clusters:get", Rule::Admin).since(3, 7);
pub static CLUSTER_ENABLE: Route =
    Route::new(Method::Put, "/v3/clusters/enable", "clusters:update", Rule::Admin).since(3, 7);
pub static CLUSTER_DISABLE: Route =
    Route::new(Method::Put, "/v3/clusters/disable", "clusters:update", Rule::Admin).since(3, 7);
pub static WORKERS_CLEANUP: Route =
    Route::new(Method::Post, "/v3/workers/cleanup", "workers:cleanup", Rule::Admin).since(3, 24);

#[derive(Serialize)]
pub struct Extensions {
    pub extensions: Vec<Extension>,
}

#[derive(Serialize)]
pub struct OneExtension {
    pub extension: Extension,
}

#[derive(Clone, Debug, Serialize)]
pub struct Extension {
    pub name: &'static str,
    pub alias: &'static str,
    pub description: &'static str,
    pub updated: &'static str,
    pub links: [Link; 0],
}

#[derive(Serialize)]
pub struct Filters {
    pub resource_filters: Vec<ResourceFilters>,
}

#[derive(Serialize)]
pub struct ResourceFilters {
    pub resource: &'static str,
    pub filters: &'static [&'static str],
}

#[derive(Serialize)]
pub struct Clusters {
    pub clusters: [(); 0],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterChange {
    pub name: String,
    pub binary: Option<String>,
    pub disabled_reason: Option<String>,
}

/// Which work a clean-up is asked for; we only check that it is a well-formed question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanupRequest {
    pub cluster_name: Option<String>,
    pub disabled: Option<Value>,
    pub host: Option<String>,
    pub is_up: Option<Value>,
    pub binary: Option<String>,
    pub resource_id: Option<String>,
    pub resource_type: Option<String>,
    pub service_id: Option<Value>,
}

#[derive(Serialize)]
pub struct Cleanup {
    pub cleaning: [(); 0],
    pub unavailable: [(); 0],
}
