use umbel_api::identity::roles::RoleFields;
use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::policy;
use super::valid;
use crate::revoke::Pending;
use crate::store::assignments::ActorKind;
use crate::store::roles::RoleRow;
use crate::store::{TextFilter, Tx, Window};
use crate::{Identity, store};

const MAX_NAME: usize = 255;
const RESERVED: &[&str] = &["generation"];

pub(crate) fn not_found(id: &str) -> Error {
    valid::not_found("role", id)
}

/// Roles of one domain, or those of the whole cloud. A domain's reader sees both, to know what it may give.
pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    domain_id: Option<&str>,
    name: Option<&TextFilter>,
    window: &Window,
) -> Result<Vec<RoleRow>> {
    let sees = policy::sees(ctx, policy)?;
    if domain_id.is_some_and(|domain_id| !sees.allows(domain_id)) {
        return Err(policy::forbidden(policy));
    }
    read!(identity.db, "list roles", |tx| store::roles::list(tx, domain_id, name, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<RoleRow> {
    let sees = policy::sees(ctx, policy)?;
    let found = read!(identity.db, "show role", |tx| store::roles::get(tx, id).await)?;
    let found = found.filter(|row| row.domain_id.as_deref().is_none_or(|domain_id| sees.allows(domain_id)));
    found.ok_or_else(|| not_found(id))
}

pub(crate) async fn create(identity: &Identity, fields: RoleFields) -> Result<RoleRow> {
    let options = fields.options.unwrap_or_default();
    valid::options(&options)?;
    let row = RoleRow {
        id: identity.new_id(),
        generation: Generation::default(),
        name: valid::name(fields.name, "role", MAX_NAME)?,
        domain_id: fields.domain_id.flatten(),
        description: fields.description.flatten(),
        options,
        extra: valid::extra(fields.extra, RESERVED),
    };
    tx!(identity.db, "create role", |tx| {
        if let Some(domain_id) = &row.domain_id {
            super::groups::ensure_domain(tx, domain_id).await?;
        }
        store::roles::insert(tx, &row).await
    })
    .map_err(|error| valid::taken(error, "role", &row.name))?;
    identity.forget_directory();
    Ok(row)
}

pub(crate) async fn update(identity: &Identity, id: &str, fields: RoleFields) -> Result<RoleRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    let name = fields.name.map(|name| valid::checked_name(name, "name", MAX_NAME)).transpose()?;
    let options = fields.options.unwrap_or_default();
    valid::options(&options)?;
    let extra = valid::extra(fields.extra, RESERVED);
    let unlocks = options.get("immutable").is_some_and(|value| value.as_bool() != Some(true));
    let (row, pending) = tx!(identity.db, "update role", |tx| {
        let mut row = store::roles::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        if !unlocks {
            valid::mutable("role", id, &row.options)?;
        }
        if fields.domain_id.as_ref().is_some_and(|domain_id| *domain_id != row.domain_id) {
            return Err(Error::bad_request("Cannot change Domain ID"));
        }
        let mut pending = Pending::new();
        if let Some(name) = &name {
            if *name != row.name && row.domain_id.is_none() {
                pending.add(identity, tx, RevocationKind::Role, &row.name).await?;
            }
            row.name.clone_from(name);
        }
        if let Some(description) = &fields.description {
            row.description.clone_from(description);
        }
        valid::merge_options(&mut row.options, options.clone());
        valid::merge(&mut row.extra, extra.clone());
        store::roles::update(tx, &row).await.map_err(|error| valid::taken(error, "role", &row.name))?;
        Ok((row, pending))
    })?;
    identity.forget_directory();
    pending.apply(identity);
    Ok(row)
}

pub(crate) async fn delete(identity: &Identity, id: &str) -> Result<()> {
    let pending = tx!(identity.db, "delete role", |tx| {
        let row = store::roles::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        valid::mutable("role", id, &row.options)?;
        let mut pending = Pending::new();
        revoke_holders(identity, tx, &mut pending, &row).await?;
        store::roles::delete(tx, id).await?;
        Ok(pending)
    })?;
    identity.forget_directory();
    pending.apply(identity);
    Ok(())
}

/// Ends tokens that hold a role, or what it gave: by its name, which every one of them carries. A domain's role is in no
/// token, so those who were granted it, or what gives it, are looked up.
async fn revoke_holders(identity: &Identity, tx: &mut Tx, pending: &mut Pending, row: &RoleRow) -> Result<()> {
    if row.domain_id.is_none() {
        return pending.add(identity, tx, RevocationKind::Role, &row.name).await;
    }
    let rules = store::roles::implications(tx).await?;
    let mut role_ids = vec![row.id.clone()];
    let mut at = 0;
    while at < role_ids.len() {
        let priors = rules.iter().filter(|(_, implied)| *implied == role_ids[at]).map(|(prior, _)| prior);
        let new: Vec<String> = priors.filter(|prior| !role_ids.contains(prior)).cloned().collect();
        role_ids.extend(new);
        at += 1;
    }
    for actor in store::assignments::of_roles(tx, &role_ids).await? {
        match actor.actor_kind {
            ActorKind::User => pending.add(identity, tx, RevocationKind::User, &actor.actor_id).await?,
            ActorKind::Group => super::groups::revoke_members(identity, tx, pending, &actor.actor_id).await?,
        }
    }
    Ok(())
}

/// A rule's two ends.
pub(crate) struct Rule {
    pub prior: RoleRow,
    pub implied: RoleRow,
}

/// Rules of one prior role, or all.
pub(crate) async fn rules(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    prior_id: Option<&str>,
) -> Result<(Option<RoleRow>, Vec<Rule>)> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list role inferences", |tx| {
        let prior = match prior_id {
            Some(id) => Some(store::roles::get(tx, id).await?.ok_or_else(|| not_found(id))?),
            None => None,
        };
        let roles = store::roles::all(tx).await?;
        let find = |id: &str| roles.iter().find(|row| row.id == id).cloned();
        let mut all: Vec<Rule> = store::roles::implications(tx)
            .await?
            .iter()
            .filter(|(from, _)| prior_id.is_none_or(|id| id == from))
            .filter_map(|(from, to)| Some(Rule { prior: find(from)?, implied: find(to)? }))
            .collect();
        all.sort_by(|a, b| (&a.prior.id, &a.implied.id).cmp(&(&b.prior.id, &b.implied.id)));
        Ok((prior, all))
    })
}

