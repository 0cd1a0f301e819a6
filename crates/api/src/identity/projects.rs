use serde::{Deserialize, Serialize};

use super::{Extra, SelfLink, nullable};
use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v3/projects", "identity:list_projects", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, "/v3/projects", "identity:create_project", Rule::Authenticated);
pub static SHOW: Route =
    Route::new(Method::Get, "/v3/projects/{project_id}", "identity:get_project", Rule::Authenticated);
pub static UPDATE: Route =
    Route::new(Method::Patch, "/v3/projects/{project_id}", "identity:update_project", Rule::Authenticated);
pub static DELETE: Route =
    Route::new(Method::Delete, "/v3/projects/{project_id}", "identity:delete_project", Rule::Authenticated);

#[derive(Deserialize)]
pub struct ProjectRequest {
    pub project: ProjectFields,
}

#[derive(Clone, Default, Deserialize)]
pub struct ProjectFields {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub domain_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    pub parent_id: Option<Option<String>>,
    #[serde(default)]
    pub is_domain: Option<bool>,
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
pub struct Project {
    pub id: String,
    pub name: String,
    /// Null for a project that acts as a domain.
    pub domain_id: Option<String>,
    pub description: String,
    pub enabled: bool,
    pub parent_id: Option<String>,
    pub is_domain: bool,
    pub tags: Vec<String>,
    pub options: Extra,
    pub links: SelfLink,
    /// Asked for by `parents_as_list` or `parents_as_ids`, and of one of two shapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Family>,
    /// As `parents`, the other way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree: Option<Family>,
    #[serde(flatten)]
    pub extra: Extra,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Family {
    List(Vec<ProjectEntry>),
    /// `{"<id>": {"<id>": null}}`, nested as the projects are; null where nothing is below or above.
    Ids(Option<Extra>),
}

/// `{"project": {…}}`: in a family each project is wrapped.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProjectEntry {
    pub project: Project,
}
