//! Metadata definitions. Objects, properties and tags share their handlers: a route says which kind it is about.

mod body;
mod items;
mod namespaces;
mod schemas;
mod views;

use umbel_api::image::metadefs as wire;
use umbel_http::Routes;

use crate::Images;
use crate::store::metadefs::Kind;

/// Adds the routes below `/v2/metadefs`, and those of their schemas.
pub fn mount(routes: Routes<Images>) -> Routes<Images> {
    associations(tags(properties(objects(routes))))
        .on(&wire::LIST_NAMESPACES, namespaces::list)
        .on(&wire::CREATE_NAMESPACE, namespaces::create)
        .on(&wire::SHOW_NAMESPACE, namespaces::show)
        .on(&wire::UPDATE_NAMESPACE, namespaces::update)
        .on(&wire::DELETE_NAMESPACE, namespaces::delete)
        .on(&wire::SHOW_SCHEMA, schemas::show)
}

fn objects(routes: Routes<Images>) -> Routes<Images> {
    routes
        .on(&wire::LIST_OBJECTS, |state, req| items::list(state, req, Kind::Object))
        .on(&wire::CREATE_OBJECT, |state, req| items::create(state, req, Kind::Object))
        .on(&wire::CLEAR_OBJECTS, |state, req| items::clear(state, req, Kind::Object))
        .on(&wire::SHOW_OBJECT, |state, req| items::show(state, req, Kind::Object))
        .on(&wire::UPDATE_OBJECT, |state, req| items::update(state, req, Kind::Object))
        .on(&wire::DELETE_OBJECT, |state, req| items::delete(state, req, Kind::Object))
}

fn properties(routes: Routes<Images>) -> Routes<Images> {
    routes
        .on(&wire::LIST_PROPERTIES, |state, req| items::list(state, req, Kind::Property))
        .on(&wire::CREATE_PROPERTY, |state, req| items::create(state, req, Kind::Property))
        .on(&wire::CLEAR_PROPERTIES, |state, req| items::clear(state, req, Kind::Property))
        .on(&wire::SHOW_PROPERTY, items::show_property)
        .on(&wire::UPDATE_PROPERTY, |state, req| items::update(state, req, Kind::Property))
        .on(&wire::DELETE_PROPERTY, |state, req| items::delete(state, req, Kind::Property))
}

fn tags(routes: Routes<Images>) -> Routes<Images> {
    routes
        .on(&wire::LIST_TAGS, |state, req| items::list(state, req, Kind::Tag))
        .on(&wire::CREATE_TAGS, items::create_tags)
        .on(&wire::CREATE_TAG, items::create_tag)
        .on(&wire::CLEAR_TAGS, |state, req| items::clear(state, req, Kind::Tag))
        .on(&wire::SHOW_TAG, |state, req| items::show(state, req, Kind::Tag))
        .on(&wire::UPDATE_TAG, |state, req| items::update(state, req, Kind::Tag))
        .on(&wire::DELETE_TAG, |state, req| items::delete(state, req, Kind::Tag))
}

fn associations(routes: Routes<Images>) -> Routes<Images> {
    routes
        .on(&wire::LIST_RESOURCE_TYPES, items::list_resource_types)
        .on(&wire::LIST_ASSOCIATIONS, |state, req| items::list(state, req, Kind::ResourceType))
        .on(&wire::CREATE_ASSOCIATION, |state, req| items::create(state, req, Kind::ResourceType))
        .on(&wire::DELETE_ASSOCIATION, |state, req| items::delete(state, req, Kind::ResourceType))
}
