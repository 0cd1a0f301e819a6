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
