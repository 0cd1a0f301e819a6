//! Types: what an operator may change about them, and when.

use std::collections::BTreeMap;

use umbel_core::{Error, Id, Result};
use umbel_db::{Tx, read, tx};

use super::Caller;
use crate::Volumes;
use crate::store::encryption::{self, Encryption};
use crate::store::types::{self, Specs, VolumeType, VolumeTypeId, is_true};
use crate::store::{Volume, quotas};

/// What a change of a type says; none for what stays.
#[derive(Debug, Default)]
pub(crate) struct TypeChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub is_public: Option<bool>,
}

/// What a change of an encryption says; none for what stays.
#[derive(Debug, Default)]
pub(crate) struct EncryptionChange {
    pub provider: Option<String>,
    pub control_location: Option<String>,
    pub cipher: Option<Option<String>>,
    pub key_size: Option<Option<i64>>,
}

impl Volumes {
    pub(crate) async fn create_type(
        &self,
        name: String,
        description: Option<String>,
        is_public: bool,
        extra_specs: Specs,
    ) -> Result<VolumeType> {
        cacheable(&extra_specs)?;
        let new = VolumeType {
            id: Id::random(&*self.rng),
            name,
            description,
            is_public,
            qos_specs_id: None,
            extra_specs,
            created_at: self.clock.now(),
            updated_at: None,
        };
        tx!(self.db, "create a volume type", |tx| types::insert(tx, &new).await)?;
        Ok(new)
    }

    /// `default` in place of an id is the type of volumes that name none.
    pub(crate) async fn volume_type(&self, caller: &Caller, id: &str) -> Result<VolumeType> {
        read!(self.db, "show a volume type", |tx| {
            if id == "default" {
                let name = &self.config.default_volume_type;
                return types::default_for(tx, caller.project_id.as_deref(), name).await;
            }
            let found = match id.parse() {
                Ok(id) => types::get(tx, &caller.visible, id).await?,
                Err(_) => None,
            };
            found.ok_or_else(|| types::not_found(id))
        })
    }

    pub(crate) async fn update_type(&self, id: VolumeTypeId, change: &TypeChange) -> Result<VolumeType> {
        let now = self.clock.now();
        tx!(self.db, "update a volume type", |tx| {
            let before = types::lock(tx, id).await?;
            let mut after = before.clone();
            after.name = change.name.clone().unwrap_or(after.name);
            after.description = change.description.clone().or(after.description);
            after.is_public = change.is_public.unwrap_or(after.is_public);
            after.updated_at = Some(now);
            types::update(tx, &after).await?;
            if before.name != after.name {
                quotas::rename_type(tx, &before.name, &after.name).await?;
            }
            Ok(after)
        })
    }

    /// 400 while volumes are of it, and for a default.
    pub(crate) async fn delete_type(&self, id: VolumeTypeId) -> Result<()> {
        tx!(self.db, "delete a volume type", |tx| {
            let found = types::lock(tx, id).await?;
            let defaults = types::project_defaults(tx).await?;
            let configured = types::default_for(tx, None, &self.config.default_volume_type).await?;
            let always = found.name == types::DEFAULT_NAME || configured.id == id;
            if always || defaults.iter().any(|(_, default)| *default == id) {
                return Err(Error::bad_request(format!(
                    "The volume type {id} is a default volume type and cannot be deleted."
                )));
            }
            if types::in_use(tx, id).await? {
                return Err(Error::bad_request("Target volume type is still in use."));
            }
            quotas::forget_type(tx, &found.name).await?;
            types::delete(tx, id).await
        })
    }

    /// Adds to a type's extra specs.
    pub(crate) async fn put_extra_specs(&self, id: VolumeTypeId, specs: &Specs) -> Result<()> {
        tx!(self.db, "put extra specs", |tx| {
            let found = unused(tx, id, "Volume Type is currently in use.").await?;
            let mut all = found.extra_specs;
            all.extend(specs.clone());
            cacheable(&all)?;
            types::put_specs(tx, id, specs).await
        })
    }

    pub(crate) async fn remove_extra_spec(&self, id: VolumeTypeId, name: &str) -> Result<()> {
        tx!(self.db, "remove an extra spec", |tx| {
            unused(tx, id, "Volume Type is currently in use.").await?;
            match types::remove_spec(tx, id, name).await? {
                true => Ok(()),
                false => Err(no_spec(id, name)),
            }
        })
    }

    /// Of a private type alone.
    pub(crate) async fn type_projects(&self, id: VolumeTypeId) -> Result<Vec<String>> {
        tx!(self.db, "list a volume type's projects", |tx| {
            if types::lock(tx, id).await?.is_public {
                return Err(Error::not_found("Access list not available for public volume types."));
            }
            types::projects(tx, id).await
        })
    }

