use std::collections::HashMap;
use std::sync::Arc;

use umbel_api::Microversion;
use umbel_api::compute::server_actions::ACTION;
use umbel_api::compute::server_fields::UpdateRequest;
use umbel_api::compute::servers::{
    CREATE, DELETE, DETAIL, DetailList, LIST, Listed, OneServer, SHOW, ShortList, ShortListed, UPDATE, View,
};
use umbel_api::compute::{Links, NextLink};
use umbel_core::{Ctx, Result};
use umbel_http::{Reply, Req, Routes, next_link};

use super::server_query::list_query;
use super::server_view::{Page, prepare, unknown};
use super::{input, server_actions, server_create};
use crate::Compute;
use crate::model::Server;
use crate::service::create::hostname;
use crate::service::listing::{ListQuery, ServerPage};
use crate::service::servers::{Found, Touches, cell_down};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&LIST, list)
        .on(&DETAIL, detail)
        .on(&SHOW, show)
        .on(&CREATE, server_create::create)
        .on(&UPDATE, update)
        .on(&DELETE, delete)
        .on(&ACTION, server_actions::action)
}

/// The first version that shows servers of cells that do not answer.
const UNKNOWN_SINCE: u16 = 69;

fn next(req: &Req, query: &ListQuery, page: &ServerPage) -> Vec<NextLink> {
    let last_unknown = page.unknown.last().map(|mapped| mapped.server_id);
    let last = last_unknown.or(page.servers.last().map(|(_, server)| server.id));
    let full = page.servers.len() + page.unknown.len() == query.limit;
    match last {
        Some(last) if page.more && full => NextLink::to(next_link(req, &req.url(req.route.path), &last.to_string())),
        _ => Vec::new(),
    }
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let query = list_query(&req, state.config.max_limit)?;
    let page = state.list_servers(&query).await?;
    let servers_links = next(&req, &query, &page);
    let ids: Vec<String> = page.servers.iter().map(|(_, server)| server.id.to_string()).collect();
    let known = page.servers.iter().zip(&ids).map(|((_, server), id)| ShortListed::Known {
        id,
        name: &server.state.name,
        links: Links::pair(&req.root, "servers", id),
    });
    let unknown_ids = unknown_ids(&page, &req);
    let lost = page.unknown.iter().zip(&unknown_ids);
    let lost = lost.map(|(mapped, id)| ShortListed::Unknown(unknown(&req.root, id, mapped, false)));
    Ok(Reply::json(200, &ShortList { servers: known.chain(lost).collect(), servers_links }))
}

async fn detail(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let query = list_query(&req, state.config.max_limit)?;
    let page = state.list_servers(&query).await?;
    let servers_links = next(&req, &query, &page);
    let prepared = prepare(page.servers.iter().map(|(_, server)| server));
    let host_status = match page.servers.is_empty() {
        true => HashMap::new(),
        false => host_status(&state, &req.ctx, req.version).await,
    };
    let shown = Page { root: &req.root, view: View::Detail, admin: req.ctx.is_admin(), host_status };
    let known = page.servers.iter().zip(&prepared).map(|((_, server), prepared)| shown.server(server, prepared));
    let unknown_ids = unknown_ids(&page, &req);
    let lost = page.unknown.iter().zip(&unknown_ids);
    let lost = lost.map(|(mapped, id)| Listed::Unknown(unknown(&req.root, id, mapped, true)));
    let servers = known.chain(lost).collect();
    Ok(Reply::versioned(200, req.version, DetailList { servers, servers_links }))
}

/// None for a version that cannot show them.
fn unknown_ids(page: &ServerPage, req: &Req) -> Vec<String> {
    match req.version.minor >= UNKNOWN_SINCE {
        true => page.unknown.iter().map(|mapped| mapped.server_id.to_string()).collect(),
        false => Vec::new(),
    }
}

/// Only administrators see how hosts do, so only for them hosts are read.
async fn host_status(state: &Compute, ctx: &Ctx, version: Microversion) -> HashMap<String, &'static str> {
    let mut by_host = HashMap::new();
    if !ctx.is_admin() || version.minor < 16 {
        return by_host;
    }
    for (host, up) in state.hosts_up().await {
        let status = match () {
            () if host.forced_down => "DOWN",
            () if host.disabled.is_some() => "MAINTENANCE",
            () if up => "UP",
            () => "UNKNOWN",
        };
        by_host.insert(host.name, status);
    }
    by_host
}

async fn one(state: &Compute, req: Req, server: &Server, view: View) -> Reply {
    let host_status = host_status(state, &req.ctx, req.version).await;
    let shown = Page { root: &req.root, view, admin: req.ctx.is_admin(), host_status };
    let prepared = prepare(std::iter::once(server));
    let servers: Vec<Listed<'_>> = prepared.iter().map(|prepared| shown.server(server, prepared)).collect();
    match servers.into_iter().next() {
        Some(server) => Reply::versioned(200, req.version, OneServer { server }),
        None => Reply::empty(500),
    }
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let id = input::server_id(&req)?;
    match state.find(&req.ctx, id).await? {
        Found::Building(server) | Found::InCell(_, server) => Ok(one(&state, req, &server, View::Show).await),
        Found::Unknown(mapped) if req.version.minor >= UNKNOWN_SINCE => {
            let id = id.to_string();
            Ok(Reply::json(200, &OneServer { server: Listed::Unknown(unknown(&req.root, &id, &mapped, true)) }))
        }
        Found::Unknown(_) => Err(cell_down()),
    }
}

async fn update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let id = input::server_id(&req)?;
    let change = req.json::<UpdateRequest>().await?.server;
    let minor = req.version.minor;
    if change.description.is_some() && minor < 19 {
        return Err(input::unexpected("description"));
    }
    if change.hostname.is_some() && minor < 90 {
        return Err(input::unexpected("hostname"));
    }
    if let Some(name) = &change.name {
        input::name("name", name)?;
    }
    if let Some(Some(text)) = &change.description {
        input::description(text)?;
    }
    if let Some(name) = &change.hostname {
        server_create::check_hostname(name, minor)?;
    }
    server_create::check_addresses(change.access_ip_v4.as_deref(), change.access_ip_v6.as_deref())?;
    let now = state.clock.now();
    let server = state
        .change(&req.ctx, id, Touches::State, |server| {
            let mut new = server.state.clone();
            if let Some(name) = &change.name {
                new.name = name.clone();
            }
            if let Some(description) = &change.description {
                new.description = description.clone().filter(|text| !text.is_empty());
            }
            if let Some(text) = &change.hostname {
                new.hostname = if text.is_empty() { hostname(&new.name, server.id) } else { text.clone() };
            }
            new.updated_at = now;
            Ok(new)
        })
        .await?;
    Ok(one(&state, req, &server, View::Update).await)
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.delete_server(&req.ctx, input::server_id(&req)?).await?;
    Ok(Reply::empty(204))
}
