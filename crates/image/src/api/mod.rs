//! From requests to calls and back.

mod actions;
mod cache;
mod data;
mod images;
mod imports;
mod info;
mod locations;
mod members;
mod metadefs;
mod schemas;
mod tags;
mod tasks;
mod versions;

use std::sync::Arc;

use umbel_api::image as routes;
use umbel_http::{FaultStyle, Routes, Service};

use crate::Images;

/// The service as it is mounted: all routes, below `/image`.
pub fn service(state: Arc<Images>) -> Service {
    let routes = Routes::new(state)
        .on(&routes::ROOT, versions::choose)
        .on(&routes::LIST_V2, versions::choose)
        .on(&routes::LIST_VERSIONS, versions::list)
        .on(&routes::CREATE, images::create)
        .on(&routes::LIST, images::list)
        .on(&routes::SHOW, images::show)
        .on(&routes::UPDATE, images::update)
        .on(&routes::DELETE, images::delete)
        .on(&routes::DELETE_NONE, images::delete_none)
        .on(&routes::UPLOAD, data::upload)
        .on(&routes::DOWNLOAD, data::download)
        .on(&routes::CREATE_TAG, tags::create)
        .on(&routes::DELETE_TAG, tags::delete)
        .on(&routes::CREATE_MEMBER, members::create)
        .on(&routes::LIST_MEMBERS, members::list)
        .on(&routes::SHOW_MEMBER, members::show)
        .on(&routes::UPDATE_MEMBER, members::update)
        .on(&routes::DELETE_MEMBER, members::delete)
        .on(&routes::DEACTIVATE, actions::deactivate)
        .on(&routes::REACTIVATE, actions::reactivate)
        .on(&routes::LIST_LOCATIONS, locations::list)
        .on(&routes::CREATE_LOCATION, locations::create)
        .on(&routes::SHOW_SCHEMA, schemas::show)
        .on(&routes::SHOW_IMPORT, info::import)
        .on(&routes::SHOW_STORES, info::stores)
        .on(&routes::SHOW_STORES_DETAIL, info::stores_detail)
        .on(&routes::SHOW_USAGE, info::usage)
        .on(&routes::DELETE_FROM_STORE, info::delete_from_store)
        .on(&routes::STAGE, data::stage)
        .on(&routes::IMPORT, imports::create)
        .on(&routes::LIST_TASKS, tasks::list)
        .on(&routes::SHOW_TASK, tasks::show)
        .on(&routes::CREATE_TASK, tasks::create)
        .on(&routes::LIST_IMAGE_TASKS, tasks::of_image)
        .on(&routes::SHOW_CACHE, cache::show)
        .on(&routes::CACHE_IMAGE, cache::create)
        .on(&routes::UNCACHE_IMAGE, cache::delete)
        .on(&routes::CLEAR_CACHE, cache::clear);
    Service::new("/image", FaultStyle::Image).on_behalf().routes(metadefs::mount(routes))
}
