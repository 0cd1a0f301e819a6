//! The list of all grants, as they stand or as they take effect: groups opened into their members, inherited ones
//! spread over projects, roles followed to what they imply.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use umbel_core::{Ctx, Error, Result};
use umbel_db::read;

use super::policy;
use super::scopes::below;
use crate::store::assignments::{ActorKind, AssignmentRow, TargetKind};
use crate::store::projects::ProjectRow;
use crate::store::{Sees, Tx};
use crate::{Identity, store};

#[derive(Clone, Debug, Default)]
pub(crate) struct AssignmentFilter {
    pub user_id: Option<String>,
    pub group_id: Option<String>,
    pub project_id: Option<String>,
    pub domain_id: Option<String>,
    pub system: bool,
    pub role_id: Option<String>,
    /// Only those inherited to projects.
    pub inherited: bool,
    pub effective: bool,
    pub include_names: bool,
    /// Also on projects below `project_id`.
    pub include_subtree: bool,
}

/// A grant, and where one that takes effect comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub row: AssignmentRow,
    /// The grant that stands in the database.
    pub origin: AssignmentRow,
}

/// Names for ids, where they were asked for: (name, domain id).
#[derive(Default)]
pub(crate) struct Names {
    pub users: HashMap<String, (String, String)>,
    pub groups: HashMap<String, (String, String)>,
    pub projects: HashMap<String, (String, String)>,
    pub roles: HashMap<String, String>,
}

