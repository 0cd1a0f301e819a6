//! Namespaces of metadata definitions.
//!
//! Everyone sees the public ones and those of the own project; what is not seen is not there (404). Only administrators
//! change any, which the routes say. Protection keeps a namespace and what it holds from removal, not from changes.

mod drafts;
mod items;
mod listing;

use std::collections::BTreeMap;

use umbel_api::image::metadefs::{NewNamespace, Visibility};
use umbel_core::{Ctx, Error, Id, Kind as ErrorKind, Result, Timestamp};
use umbel_db::{Direction, Tx, read, tx};

use super::Caller;
use crate::Images;
use crate::store::Image;
use crate::store::metadefs::{self as rows, Item, Kind, Namespace, NamespaceId, ResourceType, Sort};

pub(crate) use drafts::{AssociationBody, Draft, ObjectBody};
pub(crate) use listing::{ItemListing, NamespaceListing};

/// A namespace and what it holds; in lists, only what it is meant for.
pub(crate) struct Detail {
    pub namespace: Namespace,
    pub resource_types: Vec<Item>,
    pub properties: Vec<Item>,
    pub objects: Vec<Item>,
    pub tags: Vec<Item>,
}

impl Images {
    /// With all that the request puts into it, or not at all.
    pub(crate) async fn create_namespace(&self, ctx: &Ctx, new: &NewNamespace) -> Result<Detail> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let id = Id::random(self.rng.as_ref());
        let namespace = described(new, &caller, blank(id, now))?;
        let drafts = drafts::within(new)?;
        tx!(self.db, "create namespace", |tx| {
            rows::insert_namespace(tx, &namespace).await.map_err(|error| match error.kind() {
                ErrorKind::Conflict => {
                    Error::conflict(format!("The metadata definition namespace={} already exists.", namespace.name))
                }
                _ => error,
            })?;
            for (kind, draft) in &drafts {
                items::put(tx, &namespace, *kind, draft, now).await?;
            }
            detail(tx, namespace.clone()).await
        })
    }

    /// A page, and whether there is another after it.
    pub(crate) async fn list_namespaces(&self, ctx: &Ctx, listing: &NamespaceListing) -> Result<(Vec<Detail>, bool)> {
        let visible = Caller::of(ctx)?.visible;
        read!(self.db, "list namespaces", |tx| {
            let marker = match &listing.marker {
                Some(name) => Some(rows::get_namespace(tx, &visible, name).await?.ok_or_else(|| not_found(name))?),
                None => None,
            };
            let limit = listing.limit;
            let mut found = rows::list_namespaces(tx, &visible, &listing.filter, marker.as_ref(), limit + 1).await?;
            let more = found.len() > limit && limit > 0;
            found.truncate(limit);
            let mut meant: BTreeMap<NamespaceId, Vec<Item>> = BTreeMap::new();
            for (id, item) in rows::of_all(tx, found.iter().map(|found| found.id), Kind::ResourceType).await? {
                meant.entry(id).or_default().push(item);
            }
            let page = found.into_iter().map(|namespace| {
                let own = meant.remove(&namespace.id).unwrap_or_default();
                bare(namespace, own)
            });
            Ok((page.collect(), more))
        })
    }

    pub(crate) async fn show_namespace(&self, ctx: &Ctx, name: &str) -> Result<Detail> {
        let visible = Caller::of(ctx)?.visible;
        drafts::findable(name).map_err(|()| not_found(name))?;
        read!(self.db, "show namespace", |tx| {
            let found = rows::get_namespace(tx, &visible, name).await?;
            detail(tx, found.ok_or_else(|| not_found(name))?).await
        })
    }

    /// What is not said falls back to what a new namespace has.
    pub(crate) async fn update_namespace(&self, ctx: &Ctx, name: &str, new: &NewNamespace) -> Result<Namespace> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "update namespace", |tx| {
            let before = held(tx, &caller, name).await?;
            let after = described(new, &caller, Namespace { updated_at: now, ..before })?;
            rows::update_namespace(tx, &after).await.map_err(|error| match error.kind() {
                ErrorKind::Conflict => Error::conflict(format!(
                    "Invalid update. It would result in a duplicate metadata definition namespace with the same name \
                     of {}",
                    after.name
                )),
                _ => error,
            })?;
            Ok(after)
        })
    }

    pub(crate) async fn delete_namespace(&self, ctx: &Ctx, name: &str) -> Result<()> {
        let caller = Caller::of(ctx)?;
        tx!(self.db, "delete namespace", |tx| {
            let namespace = held(tx, &caller, name).await?;
            removable(&namespace)?;
            rows::delete_namespace(tx, namespace.id).await
        })
    }

    /// Removes all items of a kind.
    pub(crate) async fn clear_namespace(&self, ctx: &Ctx, name: &str, kind: Kind) -> Result<()> {
        let caller = Caller::of(ctx)?;
        tx!(self.db, "clear namespace", |tx| {
            let namespace = held(tx, &caller, name).await?;
            removable(&namespace)?;
            rows::clear(tx, namespace.id, kind).await
        })
    }

    pub(crate) async fn list_resource_types(&self) -> Result<Vec<ResourceType>> {
        read!(self.db, "list resource types", |tx| rows::resource_types(tx).await)
    }
}

