//! Images of servers.
//!
//! Of a root disk in a pool a flow makes the image: the request writes its beginning and then names the image, so that a
//! process that dies in between is found by the flow. Of a server that boots from a volume the image is a list of
//! snapshots of its volumes, made within the request as upstream does it: they are the owner's, seen and deleted as any,
//! and what a process that dies leaves of them lies open in the owner's list.

use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_auth::visible;
use umbel_client::NewImage;
use umbel_core::{Ctx, Error, Kind, Result};
use umbel_db::tx;
use umbel_workflow::{NewFlow, enqueue};

use super::Compute;
use super::image_devices::{BDM_V2, DEVICES, ROOT_DEVICE, devices_of};
use super::quotas::allows;
use super::servers::{Found, cell_down, existing};
use super::volumes::{Who, of_volume, token};
use crate::CellHandle;
use crate::flows::{self, Rotation, ServerImage};
use crate::model::{DiskSource, Server, ServerId, Task, imaged, imaging, may_image};
use crate::store::actions::EventRow;
use crate::store::{actions, disks, servers};

/// An image of a server, as a request has it.
pub(crate) struct NewServerImage {
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    pub rotation: Option<Rotation>,
}

impl NewServerImage {
    fn action(&self) -> &'static str {
        if self.rotation.is_some() { "createBackup" } else { "createImage" }
    }
}

/// Properties of an image that are not those of a server made from it, nor of that server's images.
const NOT_INHERITED: &[&str] = &[
    "bittorrent",
    "cache_in_nova",
    "image_id",
    "image_name",
    "img_signature",
    "img_signature_certificate_uuid",
    "img_signature_hash_method",
    "img_signature_key_type",
    BDM_V2,
    DEVICES,
    ROOT_DEVICE,
];

/// What the image service calls by the same names as properties. Of an image that is a server's they are ours to say: one
/// that claimed another format than its bytes have would be read as that.
pub(super) const ATTRIBUTES: &[&str] = &[
    "checksum",
    "container_format",
    "created_at",
    "direct_url",
    "disk_format",
    "file",
    "id",
    "locations",
    "min_disk",
    "min_ram",
    "name",
    "os_hash_algo",
    "os_hash_value",
    "os_hidden",
    "owner",
    "protected",
    "schema",
    "self",
    "size",
    "status",
    "stores",
    "tags",
    "updated_at",
    "virtual_size",
    "visibility",
];

impl Compute {
    /// Begins an image of the server; its id.
    pub(crate) async fn create_image(&self, ctx: &Ctx, id: ServerId, new: &NewServerImage) -> Result<String> {
        check_names(&new.metadata)?;
        let (cell, server) = match self.find(ctx, id).await? {
            Found::Unknown(_) => return Err(cell_down()),
            Found::Building(server) => {
                may_image(&server, new.action())?;
                return Err(Error::internal(format!("server {id} is built and in no cell")));
            }
            Found::InCell(cell, server) => (cell, *server),
        };
        may_image(&server, new.action())?;
        match server.is_volume_backed() {
            true if new.rotation.is_some() => {
                Err(Error::bad_request("Backup is not supported for volume-backed instances."))
            }
            true => self.image_of_volumes(ctx, &cell, &server, new).await,
            false => self.image_of_disk(ctx, &cell, &server, new).await,
        }
    }

    /// Before 2.39 compute has a limit of its own for the properties of an image.
    pub(crate) async fn check_image_metadata(&self, ctx: &Ctx, items: usize) -> Result<()> {
        let limits = self.limits(ctx.project_id().unwrap_or_default(), None).await?;
        match allows(&limits, "metadata_items", items as u64) {
            true => Ok(()),
            false => Err(Error::new(Kind::OverQuota, "Image metadata limit exceeded")),
        }
    }

    async fn image_of_disk(
        &self,
        ctx: &Ctx,
        cell: &Arc<CellHandle>,
        server: &Server,
        new: &NewServerImage,
    ) -> Result<String> {
        let image_id = self.rng.uuid().to_string();
        self.begin_image(ctx, cell, server.id, (new, &image_id)).await?;
        let mut image = described(ctx, server, own_properties(server), new);
        image.id = Some(image_id.clone());
        if let Err(error) = self.images.create(token(ctx), &image).await {
            self.unbegin_image(ctx, cell, server.id).await?;
            return Err(error);
        }
        self.nudge.server(cell.id, server.id);
        Ok(image_id)
    }

