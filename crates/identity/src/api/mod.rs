//! Handlers: take the request apart, call the service, write the reply.

mod application_credentials;
mod assignments;
mod auth;
mod catalog;
mod credentials;
mod discovery;
mod domain_config;
mod domains;
mod ec2;
mod endpoint_groups;
mod grants;
mod groups;
mod keys;
mod oauth1;
mod policies;
mod projects;
mod query;
mod regions;
mod revocations;
mod roles;
mod tags;
mod trusts;
mod users;

use std::sync::Arc;

use serde::Serialize;
use umbel_api::identity as wire;
use umbel_api::identity::{Collection, CollectionLinks, One};
use umbel_core::Result;
use umbel_http::{FaultStyle, Page, Reply, Req, Routes, Service, next_link};

use crate::Identity;
use crate::store::Window;

/// The service, ready to be mounted on `/identity` or on a port of its own.
pub fn service(state: Arc<Identity>) -> Service {
    let mut routes = Routes::new(state)
        .on(&wire::discovery::LIST_VERSIONS, discovery::list)
        .on(&wire::discovery::SHOW_VERSION, discovery::show)
        .on(&wire::auth::CREATE_TOKEN, auth::create)
        .on(&wire::auth::SHOW_TOKEN, auth::show)
        .on(&wire::auth::DELETE_TOKEN, auth::delete)
        .on(&wire::auth::CATALOG, auth::catalog)
        .on(&wire::auth::PROJECTS, auth::projects)
        .on(&wire::auth::DOMAINS, auth::domains)
        .on(&wire::auth::SYSTEM, auth::system)
        .on(&wire::keys::LIST, keys::list)
        .on(&wire::revocations::LIST_EVENTS, revocations::list)
        .on(&wire::assignments::LIST_ASSIGNMENTS, assignments::list);
    routes = entities(routes);
    routes = catalog_routes(routes);
    routes = extensions(routes);
    for route in &wire::assignments::LIST_GRANTS {
        routes = routes.on(route, grants::list);
    }
    for route in &wire::assignments::CHECK_GRANT {
        routes = routes.on(route, grants::check);
    }
    for route in &wire::assignments::CREATE_GRANT {
        routes = routes.on(route, grants::create);
    }
    for route in &wire::assignments::REVOKE_GRANT {
        routes = routes.on(route, grants::revoke);
    }
    Service::new("/identity", FaultStyle::Identity).routes(routes)
}

fn entities(routes: Routes<Identity>) -> Routes<Identity> {
    routes
        .on(&wire::domains::LIST, domains::list)
        .on(&wire::domains::CREATE, domains::create)
        .on(&wire::domains::SHOW, domains::show)
        .on(&wire::domains::UPDATE, domains::update)
        .on(&wire::domains::DELETE, domains::delete)
        .on(&wire::projects::LIST, projects::list)
        .on(&wire::projects::CREATE, projects::create)
        .on(&wire::projects::SHOW, projects::show)
        .on(&wire::projects::UPDATE, projects::update)
        .on(&wire::projects::DELETE, projects::delete)
        .on(&wire::tags::LIST, tags::list)
        .on(&wire::tags::REPLACE, tags::replace)
        .on(&wire::tags::CLEAR, tags::clear)
        .on(&wire::tags::CHECK, tags::check)
        .on(&wire::tags::ADD, tags::add)
        .on(&wire::tags::DELETE, tags::delete)
        .on(&wire::users::LIST, users::list)
        .on(&wire::users::CREATE, users::create)
        .on(&wire::users::SHOW, users::show)
        .on(&wire::users::UPDATE, users::update)
        .on(&wire::users::DELETE, users::delete)
        .on(&wire::users::CHANGE_PASSWORD, users::change_password)
        .on(&wire::users::PROJECTS, users::projects)
        .on(&wire::users::GROUPS, users::groups)
        .on(&wire::groups::LIST, groups::list)
        .on(&wire::groups::CREATE, groups::create)
        .on(&wire::groups::SHOW, groups::show)
        .on(&wire::groups::UPDATE, groups::update)
        .on(&wire::groups::DELETE, groups::delete)
        .on(&wire::groups::USERS, groups::users)
        .on(&wire::groups::ADD_USER, groups::add_user)
        .on(&wire::groups::HAS_USER, groups::has_user)
        .on(&wire::groups::REMOVE_USER, groups::remove_user)
        .on(&wire::roles::LIST, roles::list)
        .on(&wire::roles::CREATE, roles::create)
        .on(&wire::roles::SHOW, roles::show)
        .on(&wire::roles::UPDATE, roles::update)
        .on(&wire::roles::DELETE, roles::delete)
        .on(&wire::roles::LIST_IMPLIED, roles::list_implied)
        .on(&wire::roles::SHOW_IMPLIED, roles::show_implied)
        .on(&wire::roles::CHECK_IMPLIED, roles::check_implied)
        .on(&wire::roles::CREATE_IMPLIED, roles::create_implied)
        .on(&wire::roles::DELETE_IMPLIED, roles::delete_implied)
        .on(&wire::roles::LIST_INFERENCES, roles::list_inferences)
        .on(&wire::credentials::LIST, credentials::list)
        .on(&wire::credentials::CREATE, credentials::create)
        .on(&wire::credentials::SHOW, credentials::show)
        .on(&wire::credentials::UPDATE, credentials::update)
        .on(&wire::credentials::DELETE, credentials::delete)
        .on(&wire::trusts::LIST, trusts::list)
        .on(&wire::trusts::CREATE, trusts::create)
        .on(&wire::trusts::SHOW, trusts::show)
        .on(&wire::trusts::DELETE, trusts::delete)
        .on(&wire::trusts::ROLES, trusts::list_roles)
        .on(&wire::trusts::ROLE, trusts::show_role)
        .on(&wire::ec2::LIST, ec2::list)
        .on(&wire::ec2::CREATE, ec2::create)
        .on(&wire::ec2::SHOW, ec2::show)
        .on(&wire::ec2::DELETE, ec2::delete)
        .on(&wire::application_credentials::LIST, application_credentials::list)
        .on(&wire::application_credentials::CREATE, application_credentials::create)
        .on(&wire::application_credentials::SHOW, application_credentials::show)
        .on(&wire::application_credentials::DELETE, application_credentials::delete)
        .on(&wire::application_credentials::LIST_RULES, application_credentials::list_rules)
        .on(&wire::application_credentials::SHOW_RULE, application_credentials::show_rule)
        .on(&wire::application_credentials::DELETE_RULE, application_credentials::delete_rule)
}

