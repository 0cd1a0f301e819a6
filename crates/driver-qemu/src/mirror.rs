//! A running guest's disk goes to another place: another pool, another file.
//!
//! # Decisions
//! * **QEMU's jobs are the only memory.** A job bears its disk's serial, and the node that it writes to says where the
//!   disk goes. So each call looks how far it is and does what is next; a driver that comes after one that died goes on
//!   with its job, and nobody waits in the guest's task for a terabyte.
//! * **What the guest writes goes to both at once** (`copy-mode=write-blocking`). It costs the guest some speed; a copy in
//!   the background may never catch up with a guest that writes fast, and then nobody can say when it ends.
//! * **The guest stands still while it changes over**, so that both places hold the same until its definition names the
//!   new one. Whichever a process finds that comes after a crash in that moment, it is the right one.
//! * The new node has the next overlay's number ([`drive`]); after the change those below it are closed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Attachment, DomainDisk, Mirroring};

use crate::drive::{self, Plug};
use crate::driver::Driver;
use crate::plugging::resolved;
use crate::qmp::Command;

/// What is left to copy once a guest stands still: what it had in flight.
const DRAIN: Duration = Duration::from_secs(5);

/// A job that was told to end waits for what it has sent to storage.
const END: Duration = Duration::from_secs(30);

/// Between two looks at a job that ends.
const LOOK: Duration = Duration::from_millis(10);

/// Names of jobs begin so.
const PREFIX: &str = "mirror-";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) error: Option<String>,
    current_progress: u64,
    total_progress: u64,
}

impl Job {
    fn is_drained(&self) -> bool {
        self.current_progress == self.total_progress
    }
}

impl Driver {
    pub(crate) async fn jobs(&mut self) -> Result<Vec<Job>> {
        let answer = self.qemu(&Command::with("query-jobs", json!({}))).await?;
        serde_json::from_str(answer.get()).map_err(|error| Error::internal(error).because("reading QEMU's jobs"))
    }

    async fn job(&mut self, id: &str) -> Result<Option<Job>> {
        Ok(self.jobs().await?.into_iter().find(|job| job.id == id))
    }

    async fn plugged(&mut self, serial: &str) -> Result<Option<Plug>> {
        self.refresh().await?;
        Ok(self.plugs.borrow().iter().find(|plug| plug.serial.as_deref() == Some(serial)).cloned())
    }

    pub(crate) async fn mirror(&mut self, serial: &str, to: &Attachment) -> Result<Mirroring> {
        drive::must_be_name(serial)?;
        if self.running.is_none() {
            return Err(Error::conflict(format!("Domain {} is not running.", self.home.id)));
        }
        let to = real(to).await;
        let plug = self.plugged(serial).await?.ok_or_else(|| Error::not_found("The guest has no such disk."))?;
        if plug.is_at(&to) {
            self.end_mirror(serial).await?;
            self.amend_disk(serial, &to)?;
            return Ok(Mirroring::There);
        }
        let node = drive::next_overlay(&plug.node);
        match self.job(&job_id(serial)).await? {
            None => self.begin_mirror(&plug, serial, &node, &to).await,
            Some(job) if job.status == "concluded" => {
                self.end_mirror(serial).await?;
                Err(not_copied(job.error.unwrap_or_else(|| "it was cancelled".to_owned())))
            }
            Some(_) if !self.is_open_at(&node, &to).await? => {
                self.end_mirror(serial).await?;
                self.begin_mirror(&plug, serial, &node, &to).await
            }
            // Somebody else needs the guest to stand still just now.
            Some(job) if job.status != "ready" || self.held => Ok(copying(&job)),
            Some(job) => self.change_over(&job, serial, &to).await,
        }
    }

