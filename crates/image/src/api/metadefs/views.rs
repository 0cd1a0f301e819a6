//! Definitions as clients see them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use umbel_api::image::metadefs::{
    NamedTag, Namespace, Object, ObjectList, Property, PropertyList, ResourceTypeAssociation,
    ResourceTypeAssociationList, Tag, TagList,
};
use umbel_core::{Error, Result};
use umbel_http::Reply;

use crate::service::metadefs::{AssociationBody, Detail, ObjectBody};
use crate::store::metadefs::{self as rows, Item, Kind};

/// By itself, without what it holds.
pub fn namespace(namespace: &rows::Namespace) -> Namespace {
    Namespace {
        namespace: namespace.name.clone(),
        display_name: namespace.display_name.clone(),
        description: namespace.description.clone(),
        visibility: namespace.visibility,
        protected: namespace.protected,
        owner: namespace.owner.clone(),
        created_at: namespace.created_at.iso(),
        updated_at: namespace.updated_at.iso(),
        resource_type_associations: Vec::new(),
        properties: BTreeMap::new(),
        objects: Vec::new(),
        tags: Vec::new(),
        self_link: path(&namespace.name),
        schema: "/v2/schemas/metadefs/namespace".into(),
    }
}

/// With what it holds. Names of properties have the prefix of the type of resources, if the namespace is meant for it.
pub fn detail(detail: &Detail, on: Option<&str>) -> Result<Namespace> {
    let name = &detail.namespace.name;
    let mut view = namespace(&detail.namespace);
    view.resource_type_associations = detail.resource_types.iter().map(association).collect::<Result<_>>()?;
    let meant = view.resource_type_associations.iter().find(|meant| Some(meant.name.as_str()) == on);
    let prefix = meant.and_then(|meant| meant.prefix.clone()).unwrap_or_default();
    view.properties = prefixed(properties(&detail.properties)?, &prefix);
    view.objects = detail.objects.iter().map(|item| object(name, item)).collect::<Result<_>>()?;
    for object in &mut view.objects {
        object.properties = prefixed(std::mem::take(&mut object.properties), &prefix);
        for required in &mut object.required {
            required.insert_str(0, &prefix);
        }
    }
    view.tags = detail.tags.iter().map(named).collect();
    Ok(view)
}

pub fn item(status: u16, kind: Kind, namespace: &str, item: &Item) -> Result<Reply> {
    Ok(match kind {
        Kind::Object => Reply::json(status, &object(namespace, item)?),
        Kind::Property => Reply::json(status, &Property { name: Some(item.name.clone()), ..property(item)? }),
        Kind::ResourceType => Reply::json(status, &association(item)?),
        Kind::Tag => {
            let (created_at, updated_at) = (item.created_at.iso(), item.updated_at.iso());
            Reply::json(status, &Tag { name: item.name.clone(), created_at, updated_at })
        }
    })
}

pub fn list(kind: Kind, namespace: &str, items: &[Item]) -> Result<Reply> {
    Ok(match kind {
        Kind::Object => {
            let objects = items.iter().map(|item| object(namespace, item)).collect::<Result<_>>()?;
            Reply::json(200, &ObjectList { objects, schema: "/v2/schemas/metadefs/objects".into() })
        }
        Kind::Property => Reply::json(200, &PropertyList { properties: properties(items)? }),
        Kind::Tag => Reply::json(200, &TagList { tags: items.iter().map(named).collect() }),
        Kind::ResourceType => {
            let resource_type_associations = items.iter().map(association).collect::<Result<_>>()?;
            Reply::json(200, &ResourceTypeAssociationList { resource_type_associations })
        }
    })
}

fn object(namespace: &str, item: &Item) -> Result<Object> {
    let body: ObjectBody = stored(item)?;
    Ok(Object {
        name: item.name.clone(),
        description: body.description,
        required: body.required,
        properties: body.properties,
        created_at: item.created_at.iso(),
        updated_at: item.updated_at.iso(),
        self_link: format!("{}/objects/{}", path(namespace), item.name),
        schema: "/v2/schemas/metadefs/object".into(),
    })
}

fn property(item: &Item) -> Result<Property> {
    stored(item)
}

fn properties(items: &[Item]) -> Result<BTreeMap<String, Property>> {
    items.iter().map(|item| Ok((item.name.clone(), property(item)?))).collect()
}

fn prefixed(properties: BTreeMap<String, Property>, prefix: &str) -> BTreeMap<String, Property> {
    properties.into_iter().map(|(name, property)| (format!("{prefix}{name}"), property)).collect()
}

fn association(item: &Item) -> Result<ResourceTypeAssociation> {
    let body: AssociationBody = stored(item)?;
    Ok(ResourceTypeAssociation {
        name: item.name.clone(),
        prefix: body.prefix,
        properties_target: body.properties_target,
        created_at: item.created_at.iso(),
        updated_at: item.updated_at.iso(),
    })
}

fn named(item: &Item) -> NamedTag {
    NamedTag { name: item.name.clone() }
}

fn stored<T: DeserializeOwned>(item: &Item) -> Result<T> {
    serde_json::from_str(&item.body).map_err(|error| Error::internal("a definition's row").because(error))
}

/// Below the service's root, as upstream writes it.
fn path(namespace: &str) -> String {
    format!("/v2/metadefs/namespaces/{namespace}")
}
