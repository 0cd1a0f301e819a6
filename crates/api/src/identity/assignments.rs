//! Grants (one role of one user or group on one target) and the list of all of them.

use serde::{Deserialize, Serialize};
use umbel_core::SystemScope;

use super::Named;
use crate::{Method, Route, Rule};

const fn grant(method: Method, path: &'static str, policy: &'static str) -> Route {
    Route::new(method, path, policy, Rule::Authenticated)
}

/// The same four operations on every pair of actor and target, so one handler answers all of a table and reads from
/// the path's parameters which pair it is. System grants come under their own policies, as upstream has them.
pub static LIST_GRANTS: [Route; 10] = {
    const POLICY: &str = "identity:list_grants";
    const fn list(path: &'static str) -> Route {
        grant(Method::Get, path, POLICY)
    }
    [
        list("/v3/projects/{project_id}/users/{user_id}/roles"),
        list("/v3/projects/{project_id}/groups/{group_id}/roles"),
        list("/v3/domains/{domain_id}/users/{user_id}/roles"),
        list("/v3/domains/{domain_id}/groups/{group_id}/roles"),
        list("/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/inherited_to_projects"),
        list("/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/inherited_to_projects"),
        list("/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects"),
        list("/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects"),
        grant(Method::Get, "/v3/system/users/{user_id}/roles", "identity:list_system_grants_for_user"),
        grant(Method::Get, "/v3/system/groups/{group_id}/roles", "identity:list_system_grants_for_group"),
    ]
};

const fn each(method: Method, policy: &'static str, user: &'static str, group: &'static str) -> [Route; 10] {
    [
        grant(method, "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}", policy),
        grant(method, "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}", policy),
        grant(method, "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}", policy),
        grant(method, "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}", policy),
        grant(
            method,
            "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
            policy,
        ),
        grant(
            method,
            "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
            policy,
        ),
        grant(
            method,
            "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
            policy,
        ),
        grant(
            method,
            "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
            policy,
        ),
        grant(method, "/v3/system/users/{user_id}/roles/{role_id}", user),
        grant(method, "/v3/system/groups/{group_id}/roles/{role_id}", group),
    ]
}

pub static CHECK_GRANT: [Route; 10] = each(
    Method::Get,
    "identity:check_grant",
    "identity:check_system_grant_for_user",
    "identity:check_system_grant_for_group",
);
pub static CREATE_GRANT: [Route; 10] = each(
    Method::Put,
    "identity:create_grant",
    "identity:create_system_grant_for_user",
    "identity:create_system_grant_for_group",
);
pub static REVOKE_GRANT: [Route; 10] = each(
    Method::Delete,
    "identity:revoke_grant",
    "identity:revoke_system_grant_for_user",
    "identity:revoke_system_grant_for_group",
);

pub static LIST_ASSIGNMENTS: Route =
    Route::new(Method::Get, "/v3/role_assignments", "identity:list_role_assignments", Rule::Authenticated);

#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    pub links: AssignmentLinks,
    pub scope: AssignmentScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Party>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Party>,
    pub role: RoleParty,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AssignmentLinks {
    pub assignment: String,
    /// With `effective`: the membership by which a group's grant reaches a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<String>,
    /// With `effective`: the rule by which one role gives another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_role: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AssignmentScope {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Party>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Party>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemScope>,
    #[serde(default, rename = "OS-INHERIT:inherited_to", skip_serializing_if = "Option::is_none")]
    pub inherited_to: Option<String>,
}

/// A user, group, project or domain; names only with `include_names`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Party {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Named>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoleParty {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
