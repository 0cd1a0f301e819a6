//! Objects, properties, tags and resource types of a namespace: one set of rules, since they differ in words only.

use umbel_core::{Ctx, Error, Kind as ErrorKind, Result, Timestamp};
use umbel_db::{Tx, read, tx};

use super::super::Caller;
use super::drafts::{AssociationBody, Draft, findable};
use super::{ItemListing, held, no_namespace, not_found};
use crate::Images;
use crate::store::Image;
use crate::store::metadefs::{self as rows, Item, Kind, Namespace};

impl Images {
    pub(crate) async fn list_items(
        &self,
        ctx: &Ctx,
        namespace: &str,
        kind: Kind,
        listing: &ItemListing,
    ) -> Result<Vec<Item>> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "list definitions", |tx| {
            let seen = seen(tx, &caller, namespace, kind).await?;
            let marker = match &listing.marker {
                Some(name) => Some(found(tx, &seen, kind, name).await?),
                None => None,
            };
            rows::list(tx, seen.id, kind, listing.order, marker.as_ref(), listing.limit).await
        })
    }

    pub(crate) async fn show_item(&self, ctx: &Ctx, namespace: &str, kind: Kind, name: &str) -> Result<Item> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "show definition", |tx| {
            let seen = seen(tx, &caller, namespace, kind).await?;
            found(tx, &seen, kind, name).await
        })
    }

    /// A property by the name that it has on a type of resources, which is the name here behind that type's prefix.
    pub(crate) async fn show_property_on(
        &self,
        ctx: &Ctx,
        namespace: &str,
        resource_type: &str,
        name: &str,
    ) -> Result<Item> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "show property on a resource", |tx| {
            let seen = seen(tx, &caller, namespace, Kind::Property).await?;
            let association = found(tx, &seen, Kind::ResourceType, resource_type).await?;
            let body: AssociationBody = serde_json::from_str(&association.body)
                .map_err(|error| Error::internal("an association's row").because(error))?;
            let prefix = body.prefix.unwrap_or_default();
            let short = name.strip_prefix(&prefix).ok_or_else(|| {
                Error::not_found(format!(
                    "Property {name} does not start with the expected resource type association prefix of '{prefix}'."
                ))
            })?;
            found(tx, &seen, Kind::Property, short).await
        })
    }

    pub(crate) async fn add_item(&self, ctx: &Ctx, namespace: &str, kind: Kind, draft: &Draft) -> Result<Item> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "add definition", |tx| {
            let held = held(tx, &caller, namespace).await?;
            put(tx, &held, kind, draft, now).await
        })
    }

    /// In place of all tags that there are, or beside them. Of no tags, nothing happens.
    pub(crate) async fn add_tags(&self, ctx: &Ctx, namespace: &str, drafts: &[Draft], append: bool) -> Result<()> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "add tags", |tx| {
            let held = held(tx, &caller, namespace).await?;
            if !append && !drafts.is_empty() {
                rows::clear(tx, held.id, Kind::Tag).await?;
            }
            for draft in drafts {
                put(tx, &held, Kind::Tag, draft, now).await?;
            }
            Ok(())
        })
    }

    /// Puts another in its place, which may have another name.
    pub(crate) async fn replace_item(
        &self,
        ctx: &Ctx,
        namespace: &str,
        kind: Kind,
        name: &str,
        draft: &Draft,
    ) -> Result<Item> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "replace definition", |tx| {
            let held = held(tx, &caller, namespace).await?;
            let before = found(tx, &held, kind, name).await?;
            let after = Item {
                name: draft.name.clone(),
                body: draft.body.clone(),
                created_at: before.created_at,
                updated_at: now,
            };
            rows::replace(tx, held.id, kind, name, &after).await.map_err(|error| match error.kind() {
                ErrorKind::Conflict => Error::conflict(format!(
                    "Invalid update. It would result in a duplicate metadata definition {} with same name={} in \
                     namespace={}.",
                    word(kind),
                    after.name,
                    held.name
                )),
                _ => error,
            })?;
            Ok(after)
        })
    }

    pub(crate) async fn remove_item(&self, ctx: &Ctx, namespace: &str, kind: Kind, name: &str) -> Result<()> {
        let caller = Caller::of(ctx)?;
        tx!(self.db, "remove definition", |tx| {
            let held = held(tx, &caller, namespace).await?;
            let missing = || match kind {
                Kind::ResourceType => Error::not_found(format!("Failed to find resource type {name} to delete")),
                _ => no_item(kind, name, &held.name),
            };
            findable(name).map_err(|()| missing())?;
            let item = rows::get(tx, held.id, kind, name).await?.ok_or_else(missing)?;
            if held.protected {
                return Err(protected(kind, &item.name));
            }
            rows::remove(tx, held.id, kind, name).await?;
            Ok(())
        })
    }
}

/// Resource types that are new become known to the whole service.
pub(super) async fn put(
    tx: &mut Tx<Image>,
    namespace: &Namespace,
    kind: Kind,
    draft: &Draft,
    now: Timestamp,
) -> Result<Item> {
    if kind == Kind::ResourceType {
        rows::add_resource_type(tx, &draft.name, now).await?;
    }
    let item = Item { name: draft.name.clone(), body: draft.body.clone(), created_at: now, updated_at: now };
    rows::insert(tx, namespace.id, kind, &item).await.map_err(|error| match error.kind() {
        ErrorKind::Conflict => duplicate(kind, &item.name, &namespace.name),
        _ => error,
    })?;
    Ok(item)
}

async fn seen(tx: &mut Tx<Image>, caller: &Caller, namespace: &str, kind: Kind) -> Result<Namespace> {
    let missing = || match kind {
        Kind::Object => not_found(namespace),
        _ => no_namespace(namespace),
    };
    findable(namespace).map_err(|()| missing())?;
    rows::get_namespace(tx, &caller.visible, namespace).await?.ok_or_else(missing)
}

async fn found(tx: &mut Tx<Image>, namespace: &Namespace, kind: Kind, name: &str) -> Result<Item> {
    findable(name).map_err(|()| no_item(kind, name, &namespace.name))?;
    rows::get(tx, namespace.id, kind, name).await?.ok_or_else(|| no_item(kind, name, &namespace.name))
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "object",
        Kind::Property => "property",
        Kind::Tag => "tag",
        Kind::ResourceType => "resource-type-association",
    }
}

fn no_item(kind: Kind, name: &str, namespace: &str) -> Error {
    Error::not_found(match kind {
        Kind::ResourceType => format!(
            "The metadata definition resource-type association of resource-type={name} to namespace={namespace}, was \
             not found."
        ),
        _ => {
            let word = word(kind);
            format!("The metadata definition {word} with name={name} was not found in namespace={namespace}.")
        }
    })
}

fn duplicate(kind: Kind, name: &str, namespace: &str) -> Error {
    Error::conflict(match kind {
        Kind::ResourceType => format!(
            "The metadata definition resource-type association of resource-type={name} to namespace={namespace} \
             already exists."
        ),
        Kind::Tag => format!(
            "A metadata tag with name={name} already exists in namespace={namespace}. (Please note that metadata tag \
             names are case insensitive)."
        ),
        _ => {
            let word = word(kind);
            format!("A metadata definition {word} with name={name} already exists in namespace={namespace}.")
        }
    })
}

fn protected(kind: Kind, name: &str) -> Error {
    Error::forbidden(format!("Metadata definition {} {name} is protected and cannot be deleted.", word(kind)))
}
