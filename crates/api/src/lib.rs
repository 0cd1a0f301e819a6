//! The wire: request and response types of each service, microversions, and routes as data.
//!
//! Types are supersets over all microversions, typed all the way (a `serde_json::Value` on a list page costs eleven
//! times as much); what an older version does not know is patched away by [`Versioned`] before it is written (ADR 0002).

mod route;
mod version;

pub use route::{Method, Route, Rule};
pub use version::{Microversion, VersionRange, Versioned};

pub mod compute;
pub mod identity;
pub mod image;
pub mod storage;
pub mod volume;

/// A `links` entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    pub rel: std::borrow::Cow<'static, str>,
    pub href: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<std::borrow::Cow<'static, str>>,
}

impl Link {
    pub fn new(rel: &'static str, href: impl Into<String>) -> Self {
        Link { rel: rel.into(), href: href.into(), media_type: None }
    }

    /// The pair that compute gives with each of its resources: versioned (`self`) and not (`bookmark`).
    pub fn pair(base: &str, root: &str, path: &str) -> Vec<Link> {
        vec![Link::new("self", format!("{base}{path}")), Link::new("bookmark", format!("{root}{path}"))]
    }
}
