use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/domains", "identity:list_domains", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/domains", "identity:create_domain", Rule::Admin);
pub static SHOW: Route = Route::new(Method::Get, "/v3/domains/{domain_id}", "identity:get_domain", Rule::Authenticated);
pub static UPDATE: Route = Route::new(Method::Patch, "/v3/domains/{domain_id}", "identity:update_domain", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, "/v3/domains/{domain_id}", "identity:delete_domain", Rule::Admin);

#[derive(Deserialize)]
pub struct DomainRequest {
    pub domain: DomainFields,
}

#[derive(Clone, Default, Deserialize)]
pub struct DomainFields {
    #[serde(default)]
    pub id: Option<String>,
    /// The id for a new domain; 32 hex digits. For clouds that share domains.
    #[serde(default)]
    pub explicit_domain_id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub description: Option<Option<String>>,
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    #[serde(default)]
    pub options: Option<Extra>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Domain {
    pub id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
    pub options: Extra,
    pub links: SelfLink,
    #[serde(flatten)]
    pub extra: Extra,
}
