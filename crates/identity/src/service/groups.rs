use umbel_api::identity::groups::GroupFields;
use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::policy::{self, forbidden, in_reach};
use super::valid;
use crate::revoke::Pending;
use crate::store::groups::{GroupFilter, GroupRow};
use crate::store::users::{UserFilter, UserRow};
use crate::store::{Sees, Tx, Window};
use crate::{Identity, store};

const MAX_NAME: usize = 64;
const RESERVED: &[&str] = &["membership_expires_at"];

fn not_found(id: &str) -> Error {
    valid::not_found("group", id)
}

fn owner(row: &GroupRow) -> &str {
    &row.domain_id
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    filter: &GroupFilter,
    window: &Window,
) -> Result<Vec<GroupRow>> {
    let sees = policy::sees(ctx, policy)?;
    read!(identity.db, "list groups", |tx| store::groups::list(tx, &sees, filter, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<GroupRow> {
    let sees = policy::sees(ctx, policy)?;
    let found = read!(identity.db, "show group", |tx| store::groups::get(tx, id).await)?;
    in_reach(found, &sees, owner, policy, || not_found(id))
}

pub(crate) async fn create(identity: &Identity, ctx: &Ctx, policy: &str, fields: GroupFields) -> Result<GroupRow> {
    let manages = policy::manages(ctx, policy)?;
    let row = GroupRow {
        id: identity.new_id(),
        generation: Generation::default(),
        name: valid::name(fields.name, "group", MAX_NAME)?,
        domain_id: match fields.domain_id {
            Some(domain_id) => domain_id,
            None => super::projects::default_domain(ctx)?,
        },
        description: fields.description.flatten().unwrap_or_default(),
        extra: valid::extra(fields.extra, RESERVED),
    };
    if !manages.allows(&row.domain_id) {
        return Err(forbidden(policy));
    }
    tx!(identity.db, "create group", |tx| {
        ensure_domain(tx, &row.domain_id).await?;
        store::groups::insert(tx, &row).await
    })
    .map_err(|error| valid::taken(error, "group", &row.name))?;
    Ok(row)
}

/// 404 for a domain that is none.
pub(crate) async fn ensure_domain(tx: &mut Tx, domain_id: &str) -> Result<()> {
    let found = store::projects::get(tx, domain_id).await?.filter(|row| row.is_domain);
    found.map(|_| ()).ok_or_else(|| valid::not_found("domain", domain_id))
}

pub(crate) async fn update(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    fields: GroupFields,
) -> Result<GroupRow> {
    let manages = policy::manages(ctx, policy)?;
    valid::same_id(fields.id.as_deref(), id)?;
    let name = fields.name.map(|name| valid::checked_name(name, "name", MAX_NAME)).transpose()?;
    let extra = valid::extra(fields.extra, RESERVED);
    tx!(identity.db, "update group", |tx| {
        let mut row = in_reach(store::groups::get(tx, id).await?, &manages, owner, policy, || not_found(id))?;
        valid::same_domain(fields.domain_id.as_deref(), &row.domain_id)?;
        if let Some(name) = &name {
            row.name.clone_from(name);
        }
        if let Some(description) = &fields.description {
            row.description = description.clone().unwrap_or_default();
        }
        valid::merge(&mut row.extra, extra.clone());
        store::groups::update(tx, &row).await.map_err(|error| valid::taken(error, "group", &row.name))?;
        Ok(row)
    })
}

pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    let pending = tx!(identity.db, "delete group", |tx| {
        in_reach(store::groups::get(tx, id).await?, &manages, owner, policy, || not_found(id))?;
        let mut pending = Pending::new();
        revoke_members(identity, tx, &mut pending, id).await?;
        store::groups::delete(tx, id).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}

/// What members hold by the group ends with it.
pub(crate) async fn revoke_members(
    identity: &Identity,
    tx: &mut Tx,
    pending: &mut Pending,
    group_id: &str,
) -> Result<()> {
    for (_, user_id) in store::groups::members_of(tx, &[group_id.to_owned()]).await? {
        pending.add(identity, tx, RevocationKind::User, &user_id).await?;
    }
    Ok(())
}

pub(crate) async fn users(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    filter: UserFilter,
    window: &Window,
) -> Result<Vec<UserRow>> {
    show(identity, ctx, policy, id).await?;
    let sees = policy::sees(ctx, policy)?;
    let filter = UserFilter { group_id: Some(id.to_owned()), ..filter };
    let rows = read!(identity.db, "list users of a group", |tx| store::users::list(tx, &sees, &filter, window).await)?;
    Ok(rows.into_iter().map(|row| super::accounts::shown(identity, row)).collect())
}

/// The groups of a user; everyone may read their own.
pub(crate) async fn of_user(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
    filter: GroupFilter,
    window: &Window,
) -> Result<Vec<GroupRow>> {
    let sees = if policy::is_self(ctx, user_id) { Sees::All } else { policy::sees(ctx, policy)? };
    let filter = GroupFilter { user_id: Some(user_id.to_owned()), ..filter };
    read!(identity.db, "list groups of a user", |tx| {
        let user = store::users::get(tx, user_id).await?;
        in_reach(user, &sees, |row| &row.domain_id, policy, || valid::not_found("user", user_id))?;
        store::groups::list(tx, &sees, &filter, window).await
    })
}

/// Group and user must both be in reach, else a manager could draw others' users into a group of theirs.
async fn pair(tx: &mut Tx, reach: &Sees, policy: &str, id: &str, user_id: &str) -> Result<()> {
    in_reach(store::groups::get(tx, id).await?, reach, owner, policy, || not_found(id))?;
    let user = store::users::get(tx, user_id).await?;
    in_reach(user, reach, |row| &row.domain_id, policy, || valid::not_found("user", user_id))?;
    Ok(())
}

pub(crate) async fn add_user(identity: &Identity, ctx: &Ctx, policy: &str, id: &str, user_id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    tx!(identity.db, "add a user to a group", |tx| {
        pair(tx, &manages, policy, id, user_id).await?;
        store::groups::add_member(tx, id, user_id).await
    })
}

pub(crate) async fn has_user(identity: &Identity, ctx: &Ctx, policy: &str, id: &str, user_id: &str) -> Result<()> {
    let sees = policy::sees(ctx, policy)?;
    let found = read!(identity.db, "check a user in a group", |tx| {
        pair(tx, &sees, policy, id, user_id).await?;
        store::groups::has_member(tx, id, user_id).await
    })?;
    match found {
        true => Ok(()),
        false => Err(Error::not_found(format!("User '{user_id}' not found in group '{id}'"))),
    }
}

pub(crate) async fn remove_user(identity: &Identity, ctx: &Ctx, policy: &str, id: &str, user_id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    let pending = tx!(identity.db, "remove a user from a group", |tx| {
        pair(tx, &manages, policy, id, user_id).await?;
        if !store::groups::remove_member(tx, id, user_id).await? {
            return Err(Error::not_found(format!("User '{user_id}' not found in group '{id}'")));
        }
        let mut pending = Pending::new();
        pending.add(identity, tx, RevocationKind::User, user_id).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}