    /// The task, the record and the flow, which waits for the image to be named.
    async fn begin_image(
        &self,
        ctx: &Ctx,
        cell: &CellHandle,
        id: ServerId,
        (new, image_id): (&NewServerImage, &str),
    ) -> Result<()> {
        let now = self.clock.now();
        let who = visible(ctx)?;
        let record = self.record(ctx, id, new.action(), now);
        let task = if new.rotation.is_some() { Task::ImageBackup } else { Task::ImageSnapshotPending };
        tx!(cell.db, "begin image", |tx| {
            let mut server = existing(tx, id, &who).await?;
            may_image(&server, new.action())?;
            let root = disks::of_server(tx, id)
                .await?
                .into_iter()
                .find(|disk| disk.boot_index == Some(0) && disk.source != DiskSource::ConfigDrive);
            let (Some(root), Some(host)) = (root, server.state.host.clone()) else {
                return Err(Error::conflict(format!("Instance {id} has no root disk on a host.")));
            };
            server.state = imaging(&server, task, &record.request_id, now);
            servers::update(tx, &mut server).await?;
            actions::start(tx, &record).await?;
            let state = ServerImage {
                server_id: id,
                image_id: image_id.to_owned(),
                host: host.name,
                disk: umbel_bus::DiskRef { pool: root.pool, name: root.name },
                quiesce: requires_quiesce(own_properties(&server)),
                token: token(ctx).to_owned(),
                rotation: new.rotation.clone(),
                location: None,
                published: false,
            };
            let flow = NewFlow {
                id: image_id,
                kind: flows::SERVER_IMAGE,
                first_step: flows::SERVER_IMAGE_FIRST,
                state: &state,
                request_id: &record.request_id,
                now,
                deadline: now.plus(flows::SERVER_IMAGE_DEADLINE),
            };
            enqueue(tx, flow).await
        })
    }

    /// The image service refused the name: the flow finds its task gone, and ends.
    async fn unbegin_image(&self, ctx: &Ctx, cell: &CellHandle, id: ServerId) -> Result<()> {
        let now = self.clock.now();
        let request_id = ctx.request_id.to_string();
        let who = visible(ctx)?;
        tx!(cell.db, "take image back", |tx| {
            let mut server = existing(tx, id, &who).await?;
            if let Some(state) = imaged(&server, &request_id, now) {
                server.state = state;
                servers::update(tx, &mut server).await?;
            }
            actions::finish(tx, id, &request_id, true, now).await
        })
    }

    async fn image_of_volumes(
        &self,
        ctx: &Ctx,
        cell: &CellHandle,
        server: &Server,
        new: &NewServerImage,
    ) -> Result<String> {
        let inherited = self.of_root_volume(ctx, server).await?;
        if requires_quiesce(&inherited) {
            let message = "A server that boots from a volume cannot be quiesced for its snapshots, which its image asks \
                           for by os_require_quiesce.";
            return Err(Error::conflict(message));
        }
        let began = self.clock.now();
        let record = self.record(ctx, server.id, new.action(), began);
        tx!(cell.db, "start action", |tx| actions::start(tx, &record).await)?;
        let mut made = Vec::new();
        let outcome = self.snapshot_volumes(ctx, server, (new, &inherited), &mut made).await;
        if outcome.is_err() {
            self.drop_snapshots(ctx, &made).await;
        }
        let failure = outcome.as_ref().err().map(|error| error.message().to_owned());
        let now = self.clock.now();
        let event = EventRow {
            server_id: server.id,
            request_id: record.request_id.clone(),
            name: "api_snapshot_instance".to_owned(),
            started_at: began,
            finished_at: Some(now),
            ok: Some(failure.is_none()),
            host: String::new(),
            details: failure.clone(),
        };
        tx!(cell.db, "finish action", |tx| {
            actions::event(tx, &event, now).await?;
            actions::finish(tx, server.id, &record.request_id, failure.is_some(), now).await
        })?;
        outcome
    }

    /// Properties of the image that the root volume was made of.
    async fn of_root_volume(&self, ctx: &Ctx, server: &Server) -> Result<BTreeMap<String, String>> {
        let root = server.state.volumes.iter().find(|device| device.is_root()).and_then(|device| device.volume_id);
        let Some(root) = root.map(|id| id.to_string()) else {
            return Ok(BTreeMap::new());
        };
        let volume = self.volumes.show(Who::Caller(token(ctx)), &root).await;
        let volume = volume.map_err(|error| of_volume(&root, error))?;
        let texts = volume.volume_image_metadata.into_iter();
        Ok(texts.filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect())
    }

