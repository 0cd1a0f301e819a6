//! `POST …/action`: the name of the one member of the body says what is to be done.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use umbel_api::Rule;
use umbel_api::volume::actions::{SNAPSHOT_ACTION, VOLUME_ACTION};
use umbel_core::{Error, Id, Result};
use umbel_http::{Reply, Req, Routes};

use crate::Volumes;
use crate::model::{SnapshotId, VolumeId};
use crate::service::Caller;

/// An action on a volume or snapshot, as what does it gets it.
pub(crate) struct Action<I> {
    pub state: Arc<Volumes>,
    pub req: Req,
    pub caller: Caller,
    pub id: I,
    pub name: String,
    /// What the body says under the action's name.
    pub body: Value,
}

impl<I> Action<I> {
    /// The arguments as a struct; 400 for what does not fit. No arguments (`null`) are an empty object. A list is
    /// refused by name: serde would take it for the members in their order.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        let body = match &self.body {
            Value::Null => Value::Object(Map::new()),
            Value::Array(_) => {
                return Err(Error::bad_request(format!("Invalid input for {}: it must be an object.", self.name)));
            }
            other => other.clone(),
        };
        serde_json::from_value(body)
            .map_err(|error| Error::bad_request(format!("Invalid input for {}: {error}.", self.name)))
    }
}

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes.on(&VOLUME_ACTION, on_volume).on(&SNAPSHOT_ACTION, on_snapshot)
}

/// All others change something.
const FOR_READERS: [&str; 1] = ["os-show_image_metadata"];

async fn read<T>(state: Arc<Volumes>, mut req: Req, param: &str, what: &str) -> Result<Action<Id<T>>> {
    let caller = Caller::of(&req.ctx)?;
    let id = req.id(param, what)?;
    let body: Map<String, Value> = req.json().await?;
    let mut members = body.into_iter();
    match (members.next(), members.next()) {
        (Some((name, body)), None) => {
            // Actions for administrators say so themselves.
            let rule = if FOR_READERS.contains(&name.as_str()) { Rule::Reader } else { Rule::Member };
            let policy = format!("volume_extension:volume_actions:{}", name.trim_start_matches("os-"));
            umbel_auth::authorize(rule, &policy, &req.ctx)?;
            Ok(Action { state, req, caller, id, name, body })
        }
        _ => Err(Error::bad_request("The body of an action has exactly one member, which names it.")),
    }
}

fn unknown(name: &str) -> Error {
    Error::bad_request(format!("There is no such action: {name}"))
}

/// One line for each action; the functions stand with their nouns.
async fn on_volume(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let action: Action<VolumeId> = read(state, req, "volume_id", "Volume").await?;
    match action.name.as_str() {
        "os-attach" => super::connections::attach(action).await,
        "os-detach" => super::connections::detach(action).await,
        "os-reserve" => super::connections::reserve(action).await,
        "os-unreserve" => super::connections::unreserve(action).await,
        "os-begin_detaching" => super::connections::begin_detaching(action).await,
        "os-roll_detaching" => super::connections::roll_detaching(action).await,
        "os-initialize_connection" => super::connections::initialize_connection(action).await,
        "os-terminate_connection" => super::connections::terminate_connection(action).await,
        "os-extend" => super::volume_actions::extend(action).await,
        "os-reset_status" => super::volume_actions::reset_status(action).await,
        "os-force_delete" => super::volume_actions::force_delete(action).await,
        "os-set_bootable" => super::volume_actions::set_bootable(action).await,
        "os-update_readonly_flag" => super::volume_actions::update_readonly_flag(action).await,
        "os-set_image_metadata" => super::volume_actions::set_image_metadata(action).await,
        "os-show_image_metadata" => super::volume_actions::show_image_metadata(action).await,
        "os-unset_image_metadata" => super::volume_actions::unset_image_metadata(action).await,
        "revert" => super::volume_actions::revert(action).await,
        "os-volume_upload_image" => super::moves::upload_image(action).await,
        "os-retype" => super::moves::retype(action).await,
        "os-migrate_volume" => super::moves::migrate(action).await,
        "os-migrate_volume_completion" => super::moves::complete_migration(action).await,
        "os-reimage" => super::moves::reimage(action).await,
        "os-force_detach" => super::connections::force_detach(action).await,
        "os-unmanage" => super::manageable::unmanage_volume(action).await,
        other => Err(unknown(other)),
    }
}

async fn on_snapshot(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let action: Action<SnapshotId> = read(state, req, "snapshot_id", "Snapshot").await?;
    match action.name.as_str() {
        "os-reset_status" => super::snapshots::reset_status(action).await,
        "os-force_delete" => super::snapshots::force_delete(action).await,
        "os-update_snapshot_status" => super::snapshots::update_status(action).await,
        "os-unmanage" => super::manageable::unmanage_snapshot(action).await,
        other => Err(unknown(other)),
    }
}
