use serde::{Deserialize, Serialize};

use crate::{Link, Method, Route, Rule};

/// The same list at three places: with status 300 where a client looks before it has chosen, with 200 at `/versions`.
pub static ROOT: Route = Route::new(Method::Get, "/", "get_versions", Rule::Public);
pub static LIST_V2: Route = Route::new(Method::Get, "/v2", "get_versions", Rule::Public);
pub static LIST_VERSIONS: Route = Route::new(Method::Get, "/versions", "get_versions", Rule::Public);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionList {
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub id: String,
    /// `CURRENT` on one, `SUPPORTED` on the others.
    pub status: String,
    pub links: Vec<Link>,
}