    pub(crate) async fn open_type(&self, id: VolumeTypeId, project: &str, open: bool) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "change who may use a volume type", |tx| {
            if types::lock(tx, id).await?.is_public {
                return Err(Error::bad_request(
                    "Invalid volume type: Type access modification is not applicable to public volume type.",
                ));
            }
            match open {
                true if !types::add_project(tx, id, project, now).await? => {
                    Err(Error::conflict(format!("Volume type access for {id} / {project} combination already exists.")))
                }
                false if !types::remove_project(tx, id, project).await? => {
                    Err(Error::not_found(format!("Volume type access not found for {id} / {project} combination.")))
                }
                _ => Ok(()),
            }
        })
    }

    /// None for a type without.
    pub(crate) async fn encryption(&self, id: VolumeTypeId) -> Result<Option<Encryption>> {
        tx!(self.db, "show an encryption", |tx| {
            types::lock(tx, id).await?;
            encryption::get(tx, id).await
        })
    }

    /// `new`: the type has none yet, and the change says all that there must be.
    pub(crate) async fn put_encryption(
        &self,
        id: VolumeTypeId,
        change: &EncryptionChange,
        new: bool,
    ) -> Result<Encryption> {
        let now = self.clock.now();
        let fresh = self.rng.uuid().to_string();
        let what = if new { "create" } else { "update" };
        tx!(self.db, "put an encryption", |tx| {
            unused(tx, id, &format!("Cannot {what} encryption specs. Volume type in use.")).await?;
            let had = encryption::get(tx, id).await?;
            let mut after = match had {
                Some(_) if new => {
                    return Err(Error::bad_request(format!("Volume type encryption for type {id} already exists.")));
                }
                Some(had) => Encryption { updated_at: Some(now), ..had },
                None if new => Encryption {
                    volume_type_id: id,
                    encryption_id: fresh.clone(),
                    provider: String::new(),
                    control_location: String::new(),
                    cipher: None,
                    key_size: None,
                    created_at: now,
                    updated_at: None,
                },
                None => return Err(no_encryption(id)),
            };
            after.provider = change.provider.clone().unwrap_or(after.provider);
            after.control_location = change.control_location.clone().unwrap_or(after.control_location);
            after.cipher = change.cipher.clone().unwrap_or(after.cipher);
            after.key_size = change.key_size.unwrap_or(after.key_size);
            encryption::put(tx, &after).await?;
            Ok(after)
        })
    }

    pub(crate) async fn remove_encryption(&self, id: VolumeTypeId) -> Result<()> {
        tx!(self.db, "remove an encryption", |tx| {
            unused(tx, id, "Cannot delete encryption specs. Volume type in use.").await?;
            match encryption::delete(tx, id).await? {
                true => Ok(()),
                false => Err(no_encryption(id)),
            }
        })
    }

    /// Sets a project's default type. 400 for a type that does not exist.
    pub(crate) async fn set_default_type(&self, project: &str, id_or_name: &str) -> Result<VolumeTypeId> {
        tx!(self.db, "set a project's default volume type", |tx| {
            let found = types::find(tx, &umbel_auth::Visible::All, id_or_name).await;
            let found = found.map_err(|error| match error.is(umbel_core::Kind::NotFound) {
                true => Error::bad_request(error.message().to_owned()),
                false => error,
            })?;
            types::set_project_default(tx, project, found.id).await?;
            Ok(found.id)
        })
    }

    /// By project.
    pub(crate) async fn default_types(&self) -> Result<BTreeMap<String, VolumeTypeId>> {
        let all = read!(self.db, "list default volume types", |tx| types::project_defaults(tx).await)?;
        Ok(all.into_iter().collect())
    }

    pub(crate) async fn unset_default_type(&self, project: &str) -> Result<()> {
        tx!(self.db, "unset a default volume type", |tx| types::unset_project_default(tx, project).await)
    }
}

/// The type, which no volume is of: 400 with these words otherwise.
async fn unused(tx: &mut Tx<Volume>, id: VolumeTypeId, words: &str) -> Result<VolumeType> {
    let found = types::lock(tx, id).await?;
    match types::in_use(tx, id).await? {
        true => Err(Error::bad_request(words.to_owned())),
        false => Ok(found),
    }
}

/// A host's cache cannot know what another host writes.
fn cacheable(specs: &Specs) -> Result<()> {
    let says = |name: &str| specs.get(name).and_then(Option::as_deref).is_some_and(is_true);
    match says("multiattach") && says("cacheable") {
        true => Err(Error::bad_request("cacheable cannot be set with multiattach.")),
        false => Ok(()),
    }
}

pub(crate) fn no_spec(id: VolumeTypeId, name: &str) -> Error {
    Error::not_found(format!("Volume Type {id} has no extra specs with key {name}."))
}

pub(crate) fn no_encryption(id: VolumeTypeId) -> Error {
    Error::not_found(format!("Volume type encryption for type {id} does not exist."))
}
