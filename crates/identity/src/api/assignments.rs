use std::sync::Arc;

use umbel_api::identity::Named;
use umbel_api::identity::assignments::{Assignment, AssignmentLinks, AssignmentScope, Party, RoleParty};
use umbel_core::{Error, Result, SystemScope};
use umbel_http::{Reply, Req};

use super::query::Query;
use super::whole;
use crate::Identity;
use crate::service::assignments as service;
use crate::service::assignments::{AssignmentFilter, Listed, Names};
use crate::store::assignments::{ActorKind, AssignmentRow, TargetKind};

fn filter(query: &Query) -> Result<AssignmentFilter> {
    let system = match query.given("scope.system") {
        None => false,
        Some(all) if all == "all" => true,
        Some(_) => return Err(Error::bad_request("Invalid input for field/attribute scope.system.")),
    };
    Ok(AssignmentFilter {
        user_id: query.given("user.id"),
        group_id: query.given("group.id"),
        project_id: query.given("scope.project.id"),
        domain_id: query.given("scope.domain.id"),
        system,
        role_id: query.given("role.id"),
        inherited: query.given("scope.OS-INHERIT:inherited_to").is_some(),
        effective: query.flag("effective"),
        include_names: query.flag("include_names"),
        include_subtree: query.flag("include_subtree"),
    })
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let filter = filter(&Query::of(&req))?;
    let (listed, names) = service::list(&identity, &req.ctx, req.route.policy, &filter).await?;
    let names = Some(&names).filter(|_| filter.include_names);
    Ok(whole(&req, "role_assignments", listed.iter().map(|listed| body(&req, listed, names)).collect()))
}

fn body(req: &Req, listed: &Listed, names: Option<&Names>) -> Assignment {
    let Listed { row, origin } = listed;
    let owned = |id: &str, known: Option<&(String, String)>| Party {
        id: id.to_owned(),
        name: known.map(|(name, _)| name.clone()),
        domain: known
            .zip(names)
            .map(|((_, domain_id), names)| Named { id: domain_id.clone(), name: names.domain(domain_id) }),
    };
    let actor = |kind| (row.actor_kind == kind).then_some(row.actor_id.as_str());
    let mut scope = AssignmentScope::default();
    let known = names.and_then(|names| names.projects.get(&row.target_id));
    match row.target_kind {
        TargetKind::Project => scope.project = Some(owned(&row.target_id, known)),
        TargetKind::Domain => {
            let name = known.map(|(name, _)| name.clone());
            scope.domain = Some(Party { id: row.target_id.clone(), name, domain: None });
        }
        TargetKind::System => scope.system = Some(SystemScope { all: true }),
    }
    scope.inherited_to = origin.inherited.then(|| "projects".to_owned());
    Assignment {
        links: links(req, row, origin),
        scope,
        user: actor(ActorKind::User).map(|id| owned(id, names.and_then(|names| names.users.get(id)))),
        group: actor(ActorKind::Group).map(|id| owned(id, names.and_then(|names| names.groups.get(id)))),
        role: RoleParty {
            id: row.role_id.clone(),
            name: names.and_then(|names| names.roles.get(&row.role_id).cloned()),
        },
    }
}

/// The grant that stands, the membership that passes it on, and the role it gave where that is another.
fn links(req: &Req, row: &AssignmentRow, origin: &AssignmentRow) -> AssignmentLinks {
    let AssignmentRow { actor_id, target_id, role_id, .. } = origin;
    let actors = format!("{}s/{actor_id}", origin.actor_kind.name());
    let target = match origin.target_kind {
        TargetKind::System => "system".to_owned(),
        kind => format!("{}s/{target_id}", kind.name()),
    };
    let path = match origin.inherited {
        true => format!("/v3/OS-INHERIT/{target}/{actors}/roles/{role_id}/inherited_to_projects"),
        false => format!("/v3/{target}/{actors}/roles/{role_id}"),
    };
    let by_group = origin.actor_kind == ActorKind::Group && row.actor_kind == ActorKind::User;
    let membership = format!("/v3/groups/{actor_id}/users/{}", row.actor_id);
    let prior = format!("/v3/roles/{role_id}");
    AssignmentLinks {
        assignment: req.url(&path),
        membership: by_group.then(|| req.url(&membership)),
        prior_role: (row.role_id != *role_id).then(|| req.url(&prior)),
    }
}
