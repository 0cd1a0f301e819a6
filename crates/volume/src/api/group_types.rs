use std::sync::Arc;

use umbel_api::volume::group_types as wire;
use umbel_core::{Error, Id, Result};
use umbel_db::{read, tx};
use umbel_http::{Reply, Req, Routes};

use super::input::flag;
use super::lists::{self, Key};
use crate::Volumes;
use crate::service::Caller;
use crate::store::group_types::{self, GroupType, GroupTypeId};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::SPECS_LIST, list_specs)
        .on(&wire::SPECS_CREATE, create_specs)
        .on(&wire::SPECS_SHOW, show_spec)
        .on(&wire::SPECS_UPDATE, update_spec)
        .on(&wire::SPECS_DELETE, delete_spec)
}

fn type_id(req: &Req) -> Result<GroupTypeId> {
    let text = req.param("type_id")?;
    text.parse().map_err(|_| group_types::not_found(text))
}

fn view(found: &GroupType, admin: bool) -> wire::GroupType<'_> {
    wire::GroupType {
        id: found.id.to_string(),
        name: &found.name,
        description: found.description.as_deref(),
        is_public: found.is_public,
        group_specs: admin.then_some(&found.specs),
    }
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let admin = Caller::of(&req.ctx)?.admin;
    let is_public = lists::is_public(&req, admin)?;
    let mut all = read!(state.db, "list group types", |tx| group_types::list(tx).await)?;
    all.retain(|one| is_public.is_none_or(|wanted| one.is_public == wanted));
    let (page, group_type_links) = lists::page(&req, wire::LIST.path, state.config.max_page, all, |one, name| {
        Some(match name {
            "id" => Key::Text(one.id.to_string()),
            "name" => Key::Text(one.name.clone()),
            "description" => Key::Text(one.description.clone().unwrap_or_default()),
            "is_public" => Key::Number(one.is_public.into()),
            "created_at" => Key::Number(one.created_at.0),
            "updated_at" => Key::Number(one.updated_at.map_or(0, |at| at.0)),
            _ => return None,
        })
    })?;
    let group_types = page.iter().map(|one| view(one, admin)).collect();
    Ok(Reply::json(200, &wire::GroupTypes { group_types, group_type_links }))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let admin = Caller::of(&req.ctx)?.admin;
    let id = match req.param("type_id")? {
        "default" => state.config.default_group_type.as_str(),
        other => other,
    };
    if id.is_empty() {
        return Err(Error::not_found("Default group type can not be found."));
    }
    let found = read!(state.db, "show a group type", |tx| group_types::find(tx, id, admin).await)?;
    Ok(Reply::json(200, &wire::OneGroupType { group_type: view(&found, admin) }))
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let asked = req.json::<wire::CreateRequest>().await?.group_type;
    let specs = asked.group_specs.unwrap_or_default();
    lists::specs(specs.iter().map(|(name, value)| (name, Some(value))), true)?;
    let new = GroupType {
        id: Id::random(&*state.rng),
        name: lists::name(asked.name)?,
        description: asked.description,
        is_public: asked.is_public.as_ref().map_or(Ok(true), |value| flag("is_public", value))?,
        specs: specs.into_iter().map(|(name, value)| (name, Some(value))).collect(),
        created_at: state.clock.now(),
        updated_at: None,
    };
    tx!(state.db, "create a group type", |tx| group_types::insert(tx, &new).await)?;
    Ok(Reply::json(202, &wire::OneGroupType { group_type: view(&new, true) }))
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let asked = req.json::<wire::UpdateRequest>().await?.group_type;
    let name = asked.name.filter(|name| !name.is_empty()).map(lists::name).transpose()?;
    let is_public = asked.is_public.as_ref().map(|value| flag("is_public", value)).transpose()?;
    if name.is_none() && asked.description.is_none() && is_public.is_none() {
        return Err(Error::bad_request("Specify group type name, description or a combination thereof."));
    }
    let now = state.clock.now();
    let found = tx!(state.db, "update a group type", |tx| {
        let before = group_types::lock(tx, id).await?;
        let after = GroupType {
            name: name.clone().unwrap_or(before.name),
            description: asked.description.clone().or(before.description),
            is_public: is_public.unwrap_or(before.is_public),
            updated_at: Some(now),
            ..before
        };
        group_types::update(tx, &after).await?;
        Ok(after)
    })?;
    Ok(Reply::json(200, &wire::OneGroupType { group_type: view(&found, true) }))
}

/// 400 while groups are of it.
async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    tx!(state.db, "delete a group type", |tx| {
        group_types::lock(tx, id).await?;
        if group_types::in_use(tx, id).await? {
            return Err(Error::bad_request("Target group type is still in use."));
        }
        group_types::delete(tx, id).await
    })?;
    Ok(Reply::empty(202))
}

async fn specs_of(state: &Volumes, id: GroupTypeId) -> Result<wire::Specs> {
    let found = read!(state.db, "show group specs", |tx| group_types::get(tx, id).await)?;
    Ok(found.ok_or_else(|| group_types::not_found(id))?.specs)
}

async fn list_specs(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let group_specs = specs_of(&state, type_id(&req)?).await?;
    Ok(Reply::json(200, &wire::SpecsBody { group_specs }))
}

async fn put(state: &Volumes, id: GroupTypeId, specs: &wire::Specs) -> Result<()> {
    lists::specs(specs.iter().map(|(name, value)| (name, value.as_ref())), false)?;
    tx!(state.db, "put group specs", |tx| {
        group_types::lock(tx, id).await?;
        group_types::put_specs(tx, id, specs).await
    })
}

async fn create_specs(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body: wire::SpecsBody = req.json().await?;
    put(&state, type_id(&req)?, &body.group_specs).await?;
    Ok(Reply::json(202, &body))
}

fn no_spec(id: GroupTypeId, key: &str) -> Error {
    Error::not_found(format!("Group Type {id} has no extra spec with key {key}."))
}

async fn show_spec(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (id, key) = (type_id(&req)?, req.param("key")?);
    let value = specs_of(&state, id).await?.remove(key).ok_or_else(|| no_spec(id, key))?;
    Ok(Reply::json(200, &wire::Specs::from([(key.to_owned(), value)])))
}

async fn update_spec(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let specs: wire::Specs = req.json().await?;
    if specs.len() != 1 || !specs.contains_key(req.param("key")?) {
        return Err(Error::bad_request("Request body and URI mismatch"));
    }
    put(&state, id, &specs).await?;
    Ok(Reply::json(200, &specs))
}

async fn delete_spec(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (id, key) = (type_id(&req)?, req.param("key")?);
    let there = tx!(state.db, "remove a group spec", |tx| {
        group_types::lock(tx, id).await?;
        group_types::remove_spec(tx, id, key).await
    })?;
    match there {
        true => Ok(Reply::empty(202)),
        false => Err(no_spec(id, key)),
    }
}
