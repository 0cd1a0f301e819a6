//! Rules: who may do what, what a valid request is, what follows from a change. One file per noun.

pub(crate) mod accounts;
pub(crate) mod application_credentials;
pub(crate) mod assignments;
pub(crate) mod auth_request;
pub(crate) mod catalog;
pub(crate) mod credentials;
pub(crate) mod domain_config;
pub(crate) mod domain_options;
pub(crate) mod ec2;
pub(crate) mod endpoint_groups;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod login;
pub(crate) mod oauth1;
pub(crate) mod policies;
pub(crate) mod policy;
pub(crate) mod projects;
pub(crate) mod regions;
pub(crate) mod roles;
pub(crate) mod scopes;
pub(crate) mod tags;
pub(crate) mod tokens;
pub(crate) mod trusts;
pub(crate) mod users;
pub(crate) mod valid;
