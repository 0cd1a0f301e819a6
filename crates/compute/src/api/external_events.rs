use std::sync::Arc;

use umbel_api::compute::external_events::{CREATE, Event, Events, EventsRequest, NewEvent};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};
use uuid::Uuid;

use super::input::invalid;
use crate::Compute;
use crate::model::ServerId;
use crate::service::external_events::{DONE, NO_SERVER};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&CREATE, create)
}

/// Known and heard, with nothing to do about them: no network of ours waits for its ports to be plugged.
const OF_NETWORKS: [&str; 4] =
    ["network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted"];
const EXTENDED: &str = "volume-extended";
const EXTENDED_SINCE: u16 = 51;
/// Of our own volume service: upstream's makes a second volume, and calls the attachment's update.
const MOVING: &str = "umbel-volume-moving";
const OF_VOLUMES: [&str; 2] = [EXTENDED, MOVING];

/// 200 if all went well, 207 if some did, 404 if there is none of the servers.
async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let request: EventsRequest = req.json().await?;
    if request.events.is_empty() {
        return Err(invalid("events", "[]", "[] is too short"));
    }
    for event in &request.events {
        check(event, req.version.minor)?;
    }
    let mut events = Vec::new();
    for event in request.events {
        let id: ServerId = event.server_uuid.parse()?;
        let code = match (event.name.as_str(), &event.tag) {
            (EXTENDED, Some(tag)) => state.volume_extended(&req.ctx, id, uuid("tag", tag)?).await?,
            (MOVING, Some(tag)) => state.volume_moving(&req.ctx, id, uuid("tag", tag)?).await?,
            _ => state.note_event(&req.ctx, id).await?,
        };
        let asked = event.status.unwrap_or_else(|| "completed".to_owned());
        let status = if code == DONE { asked } else { "failed".to_owned() };
        events.push(Event { name: event.name, server_uuid: event.server_uuid, status, tag: event.tag, code });
    }
    if events.iter().all(|event| event.code == NO_SERVER) {
        return Err(Error::not_found("No instances found for any event"));
    }
    let status = if events.iter().all(|event| event.code == DONE) { 200 } else { 207 };
    Ok(Reply::json(status, &Events { events }))
}

fn check(event: &NewEvent, minor: u16) -> Result<()> {
    let of_volumes = OF_VOLUMES.contains(&event.name.as_str());
    let known = OF_NETWORKS.contains(&event.name.as_str()) || (of_volumes && minor >= EXTENDED_SINCE);
    if !known {
        return Err(invalid("name", &event.name, "It is no event that this cloud knows"));
    }
    uuid("server_uuid", &event.server_uuid)?;
    if let Some(status) = &event.status
        && !["failed", "completed", "in-progress"].contains(&status.as_str())
    {
        return Err(invalid("status", status, "It is none of ['failed', 'completed', 'in-progress']"));
    }
    match &event.tag {
        _ if !of_volumes => Ok(()),
        None => Err(Error::bad_request(format!("Event {} needs the volume's id as its tag.", event.name))),
        Some(tag) => uuid("tag", tag).map(drop),
    }
}

fn uuid(field: &str, text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| invalid(field, text, "It is not a 'uuid'"))
}
