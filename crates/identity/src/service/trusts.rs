//! Trusts: who may lend, who may look. What a trust is worth at a login is decided there: the roles that the trustor
//! holds at that moment, and nothing once one of them is gone.
//!
//! A trust cannot be passed on by the trustee. Upstream can (three deep, by default), nobody is known to use it, and a
//! chain of lenders is a chain of reasons why a role is held.

use umbel_api::identity::trusts::TrustFields;
use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Result, Timestamp};
use umbel_db::{read, tx};

use super::application_credentials::current_roles;
use super::policy::{self, forbidden};
use super::{projects, roles, valid};
use crate::revoke::Pending;
use crate::store::roles::RoleRow;
use crate::store::trusts::{TrustFilter, TrustRow};
use crate::store::{Tx, Window};
use crate::{Identity, store};

fn not_found(id: &str) -> Error {
    valid::not_found("trust", id)
}

/// A trust with its roles in full.
pub(crate) struct Shown {
    pub row: TrustRow,
    pub roles: Vec<RoleRow>,
}

async fn with_roles(tx: &mut Tx, row: TrustRow) -> Result<Shown> {
    let all = store::roles::all(tx).await?;
    let roles = all.into_iter().filter(|role| row.role_ids.contains(&role.id)).collect();
    Ok(Shown { row, roles })
}

/// One's own as trustor or trustee; all for who may see all.
pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    filter: &TrustFilter,
    window: &Window,
) -> Result<Vec<TrustRow>> {
    let mut own = [&filter.trustor_user_id, &filter.trustee_user_id].into_iter().flatten();
    if !own.any(|user_id| policy::is_self(ctx, user_id)) {
        policy::sees_all(ctx, policy)?;
    }
    let now = identity.now();
    read!(identity.db, "list trusts", |tx| store::trusts::list(tx, filter, now, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<Shown> {
    let now = identity.now();
    let shown = read!(identity.db, "show trust", |tx| {
        let row = store::trusts::get(tx, id, now).await?.ok_or_else(|| not_found(id))?;
        with_roles(tx, row).await
    })?;
    let part = [&shown.row.trustor_user_id, &shown.row.trustee_user_id];
    if !part.into_iter().any(|user_id| policy::is_self(ctx, user_id)) {
        policy::sees_all(ctx, policy)?;
    }
    Ok(shown)
}

/// Only by the trustor, and of roles it holds on the project now.
pub(crate) async fn create(identity: &Identity, ctx: &Ctx, policy: &str, fields: TrustFields) -> Result<Shown> {
    let missing = |attribute| move || valid::missing(attribute, "trust");
    let trustor_user_id = fields.trustor_user_id.ok_or_else(missing("trustor_user_id"))?;
    if !policy::is_self(ctx, &trustor_user_id) {
        return Err(forbidden(policy));
    }
    policy::unrestricted(ctx, policy)?;
    let row = TrustRow {
        id: identity.new_id(),
        trustor_user_id,
        trustee_user_id: fields.trustee_user_id.ok_or_else(missing("trustee_user_id"))?,
        project_id: fields.project_id.ok_or_else(missing("project_id"))?,
        impersonation: fields.impersonation.ok_or_else(missing("impersonation"))?,
        expires_at: fields.expires_at.map(|text| expiry(identity.now(), &text)).transpose()?,
        remaining_uses: fields.remaining_uses,
        role_ids: Vec::new(),
    };
    if row.remaining_uses.is_some_and(|uses| uses < 1) {
        return Err(valid::invalid("remaining_uses", "The value is less than the minimum of 1"));
    }
    if fields.allow_redelegation == Some(true) {
        return Err(Error::forbidden("A trust cannot be passed on."));
    }
    let wanted = fields.roles.unwrap_or_default();
    if wanted.is_empty() {
        return Err(Error::forbidden("At least one role should be specified."));
    }
    let directory = identity.directory().await?;
    let held = directory.expand(&current_roles(identity, &row.trustor_user_id, &row.project_id).await?);
    tx!(identity.db, "create trust", |tx| {
        let mut row = row.clone();
        let trustee = store::users::get(tx, &row.trustee_user_id).await?;
        trustee.ok_or_else(|| valid::not_found("user", &row.trustee_user_id))?;
        let project = store::projects::get(tx, &row.project_id).await?;
        project.ok_or_else(|| projects::not_found(&row.project_id))?;
        for role in &wanted {
            let found = match (&role.id, &role.name) {
                (Some(id), _) => store::roles::get(tx, id).await?,
                (None, Some(name)) => store::roles::find(tx, "", name).await?,
                (None, None) => return Err(valid::invalid("roles", "A role has an id or a name")),
            };
            let named = role.id.as_ref().or(role.name.as_ref()).map_or("", String::as_str);
            let found = found.filter(|found| held.contains(&found.id)).ok_or_else(|| roles::not_found(named))?;
            row.role_ids.push(found.id);
        }
        store::trusts::insert(tx, &row).await?;
        with_roles(tx, row).await
    })
}

fn expiry(now: Timestamp, text: &str) -> Result<Timestamp> {
    let at = Timestamp::parse(text)?;
    match at > now {
        true => Ok(at),
        false => Err(Error::bad_request("The 'expires_at' must not be before now.")),
    }
}

/// By the trustor or an administrator; tokens made of it end with it.
pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<()> {
    policy::unrestricted(ctx, policy)?;
    let now = identity.now();
    let pending = tx!(identity.db, "delete trust", |tx| {
        let row = store::trusts::get(tx, id, now).await?.ok_or_else(|| not_found(id))?;
        policy::owns(ctx, &row.trustor_user_id, policy)?;
        let mut pending = Pending::new();
        pending.add(identity, tx, RevocationKind::Credential, id).await?;
        store::trusts::delete(tx, id).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}
