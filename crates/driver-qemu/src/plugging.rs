//! Disks that come, go and grow while their guest runs.
//!
//! Each call does what is left of it: a driver that died between two of its steps has left a node without a device, or
//! a definition that lacks the disk, and the next call finds that out from what QEMU lists.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Attachment, DiskFormat, DomainDisk, DomainSpec};

use crate::drive::{self, Plug};
use crate::driver::{Driver, answer};
use crate::machine::{Reply, Which};
use crate::qmp::Command;

/// A guest lets a disk go within milliseconds. One that is booting, or stands still, does not listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The guest's kernel forgets what it was asked before it listens.
const ASK_AGAIN: Duration = Duration::from_secs(4);

/// A disk that the guest was asked to let go.
pub(crate) struct Leaving {
    serial: String,
    device: String,
    pub(crate) deadline: Instant,
    pub(crate) ask: Instant,
    waiting: Vec<Reply>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "node-name")]
    name: String,
    #[serde(rename = "file")]
    place: String,
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "virtual-size")]
    virtual_size: u64,
}

/// The disks with the files that links lead to. A missing file is for QEMU to complain about.
pub(crate) async fn resolved(mut disks: Vec<DomainDisk>) -> Vec<DomainDisk> {
    for disk in &mut disks {
        if let Attachment::File { path, .. } = &mut disk.attachment
            && let Ok(real) = tokio::fs::canonicalize(&path).await
        {
            *path = real;
        }
    }
    disks
}

/// What QEMU will list of the disks that it is started with, as far as files in use go.
pub(crate) fn expected(disks: &[DomainDisk]) -> Vec<Plug> {
    let of = |disk: &DomainDisk| {
        let Attachment::File { path, format } = &disk.attachment else { return None };
        Some(Plug {
            device: String::new(),
            number: None,
            serial: Some(disk.serial.clone()),
            node: String::new(),
            place: path.to_str()?.to_owned(),
            qcow2: *format == DiskFormat::Qcow2,
            read_only: disk.read_only || disk.cdrom,
            size: 0,
        })
    };
    disks.iter().filter_map(of).collect()
}

