//! A running guest goes over from files to their overlays.
//!
//! Opening the overlays is what can fail, so it is done first and apart. Then all disks of one guest change within one
//! transaction of QEMU's. Several guests are kept still meanwhile, and what has changed is changed back if one of them
//! cannot: the overlay, which holds nothing of the guest's yet, is committed into its file.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Attachment, DiskFormat, DomainDisk, Power};

use crate::drive::{self, Plug};
use crate::driver::Driver;
use crate::home::Passing;
use crate::machine::Move;
use crate::mirror::Job;
use crate::qmp::Command;

/// An empty overlay has next to nothing to commit.
const COMMIT: Duration = Duration::from_secs(30);

/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(20);

impl Driver {
    /// The disks that the guest writes to, with their overlays. One that has gone over before is left out.
    fn pairs<'a>(&self, moves: &'a [Move]) -> Vec<(Plug, &'a Move)> {
        let plugs = self.plugs.borrow();
        let of = |one: &'a Move| Some((plugs.iter().find(|plug| writes(plug, &one.from))?.clone(), one));
        moves.iter().filter_map(of).collect()
    }

    pub(crate) async fn prepare_switch(&mut self, moves: &[Move]) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        self.refresh().await?;
        for (plug, one) in self.pairs(moves) {
            let node = drive::next_overlay(&plug.node);
            // What a driver has left that died before the transaction.
            self.close(&node).await?;
            let disk = DomainDisk {
                attachment: Attachment::File { path: one.to.clone(), format: DiskFormat::Qcow2 },
                serial: String::new(),
                boot_index: None,
                read_only: false,
                cdrom: false,
            };
            let mut overlay = drive::block_node(&disk, &node)?;
            // The disk itself becomes the backing file, rather than being opened a second time.
            overlay["backing"] = Value::Null;
            self.qemu(&Command::with("blockdev-add", overlay)).await.map_err(not_switched)?;
        }
        Ok(())
    }

    pub(crate) async fn switch(&mut self, moves: &[Move]) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        let pairs = self.pairs(moves);
        let actions: Vec<Value> = pairs
            .iter()
            .map(|(plug, _)| {
                let data = json!({"node": plug.node, "overlay": drive::next_overlay(&plug.node)});
                json!({"type": "blockdev-snapshot", "data": data})
            })
            .collect();
        self.qemu(&Command::with("transaction", json!({"actions": actions}))).await.map_err(not_switched)?;
        self.refresh().await?;
        self.amend(|spec| spec.disks.iter_mut().for_each(|disk| go_over(disk, &pairs)))
    }

    /// Undoes both, as far as they were done.
    pub(crate) async fn unswitch(&mut self, moves: &[Move]) -> Result<()> {
        if self.running.is_none() {
            return Ok(());
        }
        self.refresh().await?;
        for (plug, _) in self.pairs(moves) {
            self.close(&drive::next_overlay(&plug.node)).await?;
        }
        let plugs = self.plugs.borrow().clone();
        for one in moves {
            if let Some(plug) = plugs.iter().find(|plug| writes(plug, &one.to)) {
                self.commit(&plug.node).await?;
                self.qemu(&Command::with("blockdev-del", json!({"node-name": plug.node}))).await?;
            }
        }
        self.compare_disks().await
    }

    async fn commit(&mut self, overlay: &str) -> Result<()> {
        let id = format!("back-from-{overlay}");
        self.qemu(&Command::with("block-commit", json!({"job-id": id, "device": overlay}))).await?;
        let begun = Instant::now();
        while begun.elapsed() < COMMIT {
            let jobs = self.jobs().await?;
            match jobs.iter().find(|job| job.id == id) {
                None => return Ok(()),
                Some(Job { error: Some(error), .. }) => return Err(not_switched(Error::internal(error))),
                Some(job) if job.status == "ready" => {
                    self.qemu(&Command::with("job-complete", json!({"id": id}))).await?;
                }
                Some(_) => sleep(LOOK).await,
            }
        }
        Err(Error::new(Kind::Timeout, "The guest's disk does not come back from its overlay."))
    }

    /// Stops the processors without telling anybody. A guest that stands still already is left so.
    pub(crate) async fn hold(&mut self) -> Result<()> {
        if self.running.is_none() || self.held || *self.power.borrow() != Some(Power::Running) {
            return Ok(());
        }
        let noted = self.home.note(Passing::Held, true);
        noted.map_err(|error| Error::internal(error).because("noting that a guest is held"))?;
        self.held = true;
        let outcome = self.qemu(&Command::STOP).await;
        if outcome.is_err() {
            self.let_on().await?;
        }
        outcome.map(drop)
    }

    /// Undoes [`Driver::hold`].
    pub(crate) async fn let_on(&mut self) -> Result<()> {
        if self.running.is_some() && (self.held || self.home.is(Passing::Held)) {
            self.qemu(&Command::CONT).await?;
        }
        // Told late, events of the stop would be taken for somebody's wish.
        self.forget_stops();
        self.held = false;
        self.home
            .note(Passing::Held, false)
            .map_err(|error| Error::internal(error).because("noting that a guest is let go"))
    }
}

fn writes(plug: &Plug, file: &Path) -> bool {
    !plug.read_only && Path::new(&plug.place) == file
}

fn go_over(disk: &mut DomainDisk, pairs: &[(Plug, &Move)]) {
    if let Attachment::File { path, format } = &mut disk.attachment
        && let Some((_, one)) = pairs.iter().find(|(_, one)| one.from == *path)
    {
        *path = one.to.clone();
        *format = DiskFormat::Qcow2;
    }
}

fn not_switched(error: Error) -> Error {
    let cause = error.cause().unwrap_or_default().to_owned();
    match error.is(Kind::Conflict) {
        true => Error::new(Kind::Internal, "The guest's disk cannot go over to its overlay.").because(cause),
        false => error,
    }
}
