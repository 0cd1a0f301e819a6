use umbel_api::identity::users::{PasswordFields, UserFields};
use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::policy::{self, forbidden, in_reach};
use super::{accounts, login, valid};
use crate::compliance::{LOCK_PASSWORD, is_set};
use crate::passwords::Verdict;
use crate::revoke::Pending;
use crate::store::login::EntityKey;
use crate::store::users::{UserFilter, UserRow};
use crate::store::{Sees, Window};
use crate::{Identity, store};

const MAX_NAME: usize = 255;
/// What a reply says of its own, and what must not look as if it were kept.
const RESERVED: &[&str] = &["password_expires_at", "password_hash", "original_password", "federated", "generation"];

fn not_found(id: &str) -> Error {
    valid::not_found("user", id)
}

fn owner(row: &UserRow) -> &str {
    &row.domain_id
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    filter: &UserFilter,
    window: &Window,
) -> Result<Vec<UserRow>> {
    let sees = policy::sees(ctx, policy)?;
    let rows = read!(identity.db, "list users", |tx| store::users::list(tx, &sees, filter, window).await)?;
    Ok(rows.into_iter().map(|row| accounts::shown(identity, row)).collect())
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<UserRow> {
    let sees = if policy::is_self(ctx, id) { Sees::All } else { policy::sees(ctx, policy)? };
    let found = read!(identity.db, "show user", |tx| store::users::get(tx, id).await)?;
    in_reach(found, &sees, owner, policy, || not_found(id)).map(|row| accounts::shown(identity, row))
}

pub(crate) async fn create(identity: &Identity, ctx: &Ctx, policy: &str, fields: UserFields) -> Result<UserRow> {
    let manages = policy::manages(ctx, policy)?;
    let name = valid::name(fields.name, "user", MAX_NAME)?;
    let domain_id = match fields.domain_id {
        Some(domain_id) => domain_id,
        None => super::projects::default_domain(ctx)?,
    };
    if !manages.allows(&domain_id) {
        return Err(forbidden(policy));
    }
    let options = fields.options.unwrap_or_default();
    accounts::user_options(&options)?;
    let password = fields.password.flatten();
    let password_hash = match &password {
        Some(password) => Some(identity.passwords.hash(accounts::acceptable(identity, password)?).await?),
        None => None,
    };
    let now = identity.now();
    let row = UserRow {
        id: identity.new_id(),
        generation: Generation::default(),
        name,
        domain_id,
        enabled: fields.enabled.unwrap_or(true),
        password_expires_at: password_hash.as_ref().and_then(|_| identity.rules().expiry(&options, now, false)),
        password_hash,
        default_project_id: fields.default_project_id.flatten(),
        options,
        extra: valid::extra(fields.extra, RESERVED),
        active_at: Some(now),
    };
    tx!(identity.db, "create user", |tx| {
        super::groups::ensure_domain(tx, &row.domain_id).await?;
        store::users::insert(tx, &row).await?;
        store::guards::password_set(tx, &row.id, now, false).await
    })
    .map_err(|error| valid::taken(error, "user", &row.name))?;
    Ok(row)
}

pub(crate) async fn update(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    fields: UserFields,
) -> Result<UserRow> {
    let manages = policy::manages(ctx, policy)?;
    valid::same_id(fields.id.as_deref(), id)?;
    let name = fields.name.map(|name| valid::checked_name(name, "name", MAX_NAME)).transpose()?;
    if let Some(options) = &fields.options {
        accounts::user_options(options)?;
    }
    // Outside the transaction: hashing takes longer than everything in it.
    let password_hash = match &fields.password {
        Some(Some(password)) => Some(Some(identity.passwords.hash(accounts::acceptable(identity, password)?).await?)),
        Some(None) => Some(None),
        None => None,
    };
    let extra = valid::extra(fields.extra, RESERVED);
    let (row, pending) = tx!(identity.db, "update user", |tx| {
        let mut row = in_reach(store::users::get(tx, id).await?, &manages, owner, policy, || not_found(id))?;
        valid::same_domain(fields.domain_id.as_deref(), &row.domain_id)?;
        let disabled = row.enabled && fields.enabled == Some(false);
        if let Some(name) = &name {
            row.name.clone_from(name);
        }
        row.enabled = fields.enabled.unwrap_or(row.enabled);
        if fields.enabled == Some(true) {
            accounts::enable(identity, tx, id).await?;
            row.active_at = Some(identity.now());
        }
        if let Some(project_id) = &fields.default_project_id {
            row.default_project_id.clone_from(project_id);
        }
        if let Some(options) = &fields.options {
            valid::merge_options(&mut row.options, options.clone());
        }
        valid::merge(&mut row.extra, extra.clone());
        if let Some(hash) = &password_hash {
            accounts::replace_password(identity, tx, &mut row, hash.as_deref(), false).await?;
        }
        let mut pending = Pending::new();
        if disabled || password_hash.is_some() {
            pending.add(identity, tx, RevocationKind::User, id).await?;
        }
        store::users::update(tx, &row).await.map_err(|error| valid::taken(error, "user", &row.name))?;
        Ok((row, pending))
    })?;
    pending.apply(identity);
    Ok(accounts::shown(identity, row))
}

pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    let pending = tx!(identity.db, "delete user", |tx| {
        in_reach(store::users::get(tx, id).await?, &manages, owner, policy, || not_found(id))?;
        let mut pending = Pending::new();
        pending.add(identity, tx, RevocationKind::User, id).await?;
        store::users::delete(tx, id).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}

/// A user's own change, proven by the old password alone. 401 whatever is wrong with who asks.
pub(crate) async fn change_password(identity: &Identity, id: &str, fields: PasswordFields) -> Result<()> {
    let key = EntityKey::Id(id.to_owned());
    let user = read!(identity.db, "read a user", |tx| store::login::user(tx, &key).await)?;
    let stored = user.as_ref().and_then(|user| user.password_hash.as_deref());
    let verdict = identity.passwords.verify(id, stored, &fields.original_password).await?;
    let verdict = accounts::judge(identity, user.as_ref(), verdict).await?;
    let user = user.filter(|user| accounts::is_open(identity, user) && verdict != Verdict::Wrong);
    let user = user.ok_or_else(|| login::unauthorized("the old password does not fit"))?;
    if is_set(&user.options, LOCK_PASSWORD) {
        return Err(Error::bad_request(
            "You cannot change your password at this time due to policy disallowing user password changes. Please contact \
             your administrator to reset your password.",
        ));
    }
    accounts::acceptable(identity, &fields.password)?;
    accounts::may_change(identity, &user, &fields.password).await?;
    let hash = identity.passwords.hash(&fields.password).await?;
    let pending = tx!(identity.db, "change password", |tx| {
        let row = store::users::get(tx, id).await?.filter(|row| row.password_hash == user.password_hash);
        let mut row = row.ok_or_else(|| login::unauthorized("the password was changed by another request"))?;
        accounts::replace_password(identity, tx, &mut row, Some(&hash), true).await?;
        let mut pending = Pending::new();
        pending.add(identity, tx, RevocationKind::User, id).await?;
        store::users::update(tx, &row).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}
