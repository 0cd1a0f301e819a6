//! EC2 keys: credentials of one type, with a form that this service knows.

use serde::{Deserialize, Serialize};
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::projects;
use super::{policy, valid};
use crate::store::Window;
use crate::store::credentials::CredentialRow;
use crate::{Identity, store};

pub(crate) const KIND: &str = "ec2";

/// What the credential's blob holds.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub access: String,
    #[serde(default)]
    pub secret: String,
}

impl Key {
    pub fn read(blob: &str) -> Result<Key> {
        serde_json::from_str(blob).map_err(|_| Error::bad_request("Invalid blob in credential: no access key."))
    }

    /// Such a credential is found by a digest of its access key, because requests bring only that.
    pub fn credential_id(access: &str) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, access.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

pub(crate) struct Ec2 {
    pub user_id: String,
    pub project_id: String,
    pub key: Key,
}

fn open(identity: &Identity, row: CredentialRow) -> Result<Ec2> {
    let key = Key::read(&identity.sealer.open(&row.id, &row.content)?)?;
    Ok(Ec2 { user_id: row.user_id, project_id: row.project_id.unwrap_or_default(), key })
}

pub(crate) async fn list(identity: &Identity, ctx: &Ctx, policy: &str, user_id: &str) -> Result<Vec<Ec2>> {
    policy::reads_user(ctx, user_id, policy)?;
    let window = Window { limit: identity.config.max_page, after: None };
    let rows = read!(identity.db, "list EC2 keys", |tx| {
        store::credentials::list(tx, Some(user_id), Some(KIND), &window).await
    })?;
    rows.into_iter().map(|row| open(identity, row)).collect()
}

pub(crate) async fn create(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
    project_id: &str,
) -> Result<Ec2> {
    policy::owns(ctx, user_id, policy)?;
    policy::unrestricted(ctx, policy)?;
    let key = Key { access: identity.new_id(), secret: identity.new_id() };
    let blob = serde_json::to_string(&key).map_err(Error::internal)?;
    let id = Key::credential_id(&key.access);
    let row = CredentialRow {
        content: identity.sealer.seal(&*identity.rng, &id, &blob)?,
        id,
        generation: Generation::default(),
        user_id: user_id.to_owned(),
        project_id: Some(project_id.to_owned()),
        kind: KIND.to_owned(),
        extra: Default::default(),
    };
    tx!(identity.db, "create EC2 key", |tx| {
        store::users::get(tx, user_id).await?.ok_or_else(|| valid::not_found("user", user_id))?;
        store::projects::get(tx, project_id).await?.ok_or_else(|| projects::not_found(project_id))?;
        store::credentials::insert(tx, &row).await
    })?;
    Ok(Ec2 { user_id: user_id.to_owned(), project_id: project_id.to_owned(), key })
}

fn not_found(access: &str) -> Error {
    valid::not_found("credential", &Key::credential_id(access))
}

fn own(found: Option<CredentialRow>, user_id: &str, access: &str) -> Result<CredentialRow> {
    found.filter(|row| row.user_id == user_id && row.kind == KIND).ok_or_else(|| not_found(access))
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, user_id: &str, access: &str) -> Result<Ec2> {
    policy::reads_user(ctx, user_id, policy)?;
    let id = Key::credential_id(access);
    let found = read!(identity.db, "show EC2 key", |tx| store::credentials::get(tx, &id).await)?;
    open(identity, own(found, user_id, access)?)
}

pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, user_id: &str, access: &str) -> Result<()> {
    policy::owns(ctx, user_id, policy)?;
    policy::unrestricted(ctx, policy)?;
    let id = Key::credential_id(access);
    tx!(identity.db, "delete EC2 key", |tx| {
        own(store::credentials::get(tx, &id).await?, user_id, access)?;
        store::credentials::delete(tx, &id).await
    })
}
