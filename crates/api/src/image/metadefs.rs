//! Metadata definitions: what properties of images, flavors and volumes mean, kept for clients that offer them.
//!
//! A namespace holds objects, properties and tags, and says for which types of resources it is meant. The names are
//! those of a module, not of the service: an `Object` or a `Tag` of a namespace is not one of an image.

mod routes;
mod types;

pub use routes::*;
pub use types::{
    ItemType, NamedTag, Namespace, NamespaceList, NewNamespace, NewObject, NewResourceType, Object, ObjectList,
    Property, PropertyKind, PropertyList, ResourceType, ResourceTypeAssociation, ResourceTypeAssociationList,
    ResourceTypeList, Tag, TagList, Visibility,
};
