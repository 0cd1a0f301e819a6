//! The identity service: Keystone's v3 API, id v3.14.
//!
//! A request's type stands for both create and update: what a create needs is checked by the service, which can then
//! name the missing attribute the way clients know it. Attributes that no type knows are kept and given back
//! ([`Extra`]), because clients of users and projects rely on that (`email`, `description` and their own).

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub mod application_credentials;
pub mod assignments;
pub mod auth;
pub mod credentials;
pub mod discovery;
pub mod domain_config;
pub mod domains;
pub mod ec2;
pub mod endpoint_groups;
pub mod endpoints;
pub mod groups;
pub mod keys;
pub mod oauth1;
pub mod policies;
pub mod projects;
pub mod regions;
pub mod revocations;
pub mod roles;
pub mod services;
pub mod tags;
pub mod trusts;
pub mod users;

/// Attributes outside the reference, as they came.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// An id and a name, as tokens and assignments give roles and domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub id: String,
    pub name: String,
}

/// The `links` of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfLink {
    #[serde(rename = "self")]
    pub href: String,
}

impl SelfLink {
    /// Of `path` below the service's root.
    pub fn new(root: &str, path: &str) -> Self {
        SelfLink { href: format!("{root}/v3/{path}") }
    }
}

/// `{"user": {…}}`.
pub struct One<T>(pub &'static str, pub T);

impl<T: Serialize> Serialize for One<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// The `links` of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionLinks {
    pub next: Option<String>,
    #[serde(rename = "self")]
    pub href: String,
    /// Always null: pages are walked forwards.
    pub previous: Option<String>,
}

/// `{"users": […], "links": {…}}`, with `"truncated": true` where more would follow.
pub struct Collection<T> {
    pub name: &'static str,
    pub items: Vec<T>,
    pub links: CollectionLinks,
}

impl<T: Serialize> Serialize for Collection<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, &self.items)?;
        map.serialize_entry("links", &self.links)?;
        if self.links.next.is_some() {
            map.serialize_entry("truncated", &true)?;
        }
        map.end()
    }
}

/// For attributes where `null` (take it away) differs from absence (leave it).
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