impl Names {
    pub fn domain(&self, id: &str) -> String {
        self.projects.get(id).map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

impl AssignmentFilter {
    fn check(&self) -> Result<()> {
        let why = match self {
            AssignmentFilter { user_id: Some(_), group_id: Some(_), .. } => "Specify a user or group, not both",
            AssignmentFilter { project_id: Some(_), domain_id: Some(_), .. } => "Specify a domain or project, not both",
            AssignmentFilter { project_id: Some(_), system: true, .. } => "Specify system or project, not both",
            AssignmentFilter { domain_id: Some(_), system: true, .. } => "Specify system or domain, not both",
            AssignmentFilter { effective: true, group_id: Some(_), .. } => {
                "Combining effective and group filter will always result in an empty list."
            }
            AssignmentFilter { effective: true, inherited: true, domain_id: Some(_), .. } => {
                "Combining effective, domain and inherited filters will always result in an empty list."
            }
            AssignmentFilter { include_subtree: true, project_id: None, .. } => {
                "scope.project.id must be specified if include_subtree is also specified"
            }
            _ => return Ok(()),
        };
        Err(Error::bad_request(why))
    }

    fn admits(&self, row: &AssignmentRow, subtree: &BTreeSet<String>) -> bool {
        let actor =
            |kind, id: &Option<String>| id.as_ref().is_none_or(|id| row.actor_kind == kind && row.actor_id == *id);
        let target = match (&self.project_id, &self.domain_id) {
            (Some(id), _) => {
                row.target_kind == TargetKind::Project && (row.target_id == *id || subtree.contains(&row.target_id))
            }
            (None, Some(id)) => row.target_kind == TargetKind::Domain && row.target_id == *id,
            (None, None) => !self.system || row.target_kind == TargetKind::System,
        };
        actor(ActorKind::User, &self.user_id)
            && actor(ActorKind::Group, &self.group_id)
            && target
            && self.role_id.as_ref().is_none_or(|id| row.role_id == *id)
    }
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    filter: &AssignmentFilter,
) -> Result<(Vec<Listed>, Names)> {
    filter.check()?;
    let sees = reach(ctx, policy, filter)?;
    let directory = identity.directory().await?;
    read!(identity.db, "list role assignments", |tx| {
        let standing = standing(tx, filter).await?;
        let projects = projects_for(tx, &standing, filter).await?;
        let mut listed: Vec<Listed> = match filter.effective {
            false => standing.into_iter().map(|row| Listed { origin: row.clone(), row }).collect(),
            true => {
                let members = members(tx, &standing).await?;
                let all = standing.iter().flat_map(|row| spread(row, &members, &projects));
                let roles = |listed: Listed| {
                    let given = directory.expand([&listed.row.role_id]);
                    given.into_iter().map(move |role_id| {
                        let mut listed = listed.clone();
                        listed.row.role_id = role_id;
                        listed
                    })
                };
                // A domain's own roles take effect by what they imply only.
                all.flat_map(roles).filter(|listed| directory.is_global(&listed.row.role_id)).collect()
            }
        };
        let subtree: BTreeSet<String> = match (&filter.project_id, filter.include_subtree) {
            (Some(id), true) => projects.values().flat_map(|all| below(id, all)).map(|row| row.id.clone()).collect(),
            _ => BTreeSet::new(),
        };
        listed.retain(|listed| filter.admits(&listed.row, &subtree));
        listed.retain(|listed| !filter.inherited || listed.origin.inherited);
        listed.sort();
        listed.dedup();
        let names = names(tx, &listed).await?;
        listed.retain(|listed| in_reach(&sees, listed, &names));
        Ok((listed, names))
    })
}

/// Whoever may read grants at all; beyond that, a user's own.
fn reach(ctx: &Ctx, policy: &str, filter: &AssignmentFilter) -> Result<Sees> {
    let own = filter.user_id.as_deref().is_some_and(|user_id| policy::is_self(ctx, user_id));
    match policy::sees(ctx, policy) {
        Ok(sees) => Ok(sees),
        Err(_) if own => Ok(Sees::All),
        Err(error) => Err(error),
    }
}

fn in_reach(sees: &Sees, listed: &Listed, names: &Names) -> bool {
    match listed.row.target_kind {
        TargetKind::System => *sees == Sees::All,
        TargetKind::Domain => sees.allows(&listed.row.target_id),
        TargetKind::Project => {
            let owner = names.projects.get(&listed.row.target_id).map_or("", |(_, domain_id)| domain_id);
            sees.allows(owner)
        }
    }
}

/// Those that can lead to what is asked for.
async fn standing(tx: &mut Tx, filter: &AssignmentFilter) -> Result<Vec<AssignmentRow>> {
    let actors = match (&filter.user_id, &filter.group_id) {
        (Some(user_id), _) => {
            let mut actors = vec![user_id.clone()];
            if filter.effective {
                actors.extend(store::groups::ids_of_user(tx, user_id).await?);
            }
            Some(actors)
        }
        (None, Some(group_id)) => Some(vec![group_id.clone()]),
        (None, None) => None,
    };
    store::assignments::list(tx, actors.as_deref()).await
}

/// The projects of each domain in which something is inherited, or below which is asked.
async fn projects_for(
    tx: &mut Tx,
    standing: &[AssignmentRow],
    filter: &AssignmentFilter,
) -> Result<BTreeMap<String, Vec<ProjectRow>>> {
    let mut domains: BTreeSet<String> = BTreeSet::new();
    let mut tops: Vec<String> = Vec::new();
    for row in standing.iter().filter(|row| filter.effective && row.inherited) {
        match row.target_kind {
            TargetKind::Domain => {
                domains.insert(row.target_id.clone());
            }
            _ => tops.push(row.target_id.clone()),
        }
    }
    tops.extend(filter.project_id.clone().filter(|_| filter.include_subtree));
    for top in store::projects::get_all(tx, &tops).await? {
        domains.insert(top.owner().to_owned());
    }
    let mut all = BTreeMap::new();
    for domain_id in domains {
        let projects = store::projects::of_domain(tx, &domain_id).await?;
        all.insert(domain_id, projects);
    }
    Ok(all)
}

async fn members(tx: &mut Tx, standing: &[AssignmentRow]) -> Result<HashMap<String, Vec<String>>> {
    let groups: BTreeSet<String> =
        standing.iter().filter(|row| row.actor_kind == ActorKind::Group).map(|row| row.actor_id.clone()).collect();
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for (group_id, user_id) in store::groups::members_of(tx, &groups.into_iter().collect::<Vec<_>>()).await? {
        all.entry(group_id).or_default().push(user_id);
    }
    Ok(all)
}

/// One standing grant as grants of users on the places where it works.
fn spread(
    origin: &AssignmentRow,
    members: &HashMap<String, Vec<String>>,
    projects: &BTreeMap<String, Vec<ProjectRow>>,
) -> Vec<Listed> {
    let users = match origin.actor_kind {
        ActorKind::User => vec![origin.actor_id.clone()],
        ActorKind::Group => members.get(&origin.actor_id).cloned().unwrap_or_default(),
    };
    let targets: Vec<(TargetKind, String)> = match (origin.inherited, origin.target_kind) {
        (false, kind) => vec![(kind, origin.target_id.clone())],
        (true, TargetKind::Domain) => {
            let all = projects.get(&origin.target_id);
            all.into_iter().flatten().map(|row| (TargetKind::Project, row.id.clone())).collect()
        }
        (true, _) => projects
            .values()
            .flat_map(|all| below(&origin.target_id, all))
            .map(|row| (TargetKind::Project, row.id.clone()))
            .collect(),
    };
    let pairs = users.iter().flat_map(|user| targets.iter().map(move |target| (user, target)));
    pairs
        .map(|(user_id, (target_kind, target_id))| Listed {
            row: AssignmentRow {
                actor_kind: ActorKind::User,
                actor_id: user_id.clone(),
                target_kind: *target_kind,
                target_id: target_id.clone(),
                role_id: origin.role_id.clone(),
                inherited: false,
            },
            origin: origin.clone(),
        })
        .collect()
}

async fn names(tx: &mut Tx, listed: &[Listed]) -> Result<Names> {
    let ids = |wanted: &dyn Fn(&AssignmentRow) -> Option<&str>| {
        let all: BTreeSet<String> = listed.iter().filter_map(|listed| wanted(&listed.row)).map(str::to_owned).collect();
        all.into_iter().collect::<Vec<_>>()
    };
    let of_kind = |kind| move |row: &AssignmentRow| (row.actor_kind == kind).then_some(true);
    let user_ids = ids(&|row| of_kind(ActorKind::User)(row).map(|_| row.actor_id.as_str()));
    let group_ids = ids(&|row| of_kind(ActorKind::Group)(row).map(|_| row.actor_id.as_str()));
    let target_ids = ids(&|row| (row.target_kind != TargetKind::System).then_some(row.target_id.as_str()));
    let mut names = Names::default();
    for row in store::users::get_all(tx, &user_ids).await? {
        names.users.insert(row.id, (row.name, row.domain_id));
    }
    for row in store::groups::get_all(tx, &group_ids).await? {
        names.groups.insert(row.id, (row.name, row.domain_id));
    }
    let mut domain_ids: BTreeSet<String> =
        names.users.values().chain(names.groups.values()).map(|(_, domain_id)| domain_id.clone()).collect();
    for row in store::projects::get_all(tx, &target_ids).await? {
        domain_ids.insert(row.owner().to_owned());
        let owner = row.owner().to_owned();
        names.projects.insert(row.id, (row.name, owner));
    }
    let missing: Vec<String> = domain_ids.into_iter().filter(|id| !names.projects.contains_key(id)).collect();
    for row in store::projects::get_all(tx, &missing).await? {
        let owner = row.owner().to_owned();
        names.projects.insert(row.id, (row.name, owner));
    }
    for row in store::roles::all(tx).await? {
        names.roles.insert(row.id, row.name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_contradict_are_refused() {
        let some = || Some("x".to_owned());
        let check = |filter: AssignmentFilter, fits: bool| assert_eq!(filter.check().is_ok(), fits, "{filter:?}");
        check(AssignmentFilter::default(), true);
        check(AssignmentFilter { user_id: some(), project_id: some(), effective: true, ..Default::default() }, true);
        check(AssignmentFilter { user_id: some(), group_id: some(), ..Default::default() }, false);
        check(AssignmentFilter { project_id: some(), domain_id: some(), ..Default::default() }, false);
        check(AssignmentFilter { project_id: some(), system: true, ..Default::default() }, false);
        check(AssignmentFilter { group_id: some(), effective: true, ..Default::default() }, false);
        check(AssignmentFilter { include_subtree: true, ..Default::default() }, false);
    }
}
