use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

pub static SHOW_IMPORT: Route = Route::new(Method::Get, "/v2/info/import", "get_import_info", Rule::Authenticated);
pub static SHOW_STORES: Route = Route::new(Method::Get, "/v2/info/stores", "stores_info", Rule::Authenticated);
pub static SHOW_STORES_DETAIL: Route =
    Route::new(Method::Get, "/v2/info/stores/detail", "stores_info_detail", Rule::Admin);
pub static SHOW_USAGE: Route = Route::new(Method::Get, "/v2/info/usage", "get_usage", Rule::Reader);
/// The data in one store; the image stays.
pub static DELETE_FROM_STORE: Route =
    Route::new(Method::Delete, "/v2/stores/{store_id}/{image_id}", "delete_image_location", Rule::Member);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportInfo {
    #[serde(rename = "import-methods")]
    pub import_methods: ImportMethods,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportMethods {
    pub description: Cow<'static, str>,
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    pub value: Vec<Cow<'static, str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stores {
    pub stores: Vec<StoreInfo>,
}

/// The last three members are for administrators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfo {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The text `true`, on one store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Cow<'static, str>>,
    /// The text `true`, on stores that nothing can be written to.
    #[serde(rename = "read-only", default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<Cow<'static, str>>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
}

/// What the caller's project has, and may have; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEntry {
    pub usage: u64,
    pub limit: i64,
}

/// The two totals of bytes are in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub image_size_total: UsageEntry,
    pub image_stage_total: UsageEntry,
    pub image_count_total: UsageEntry,
    pub image_count_uploading: UsageEntry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    pub usage: Usage,
}