/// The namespace of a request that changes something in it.
async fn held(tx: &mut Tx<Image>, caller: &Caller, name: &str) -> Result<Namespace> {
    drafts::findable(name).map_err(|()| no_namespace(name))?;
    rows::lock_namespace(tx, &caller.visible, name).await?.ok_or_else(|| no_namespace(name))
}

async fn detail(tx: &mut Tx<Image>, namespace: Namespace) -> Result<Detail> {
    let order = (Sort::CreatedAt, Direction::Desc);
    let mut detail = bare(namespace, Vec::new());
    let id = detail.namespace.id;
    detail.resource_types = rows::list(tx, id, Kind::ResourceType, order, None, None).await?;
    detail.properties = rows::list(tx, id, Kind::Property, order, None, None).await?;
    detail.objects = rows::list(tx, id, Kind::Object, order, None, None).await?;
    detail.tags = rows::list(tx, id, Kind::Tag, order, None, None).await?;
    Ok(detail)
}

fn bare(namespace: Namespace, resource_types: Vec<Item>) -> Detail {
    Detail { namespace, resource_types, properties: Vec::new(), objects: Vec::new(), tags: Vec::new() }
}

fn blank(id: NamespaceId, now: Timestamp) -> Namespace {
    Namespace {
        id,
        name: String::new(),
        display_name: None,
        description: None,
        visibility: Visibility::default(),
        protected: false,
        owner: None,
        created_at: now,
        updated_at: now,
    }
}

/// The namespace with what the request says of it.
fn described(new: &NewNamespace, caller: &Caller, base: Namespace) -> Result<Namespace> {
    drafts::check_namespace(new)?;
    Ok(Namespace {
        name: new.namespace.clone(),
        display_name: new.display_name.clone(),
        description: new.description.clone(),
        visibility: new.visibility.unwrap_or_default(),
        protected: new.protected.unwrap_or_default(),
        owner: new.owner.clone().or_else(|| caller.project.clone()),
        ..base
    })
}

fn removable(namespace: &Namespace) -> Result<()> {
    match namespace.protected {
        true => Err(Error::forbidden(format!(
            "Metadata definition namespace {} is protected and cannot be deleted.",
            namespace.name
        ))),
        false => Ok(()),
    }
}

/// Upstream has two sentences for this: one where the namespace itself or its objects are asked for, one elsewhere.
fn not_found(name: &str) -> Error {
    Error::not_found(format!("Metadata definition namespace={name} was not found."))
}

fn no_namespace(name: &str) -> Error {
    Error::not_found(format!("Namespace {name} not found"))
}
