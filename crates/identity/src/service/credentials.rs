//! Credentials of other protocols. A user's own, or anyone's for an administrator; what is in them is never logged.

use umbel_api::identity::credentials::CredentialFields;
use umbel_core::{Ctx, Error, Generation, Kind, Result};
use umbel_db::{read, tx};

use super::ec2::{self, Key};
use super::{policy, valid};
use crate::store::credentials::CredentialRow;
use crate::store::{Sees, Window};
use crate::{Identity, store};

const MAX_TYPE: usize = 255;

fn not_found(id: &str) -> Error {
    valid::not_found("credential", id)
}

/// A row and what it holds.
pub(crate) struct Opened {
    pub row: CredentialRow,
    pub blob: String,
}

fn open(identity: &Identity, row: CredentialRow) -> Result<Opened> {
    let blob = identity.sealer.open(&row.id, &row.content)?;
    Ok(Opened { row, blob })
}

/// Whoever may not see all is shown their own, whatever they asked for.
pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: Option<&str>,
    kind: Option<&str>,
    window: &Window,
) -> Result<Vec<Opened>> {
    let own = policy::principal(ctx)?.user_id.as_str();
    let all = matches!(policy::sees(ctx, policy), Ok(Sees::All));
    let user_id = match (all, user_id) {
        (true, user_id) => user_id,
        (false, None) => Some(own),
        (false, Some(user_id)) if user_id == own => Some(own),
        (false, Some(_)) => return Ok(Vec::new()),
    };
    let rows = read!(identity.db, "list credentials", |tx| store::credentials::list(tx, user_id, kind, window).await)?;
    rows.into_iter().map(|row| open(identity, row)).collect()
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<Opened> {
    let found = read!(identity.db, "show credential", |tx| store::credentials::get(tx, id).await)?;
    open(identity, owned(ctx, policy, id, found, policy::reads_user)?)
}

/// The row, if the caller may; 403 for others' and for what does not exist alike, unless they may all.
fn owned(
    ctx: &Ctx,
    policy: &str,
    id: &str,
    found: Option<CredentialRow>,
    may: fn(&Ctx, &str, &str) -> Result<()>,
) -> Result<CredentialRow> {
    may(ctx, found.as_ref().map_or("", |row| &row.user_id), policy)?;
    found.ok_or_else(|| not_found(id))
}

pub(crate) async fn create(identity: &Identity, ctx: &Ctx, policy: &str, fields: CredentialFields) -> Result<Opened> {
    policy::unrestricted(ctx, policy)?;
    let kind = fields.kind.ok_or_else(|| valid::missing("type", "credential"))?;
    let kind = valid::checked_name(kind, "type", MAX_TYPE)?;
    let blob = fields.blob.ok_or_else(|| valid::missing("blob", "credential"))?;
    let user_id = fields.user_id.ok_or_else(|| valid::missing("user_id", "credential"))?;
    policy::owns(ctx, &user_id, policy)?;
    let project_id = fields.project_id.flatten();
    let id = match kind.as_str() {
        ec2::KIND if project_id.is_none() => return Err(valid::missing("project_id", "credential")),
        ec2::KIND => Key::credential_id(&Key::read(&blob)?.access),
        _ => identity.new_id(),
    };
    let row = CredentialRow {
        content: identity.sealer.seal(&*identity.rng, &id, &blob)?,
        id,
        generation: Generation::default(),
        user_id,
        project_id,
        kind,
        extra: valid::extra(fields.extra, &[]),
    };
    tx!(identity.db, "create credential", |tx| {
        store::users::get(tx, &row.user_id).await?.ok_or_else(|| valid::not_found("user", &row.user_id))?;
        store::credentials::insert(tx, &row).await
    })
    .map_err(|error| match error.is(Kind::Conflict) {
        true => Error::conflict("Conflict occurred attempting to store credential - Duplicate Entry."),
        false => error,
    })?;
    Ok(Opened { row, blob })
}

pub(crate) async fn update(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    fields: CredentialFields,
) -> Result<Opened> {
    policy::unrestricted(ctx, policy)?;
    valid::same_id(fields.id.as_deref(), id)?;
    let kind = fields.kind.map(|kind| valid::checked_name(kind, "type", MAX_TYPE)).transpose()?;
    let content = match &fields.blob {
        Some(blob) => Some(identity.sealer.seal(&*identity.rng, id, blob)?),
        None => None,
    };
    // To give it away needs the right over both owners.
    if let Some(user_id) = &fields.user_id {
        policy::owns(ctx, user_id, policy)?;
    }
    let extra = valid::extra(fields.extra, &[]);
    let row = tx!(identity.db, "update credential", |tx| {
        let found = store::credentials::get(tx, id).await?;
        let mut row = owned(ctx, policy, id, found, policy::owns)?;
        for (column, value) in
            [(&mut row.kind, &kind), (&mut row.content, &content), (&mut row.user_id, &fields.user_id)]
        {
            if let Some(value) = value {
                column.clone_from(value);
            }
        }
        if let Some(project_id) = &fields.project_id {
            row.project_id.clone_from(project_id);
        }
        if row.kind == ec2::KIND && row.project_id.is_none() {
            return Err(valid::missing("project_id", "credential"));
        }
        valid::merge(&mut row.extra, extra.clone());
        store::credentials::update(tx, &row).await?;
        Ok(row)
    })?;
    open(identity, row)
}

pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<()> {
    policy::unrestricted(ctx, policy)?;
    tx!(identity.db, "delete credential", |tx| {
        let found = store::credentials::get(tx, id).await?;
        owned(ctx, policy, id, found, policy::owns)?;
        store::credentials::delete(tx, id).await
    })
}
