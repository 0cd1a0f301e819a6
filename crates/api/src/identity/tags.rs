use serde::{Deserialize, Serialize};

use super::SelfLink;
use crate::{Method, Route, Rule};

pub static LIST: Route =
    Route::new(Method::Get, "/v3/projects/{project_id}/tags", "identity:list_project_tags", Rule::Authenticated);
pub static REPLACE: Route =
    Route::new(Method::Put, "/v3/projects/{project_id}/tags", "identity:update_project_tags", Rule::Authenticated);
pub static CLEAR: Route =
    Route::new(Method::Delete, "/v3/projects/{project_id}/tags", "identity:delete_project_tags", Rule::Authenticated);
pub static CHECK: Route =
    Route::new(Method::Get, "/v3/projects/{project_id}/tags/{tag}", "identity:get_project_tag", Rule::Authenticated);
pub static ADD: Route =
    Route::new(Method::Put, "/v3/projects/{project_id}/tags/{tag}", "identity:create_project_tag", Rule::Authenticated);
pub static DELETE: Route = Route::new(
    Method::Delete,
    "/v3/projects/{project_id}/tags/{tag}",
    "identity:delete_project_tag",
    Rule::Authenticated,
);

#[derive(Deserialize)]
pub struct TagsRequest {
    pub tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Tags {
    pub links: SelfLink,
    pub tags: Vec<String>,
}
