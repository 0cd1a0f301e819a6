use umbel_api::identity::policies::PolicyFields;
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::{policy, valid};
use crate::store::Window;
use crate::store::policies::PolicyRow;
use crate::{Identity, store};

const MAX_TYPE: usize = 255;

fn not_found(id: &str) -> Error {
    valid::not_found("policy", id)
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    kind: Option<&str>,
    window: &Window,
) -> Result<Vec<PolicyRow>> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list policies", |tx| store::policies::list(tx, kind, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<PolicyRow> {
    policy::sees_all(ctx, policy)?;
    let found = read!(identity.db, "show policy", |tx| store::policies::get(tx, id).await)?;
    found.ok_or_else(|| not_found(id))
}

pub(crate) async fn create(identity: &Identity, fields: PolicyFields) -> Result<PolicyRow> {
    let kind = fields.media_type.ok_or_else(|| valid::missing("type", "policy"))?;
    let row = PolicyRow {
        id: identity.new_id(),
        generation: Generation::default(),
        kind: valid::checked_name(kind, "type", MAX_TYPE)?,
        content: fields.blob.ok_or_else(|| valid::missing("blob", "policy"))?,
        extra: valid::extra(fields.extra, &[]),
    };
    tx!(identity.db, "create policy", |tx| store::policies::insert(tx, &row).await)?;
    Ok(row)
}

pub(crate) async fn update(identity: &Identity, id: &str, fields: PolicyFields) -> Result<PolicyRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    let kind = fields.media_type.map(|kind| valid::checked_name(kind, "type", MAX_TYPE)).transpose()?;
    let extra = valid::extra(fields.extra, &[]);
    tx!(identity.db, "update policy", |tx| {
        let mut row = store::policies::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        if let Some(kind) = &kind {
            row.kind.clone_from(kind);
        }
        if let Some(blob) = &fields.blob {
            row.content.clone_from(blob);
        }
        valid::merge(&mut row.extra, extra.clone());
        store::policies::update(tx, &row).await?;
        Ok(row)
    })
}

pub(crate) async fn delete(identity: &Identity, id: &str) -> Result<()> {
    tx!(identity.db, "delete policy", |tx| {
        store::policies::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        store::policies::delete(tx, id).await
    })
}
