//! Images of servers.
//!
//! A flow makes the image: the request writes its beginning and then names the image, so that a process that dies in
//! between is found by the flow. Of a root disk in a pool the image is a clone. Of a server that boots from a volume it is
//! a list of snapshots of its volumes: they are the owner's, seen and deleted as any. Upstream makes these within the
//! request, and leaves some of them behind where that breaks off.
//!
//! Nobody's token is kept for the flow: it works on behalf of whoever asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_auth::visible;
use umbel_client::NewImage;
use umbel_core::{Ctx, Error, Kind, OnBehalf, Result, Timestamp};
use umbel_db::{Tx, tx};
use umbel_workflow::{NewFlow, enqueue};

use super::Compute;
use super::image_devices::{BDM_V2, DEVICES, ROOT_DEVICE};
use super::quotas::allows;
use super::servers::{Found, cell_down, existing};
use super::volumes::{Who, of_volume, token};
use crate::flows::{self, BlankDisk, Rotation, ServerImage, VolumesImage};
use crate::model::{DiskSource, Server, ServerId, Task, imaged, imaging, may_image};
use crate::store::disks::DiskRow;
use crate::store::{actions, disks, servers};
use crate::{Cell, CellHandle};

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
        let backup_of_volumes = server.is_volume_backed() && new.rotation.is_some();
        if backup_of_volumes {
            return Err(Error::bad_request("Backup is not supported for volume-backed instances."));
        }
        let inherited = match server.is_volume_backed() {
            true => self.of_root_volume(ctx, &server).await?,
            false => own_properties(&server).clone(),
        };
        if requires_quiesce(&inherited) && inherited.get("hw_qemu_guest_agent").is_some_and(|text| !is_true(text)) {
            let message =
                "The server must be quiesced (os_require_quiesce), and has no guest agent (hw_qemu_guest_agent).";
            return Err(Error::conflict(message));
        }
        self.image_of(ctx, &cell, &server, (new, &inherited)).await
    }

    /// Before 2.39 compute has a limit of its own for the properties of an image.
    pub(crate) async fn check_image_metadata(&self, ctx: &Ctx, items: usize) -> Result<()> {
        let limits = self.limits(ctx.project_id().unwrap_or_default(), None).await?;
        match allows(&limits, "metadata_items", items as u64) {
            true => Ok(()),
            false => Err(Error::new(Kind::OverQuota, "Image metadata limit exceeded")),
        }
    }

    async fn image_of(
        &self,
        ctx: &Ctx,
        cell: &Arc<CellHandle>,
        server: &Server,
        (new, inherited): (&NewServerImage, &BTreeMap<String, String>),
    ) -> Result<String> {
        let image_id = self.rng.uuid().to_string();
        let begin = Begin { new, image_id: &image_id, quiesce: requires_quiesce(inherited) };
        self.begin_image(ctx, cell, server.id, begin).await?;
        let mut image = described(ctx, server, inherited, new);
        image.id = Some(image_id.clone());
        if let Err(error) = self.images.create(token(ctx), &image).await {
            self.unbegin_image(ctx, cell, server.id).await?;
            return Err(error);
        }
        self.nudge.server(cell.id, server.id);
        Ok(image_id)
    }

    /// The task, the record and the flow, which waits for the image to be named.
    async fn begin_image(&self, ctx: &Ctx, cell: &CellHandle, id: ServerId, begin: Begin<'_>) -> Result<()> {
        let now = self.clock.now();
        let who = visible(ctx)?;
        let action = begin.new.action();
        let record = self.record(ctx, id, action, now);
        let task = if begin.new.rotation.is_some() { Task::ImageBackup } else { Task::ImageSnapshotPending };
        tx!(cell.db, "begin image", |tx| {
            let mut server = existing(tx, id, &who).await?;
            may_image(&server, action)?;
            let disks = disks::of_server(tx, id).await?;
            server.state = imaging(&server, task, &record.request_id, now);
            servers::update(tx, &mut server).await?;
            actions::start(tx, &record).await?;
            match server.is_volume_backed() {
                true => begin.of_volumes(tx, ctx, &server, &disks, now).await,
                false => begin.of_disk(tx, ctx, &server, disks, now).await,
            }
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
}

/// What the flow of an image begins with.
struct Begin<'a> {
    new: &'a NewServerImage,
    image_id: &'a str,
    quiesce: bool,
}

impl Begin<'_> {
    async fn of_disk(
        &self,
        tx: &mut Tx<Cell>,
        ctx: &Ctx,
        server: &Server,
        disks: Vec<DiskRow>,
        now: Timestamp,
    ) -> Result<()> {
        let is_root = |disk: &DiskRow| disk.boot_index == Some(0) && disk.source != DiskSource::ConfigDrive;
        let (Some(root), Some(host)) = (disks.into_iter().find(is_root), server.state.host.clone()) else {
            return Err(Error::conflict(format!("Instance {} has no root disk on a host.", server.id)));
        };
        let state = ServerImage {
            server_id: server.id,
            image_id: self.image_id.to_owned(),
            host: host.name,
            disk: umbel_bus::DiskRef { pool: root.pool, name: root.name },
            quiesce: self.quiesce,
            behalf: OnBehalf::of(ctx),
            rotation: self.new.rotation.clone(),
            location: None,
            published: false,
        };
        let flow = NewFlow {
            id: self.image_id,
            kind: flows::SERVER_IMAGE,
            first_step: flows::SERVER_IMAGE_FIRST,
            state: &state,
            request_id: &ctx.request_id,
            now,
            deadline: now.plus(flows::SERVER_IMAGE_DEADLINE),
        };
        enqueue(tx, flow).await
    }

    async fn of_volumes(
        &self,
        tx: &mut Tx<Cell>,
        ctx: &Ctx,
        server: &Server,
        disks: &[DiskRow],
        now: Timestamp,
    ) -> Result<()> {
        let state = VolumesImage {
            server_id: server.id,
            image_id: self.image_id.to_owned(),
            name: self.new.name.clone(),
            host: server.state.host.as_ref().map(|host| host.name.clone()),
            quiesce: self.quiesce,
            behalf: OnBehalf::of(ctx),
            blanks: disks.iter().filter(|disk| disk.source == DiskSource::Blank).map(blank).collect(),
            snapshots: Vec::new(),
            stale: Vec::new(),
            published: false,
        };
        let flow = NewFlow {
            id: self.image_id,
            kind: flows::VOLUMES_IMAGE,
            first_step: flows::VOLUMES_IMAGE_FIRST,
            state: &state,
            request_id: &ctx.request_id,
            now,
            deadline: now.plus(flows::VOLUMES_IMAGE_DEADLINE),
        };
        enqueue(tx, flow).await
    }
}

fn blank(disk: &DiskRow) -> BlankDisk {
    let swap = disk.name.ends_with("_disk.swap");
    BlankDisk { swap, size: disk.size_bytes / if swap { umbel_core::MIB } else { umbel_core::GIB } }
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
    properties.get("os_require_quiesce").is_some_and(|text| is_true(text))
}

fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes")
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
    // Of a list of snapshots upstream says none of this.
    if !server.is_volume_backed() {
        if let Some(image) = from {
            set("base_image_ref", &image.id);
        }
        set("instance_uuid", &server.id.to_string());
        set("user_id", ctx.user_id().unwrap_or_default());
        set("image_type", image_type);
    }
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
        // The disk is as large as the flavor says, whatever the image was that it began as. Volumes have sizes of their own.
        min_disk: match server.is_volume_backed() {
            true => 0,
            false => from.map_or(0, |image| image.min_disk_gib).max(server.spec.flavor.root_gib),
        },
        min_ram: from.map_or(0, |image| image.min_ram_mib),
        properties,
        ..NewImage::default()
    }
}
