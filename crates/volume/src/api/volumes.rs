use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::Link;
use umbel_api::volume::volumes as wire;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes, next_link};

use super::input;
use super::view::{self, Around};
use crate::Volumes;
use crate::listing::{self, Listing};
use crate::model::{VolumeId, VolumeRow};
use crate::service::Caller;
use crate::service::create::Wanted;
use crate::service::volumes::{Deletion, Words};
use crate::store::volumes::{self, VolumeFilter};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::CREATE, create)
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SUMMARY, summary)
        .on(&wire::SHOW, show)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let new = req.json::<wire::CreateVolume>().await?.volume;
    let wanted = wanted(&req, new)?;
    let token = req.ctx.token.clone();
    let row = state.create_volume(&caller, token.as_deref(), wanted).await?;
    let around = read!(state.db, "look around a volume", |tx| Around::read(tx, std::slice::from_ref(&row)).await)?;
    let volume = changed(view::volume(&state, &req, &caller, row, &around));
    Ok(Reply::versioned(202, req.version, wire::OneVolume { volume }))
}

/// What creating and updating answer with has fewer members than what is shown, and clients with a schema of it refuse
/// others.
fn changed(volume: wire::Volume) -> wire::Volume {
    let volume_image_metadata = BTreeMap::new();
    wire::Volume { tenant_id: None, host: None, migstat: None, name_id: None, volume_image_metadata, ..volume }
}

fn wanted(req: &Req, new: wire::NewVolume) -> Result<Wanted> {
    let since = |minor| req.version.at_least(3, minor);
    let text = |value: Option<String>| value.filter(|text| !text.is_empty());
    let mut metadata = BTreeMap::new();
    for (name, value) in new.metadata.unwrap_or_default() {
        let Value::String(value) = value else {
            return Err(Error::bad_request(format!("Invalid input for field/attribute {name}. Value: {value}.")));
        };
        metadata.insert(name, value);
    }
    crate::service::check_metadata(&metadata)?;
    Ok(Wanted {
        size_gib: new.size.as_ref().map(size).transpose()?.flatten(),
        name: short("name", new.name.or(new.display_name))?,
        description: short("description", new.description.or(new.display_description))?,
        metadata,
        image: text(new.image_ref.or(new.image_id)),
        snapshot: id("snapshot_id", new.snapshot_id)?,
        volume: id("source_volid", new.source_volid)?,
        backup: if since(47) { id("backup_id", new.backup_id)? } else { None },
        volume_type: text(new.volume_type),
        availability_zone: text(new.availability_zone),
        group_id: if since(13) { text(new.group_id) } else { None },
        multiattach: input::flag_or_false("multiattach", new.multiattach.as_ref())?,
    })
}

/// An id, or nothing where the text is empty.
fn id<T>(name: &str, value: Option<String>) -> Result<Option<umbel_core::Id<T>>> {
    value.filter(|text| !text.is_empty()).map(|text| input::uuid(name, &text)).transpose()
}

/// A number, or a number as text; none for null.
fn size(value: &Value) -> Result<Option<u64>> {
    let bad = || {
        Error::bad_request(format!(
            "Invalid input for field/attribute size. Value: {value}. It must be an integer greater than zero."
        ))
    };
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number > 0).map(Some).ok_or_else(bad)
}

/// Names and descriptions: trimmed, 255 characters at most.
pub(super) fn short(what: &str, text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.chars().count() > 255 => {
            Err(Error::bad_request(format!("{what} has more than 255 characters.")))
        }
        Some(text) => Ok(Some(text.trim().to_owned())),
        None => Ok(None),
    }
}