    async fn begin_mirror(&mut self, plug: &Plug, serial: &str, node: &str, to: &Attachment) -> Result<Mirroring> {
        // What a driver has left that died between the two commands below.
        self.close_all_but(serial, plug.overlay()).await?;
        let begun = async {
            self.open_as_large(node, to, plug.size).await?;
            let job = json!({
                "job-id": job_id(serial), "device": plug.node, "target": node, "sync": "full",
                "copy-mode": "write-blocking", "auto-dismiss": false,
            });
            self.qemu(&Command::with("blockdev-mirror", job)).await.map_err(refused)
        };
        if let Err(error) = begun.await {
            self.end_mirror(serial).await?;
            return Err(error);
        }
        tracing::info!(server = %self.home.id, disk = serial, "copying a disk to another place");
        Ok(Mirroring::Copying { done: 0, total: plug.size })
    }

    /// Opens the place. QEMU copies only between nodes of one size, so what is larger is cut until the guest has it.
    async fn open_as_large(&mut self, node: &str, to: &Attachment, size: u64) -> Result<()> {
        let whole = new_node(to, node)?;
        self.qemu(&Command::with("blockdev-add", whole.clone())).await.map_err(not_opened)?;
        let room = self.size_of(node).await?;
        if room == size {
            return Ok(());
        }
        if room < size || whole["driver"] != "raw" {
            return Err(Error::bad_request(format!("A disk of {room} bytes cannot take the place of one of {size}.")));
        }
        self.qemu(&Command::with("blockdev-del", json!({"node-name": node}))).await?;
        let mut cut = whole;
        cut["size"] = json!(size);
        self.qemu(&Command::with("blockdev-add", cut)).await.map_err(not_opened).map(drop)
    }

    /// What was cut for the copying is whole again, and the guest sees it.
    async fn make_whole(&mut self, now: &Plug, to: &Attachment) -> Result<()> {
        let file = drive::file_node(&now.node);
        let room = self.size_of(&file).await?;
        if now.qcow2 || room <= now.size {
            return Ok(());
        }
        let mut whole = new_node(to, &now.node)?;
        whole["file"] = json!(file);
        self.qemu(&Command::with("blockdev-reopen", json!({"options": [whole]}))).await.map_err(refused)?;
        let size = json!({"node-name": now.node, "size": room});
        self.qemu(&Command::with("block_resize", size)).await.map_err(refused).map(drop)
    }

    /// The job is ready: both places are equal but for what is in flight.
    async fn change_over(&mut self, job: &Job, serial: &str, to: &Attachment) -> Result<Mirroring> {
        self.hold().await?;
        let outcome = self.pivot(&job.id, serial, to).await;
        if outcome.is_err()
            && let Err(error) = self.compare_disks().await
        {
            tracing::warn!(server = %self.home.id, "the disks of a guest are not known: {}", error.for_log());
        }
        self.let_on().await?;
        match outcome? {
            true => {
                self.end_mirror(serial).await?;
                tracing::info!(server = %self.home.id, disk = serial, "a disk is at another place");
                Ok(Mirroring::There)
            }
            false => Ok(copying(job)),
        }
    }

    /// While the guest stands still. False if storage is too slow to keep it waiting for: it will be asked again.
    async fn pivot(&mut self, job: &str, serial: &str, to: &Attachment) -> Result<bool> {
        let drained = self.wait_for_job(job, DRAIN, |job| job.is_drained() || job.status == "concluded").await?;
        if !drained {
            return Ok(false);
        }
        self.qemu(&Command::with("job-complete", json!({"id": job}))).await.map_err(refused)?;
        if !self.wait_for_job(job, END, |job| job.status == "concluded").await? {
            return Err(Error::new(Kind::Timeout, "The guest's disk does not change over."));
        }
        let now = self.plugged(serial).await?.filter(|now| now.is_at(to));
        let Some(now) = now else {
            let why = self.job(job).await?.and_then(|job| job.error);
            return Err(not_copied(why.unwrap_or_else(|| "the disk is where it was".to_owned())));
        };
        self.amend_disk(serial, to)?;
        self.make_whole(&now, to).await?;
        Ok(true)
    }

    async fn wait_for_job(&mut self, id: &str, limit: Duration, is_so: impl Fn(&Job) -> bool) -> Result<bool> {
        let begun = Instant::now();
        loop {
            match self.job(id).await? {
                Some(job) if !is_so(&job) && begun.elapsed() < limit => sleep(LOOK).await,
                Some(job) => return Ok(is_so(&job)),
                None => return Ok(true),
            }
        }
    }

