//! Types of groups, and their specs; from 3.11.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Route, Rule};

const ALL: &str = "/v3/group_types";
const ONE: &str = "/v3/group_types/{type_id}";
const SPECS: &str = "/v3/group_types/{type_id}/group_specs";
const SPEC: &str = "/v3/group_types/{type_id}/group_specs/{key}";

pub static LIST: Route = Route::new(Method::Get, ALL, "group:group_types:get_all", Rule::Reader).since(3, 11);
/// The id `default` stands for the configured type.
pub static SHOW: Route = Route::new(Method::Get, ONE, "group:group_types:get", Rule::Reader).since(3, 11);
pub static CREATE: Route = Route::new(Method::Post, ALL, "group:group_types:create", Rule::Admin).since(3, 11);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "group:group_types:update", Rule::Admin).since(3, 11);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "group:group_types:delete", Rule::Admin).since(3, 11);
pub static SPECS_LIST: Route =
    Route::new(Method::Get, SPECS, "group:group_types_specs:get_all", Rule::Admin).since(3, 11);
pub static SPECS_CREATE: Route =
    Route::new(Method::Post, SPECS, "group:group_types_specs:create", Rule::Admin).since(3, 11);
pub static SPECS_SHOW: Route = Route::new(Method::Get, SPEC, "group:group_types_specs:get", Rule::Admin).since(3, 11);
pub static SPECS_UPDATE: Route =
    Route::new(Method::Put, SPEC, "group:group_types_specs:update", Rule::Admin).since(3, 11);
pub static SPECS_DELETE: Route =
    Route::new(Method::Delete, SPEC, "group:group_types_specs:delete", Rule::Admin).since(3, 11);

pub type Specs = BTreeMap<String, Option<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub group_type: NewGroupType,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroupType {
    pub name: String,
    pub description: Option<String>,
    pub is_public: Option<Value>,
    pub group_specs: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub group_type: GroupTypeChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupTypeChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub is_public: Option<Value>,
}

#[derive(Serialize)]
pub struct OneGroupType<'a> {
    pub group_type: GroupType<'a>,
}

#[derive(Serialize)]
pub struct GroupTypes<'a> {
    pub group_types: Vec<GroupType<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_type_links: Vec<Link>,
}

#[derive(Serialize)]
pub struct GroupType<'a> {
    pub id: String,
    pub name: &'a str,
    pub description: Option<&'a str>,
    pub is_public: bool,
    /// Only administrators see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_specs: Option<&'a Specs>,
}

/// Of a request, and of the answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecsBody {
    pub group_specs: Specs,
}
