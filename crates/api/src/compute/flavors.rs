use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Links, NextLink};
use crate::{Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v2.1/flavors";
const ONE: &str = "/v2.1/flavors/{flavor_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:flavors:index", Rule::Reader);
pub static DETAIL: Route =
    Route::new(Method::Get, "/v2.1/flavors/detail", "os_compute_api:flavors:detail", Rule::Reader);
pub static SHOW: Route = Route::new(Method::Get, ONE, "os_compute_api:flavors:show", Rule::Reader);
pub static CREATE: Route = Route::new(Method::Post, ALL, "os_compute_api:os-flavor-manage:create", Rule::Admin);
pub static UPDATE: Route =
    Route::new(Method::Put, ONE, "os_compute_api:os-flavor-manage:update", Rule::Admin).since(2, 55);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "os_compute_api:os-flavor-manage:delete", Rule::Admin);

/// Adding and removing a project; each has a policy of its own too.
pub static ACTION: Route = Route::new(
    Method::Post,
    "/v2.1/flavors/{flavor_id}/action",
    "os_compute_api:os-flavor-access:add_tenant_access",
    Rule::Admin,
);
pub static ACCESS: Route = Route::new(
    Method::Get,
    "/v2.1/flavors/{flavor_id}/os-flavor-access",
    "os_compute_api:os-flavor-access",
    Rule::Admin,
);

const SPECS: &str = "/v2.1/flavors/{flavor_id}/os-extra_specs";
const SPEC: &str = "/v2.1/flavors/{flavor_id}/os-extra_specs/{spec}";
pub static SPECS_LIST: Route =
    Route::new(Method::Get, SPECS, "os_compute_api:os-flavor-extra-specs:index", Rule::Reader);
pub static SPECS_CREATE: Route =
    Route::new(Method::Post, SPECS, "os_compute_api:os-flavor-extra-specs:create", Rule::Admin);
pub static SPEC_SHOW: Route = Route::new(Method::Get, SPEC, "os_compute_api:os-flavor-extra-specs:show", Rule::Reader);
pub static SPEC_UPDATE: Route =
    Route::new(Method::Put, SPEC, "os_compute_api:os-flavor-extra-specs:update", Rule::Admin);
pub static SPEC_DELETE: Route =
    Route::new(Method::Delete, SPEC, "os_compute_api:os-flavor-extra-specs:delete", Rule::Admin);

#[derive(Debug, Serialize)]
pub struct Flavor<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub links: Links<'a>,
    /// 2.55.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<&'a str>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size<'a>>,
}

/// All but what the short list shows.
#[derive(Debug, Serialize)]
pub struct Size<'a> {
    /// MiB.
    pub ram: u64,
    /// GiB.
    pub disk: u64,
    pub vcpus: u32,
    /// MiB; before 2.75 an empty text for none.
    pub swap: Swap,
    #[serde(rename = "OS-FLV-EXT-DATA:ephemeral")]
    pub ephemeral: u64,
    #[serde(rename = "OS-FLV-DISABLED:disabled")]
    pub disabled: bool,
    #[serde(rename = "os-flavor-access:is_public")]
    pub is_public: bool,
    pub rxtx_factor: f64,
    /// 2.61.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_specs: Option<&'a BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Swap {
    MiB(u64),
    Empty(&'static str),
}

impl Versioned for Flavor<'_> {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(2, 55) {
            self.description = None;
        }
        let Some(size) = &mut self.size else {
            return;
        };
        if !version.at_least(2, 61) {
            size.extra_specs = None;
        }
        if !version.at_least(2, 75) && matches!(size.swap, Swap::MiB(0)) {
            size.swap = Swap::Empty("");
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Flavors<'a> {
    pub flavors: Vec<Flavor<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flavors_links: Vec<NextLink>,
}

impl Versioned for Flavors<'_> {
    fn patch(&mut self, version: Microversion) {
        self.flavors.patch(version);
    }
}

#[derive(Debug, Serialize)]
pub struct OneFlavor<'a> {
    pub flavor: Flavor<'a>,
}

impl Versioned for OneFlavor<'_> {
    fn patch(&mut self, version: Microversion) {
        self.flavor.patch(version);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub flavor: NewFlavor,
}

/// Numbers come as numbers or as texts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFlavor {
    pub name: String,
    #[serde(default)]
    pub id: Option<Value>,
    pub ram: Value,
    pub vcpus: Value,
    pub disk: Value,
    #[serde(rename = "OS-FLV-EXT-DATA:ephemeral", default)]
    pub ephemeral: Option<Value>,
    #[serde(default)]
    pub swap: Option<Value>,
    #[serde(default)]
    pub rxtx_factor: Option<Value>,
    #[serde(rename = "os-flavor-access:is_public", default)]
    pub is_public: Option<Value>,
    /// 2.55.
    #[serde(default)]
    pub description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub flavor: FlavorChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlavorChange {
    pub description: Option<String>,
}

#[derive(Serialize)]
pub struct AccessList<'a> {
    pub flavor_access: Vec<Access<'a>>,
}

#[derive(Serialize)]
pub struct Access<'a> {
    pub flavor_id: &'a str,
    pub tenant_id: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRequest {
    #[serde(rename = "addTenantAccess", default)]
    pub add: Option<Tenant>,
    #[serde(rename = "removeTenantAccess", default)]
    pub remove: Option<Tenant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub tenant: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecsRequest {
    pub extra_specs: BTreeMap<String, Value>,
}

#[derive(Serialize)]
pub struct Specs<'a> {
    pub extra_specs: &'a BTreeMap<String, String>,
}