    pub(crate) async fn cancel_mirror(&mut self, serial: &str) -> Result<()> {
        drive::must_be_name(serial)?;
        match self.running.is_some() {
            true => self.end_mirror(serial).await,
            false => Ok(()),
        }
    }

    /// Ends the disk's job, if there is one, and closes all nodes but those of the place where the disk is.
    async fn end_mirror(&mut self, serial: &str) -> Result<()> {
        let id = job_id(serial);
        if let Some(job) = self.job(&id).await? {
            self.end_job(&job).await?;
        }
        if let Some(plug) = self.plugged(serial).await? {
            self.close_all_but(serial, plug.overlay()).await?;
        }
        Ok(())
    }

    async fn end_job(&mut self, job: &Job) -> Result<()> {
        if matches!(job.status.as_str(), "created" | "running" | "paused" | "ready" | "standby") {
            self.qemu(&Command::with("job-cancel", json!({"id": job.id}))).await?;
        }
        if !self.wait_for_job(&job.id, END, |job| job.status == "concluded").await? {
            return Err(Error::new(Kind::Busy, "The copying of a disk does not end."));
        }
        if self.job(&job.id).await?.is_some() {
            self.qemu(&Command::with("job-dismiss", json!({"id": job.id}))).await?;
        }
        Ok(())
    }

    /// For a guest that a driver has left standing while one of its disks changed over: it is here or there.
    pub(crate) async fn settle_mirrors(&mut self) -> Result<()> {
        let jobs = self.jobs().await?;
        for job in jobs.iter().filter(|job| job.id.starts_with(PREFIX)) {
            self.end_job(job).await?;
        }
        Ok(())
    }

    pub(crate) async fn is_disk_at(&mut self, serial: &str, place: &Attachment) -> Result<bool> {
        let place = real(place).await;
        if self.running.is_some() {
            return Ok(self.plugged(serial).await?.is_some_and(|plug| plug.is_at(&place)));
        }
        let spec = self.home.definition().map_err(|error| Error::internal(error).because("a guest's definition"))?;
        let disk = spec.and_then(|spec| spec.disks.into_iter().find(|disk| disk.serial == serial));
        match disk {
            Some(disk) => Ok(drive::is_same(&real(&disk.attachment).await, &place)),
            None => Ok(false),
        }
    }

    fn amend_disk(&self, serial: &str, to: &Attachment) -> Result<()> {
        self.amend(|spec| {
            for disk in spec.disks.iter_mut().filter(|disk| disk.serial == serial) {
                disk.attachment = to.clone();
            }
        })
    }
}

fn job_id(serial: &str) -> String {
    format!("{PREFIX}{serial}")
}

/// Links resolved, as QEMU has it open.
async fn real(place: &Attachment) -> Attachment {
    resolved(vec![disk(place)]).await.pop().map_or_else(|| place.clone(), |disk| disk.attachment)
}

fn new_node(place: &Attachment, name: &str) -> Result<serde_json::Value> {
    drive::block_node(&disk(place), name)
}

fn disk(place: &Attachment) -> DomainDisk {
    DomainDisk { attachment: place.clone(), serial: String::new(), boot_index: None, read_only: false, cdrom: false }
}

fn copying(job: &Job) -> Mirroring {
    Mirroring::Copying { done: job.current_progress, total: job.total_progress }
}

fn not_copied(cause: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, "The disk could not be copied to its new place.").because(cause)
}

fn refused(error: Error) -> Error {
    match error.is(Kind::Conflict) {
        true => not_copied(error.cause().unwrap_or_default()),
        false => error,
    }
}

fn not_opened(error: Error) -> Error {
    if !error.is(Kind::Conflict) {
        return error;
    }
    let cause = error.cause().unwrap_or_default().to_owned();
    Error::new(Kind::Internal, "QEMU cannot open the disk's new place.").because(cause)
}
