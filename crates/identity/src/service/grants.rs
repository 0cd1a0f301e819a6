//! One role of one user or group on one project, domain or the system.

use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Result};
use umbel_db::{read, tx};

use super::policy::{self, MANAGED_ROLES, forbidden};
use super::{roles, valid};
use crate::revoke::Pending;
use crate::store::assignments::{ActorKind, AssignmentRow, TargetKind};
use crate::store::roles::RoleRow;
use crate::store::{Sees, Tx};
use crate::{Identity, store};

/// The pair that a path names; with a role it is an [`AssignmentRow`].
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub actor_kind: ActorKind,
    pub actor_id: String,
    pub target_kind: TargetKind,
    pub target_id: String,
    pub inherited: bool,
}

impl Pair {
    pub fn with(&self, role_id: &str) -> AssignmentRow {
        AssignmentRow {
            actor_kind: self.actor_kind,
            actor_id: self.actor_id.clone(),
            target_kind: self.target_kind,
            target_id: self.target_id.clone(),
            role_id: role_id.to_owned(),
            inherited: self.inherited,
        }
    }
}

pub(crate) async fn list(identity: &Identity, ctx: &Ctx, policy: &str, pair: &Pair) -> Result<Vec<RoleRow>> {
    let sees = policy::sees(ctx, policy)?;
    read!(identity.db, "list grants", |tx| {
        ends(tx, &sees, policy, pair).await?;
        let held =
            store::assignments::of_pair(tx, &pair.actor_id, pair.target_kind, &pair.target_id, pair.inherited).await?;
        let all = store::roles::all(tx).await?;
        let mut found: Vec<RoleRow> = all.into_iter().filter(|row| held.contains(&row.id)).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    })
}

pub(crate) async fn check(identity: &Identity, ctx: &Ctx, policy: &str, pair: &Pair, role_id: &str) -> Result<()> {
    let sees = policy::sees(ctx, policy)?;
    let row = pair.with(role_id);
    let found = read!(identity.db, "check grant", |tx| {
        ends(tx, &sees, policy, pair).await?;
        store::roles::get(tx, role_id).await?.ok_or_else(|| roles::not_found(role_id))?;
        store::assignments::exists(tx, &row).await
    })?;
    match found {
        true => Ok(()),
        false => Err(no_grant(&row)),
    }
}

pub(crate) async fn create(identity: &Identity, ctx: &Ctx, policy: &str, pair: &Pair, role_id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    tx!(identity.db, "create grant", |tx| {
        let owner = ends(tx, &manages, policy, pair).await?;
        let role = may_give(tx, &manages, policy, role_id).await?;
        if role.domain_id.is_some() && role.domain_id != owner {
            return Err(Error::forbidden(format!("Role {role_id} belongs to another domain.")));
        }
        store::assignments::insert(tx, &pair.with(role_id)).await
    })
}

pub(crate) async fn revoke(identity: &Identity, ctx: &Ctx, policy: &str, pair: &Pair, role_id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    let row = pair.with(role_id);
    let pending = tx!(identity.db, "revoke grant", |tx| {
        ends(tx, &manages, policy, pair).await?;
        may_give(tx, &manages, policy, role_id).await?;
        if !store::assignments::delete(tx, &row).await? {
            return Err(no_grant(&row));
        }
        end_tokens(identity, tx, &row).await
    })?;
    pending.apply(identity);
    Ok(())
}

fn no_grant(row: &AssignmentRow) -> Error {
    Error::not_found(format!(
        "Could not find role assignment with role: {}, user or group: {}, project, domain, or system: {}.",
        row.role_id, row.actor_id, row.target_id
    ))
}

/// The role, if the caller may give and take it.
async fn may_give(tx: &mut Tx, manages: &Sees, policy: &str, role_id: &str) -> Result<RoleRow> {
    let role = store::roles::get(tx, role_id).await?;
    match manages {
        Sees::All => role.ok_or_else(|| roles::not_found(role_id)),
        Sees::Domain(_) => role
            .filter(|role| role.domain_id.is_none() && MANAGED_ROLES.contains(&role.name.as_str()))
            .ok_or_else(|| forbidden(policy)),
    }
}

/// Both ends exist and are in reach; the domain that owns the target.
async fn ends(tx: &mut Tx, reach: &Sees, policy: &str, pair: &Pair) -> Result<Option<String>> {
    let actor = match pair.actor_kind {
        ActorKind::User => store::users::get(tx, &pair.actor_id).await?.map(|row| row.domain_id),
        ActorKind::Group => store::groups::get(tx, &pair.actor_id).await?.map(|row| row.domain_id),
    };
    reachable(actor, reach, policy, pair.actor_kind.name(), &pair.actor_id)?;
    if pair.target_kind == TargetKind::System {
        return match reach {
            Sees::All => Ok(None),
            Sees::Domain(_) => Err(forbidden(policy)),
        };
    }
    let wants_domain = pair.target_kind == TargetKind::Domain;
    let target = store::projects::get(tx, &pair.target_id).await?.filter(|row| row.is_domain || !wants_domain);
    let owner = target.map(|row| row.owner().to_owned());
    reachable(owner, reach, policy, pair.target_kind.name(), &pair.target_id).map(Some)
}

fn reachable(owner: Option<String>, reach: &Sees, policy: &str, what: &str, id: &str) -> Result<String> {
    policy::in_reach(owner, reach, String::as_str, policy, || valid::not_found(what, id))
}

/// What rested on the grant ends: tokens of the user or the group's members, and application credentials that pass
/// the role on.
async fn end_tokens(identity: &Identity, tx: &mut Tx, row: &AssignmentRow) -> Result<Pending> {
    let mut pending = Pending::new();
    let user_ids = match row.actor_kind {
        ActorKind::User => vec![row.actor_id.clone()],
        ActorKind::Group => {
            let members = store::groups::members_of(tx, std::slice::from_ref(&row.actor_id)).await?;
            members.into_iter().map(|(_, user_id)| user_id).collect()
        }
    };
    for user_id in &user_ids {
        match row.inherited {
            // It reached projects that only a walk through the tree would name.
            true => pending.add(identity, tx, RevocationKind::User, user_id).await?,
            false => pending.add_grant(identity, tx, user_id, &row.target_id).await?,
        }
    }
    if row.actor_kind == ActorKind::User && row.target_kind == TargetKind::Project {
        let credentials =
            store::application_credentials::with_role(tx, &row.actor_id, &row.target_id, &row.role_id).await?;
        for id in credentials {
            pending.add(identity, tx, RevocationKind::Credential, &id).await?;
            store::application_credentials::delete(tx, &id).await?;
        }
    }
    Ok(pending)
}
