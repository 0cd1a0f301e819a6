//! Consumers of OAuth 1.0a: other software that may be lent a user's rights. What is served is their administration;
//! nobody can log in by one, as request and access tokens are not offered.

use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

const ALL: &str = "/v3/OS-OAUTH1/consumers";
const ONE: &str = "/v3/OS-OAUTH1/consumers/{consumer_id}";

pub static LIST: Route = Route::new(Method::Get, ALL, "identity:list_consumers", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, ALL, "identity:create_consumer", Rule::Admin);
pub static SHOW: Route = Route::new(Method::Get, ONE, "identity:get_consumer", Rule::Authenticated);
pub static UPDATE: Route = Route::new(Method::Patch, ONE, "identity:update_consumer", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "identity:delete_consumer", Rule::Admin);

#[derive(Deserialize)]
pub struct ConsumerRequest {
    pub consumer: ConsumerFields,
}

#[derive(Default, Deserialize)]
pub struct ConsumerFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub description: Option<Option<String>>,
    /// Refused: the service makes it.
    #[serde(default)]
    pub secret: Option<serde_json::Value>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Consumer {
    pub id: String,
    pub description: Option<String>,
    /// In the reply to its creation, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