    async fn snapshot_volumes(
        &self,
        ctx: &Ctx,
        server: &Server,
        (new, inherited): (&NewServerImage, &BTreeMap<String, String>),
        made: &mut Vec<String>,
    ) -> Result<String> {
        let mut snapshots = Vec::new();
        for device in &server.state.volumes {
            let Some(volume) = device.volume_id.map(|id| id.to_string()) else {
                continue;
            };
            let name = format!("snapshot for {}", new.name);
            let snapshot = self.volumes.create_snapshot(token(ctx), &volume, &name).await;
            let snapshot = snapshot.map_err(|error| of_volume(&volume, error))?;
            made.push(snapshot.id.clone());
            snapshots.push((device, snapshot));
        }
        let mut image = described(ctx, server, inherited, new);
        image.properties.extend(devices_of(&snapshots)?);
        // The volumes have sizes of their own.
        image.min_disk = 0;
        let id = self.images.create(token(ctx), &image).await?.id;
        if let Err(error) = self.images.complete_empty(token(ctx), &id).await {
            if let Err(worse) = self.images.delete(Who::Caller(token(ctx)), &id).await {
                tracing::warn!(image = id, cause = worse.cause(), "an image without content stays: {worse}");
            }
            return Err(error);
        }
        Ok(id)
    }

    async fn drop_snapshots(&self, ctx: &Ctx, made: &[String]) {
        for id in made {
            if let Err(error) = self.volumes.delete_snapshot(Who::Caller(token(ctx)), id).await {
                tracing::warn!(snapshot = id, cause = error.cause(), "a snapshot for no image stays: {error}");
            }
        }
    }
}

fn check_names(metadata: &BTreeMap<String, String>) -> Result<()> {
    match metadata.keys().find(|name| ATTRIBUTES.contains(&name.as_str())) {
        Some(name) => Err(Error::bad_request(format!("Invalid image metadata: '{name}' is an attribute of images."))),
        None => Ok(()),
    }
}

fn own_properties(server: &Server) -> &BTreeMap<String, String> {
    const NONE: &BTreeMap<String, String> = &BTreeMap::new();
    server.spec.image.as_ref().map_or(NONE, |image| &image.properties)
}

fn requires_quiesce(properties: &BTreeMap<String, String>) -> bool {
    properties
        .get("os_require_quiesce")
        .is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes"))
}

/// The image as it is named: what its server inherited, where it comes from, and last what the caller says.
fn described(ctx: &Ctx, server: &Server, inherited: &BTreeMap<String, String>, new: &NewServerImage) -> NewImage {
    let from = server.spec.image.as_ref();
    let inherited = inherited.iter().filter(|(name, _)| {
        let name = name.as_str();
        !NOT_INHERITED.contains(&name) && !ATTRIBUTES.contains(&name) && !name.starts_with("os_glance_")
    });
    let mut properties: BTreeMap<String, String> =
        inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
    let image_type = if new.rotation.is_some() { "backup" } else { "snapshot" };
    let mut set = |name: &str, value: &str| drop(properties.insert(name.to_owned(), value.to_owned()));
    if let Some(image) = from {
        set("base_image_ref", &image.id);
    }
    set("instance_uuid", &server.id.to_string());
    set("user_id", ctx.user_id().unwrap_or_default());
    set("image_type", image_type);
    let own = ctx.project_id() == Some(server.spec.project_id.as_str());
    if !own {
        set("instance_owner", &server.spec.project_id);
    }
    properties.extend(new.metadata.clone());
    if let Some(rotation) = &new.rotation {
        properties.insert("backup_type".to_owned(), rotation.backup_type.clone());
    }
    NewImage {
        name: new.name.clone(),
        disk_format: "raw".to_owned(),
        container_format: "bare".to_owned(),
        visibility: Some(if own { "private" } else { "shared" }.to_owned()),
        // The disk is as large as the flavor says, whatever the image was that it began as.
        min_disk: from.map_or(0, |image| image.min_disk_gib).max(server.spec.flavor.root_gib),
        min_ram: from.map_or(0, |image| image.min_ram_mib),
        properties,
        ..NewImage::default()
    }
}
