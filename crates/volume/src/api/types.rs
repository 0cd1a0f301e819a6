use std::sync::Arc;

use umbel_api::volume::types as wire;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes};

use super::input::flag;
use super::lists::{self, Key};
use crate::Volumes;
use crate::service::Caller;
use crate::service::types::{TypeChange, no_spec};
use crate::store::types::{self, Specs, VolumeType, VolumeTypeId};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::SPECS_LIST, list_specs)
        .on(&wire::SPECS_SHOW, show_spec)
        .on(&wire::SPECS_CREATE, create_specs)
        .on(&wire::SPECS_UPDATE, update_spec)
        .on(&wire::SPECS_DELETE, delete_spec)
        .on(&wire::ACCESS_LIST, list_access)
        .on(&wire::ACTION, action)
        .on(&wire::DEFAULTS_LIST, list_defaults)
        .on(&wire::DEFAULT_SHOW, show_default)
        .on(&wire::DEFAULT_SET, set_default)
        .on(&wire::DEFAULT_UNSET, unset_default)
}

/// Extra specs that every user may know: they say what a volume of the type is good for.
const VISIBLE_SPECS: &[&str] = &["RESKEY:availability_zones", "multiattach", "replication_enabled"];

pub(super) fn type_id(req: &Req) -> Result<VolumeTypeId> {
    let text = req.param("type_id")?;
    text.parse().map_err(|_| types::not_found(text))
}

