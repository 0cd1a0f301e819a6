use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// The links of a thing: versioned (`self`) and not (`bookmark`). Written without being built.
#[derive(Clone, Copy, Debug)]
pub struct Links<'a> {
    /// URL of the service's root: `http://host/compute`.
    pub root: &'a str,
    /// `servers`, `flavors`, `images`.
    pub collection: &'static str,
    pub id: &'a str,
    /// Only the bookmark, as inside another thing.
    pub bookmark_only: bool,
}

impl<'a> Links<'a> {
    pub fn pair(root: &'a str, collection: &'static str, id: &'a str) -> Self {
        Links { root, collection, id, bookmark_only: false }
    }

    pub fn bookmark(root: &'a str, collection: &'static str, id: &'a str) -> Self {
        Links { root, collection, id, bookmark_only: true }
    }
}

struct OneLink<'a> {
    rel: &'static str,
    version: &'static str,
    to: Links<'a>,
}

impl Serialize for OneLink<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Links { root, collection, id, .. } = self.to;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("rel", self.rel)?;
        map.serialize_entry("href", &format_args!("{root}{}/{collection}/{id}", self.version))?;
        map.end()
    }
}

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        if !self.bookmark_only {
            seq.serialize_element(&OneLink { rel: "self", version: "/v2.1", to: *self })?;
        }
        seq.serialize_element(&OneLink { rel: "bookmark", version: "", to: *self })?;
        seq.end()
    }
}

/// Where the next page of a list is.
#[derive(Clone, Debug, Serialize)]
pub struct NextLink {
    pub rel: &'static str,
    pub href: String,
}

impl NextLink {
    pub fn to(href: String) -> Vec<NextLink> {
        vec![NextLink { rel: "next", href }]
    }
}