impl Driver {
    /// Asks QEMU for its disks.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let answer = self.qemu(&Command::QUERY_BLOCK).await?;
        let mut plugs =
            drive::plugs(answer.get()).map_err(|error| Error::internal(error).because("reading QEMU's disks"))?;
        if plugs.iter().any(|plug| plug.place.starts_with("json:")) {
            let nodes = self.nodes().await?;
            for plug in &mut plugs {
                let file = drive::file_node(&plug.node);
                if let Some(node) = nodes.iter().find(|node| node.name == file && node.place.starts_with('/')) {
                    plug.place.clone_from(&node.place);
                }
            }
        }
        self.plugs.send_replace(plugs);
        Ok(())
    }

    /// After a time in which nobody listened: what QEMU says goes into the definition, and what left meanwhile is told
    /// to those who wait for it.
    pub(crate) async fn compare_disks(&mut self) -> Result<()> {
        self.refresh().await?;
        let plugs = self.plugs.borrow().clone();
        self.amend(|spec| spec.disks.iter_mut().for_each(|disk| follow(disk, &plugs)))?;
        let gone = |leaving: &Leaving| plugs.iter().all(|plug| plug.device != leaving.device);
        let gone: Vec<String> = self.leaving.iter().filter(|one| gone(one)).map(|one| one.device.clone()).collect();
        for device in gone {
            self.released(&device).await;
        }
        Ok(())
    }

    /// Changes the definition, if there is one.
    pub(crate) fn amend(&self, change: impl FnOnce(&mut DomainSpec)) -> Result<()> {
        let failed = |error: std::io::Error| Error::internal(error).because("changing a guest's definition");
        let Some(mut spec) = self.home.definition().map_err(failed)? else { return Ok(()) };
        let before = spec.clone();
        change(&mut spec);
        match spec == before {
            true => Ok(()),
            false => self.home.define(&spec).map_err(failed),
        }
    }

    pub(crate) async fn attach(&mut self, disk: DomainDisk) -> Result<()> {
        drive::must_be_name(&disk.serial)?;
        if disk.cdrom {
            return Err(Error::bad_request("A CD drive cannot be attached to a guest."));
        }
        let Some(disk) = resolved(vec![disk]).await.pop() else { return Ok(()) };
        match self.running.is_some() {
            true => self.plug(&disk).await?,
            false => self.must_have_room(&disk.serial)?,
        }
        self.amend(|spec| match spec.disks.iter_mut().find(|other| other.serial == disk.serial) {
            Some(other) => *other = disk,
            None => spec.disks.push(disk),
        })
    }

    /// For a guest that is off.
    fn must_have_room(&self, serial: &str) -> Result<()> {
        let spec = self.home.definition().map_err(|error| Error::internal(error).because("a guest's definition"))?;
        let others =
            spec.map_or(0, |spec| spec.disks.iter().filter(|disk| !disk.cdrom && disk.serial != serial).count());
        if others >= drive::DISKS { Err(drive::too_many()) } else { Ok(()) }
    }

    async fn plug(&mut self, disk: &DomainDisk) -> Result<()> {
        self.refresh().await?;
        let plugs = self.plugs.borrow().clone();
        if plugs.iter().any(|plug| plug.serial.as_ref() == Some(&disk.serial)) {
            return Ok(());
        }
        let taken: Vec<usize> = plugs.iter().filter_map(|plug| plug.number).collect();
        let number = (0..drive::DISKS).find(|number| !taken.contains(number)).ok_or_else(drive::too_many)?;
        let node = drive::node_name(&disk.serial);
        let (opened, shown) = (drive::block_node(disk, &node)?, drive::device(disk, number, &node)?);
        // What a driver has left that died between the two commands below.
        self.close(&node).await?;
        self.qemu(&Command::with("blockdev-add", opened)).await.map_err(not_opened)?;
        if let Err(error) = self.qemu(&Command::with("device_add", shown)).await {
            if let Err(error) = self.close(&node).await {
                tracing::warn!(server = %self.home.id, "a disk stays open: {}", error.for_log());
            }
            return Err(not_shown(error));
        }
        tracing::info!(server = %self.home.id, disk = disk.serial, number, "attached a disk");
        self.refresh().await
    }

    /// Closes the node and its overlays, of which there need not be any. None of them may be in use.
    pub(crate) async fn close(&mut self, first: &str) -> Result<()> {
        for name in self.opened(first, |_| true).await? {
            self.qemu(&Command::with("blockdev-del", json!({"node-name": name}))).await?;
        }
        Ok(())
    }

    /// Closes those that are above this one of a disk's nodes, and what is below it and no part of it.
    pub(crate) async fn close_all_but(&mut self, serial: &str, number: u32) -> Result<()> {
        let first = drive::node_name(serial);
        for name in self.opened(&first, |other| other > number).await? {
            self.qemu(&Command::with("blockdev-del", json!({"node-name": name}))).await?;
        }
        for name in self.opened(&first, |other| other < number).await? {
            match self.qemu(&Command::with("blockdev-del", json!({"node-name": name}))).await {
                // QEMU refuses what is in use, and nothing else.
                Err(error) if error.is(Kind::Conflict) => {}
                closed => drop(closed?),
            }
        }
        Ok(())
    }

    /// The disk's nodes whose numbers are meant, the uppermost first: each holds the one below.
    async fn opened(&mut self, first: &str, which: impl Fn(u32) -> bool) -> Result<Vec<String>> {
        let nodes = self.nodes().await?;
        let mut found: Vec<(u32, String)> =
            nodes.into_iter().filter_map(|node| Some((drive::overlay_number(&node.name, first)?, node.name))).collect();
        found.retain(|(number, _)| which(*number));
        found.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Whether the node is there, and open at this place.
    pub(crate) async fn is_open_at(&mut self, name: &str, place: &Attachment) -> Result<bool> {
        let file = drive::file_node(name);
        let nodes = self.nodes().await?;
        // Of an overlay, the node itself may bear no path.
        let named = nodes.iter().filter(|node| node.name == name || node.name == file);
        let mut places = named.filter_map(|node| drive::place_of(&node.place, DiskFormat::Raw));
        Ok(places.any(|here| drive::is_same(&here, place)))
    }

    /// Bytes that a guest would see of the node.
    pub(crate) async fn size_of(&mut self, name: &str) -> Result<u64> {
        let nodes = self.nodes().await?;
        let node = nodes.iter().find(|node| node.name == name);
        node.map(|node| node.image.virtual_size).ok_or_else(|| Error::internal(format!("QEMU has no node {name}")))
    }

    async fn nodes(&mut self) -> Result<Vec<Node>> {
        let answer = self.qemu(&Command::with("query-named-block-nodes", json!({"flat": true}))).await?;
        serde_json::from_str(answer.get()).map_err(|error| Error::internal(error).because("reading QEMU's nodes"))
    }

    pub(crate) async fn detach(&mut self, serial: &str, reply: Reply) {
        match self.begin_detach(serial).await {
            Ok(Some(device)) => self.wait_for(serial, device, reply),
            Ok(None) => {
                let _ = reply.send(Ok(()));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// The device that the guest must let go first; none, and all is done.
    async fn begin_detach(&mut self, serial: &str) -> Result<Option<String>> {
        drive::must_be_name(serial)?;
        if self.running.is_some() {
            self.refresh().await?;
            let is = |plug: &&Plug| plug.serial.as_deref() == Some(serial);
            let device = self.plugs.borrow().iter().find(is).map(|plug| plug.device.clone());
            // What is copied elsewhere is held by more than its device.
            self.cancel_mirror(serial).await?;
            if device.is_some() {
                return Ok(device);
            }
            self.close(&drive::node_name(serial)).await?;
        }
        self.amend(|spec| spec.disks.retain(|disk| disk.serial != serial))?;
        Ok(None)
    }

    fn wait_for(&mut self, serial: &str, device: String, reply: Reply) {
        let now = Instant::now();
        let deadline = now + PATIENCE;
        if let Some(leaving) = self.leaving.iter_mut().find(|leaving| leaving.device == device) {
            leaving.deadline = deadline;
            leaving.waiting.push(reply);
            return;
        }
        self.leaving.push(Leaving { serial: serial.to_owned(), device, deadline, ask: now, waiting: vec![reply] });
    }

    /// Asks guests that were not asked for a while, and loses patience.
    pub(crate) async fn ask_to_let_go(&mut self) {
        let now = Instant::now();
        for leaving in self.leaving.extract_if(.., |leaving| leaving.deadline <= now) {
            let text = "The guest does not let the disk go; it may be booting, or standing still.";
            answer(leaving.waiting, &Err(Error::new(Kind::Timeout, text)));
        }
        let mut due = Vec::new();
        for leaving in self.leaving.iter_mut().filter(|leaving| leaving.ask <= now) {
            leaving.ask = now + ASK_AGAIN;
            due.push(leaving.device.clone());
        }
        for device in due {
            let Err(error) = self.qemu(&Command::with("device_del", json!({"id": device}))).await else { continue };
            if error.cause().is_some_and(|cause| cause.contains("DeviceNotFound")) {
                // It left while nobody listened.
                self.released(&device).await;
                continue;
            }
            tracing::debug!(server = %self.home.id, device, "a disk cannot be taken away: {}", error.for_log());
        }
    }

    /// The guest has let a device go.
    pub(crate) async fn released(&mut self, device: &str) {
        let first = self.plugs.borrow().iter().find(|plug| plug.device == device).map(|plug| plug.node.clone());
        self.plugs.send_modify(|plugs| plugs.retain(|plug| plug.device != device));
        let leaving: Vec<Leaving> = self.leaving.extract_if(.., |leaving| leaving.device == device).collect();
        let first = first.map(|node| drive::first_node(&node).to_owned());
        let first = first.or_else(|| leaving.first().map(|leaving| drive::node_name(&leaving.serial)));
        let closed = match first {
            Some(first) => self.close(&first).await,
            None => Ok(()),
        };
        if let Err(error) = &closed {
            tracing::warn!(server = %self.home.id, device, "a disk that was let go stays open: {}", error.for_log());
        }
        for leaving in leaving {
            tracing::info!(server = %self.home.id, disk = leaving.serial, "detached a disk");
            self.detached(leaving, closed.is_ok());
        }
    }

    fn detached(&self, leaving: Leaving, closed: bool) {
        let outcome = match closed {
            true => self.amend(|spec| spec.disks.retain(|disk| disk.serial != leaving.serial)),
            // The file is still locked, or the image watched: a next try closes it.
            false => Err(Error::new(Kind::Busy, "The guest has let the disk go, but it is not closed yet.")),
        };
        answer(leaving.waiting, &outcome);
    }

    /// The guest is off, and holds nothing any more.
    pub(crate) fn none_holds(&mut self) {
        for leaving in std::mem::take(&mut self.leaving) {
            self.detached(leaving, true);
        }
    }

    pub(crate) async fn resize(&mut self, which: &Which, size: u64) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        self.refresh().await?;
        let is = |plug: &&Plug| match which {
            Which::Serial(serial) => plug.serial.as_ref() == Some(serial),
            Which::File(file) => Path::new(&plug.place) == file,
        };
        let plug = self.plugs.borrow().iter().find(is).cloned();
        let plug = plug.ok_or_else(|| Error::not_found("The guest has no such disk."))?;
        // QEMU would shrink it.
        if plug.size >= size {
            return Ok(());
        }
        self.qemu(&Command::with("block_resize", json!({"node-name": plug.node, "size": size}))).await?;
        self.refresh().await
    }
}

/// Lets the definition name what QEMU has open.
fn follow(disk: &mut DomainDisk, plugs: &[Plug]) {
    let Some(plug) = plugs.iter().find(|plug| plug.serial.as_ref() == Some(&disk.serial)) else { return };
    if let Some(here) = plug.attachment().filter(|here| !drive::is_same(here, &disk.attachment)) {
        disk.attachment = here;
    }
}

/// QEMU's reasons name files and clusters, which are the operator's.
fn refused(error: Error, text: &'static str) -> Error {
    let cause = error.cause().unwrap_or_default().to_owned();
    if !error.is(Kind::Conflict) {
        return error;
    }
    // Locks are taken when the first writer comes, which is the device.
    if cause.contains("lock") {
        return Error::conflict("The disk is in use elsewhere.").because(cause);
    }
    Error::new(Kind::Internal, text).because(cause)
}

fn not_opened(error: Error) -> Error {
    refused(error, "QEMU cannot open the disk.")
}

fn not_shown(error: Error) -> Error {
    refused(error, "QEMU cannot attach the disk to the guest.")
}