fn shown_specs(found: &VolumeType, admin: bool) -> Specs {
    let seen = |name: &str| admin || VISIBLE_SPECS.contains(&name);
    found.extra_specs.iter().filter(|(name, _)| seen(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `changed`: the answer to a change, which upstream makes shorter.
fn view(found: &VolumeType, admin: bool, changed: bool) -> wire::VolumeType<'_> {
    wire::VolumeType {
        id: found.id.to_string(),
        name: &found.name,
        is_public: found.is_public,
        description: found.description.as_deref(),
        extra_specs: shown_specs(found, admin),
        qos_specs_id: (admin && !changed).then(|| found.qos_specs_id.map(|id| id.to_string())),
        access_is_public: Some(found.is_public),
    }
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let is_public = lists::is_public(&req, caller.admin)?;
    let project = caller.project_id.clone().map(umbel_auth::Visible::Project);
    // Public ones are those that the caller's project may use: upstream counts what was opened to it.
    let visible = match (is_public, project) {
        (Some(true), Some(project)) => project,
        _ => caller.visible.clone(),
    };
    let mut all = read!(state.db, "list volume types", |tx| types::list(tx, &visible).await)?;
    match is_public {
        Some(false) => all.retain(|one| !one.is_public),
        Some(true) if caller.project_id.is_none() => all.retain(|one| one.is_public),
        _ => {}
    }
    for (name, value) in req.query_pairs() {
        if name == "extra_specs" && req.version.at_least(3, 52) {
            let wanted = crate::listing::dictionary(&value)?;
            all.retain(|one| {
                let seen = shown_specs(one, caller.admin);
                wanted.iter().all(|(name, value)| seen.get(name).and_then(Option::as_ref) == Some(value))
            });
        }
    }
    let (page, volume_type_links) = lists::page(&req, wire::LIST.path, state.config.max_page, all, |one, name| {
        Some(match name {
            "id" => Key::Text(one.id.to_string()),
            "name" => Key::Text(one.name.clone()),
            "description" => Key::Text(one.description.clone().unwrap_or_default()),
            "is_public" => Key::Number(one.is_public.into()),
            "qos_specs_id" => Key::Text(one.qos_specs_id.map(|id| id.to_string()).unwrap_or_default()),
            "created_at" => Key::Number(one.created_at.0),
            "updated_at" => Key::Number(one.updated_at.map_or(0, |at| at.0)),
            _ => return None,
        })
    })?;
    let volume_types = page.iter().map(|one| view(one, caller.admin, false)).collect();
    Ok(Reply::json(200, &wire::Types { volume_types, volume_type_links }))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let found = state.volume_type(&caller, req.param("type_id")?).await?;
    Ok(Reply::json(200, &wire::OneType { volume_type: view(&found, caller.admin, false) }))
}

fn description(text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.chars().count() > 255 => {
            Err(Error::bad_request("Invalid input received: description has more than 255 characters."))
        }
        text => Ok(text),
    }
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let new = req.json::<wire::CreateRequest>().await?.volume_type;
    lists::specs(new.extra_specs.iter().map(|(name, value)| (name, value.as_ref())), true)?;
    let is_public = new.is_public.as_ref().map_or(Ok(true), |value| flag("os-volume-type-access:is_public", value))?;
    let (name, description) = (lists::name(new.name)?, description(new.description)?);
    let found = state.create_type(name, description, is_public, new.extra_specs).await?;
    Ok(Reply::json(200, &wire::OneType { volume_type: view(&found, true, true) }))
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let asked = req.json::<wire::UpdateRequest>().await?.volume_type;
    let change = TypeChange {
        name: asked.name.map(lists::name).transpose()?,
        description: description(asked.description)?,
        is_public: asked.is_public.as_ref().map(|value| flag("is_public", value)).transpose()?,
    };
    if change.name.is_none() && change.description.is_none() && change.is_public.is_none() {
        return Err(Error::bad_request("Specify volume type name, description, is_public or a combination thereof."));
    }
    let found = state.update_type(id, &change).await?;
    let mut volume_type = view(&found, true, true);
    volume_type.access_is_public = None;
    Ok(Reply::json(200, &wire::OneType { volume_type }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.delete_type(type_id(&req)?).await?;
    Ok(Reply::empty(202))
}

async fn specs_of(state: &Volumes, req: &Req) -> Result<Specs> {
    let caller = Caller::of(&req.ctx)?;
    let found = state.volume_type(&caller, &type_id(req)?.to_string()).await?;
    Ok(shown_specs(&found, caller.admin))
}

async fn list_specs(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let extra_specs = specs_of(&state, &req).await?;
    Ok(Reply::json(200, &wire::SpecsBody { extra_specs }))
}

async fn show_spec(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (id, key) = (type_id(&req)?, req.param("key")?);
    let mut specs = specs_of(&state, &req).await?;
    let value = specs.remove(key).ok_or_else(|| no_spec(id, key))?;
    Ok(Reply::json(200, &Specs::from([(key.to_owned(), value)])))
}

async fn create_specs(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let body: wire::SpecsBody = req.json().await?;
    lists::specs(body.extra_specs.iter().map(|(name, value)| (name, value.as_ref())), false)?;
    state.put_extra_specs(id, &body.extra_specs).await?;
    Ok(Reply::json(200, &body))
}

async fn update_spec(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let specs: Specs = req.json().await?;
    if specs.len() != 1 {
        return Err(Error::bad_request("Request body must have exactly one extra spec."));
    }
    lists::specs(specs.iter().map(|(name, value)| (name, value.as_ref())), false)?;
    if !specs.contains_key(req.param("key")?) {
        return Err(Error::bad_request("Request body and URI mismatch"));
    }
    state.put_extra_specs(id, &specs).await?;
    Ok(Reply::json(200, &specs))
}

async fn delete_spec(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.remove_extra_spec(type_id(&req)?, req.param("key")?).await?;
    Ok(Reply::empty(202))
}

async fn list_access(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let projects = state.type_projects(id).await?;
    let access = |project_id| wire::Access { volume_type_id: id.to_string(), project_id };
    Ok(Reply::json(200, &wire::AccessList { volume_type_access: projects.into_iter().map(access).collect() }))
}

async fn action(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = type_id(&req)?;
    let (project, open) = match req.json().await? {
        wire::Action::Add(of) => (of.project, true),
        wire::Action::Remove(of) => (of.project, false),
    };
    if project.is_empty() || project.chars().count() > 255 {
        return Err(Error::bad_request("Invalid input for field/attribute project. Its length is 1 to 255."));
    }
    state.open_type(id, &project, open).await?;
    Ok(Reply::empty(202))
}

fn default(project_id: &str, id: VolumeTypeId) -> wire::DefaultType {
    wire::DefaultType { project_id: project_id.to_owned(), volume_type_id: id.to_string() }
}

async fn list_defaults(state: Arc<Volumes>, _req: Req) -> Result<Reply> {
    let all = state.default_types().await?;
    let default_types = all.iter().map(|(project, id)| default(project, *id)).collect();
    Ok(Reply::json(200, &wire::Defaults { default_types }))
}

async fn show_default(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let project = req.param("project_id")?;
    let found = state.default_types().await?.get(project).copied();
    let id = found.ok_or_else(|| Error::not_found(format!("Default type for project {project} not found.")))?;
    Ok(Reply::json(200, &wire::OneDefault { default_type: default(project, id) }))
}

async fn set_default(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let wanted = req.json::<wire::DefaultRequest>().await?.default_type.volume_type;
    let project = req.param("project_id")?;
    let id = state.set_default_type(project, &wanted).await?;
    Ok(Reply::json(200, &wire::OneDefault { default_type: default(project, id) }))
}

async fn unset_default(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.unset_default_type(req.param("project_id")?).await?;
    Ok(Reply::empty(204))
}
