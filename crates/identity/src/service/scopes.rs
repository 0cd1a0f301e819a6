//! Which roles a user holds on what: pure, over the rows that a login reads.

use std::collections::HashSet;

use umbel_core::{Ctx, Result};
use umbel_db::read;

use super::policy;
use crate::store::assignments::TargetKind;
use crate::store::login::{Held, ScopeDomain, ScopeProject};
use crate::store::projects::ProjectRow;
use crate::{Identity, store};

/// Roles held on a project: granted on it, or inherited from its domain or a project above it.
pub(crate) fn on_project(held: &[Held], project: &ScopeProject, ancestors: &[String]) -> HashSet<String> {
    let reaches = |held: &Held| match (held.target_kind, held.inherited) {
        (TargetKind::Project, false) => held.target_id == project.id,
        (TargetKind::Project, true) => ancestors.contains(&held.target_id),
        (TargetKind::Domain, true) => held.target_id == project.domain_id,
        _ => false,
    };
    role_ids(held, reaches)
}

pub(crate) fn on_domain(held: &[Held], domain: &ScopeDomain) -> HashSet<String> {
    role_ids(held, |held| held.target_kind == TargetKind::Domain && !held.inherited && held.target_id == domain.id)
}

pub(crate) fn on_system(held: &[Held]) -> HashSet<String> {
    role_ids(held, |held| held.target_kind == TargetKind::System && !held.inherited)
}

/// Whether it matters what lies above the project.
pub(crate) fn inherits_from_projects(held: &[Held]) -> bool {
    held.iter().any(|held| held.target_kind == TargetKind::Project && held.inherited)
}

fn role_ids(held: &[Held], reaches: impl Fn(&Held) -> bool) -> HashSet<String> {
    held.iter().filter(|held| reaches(held)).map(|held| held.role_id.clone()).collect()
}

/// Projects on which a user holds a role, in the order of ids.
pub(crate) async fn projects_of(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
) -> Result<Vec<ProjectRow>> {
    policy::reads_user(ctx, user_id, policy)?;
    read!(identity.db, "list projects of a user", |tx| {
        let held = store::login::held(tx, user_id).await?;
        let mut found: Vec<ProjectRow> = Vec::new();
        let direct = held.iter().filter(|held| held.target_kind == TargetKind::Project && !held.inherited);
        let direct: Vec<String> = unique(direct.map(|held| held.target_id.clone()));
        found.extend(store::projects::get_all(tx, &direct).await?);
        for domain_id in unique(inherited(&held, TargetKind::Domain)) {
            found.extend(store::projects::of_domain(tx, &domain_id).await?);
        }
        for top in store::projects::get_all(tx, &unique(inherited(&held, TargetKind::Project))).await? {
            let all = store::projects::of_domain(tx, top.owner()).await?;
            found.extend(below(&top.id, &all).into_iter().cloned());
        }
        found.retain(|row| !row.is_domain);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    })
}

fn inherited(held: &[Held], kind: TargetKind) -> impl Iterator<Item = String> + '_ {
    held.iter().filter(move |held| held.target_kind == kind && held.inherited).map(|held| held.target_id.clone())
}

fn unique(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = ids.collect();
    all.sort();
    all.dedup();
    all
}

/// Projects below one, nearest first.
pub(crate) fn below<'a>(id: &str, all: &'a [ProjectRow]) -> Vec<&'a ProjectRow> {
    let mut found: Vec<&ProjectRow> = Vec::new();
    let mut at = 0;
    let mut parent = id;
    loop {
        found.extend(all.iter().filter(|row| row.parent_id.as_deref() == Some(parent)));
        match found.get(at) {
            Some(next) => parent = &next.id,
            None => return found,
        }
        at += 1;
    }
}

/// Domains on which the caller holds a role.
pub(crate) async fn domains_of_caller(identity: &Identity, ctx: &Ctx) -> Result<Vec<ProjectRow>> {
    let user_id = &policy::principal(ctx)?.user_id;
    read!(identity.db, "list domains of a user", |tx| {
        let held = store::login::held(tx, user_id).await?;
        let direct = held.iter().filter(|held| held.target_kind == TargetKind::Domain && !held.inherited);
        let ids = unique(direct.map(|held| held.target_id.clone()));
        store::projects::get_all(tx, &ids).await
    })
}

/// Whether the caller holds a role on the system.
pub(crate) async fn caller_has_system(identity: &Identity, ctx: &Ctx) -> Result<bool> {
    let user_id = &policy::principal(ctx)?.user_id;
    let held = read!(identity.db, "read system roles", |tx| store::login::held(tx, user_id).await)?;
    Ok(!on_system(&held).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: TargetKind, target: &str, role: &str, inherited: bool) -> Held {
        Held { target_kind: kind, target_id: target.into(), role_id: role.into(), inherited }
    }

    #[test]
    fn roles_reach_where_they_should() {
        let project = ScopeProject {
            id: "p".into(),
            name: "p".into(),
            enabled: true,
            parent_id: "above".into(),
            domain_id: "d".into(),
            domain_name: "d".into(),
            domain_enabled: true,
        };
        let domain = ScopeDomain { id: "d".into(), name: "d".into(), enabled: true };
        let check = |held: Held, on: [bool; 3]| {
            let all = [held.clone()];
            let got = [
                !on_project(&all, &project, &["above".into()]).is_empty(),
                !on_domain(&all, &domain).is_empty(),
                !on_system(&all).is_empty(),
            ];
            assert_eq!(got, on, "{held:?}");
        };
        check(held(TargetKind::Project, "p", "r", false), [true, false, false]);
        check(held(TargetKind::Project, "p", "r", true), [false, false, false]);
        check(held(TargetKind::Project, "above", "r", true), [true, false, false]);
        check(held(TargetKind::Project, "above", "r", false), [false, false, false]);
        check(held(TargetKind::Domain, "d", "r", true), [true, false, false]);
        check(held(TargetKind::Domain, "d", "r", false), [false, true, false]);
        check(held(TargetKind::Domain, "other", "r", true), [false, false, false]);
        check(held(TargetKind::System, "system", "r", false), [false, false, true]);
    }
}
