//! Consumers of OAuth 1.0a. Their secret is shown to who makes them, once, and is sealed in the database.

use umbel_api::identity::oauth1::ConsumerFields;
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::{policy, valid};
use crate::store::Window;
use crate::store::oauth1::ConsumerRow;
use crate::{Identity, store};

fn not_found(id: &str) -> Error {
    valid::not_found("consumer", id)
}

fn no_secret(fields: &ConsumerFields) -> Result<()> {
    match fields.secret {
        Some(_) => Err(Error::bad_request("Cannot change consumer secret")),
        None => Ok(()),
    }
}

pub(crate) async fn list(identity: &Identity, ctx: &Ctx, policy: &str, window: &Window) -> Result<Vec<ConsumerRow>> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list consumers", |tx| store::oauth1::list(tx, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<ConsumerRow> {
    policy::sees_all(ctx, policy)?;
    let found = read!(identity.db, "show consumer", |tx| store::oauth1::get(tx, id).await)?;
    found.ok_or_else(|| not_found(id))
}

/// The row and the secret.
pub(crate) async fn create(identity: &Identity, fields: ConsumerFields) -> Result<(ConsumerRow, String)> {
    no_secret(&fields)?;
    let (id, secret) = (identity.new_id(), identity.new_id());
    let row = ConsumerRow {
        secret: identity.sealer.seal(&*identity.rng, &id, &secret)?,
        id,
        generation: Generation::default(),
        description: fields.description.flatten(),
        extra: valid::extra(fields.extra, &[]),
    };
    tx!(identity.db, "create consumer", |tx| store::oauth1::insert(tx, &row).await)?;
    Ok((row, secret))
}

pub(crate) async fn update(identity: &Identity, id: &str, fields: ConsumerFields) -> Result<ConsumerRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    no_secret(&fields)?;
    let extra = valid::extra(fields.extra, &[]);
    tx!(identity.db, "update consumer", |tx| {
        let mut row = store::oauth1::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        if let Some(description) = &fields.description {
            row.description.clone_from(description);
        }
        valid::merge(&mut row.extra, extra.clone());
        store::oauth1::update(tx, &row).await?;
        Ok(row)
    })
}

pub(crate) async fn delete(identity: &Identity, id: &str) -> Result<()> {
    tx!(identity.db, "delete consumer", |tx| {
        store::oauth1::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        store::oauth1::delete(tx, id).await
    })
}
