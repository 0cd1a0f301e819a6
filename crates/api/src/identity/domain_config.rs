//! What an operator sets for one domain: options in groups, as upstream's `identity` and `ldap` sections have them.
//!
//! The configuration is kept and given back for the tools that administer it. No driver reads it: users of every domain
//! are in the database.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Method, Route, Rule};

const WHOLE: &str = "/v3/domains/{domain_id}/config";
const GROUP: &str = "/v3/domains/{domain_id}/config/{group}";
const OPTION: &str = "/v3/domains/{domain_id}/config/{group}/{option}";

const fn reads(path: &'static str) -> Route {
    Route::new(Method::Get, path, "identity:get_domain_config", Rule::Authenticated)
}

const fn defaults(path: &'static str) -> Route {
    Route::new(Method::Get, path, "identity:get_domain_config_default", Rule::Authenticated)
}

const fn updates(path: &'static str) -> Route {
    Route::new(Method::Patch, path, "identity:update_domain_config", Rule::Admin)
}

const fn deletes(path: &'static str) -> Route {
    Route::new(Method::Delete, path, "identity:delete_domain_config", Rule::Admin)
}

pub static CREATE: Route = Route::new(Method::Put, WHOLE, "identity:create_domain_config", Rule::Admin);
/// Of a whole configuration, a group, an option; so are the following.
pub static SHOW: [Route; 3] = [reads(WHOLE), reads(GROUP), reads(OPTION)];
pub static UPDATE: [Route; 3] = [updates(WHOLE), updates(GROUP), updates(OPTION)];
pub static DELETE: [Route; 3] = [deletes(WHOLE), deletes(GROUP), deletes(OPTION)];
/// What holds where a domain sets nothing.
pub static DEFAULTS: [Route; 3] = [
    defaults("/v3/domains/config/default"),
    defaults("/v3/domains/config/{group}/default"),
    defaults("/v3/domains/config/{group}/{option}/default"),
];

/// Values by their options' names.
pub type Options = BTreeMap<String, serde_json::Value>;

/// Options by their groups' names.
pub type Groups = BTreeMap<String, Options>;

#[derive(Deserialize)]
pub struct ConfigRequest {
    /// Groups, or for one option `{option: value}`.
    pub config: serde_json::Value,
}

/// [`Groups`], [`Options`] in their group, or one option, as the request asks.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Config {
    Groups(Groups),
    One(Options),
}
