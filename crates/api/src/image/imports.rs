use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

pub static STAGE: Route = Route::new(Method::Put, "/v2/images/{image_id}/stage", "modify_image", Rule::Member);
pub static IMPORT: Route = Route::new(Method::Post, "/v2/images/{image_id}/import", "modify_image", Rule::Member);

/// Where the bytes of an import come from, as requests and `GET /v2/info/import` name it.
pub const IMPORT_METHOD_NAMES: [&str; 4] = ["glance-direct", "web-download", "copy-image", "glance-download"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    pub method: ImportMethod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stores: Option<Vec<String>>,
    /// Instead of naming them.
    #[serde(default)]
    pub all_stores: bool,
    /// Otherwise one store that succeeds is enough.
    #[serde(default = "yes")]
    pub all_stores_must_succeed: bool,
}

/// `uri` is `web-download`'s; the `glance_*` are `glance-download`'s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportMethod {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glance_image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glance_region: Option<String>,
    /// `public` if it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glance_service_interface: Option<String>,
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_has_its_default() {
        let request: ImportRequest = serde_json::from_str(r#"{"method": {"name": "glance-direct"}}"#).unwrap();
        assert!(!request.all_stores && request.all_stores_must_succeed && request.stores.is_none());
        let written = serde_json::to_value(&request).unwrap();
        assert_eq!(written["method"], serde_json::json!({"name": "glance-direct"}));
    }
}