pub(crate) async fn imply(identity: &Identity, prior_id: &str, implied_id: &str) -> Result<Rule> {
    let rule = tx!(identity.db, "imply a role", |tx| {
        let rule = ends(tx, prior_id, implied_id).await?;
        // Keystone's `prohibited_implied_role`: whoever could make any role give admin would be one.
        if rule.implied.name.eq_ignore_ascii_case("admin") && rule.implied.domain_id.is_none() {
            return Err(Error::forbidden(format!("Role {implied_id} cannot be an implied role.")));
        }
        if rule.implied.domain_id.is_some() && rule.prior.domain_id.is_none() {
            return Err(Error::forbidden("A role of the whole cloud cannot imply a role of a domain."));
        }
        store::roles::imply(tx, prior_id, implied_id).await?;
        Ok(rule)
    })?;
    identity.forget_directory();
    Ok(rule)
}

async fn ends(tx: &mut Tx, prior_id: &str, implied_id: &str) -> Result<Rule> {
    let prior = store::roles::get(tx, prior_id).await?.ok_or_else(|| not_found(prior_id))?;
    let implied = store::roles::get(tx, implied_id).await?.ok_or_else(|| not_found(implied_id))?;
    Ok(Rule { prior, implied })
}

pub(crate) async fn imply_no_more(identity: &Identity, prior_id: &str, implied_id: &str) -> Result<()> {
    let pending = tx!(identity.db, "end a role inference", |tx| {
        let rule = ends(tx, prior_id, implied_id).await?;
        if !store::roles::imply_no_more(tx, prior_id, implied_id).await? {
            return Err(no_rule(prior_id, implied_id));
        }
        let mut pending = Pending::new();
        revoke_holders(identity, tx, &mut pending, &rule.prior).await?;
        Ok(pending)
    })?;
    identity.forget_directory();
    pending.apply(identity);
    Ok(())
}

pub(crate) fn no_rule(prior_id: &str, implied_id: &str) -> Error {
    Error::not_found(format!("{prior_id} does not imply {implied_id}."))
}
