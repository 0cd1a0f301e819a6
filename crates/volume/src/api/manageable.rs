use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_api::volume::manageable as wire;
use umbel_api::volume::snapshots::OneSnapshot;
use umbel_core::{Error, Result};
use umbel_http::{Page, Reply, Req, Routes};

use super::actions::Action;
use super::input::{flag_or_false, uuid};
use super::{view, volumes};
use crate::Volumes;
use crate::model::{SnapshotId, VolumeId};
use crate::service::Caller;
use crate::service::manageable::{ManageablePage, WantedDisk, WantedSnapshot};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::VOLUMES_LIST, list_volumes)
        .on(&wire::VOLUMES_DETAIL, detail_volumes)
        .on(&wire::VOLUMES_MANAGE, manage_volume)
        .on(&wire::OLD_VOLUMES_LIST, list_volumes)
        .on(&wire::OLD_VOLUMES_DETAIL, detail_volumes)
        .on(&wire::OLD_VOLUMES_MANAGE, manage_volume)
        .on(&wire::SNAPSHOTS_LIST, list_snapshots)
        .on(&wire::SNAPSHOTS_DETAIL, detail_snapshots)
        .on(&wire::SNAPSHOTS_MANAGE, manage_snapshot)
        .on(&wire::OLD_SNAPSHOTS_LIST, list_snapshots)
        .on(&wire::OLD_SNAPSHOTS_DETAIL, detail_snapshots)
        .on(&wire::OLD_SNAPSHOTS_MANAGE, manage_snapshot)
}

async fn list_volumes(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    volumes_page(&state, &req, false).await
}

async fn detail_volumes(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    volumes_page(&state, &req, true).await
}

async fn list_snapshots(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    snapshots_page(&state, &req, false).await
}

async fn detail_snapshots(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    snapshots_page(&state, &req, true).await
}

async fn volumes_page(state: &Volumes, req: &Req, detail: bool) -> Result<Reply> {
    let (host, page) = asked(state, req)?;
    let volumes = cut(state.manageable_volumes(&host, &page).await?, detail);
    Ok(Reply::json(200, &wire::ManageableVolumes { volumes }))
}

async fn snapshots_page(state: &Volumes, req: &Req, detail: bool) -> Result<Reply> {
    let (host, page) = asked(state, req)?;
    let snapshots = cut(state.manageable_snapshots(&host, &page).await?, detail);
    Ok(Reply::json(200, &wire::ManageableSnapshots { snapshots }))
}

fn cut(mut found: Vec<wire::Manageable>, detail: bool) -> Vec<wire::Manageable> {
    if !detail {
        found.iter_mut().for_each(|one| one.detail = None);
    }
    found
}

/// The host, and which page: sorted by `reference`, falling, if nothing else is said.
fn asked(state: &Volumes, req: &Req) -> Result<(String, ManageablePage)> {
    let Page { limit, marker } = Page::of(req, state.config.max_page)?;
    let mut page = ManageablePage { by_size: false, descending: true, marker, offset: 0, limit };
    let mut host = None;
    for (name, value) in req.query_pairs() {
        let (mut key, mut direction) = (None, None);
        match name.as_str() {
            "host" => host = Some(value),
            "offset" => page.offset = value.parse().map_err(|_| bad("offset", &value))?,
            "sort" => {
                let (name, rest) = value.split_once(':').unwrap_or((&value, "desc"));
                (key, direction) = (Some(name.to_owned()), Some(rest.to_owned()));
            }
            "sort_key" => key = Some(value),
            "sort_dir" => direction = Some(value),
            _ => {}
        }
        if let Some(key) = key {
            page.by_size = match key.as_str() {
                "size" => true,
                "reference" => false,
                other => return Err(Error::bad_request(format!("Invalid sort keys passed: {other}"))),
            };
        }
        if let Some(direction) = direction {
            page.descending = match direction.as_str() {
                "desc" => true,
                "asc" => false,
                other => return Err(Error::bad_request(format!("Invalid sort dirs passed: {other}"))),
            };
        }
    }
    let missing = "Invalid input received: One and only one of cluster and host must be set.";
    Ok((host.filter(|host| !host.is_empty()).ok_or_else(|| Error::bad_request(missing))?, page))
}

fn bad(name: &str, value: &str) -> Error {
    Error::bad_request(format!("Invalid input for field/attribute {name}. Value: {value}."))
}

async fn manage_volume(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let wire::ManageVolume { volume: new } = req.json().await?;
    let missing = || Error::bad_request("Invalid input received: One and only one of cluster and host must be set.");
    let wanted = WantedDisk {
        host: new.host.filter(|host| !host.is_empty() && new.cluster.is_none()).ok_or_else(missing)?,
        reference: reference(&new.reference)?,
        name: volumes::short("name", new.name)?,
        description: volumes::short("description", new.description)?,
        volume_type: new.volume_type,
        availability_zone: new.availability_zone.filter(|zone| !zone.is_empty()),
        bootable: flag_or_false("bootable", new.bootable.as_ref())?,
        metadata: metadata(new.metadata)?,
    };
    let row = state.manage_volume(&req.ctx, &wanted).await?;
    volumes::one(&state, &req, &caller, 202, row).await
}

async fn manage_snapshot(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let wire::ManageSnapshot { snapshot: new } = req.json().await?;
    let wanted = WantedSnapshot {
        volume: uuid("volume_id", &new.volume_id)?,
        reference: reference(&new.reference)?,
        name: volumes::short("name", new.name)?,
        description: volumes::short("description", new.description)?,
        metadata: metadata(new.metadata)?,
    };
    let row = state.manage_snapshot(&req.ctx, &wanted).await?;
    let snapshot = view::snapshot(row, false);
    Ok(Reply::versioned(202, req.version, OneSnapshot { snapshot }))
}

fn reference(given: &serde_json::Value) -> Result<String> {
    let name = wire::source_name(given).map(str::to_owned);
    name.ok_or_else(|| {
        Error::bad_request("Invalid input received: The reference must contain the element source-name.")
    })
}

fn metadata(given: Option<BTreeMap<String, Option<String>>>) -> Result<BTreeMap<String, String>> {
    let items = given.unwrap_or_default().into_iter();
    let all = items.map(|(name, value)| (name, value.unwrap_or_default())).collect();
    crate::service::check_metadata(&all)?;
    Ok(all)
}

pub(super) async fn unmanage_volume(action: Action<VolumeId>) -> Result<Reply> {
    action.state.unmanage_volume(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}

pub(super) async fn unmanage_snapshot(action: Action<SnapshotId>) -> Result<Reply> {
    action.state.unmanage_snapshot(&action.req.ctx, action.id).await?;
    Ok(Reply::empty(202))
}
