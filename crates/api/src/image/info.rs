use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

pub static SHOW_IMPORT: Route = Route::new(Method::Get, "/v2/info/import", "get_import_info", Rule::Authenticated);
pub static SHOW_STORES: Route = Route::new(Method::Get, "/v2/info/stores", "stores_info", Rule::Authenticated);
pub static SHOW_STORES_DETAIL: Route =
    Route::new(Method::Get, "/v2/info/stores/detail", "stores_info_detail", Rule::Admin);

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
    /// The text `true`, on one store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Cow<'static, str>>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
}