pub(super) async fn one(state: &Volumes, req: &Req, caller: &Caller, status: u16, row: VolumeRow) -> Result<Reply> {
    let around = read!(state.db, "look around a volume", |tx| Around::read(tx, std::slice::from_ref(&row)).await)?;
    let volume = view::volume(state, req, caller, row, &around);
    Ok(Reply::versioned(status, req.version, wire::OneVolume { volume }))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: VolumeId = req.id("volume_id", "Volume")?;
    let row = read!(state.db, "show a volume", |tx| caller.volume(tx, id).await)?;
    one(&state, &req, &caller, 200, row).await
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: VolumeId = req.id("volume_id", "Volume")?;
    let change = req.json::<wire::UpdateVolume>().await?.volume;
    let words = Words {
        name: short("name", change.name.or(change.display_name))?,
        description: short("description", change.description.or(change.display_description))?,
        metadata: change.metadata,
    };
    if words.name.is_none() && words.description.is_none() && words.metadata.is_none() {
        return Err(Error::bad_request("Invalid input for field/attribute volume: nothing is to be changed."));
    }
    if let Some(metadata) = &words.metadata {
        crate::service::check_metadata(metadata)?;
    }
    state.update_volume(&caller, id, &words).await?;
    let (row, around) = read!(state.db, "show a volume", |tx| {
        let row = caller.volume(tx, id).await?;
        let around = Around::read(tx, std::slice::from_ref(&row)).await?;
        Ok((row, around))
    })?;
    let volume = changed(view::volume(&state, &req, &caller, row, &around));
    Ok(Reply::versioned(200, req.version, wire::OneVolume { volume }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id: VolumeId = req.id("volume_id", "Volume")?;
    let mut how = Deletion::default();
    for (name, value) in req.query_pairs() {
        match name.as_str() {
            "cascade" => how.cascade = input::flag("cascade", &Value::String(value))?,
            "force" if req.version.at_least(3, 23) => how.force = input::flag("force", &Value::String(value))?,
            _ => {}
        }
    }
    if how.force {
        caller.must_be_admin("volume:force_delete")?;
    }
    state.delete_volume(&caller, id, how).await?;
    Ok(Reply::empty(202))
}

fn filter_of(state: &Volumes, req: &Req, caller: &Caller) -> Result<(Listing, VolumeFilter)> {
    let max = state.config.max_page;
    let listing = listing::parse(&req.query_pairs(), &listing::VOLUMES, req.version, caller.admin, max)?;
    let marker = listing
        .marker
        .as_deref()
        .map(|text| text.parse::<VolumeId>().map_err(|_| crate::service::volume_not_found(text)));
    let items = |map: &str| {
        let of_map = listing.items.iter().filter(|(name, ..)| *name == map);
        of_map.map(|(_, name, value)| (name.clone(), value.clone())).collect()
    };
    let filter = VolumeFilter {
        conditions: listing.conditions.clone(),
        metadata: items("metadata"),
        image_metadata: items("glance_metadata"),
        order: listing.order.clone(),
        marker: marker.transpose()?,
        offset: listing.offset,
        limit: Some(listing.limit),
    };
    Ok((listing, filter))
}

/// The page, the link to the next one, and how many there are where that was asked for.
type Found = (Vec<VolumeRow>, Option<Vec<Link>>, Option<u64>);

async fn find(state: &Volumes, req: &Req, caller: &Caller, path: &str) -> Result<(Found, Around)> {
    let (listing, filter) = filter_of(state, req, caller)?;
    let visible = caller.listed(listing.all_tenants);
    let (rows, more, count, around) = read!(state.db, "list volumes", |tx| {
        let (rows, more) = volumes::list(tx, &visible, &filter).await?;
        let count = match listing.with_count {
            true => Some(volumes::count(tx, &visible, &filter).await?.0),
            false => None,
        };
        let around = Around::read(tx, &rows).await?;
        Ok((rows, more, count, around))
    })?;
    let next = rows
        .last()
        .filter(|_| more)
        .map(|last| vec![Link::new("next", next_link(req, &req.url(path), &last.id.to_string()))]);
    Ok(((rows, next, count), around))
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let ((rows, volumes_links, count), _) = find(&state, &req, &caller, "/v3/volumes").await?;
    let brief = |row: VolumeRow| wire::BriefVolume {
        links: view::links(&req, "volumes", row.id),
        id: row.id.to_string(),
        name: row.name,
    };
    let volumes = rows.into_iter().map(brief).collect();
    Ok(Reply::json(200, &wire::BriefVolumes { volumes, volumes_links, count }))
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let ((rows, volumes_links, count), around) = find(&state, &req, &caller, "/v3/volumes/detail").await?;
    let volumes = rows.into_iter().map(|row| view::volume(&state, &req, &caller, row, &around)).collect();
    Ok(Reply::versioned(200, req.version, wire::Volumes { volumes, volumes_links, count }))
}

async fn summary(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let (listing, filter) = filter_of(&state, &req, &caller)?;
    let visible = caller.listed(listing.all_tenants);
    let with_metadata = req.version.at_least(3, 36);
    let all = VolumeFilter { limit: None, marker: None, offset: 0, ..filter };
    let (counted, metadata) = read!(state.db, "sum up volumes", |tx| {
        let counted = volumes::count(tx, &visible, &all).await?;
        if !with_metadata {
            return Ok((counted, None));
        }
        let mut metadata: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in volumes::list(tx, &visible, &all).await?.0 {
            for (name, value) in row.metadata {
                let values = metadata.entry(name).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        Ok((counted, Some(metadata)))
    })?;
    let (total_count, total_size) = counted;
    Ok(Reply::json(200, &wire::VolumeSummary { summary: wire::Summary { total_count, total_size, metadata } }))
}