fn catalog_routes(routes: Routes<Identity>) -> Routes<Identity> {
    routes
        .on(&wire::regions::LIST, regions::list)
        .on(&wire::regions::CREATE, regions::create)
        .on(&wire::regions::SHOW, regions::show)
        .on(&wire::regions::PUT, regions::put)
        .on(&wire::regions::UPDATE, regions::update)
        .on(&wire::regions::DELETE, regions::delete)
        .on(&wire::services::LIST, catalog::list_services)
        .on(&wire::services::CREATE, catalog::create_service)
        .on(&wire::services::SHOW, catalog::show_service)
        .on(&wire::services::UPDATE, catalog::update_service)
        .on(&wire::services::DELETE, catalog::delete_service)
        .on(&wire::endpoints::LIST, catalog::list_endpoints)
        .on(&wire::endpoints::CREATE, catalog::create_endpoint)
        .on(&wire::endpoints::SHOW, catalog::show_endpoint)
        .on(&wire::endpoints::UPDATE, catalog::update_endpoint)
        .on(&wire::endpoints::DELETE, catalog::delete_endpoint)
        .on(&wire::policies::LIST, policies::list)
        .on(&wire::policies::CREATE, policies::create)
        .on(&wire::policies::SHOW, policies::show)
        .on(&wire::policies::UPDATE, policies::update)
        .on(&wire::policies::DELETE, policies::delete)
}

fn extensions(routes: Routes<Identity>) -> Routes<Identity> {
    let mut routes = routes
        .on(&wire::oauth1::LIST, oauth1::list)
        .on(&wire::oauth1::CREATE, oauth1::create)
        .on(&wire::oauth1::SHOW, oauth1::show)
        .on(&wire::oauth1::UPDATE, oauth1::update)
        .on(&wire::oauth1::DELETE, oauth1::delete)
        .on(&wire::endpoint_groups::LIST, endpoint_groups::list)
        .on(&wire::endpoint_groups::CREATE, endpoint_groups::create)
        .on(&wire::endpoint_groups::SHOW, endpoint_groups::show)
        .on(&wire::endpoint_groups::UPDATE, endpoint_groups::update)
        .on(&wire::endpoint_groups::DELETE, endpoint_groups::delete)
        .on(&wire::endpoint_groups::ENDPOINTS, endpoint_groups::endpoints)
        .on(&wire::domain_config::CREATE, domain_config::create);
    for route in &wire::domain_config::SHOW {
        routes = routes.on(route, domain_config::show);
    }
    for route in &wire::domain_config::UPDATE {
        routes = routes.on(route, domain_config::update);
    }
    for route in &wire::domain_config::DELETE {
        routes = routes.on(route, domain_config::delete);
    }
    for route in &wire::domain_config::DEFAULTS {
        routes = routes.on(route, domain_config::defaults);
    }
    routes
}

/// One entity.
fn one(status: u16, name: &'static str, body: impl Serialize) -> Reply {
    Reply::json(status, &One(name, body))
}

fn no_content() -> Reply {
    Reply::empty(204)
}

/// The page that is asked for.
fn window(identity: &Identity, req: &Req) -> Result<Window> {
    let page = Page::of(req, identity.config.max_page)?;
    Ok(Window { limit: page.limit, after: page.marker })
}

/// This request's own URL.
fn here(req: &Req) -> String {
    let path = req.path.find("/v3").map_or("", |at| &req.path[at..]);
    match req.query.is_empty() {
        true => req.url(path),
        false => format!("{}?{}", req.url(path), req.query),
    }
}

/// A page of a list. `rows` has one more than the page where more follow.
fn page<R, T: Serialize>(
    req: &Req,
    window: &Window,
    name: &'static str,
    mut rows: Vec<R>,
    id: impl Fn(&R) -> &str,
    body: impl Fn(R) -> T,
) -> Reply {
    let more = rows.len() > window.limit;
    rows.truncate(window.limit);
    let marker = rows.last().filter(|_| more).map(|row| id(row).to_owned());
    let plain = here(req);
    let plain = plain.split('?').next().unwrap_or(&plain);
    let next = marker.map(|marker| next_link(req, plain, &marker));
    collection(req, name, rows.into_iter().map(body).collect(), next)
}

/// A list that is always whole.
fn whole<T: Serialize>(req: &Req, name: &'static str, items: Vec<T>) -> Reply {
    collection(req, name, items, None)
}

fn collection<T: Serialize>(req: &Req, name: &'static str, items: Vec<T>, next: Option<String>) -> Reply {
    let links = CollectionLinks { next, href: here(req), previous: None };
    Reply::json(200, &Collection { name, items, links })
}
