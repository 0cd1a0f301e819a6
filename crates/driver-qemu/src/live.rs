//! Files of local pools that guests have open.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use umbel_core::{Error, Result};
use umbel_driver::LiveDisks;

use crate::hypervisor::QemuHypervisor;
use crate::machine::{Machine, Move, Request, Which};

/// A guest that takes part.
type Part = (Machine, Vec<Move>);

#[async_trait]
impl LiveDisks for QemuHypervisor {
    async fn is_live(&self, file: &Path) -> Result<bool> {
        let file = real(file).await;
        Ok(self.machines().iter().any(|machine| machine.writes(&file)))
    }

    async fn switch(&self, moves: &[(PathBuf, PathBuf)]) -> Result<()> {
        let mut all = Vec::with_capacity(moves.len());
        for (from, to) in moves {
            all.push(Move { from: real(from).await, to: real(to).await });
        }
        let of = |machine: Machine| {
            let moves: Vec<Move> = all.iter().filter(|one| machine.writes(&one.from)).cloned().collect();
            (!moves.is_empty()).then_some((machine, moves))
        };
        let parts: Vec<Part> = self.machines().into_iter().filter_map(of).collect();
        // On its own, so that no guest is left standing still by a caller who has gone away.
        let work = tokio::spawn(switch(parts));
        work.await.map_err(|error| Error::internal(error).because("moving guests to overlays"))?
    }

    async fn grow(&self, file: &Path, size: u64) -> Result<()> {
        let file = real(file).await;
        let machine = self.machines().into_iter().find(|machine| machine.writes(&file));
        let machine = machine.ok_or_else(|| Error::not_found("No guest has the disk open."))?;
        ask(&machine, Request::Resize(Which::File(file), size)).await
    }
}

async fn real(path: &Path) -> PathBuf {
    tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.to_owned())
}

/// A guest that is gone has no file open, so there is nothing to do for it.
async fn ask(machine: &Machine, request: Request) -> Result<()> {
    machine.ask(request).await.unwrap_or(Ok(()))
}

async fn switch(parts: Vec<Part>) -> Result<()> {
    let prepared = try_all(&parts, Request::PrepareSwitch).await;
    let outcome = match (prepared, parts.len()) {
        (Ok(()), 0) => return Ok(()),
        (Ok(()), 1) => try_all(&parts, Request::Switch).await,
        (Ok(()), _) => still(&parts).await,
        (failed, _) => failed,
    };
    if outcome.is_err() {
        undo(&parts).await;
    }
    outcome
}

async fn try_all(parts: &[Part], request: impl Fn(Vec<Move>) -> Request) -> Result<()> {
    try_join_all(parts.iter().map(|(machine, moves)| ask(machine, request(moves.clone())))).await.map(drop)
}

/// One point in time for several guests: none of them runs while they go over.
async fn still(parts: &[Part]) -> Result<()> {
    let held = try_join_all(parts.iter().map(|(machine, _)| ask(machine, Request::Hold))).await;
    let mut outcome = held.map(drop);
    if outcome.is_ok() {
        // All of them end, also when one fails: what is undone must have been done.
        let all = join_all(parts.iter().map(|(machine, moves)| ask(machine, Request::Switch(moves.clone())))).await;
        outcome = all.into_iter().collect();
    }
    if outcome.is_err() {
        undo(parts).await;
    }
    for released in join_all(parts.iter().map(|(machine, _)| ask(machine, Request::Release))).await {
        if let Err(error) = released {
            tracing::error!("a guest stands still: {}", error.for_log());
        }
    }
    outcome
}

async fn undo(parts: &[Part]) {
    for undone in join_all(parts.iter().map(|(machine, moves)| ask(machine, Request::Unswitch(moves.clone())))).await {
        if let Err(error) = undone {
            tracing::error!("a guest's disk does not come back from its overlay: {}", error.for_log());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use umbel_driver::{Attachment, DiskFormat, DomainDisk, DomainSpec, Hypervisor};
    use uuid::Uuid;

    use super::*;
    use crate::Options;

    /// Here rather than with the tests of whole guests: after a preparation that worked, QEMU does not fail on demand.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_comes_back_from_an_overlay() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("data.raw"), dir.path().join("over.qcow2"));
        std::fs::File::create(&from).unwrap().set_len(1 << 20).unwrap();
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&from, &to])
            .status()
            .expect("qemu-img is missing: install qemu-utils");
        assert!(made.success());
        let attachment = Attachment::File { path: from.clone(), format: DiskFormat::Raw };
        let disk = DomainDisk { attachment, serial: "data".into(), boot_index: None, read_only: false, cdrom: false };
        let id = Uuid::new_v4();
        let spec = DomainSpec { id, name: "back".into(), vcpus: 1, memory_mib: 64, disks: vec![disk] };
        let hypervisor = QemuHypervisor::open(&dir.path().join("guests"), Options::default()).await.unwrap();
        hypervisor.start(&spec).await.unwrap();

        let parts: Vec<Part> = hypervisor
            .machines()
            .into_iter()
            .map(|one| (one, vec![Move { from: from.clone(), to: to.clone() }]))
            .collect();
        let live = async || (hypervisor.is_live(&from).await.unwrap(), hypervisor.is_live(&to).await.unwrap());
        for switched in [false, true] {
            try_all(&parts, Request::PrepareSwitch).await.unwrap();
            // Again, as after an answer that was lost.
            try_all(&parts, Request::PrepareSwitch).await.unwrap();
            if switched {
                try_all(&parts, Request::Switch).await.unwrap();
                assert_eq!(live().await, (false, true));
            }
            undo(&parts).await;
            assert_eq!(live().await, (true, false), "switched: {switched}");
            // Nobody holds the overlay: a writer may have it.
            let free = Command::new("qemu-img").args(["resize", "-q", "-f", "qcow2"]).arg(&to).arg("2M").status();
            assert!(free.unwrap().success(), "switched: {switched}");
        }
        let definition = std::fs::read_to_string(dir.path().join(format!("guests/{id}/domain.json"))).unwrap();
        assert!(definition.contains("data.raw") && definition.contains("raw"), "{definition}");
        hypervisor.undefine(id).await.unwrap();
    }
}
