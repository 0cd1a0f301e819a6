use std::sync::Arc;

use umbel_api::Link;
use umbel_api::volume::groups as wire;
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes, next_link};

use super::input;
use super::volumes::short;
use crate::Volumes;
use crate::listing;
use crate::service::Caller;
use crate::service::group_copies::From;
use crate::service::groups::{GroupChange, Shown, WantedGroup};
use crate::store::groups::{Group, GroupId};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::CREATE_FROM, create_from)
        .on(&wire::UPDATE, update)
        .on(&wire::ACTION, action)
}

fn group_id(req: &Req) -> Result<GroupId> {
    req.id("group_id", "Group")
}

fn brief(group: &Group) -> wire::Group {
    wire::Group { id: group.id.to_string(), name: group.name.clone(), detail: None }
}

fn whole(caller: &Caller, shown: Shown, with_volumes: bool) -> wire::Group {
    let Shown { group, types, volumes } = shown;
    let mut one = brief(&group);
    one.detail = Some(wire::GroupDetail {
        status: group.status.name(),
        availability_zone: group.availability_zone,
        created_at: group.created_at.iso_naive(),
        description: group.description,
        group_type: group.group_type_id.to_string(),
        volume_types: types.iter().map(ToString::to_string).collect(),
        source: Some(wire::GroupSource {
            group_snapshot_id: group.group_snapshot_id.map(|id| id.to_string()),
            source_group_id: group.source_group_id.map(|id| id.to_string()),
        }),
        volumes: with_volumes.then(|| volumes.iter().map(ToString::to_string).collect()),
        replication_status: Some("disabled"),
        project_id: caller.admin.then_some(group.project_id),
    });
    one
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/groups", false).await
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/groups/detail", true).await
}

/// Whether the query asks for the ids of the volumes; and the rest of the query.
fn without_list_volume(req: &Req) -> Result<(bool, Vec<(String, String)>)> {
    let (asked, rest): (Vec<_>, Vec<_>) = req.query_pairs().into_iter().partition(|(name, _)| name == "list_volume");
    let wanted = match asked.into_iter().next_back() {
        Some((name, value)) => input::flag(&name, &value.into())?,
        None => false,
    };
    Ok((wanted, rest))
}

async fn page(state: &Volumes, req: &Req, path: &str, details: bool) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let (with_volumes, query) = without_list_volume(req)?;
    let asked = listing::parse(&query, &listing::GROUPS, req.version, caller.admin, state.config.max_page)?;
    let filter = asked.page();
    let visible = caller.listed(asked.all_tenants);
    let (found, more) = state.list_groups(&visible, &filter, details && with_volumes).await?;
    let last = found.last().filter(|_| more).map(|last| last.group.id.to_string());
    let links = last.map(|last| Link::new("next", next_link(req, &req.url(path), &last)));
    let groups = found.into_iter().map(|shown| match details {
        true => whole(&caller, shown, with_volumes),
        false => brief(&shown.group),
    });
    let body = wire::Groups { groups: groups.collect(), group_links: links.into_iter().collect() };
    Ok(Reply::versioned(200, req.version, body))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let (with_volumes, _) = without_list_volume(&req)?;
    let group = whole(&caller, state.group(&caller, group_id(&req)?).await?, with_volumes);
    Ok(Reply::versioned(200, req.version, wire::OneGroup { group }))
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let new = req.json::<wire::CreateRequest>().await?.group;
    let wanted = WantedGroup {
        name: short("name", new.name)?,
        description: short("description", new.description)?,
        group_type: new.group_type,
        volume_types: new.volume_types,
        availability_zone: new.availability_zone,
    };
    let group = brief(&state.create_group(&caller, &wanted).await?);
    Ok(Reply::versioned(202, req.version, wire::OneGroup { group }))
}

async fn create_from(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let new = req.json::<wire::CreateFromRequest>().await?.create;
    let from = match (new.source_group_id, new.group_snapshot_id) {
        (Some(id), None) => From::Group(input::uuid("source_group_id", &id)?),
        (None, Some(id)) => From::Snapshot(input::uuid("group_snapshot_id", &id)?),
        _ => {
            return Err(Error::bad_request(
                "Invalid input for field/attribute create-from-src: one of source_group_id and group_snapshot_id is \
                 needed.",
            ));
        }
    };
    let words = (short("name", new.name)?, short("description", new.description)?);
    let group = brief(&state.create_group_from(&caller, from, words).await?);
    Ok(Reply::versioned(202, req.version, wire::OneGroup { group }))
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = group_id(&req)?;
    let change = req.json::<wire::UpdateRequest>().await?.group;
    let ids = |text: Option<String>| {
        let text = text.unwrap_or_default();
        text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let change = GroupChange {
        name: short("name", change.name)?,
        description: short("description", change.description)?,
        add: ids(change.add_volumes),
        remove: ids(change.remove_volumes),
    };
    state.update_group(&caller, id, &change).await?;
    Ok(Reply::empty(202))
}

async fn action(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = group_id(&req)?;
    let asked = req.json::<wire::ActionRequest>().await?;
    let since = |minor| req.version.at_least(3, minor);
    if let Some(delete) = asked.delete {
        let with_volumes = input::flag_or_false("delete-volumes", delete.delete_volumes.as_ref())?;
        state.delete_group(&caller, id, with_volumes).await?;
        return Ok(Reply::empty(202));
    }
    if let Some(reset) = asked.reset_status.filter(|_| since(20)) {
        caller.must_be_admin("group:reset_status")?;
        state.reset_group(&caller, id, reset.status.to_ascii_lowercase().parse()?).await?;
        return Ok(Reply::empty(202));
    }
    let replication = [
        asked.enable_replication,
        asked.disable_replication,
        asked.failover_replication,
        asked.list_replication_targets,
    ];
    if since(38) && replication.iter().any(Option::is_some) {
        state.refuse_replication(&caller, id).await?;
    }
    Err(Error::bad_request("There is no such action."))
}
