//! A server comes to a host, and off it again: the transactions of the create flow in a cell's database.
//!
//! Claim, server row, disks' rows and the record of the action are one transaction. Undoing it is two: first the server
//! is on no host any more, so that no report of that host is taken for a success; then, when the host has confirmed
//! that nothing is left there, the claim goes. In between the claim says where to clean up.

use std::sync::Arc;

use umbel_bus::DiskRef;
use umbel_compute::Cell;
use umbel_compute::model::{
    Action, DiskPlan, Fault, HostRef, Life, Server, ServerId, Want, failed, leave, place, transition,
};
use umbel_compute::store::actions::{self, ActionRow, EventRow};
use umbel_compute::store::disks::{self, DiskRow};
use umbel_compute::store::servers;
use umbel_core::{Error, Id, Kind, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use umbel_placement::{Claim, DiskClaim, PoolId};
use umbel_scheduler::{Funnel, Request};

use crate::CellConductor;
use crate::cell::{must, one, unwanted};
use crate::documents;
use crate::observe::end;
use crate::request;
use crate::view::Placement;

/// Hosts whose claim may be refused, because the view was stale, before the choice begins anew.
const REFUSALS: usize = 8;

/// What a claim came to.
pub(crate) enum Claimed {
    /// The server is on a host, by this claim or by an earlier one whose answer was lost.
    On(Box<Server>, Vec<DiskRow>),
    /// Its owner deleted it meanwhile.
    Unwanted,
}

/// Where a server that is being undone may still have something.
pub(crate) struct Remains {
    pub host: String,
    pub server: Server,
    pub disks: Vec<DiskRef>,
}

impl CellConductor {
    /// What the server asks of this cell's scheduler. `tried`: hosts that failed.
    pub(crate) async fn request(&self, server: &Server, plan: &[DiskPlan], tried: &[String]) -> Result<Request> {
        let mut request = request::request(server, plan);
        request.tried = tried.to_vec();
        let (same_hint, different_hint) =
            (request::hinted(server, "same_host"), request::hinted(server, "different_host"));
        if same_hint.is_empty() && different_hint.is_empty() {
            return Ok(request);
        }
        let (same, different) = read!(self.cell.db, "hosts of hints", |tx| Ok((
            hosts_of(tx, &same_hint).await?,
            hosts_of(tx, &different_hint).await?
        )))?;
        request.different = different;
        // A host that an administrator names goes before the owner's hint.
        if request.only.is_empty() && !same_hint.is_empty() {
            // Servers of other cells, or gone ones, are on no host of this cell, and that is where this one must be.
            request.only = if same.is_empty() { vec!["same_host".to_owned()] } else { same };
        }
        Ok(request)
    }

    /// Whether the cell would take the server, and on which host.
    pub(crate) async fn choose(&self, server: &Server, tried: &[String]) -> Result<Result<Placement, Funnel>> {
        let plan = request::disks(server, self.config.config_drives);
        let request = self.request(server, &plan, tried).await?;
        self.view.choose(&self.looking(), &request).await
    }

    /// Takes back a choice that is not followed by a claim.
    pub(crate) fn unchoose(&self, server: &Server, placement: &Placement) {
        let plan = request::disks(server, self.config.config_drives);
        let pools: Vec<String> = placement.pools.iter().map(|(_, name)| name.clone()).collect();
        self.view.give_back(&placement.host.name, &request::request(server, &plan), &pools);
    }

    /// Puts the server on a host and sends it there. `chosen`: where, if that was chosen already.
    pub(crate) async fn claim(
        &self,
        server: &Server,
        mut tried: Vec<String>,
        chosen: Option<Placement>,
        started: Timestamp,
    ) -> Result<Claimed> {
        // A server that came here before has room: whether there were room for another one like it says nothing.
        if chosen.is_none()
            && let Some(claimed) = self.claimed(server.id).await?
        {
            return self.sent(claimed).await;
        }
        let plan = request::disks(server, self.config.config_drives);
        let mut chosen = chosen;
        for _ in 0..REFUSALS {
            let placement = match chosen.take() {
                Some(placement) => placement,
                None => match self.choose(server, &tried).await? {
                    Ok(placement) => placement,
                    Err(funnel) => return Err(no_host(&funnel)),
                },
            };
            match self.claim_on(server, &plan, &placement, started).await {
                Err(error) if error.is(Kind::NoSpace) => {
                    tracing::debug!(server = %server.id, host = placement.host.name, "claim refused: {error}");
                    tried.push(placement.host.name.clone());
                    self.view.forget();
                }
                Err(error) => {
                    self.unchoose(server, &placement);
                    return Err(error);
                }
                Ok(claimed) => return self.sent(claimed).await,
            }
        }
        Err(Error::new(Kind::Busy, "Hosts fill faster than they are chosen."))
    }

    /// What an earlier claim came to.
    async fn claimed(&self, id: ServerId) -> Result<Option<Claimed>> {
        read!(self.cell.db, "look for a claim", |tx| {
            let row = one(tx, id).await?;
            claimed(tx, row.as_ref()).await
        })
    }

    /// The host is told what it got.
    async fn sent(&self, claimed: Claimed) -> Result<Claimed> {
        if let Claimed::On(server, disks) = &claimed {
            self.pursue(server, disks).await?;
        }
        Ok(claimed)
    }

    async fn claim_on(
        &self,
        server: &Server,
        plan: &[DiskPlan],
        placement: &Placement,
        started: Timestamp,
    ) -> Result<Claimed> {
        let now = self.clock.now();
        tx!(self.cell.db, "claim", |tx| {
            let row = one(tx, server.id).await?;
            if let Some(claimed) = claimed(tx, row.as_ref()).await? {
                return Ok(claimed);
            }
            let is_new = row.is_none();
            let mut server = row.unwrap_or_else(|| server.clone());
            umbel_placement::claim(tx, &claim_of(&server, plan, placement), now).await?;
            server.state = place(&server, placement.host.clone(), placement.zone.clone(), now);
            match is_new {
                true => servers::insert(tx, &server).await?,
                false => servers::update(tx, &mut server).await?,
            }
            let disks = disk_rows(&server, plan, placement);
            for disk in &disks {
                disks::insert(tx, disk, now).await?;
            }
            record_schedule(tx, &server, &placement.funnel, started, now).await?;
            Ok(Claimed::On(Box::new(server), disks))
        })
    }

    /// First half of the undo: the server is on no host. Where it was, if something may be left there.
    pub(crate) async fn retreat(&self, id: ServerId) -> Result<Option<Remains>> {
        let now = self.clock.now();
        tx!(self.cell.db, "retreat", |tx| {
            let Some(mut server) = one(tx, id).await? else {
                return Ok(None);
            };
            let on_host = server.state.host.is_some();
            // A deleted server that is on a host is the business of that host, and one that runs is nobody's to undo.
            if on_host && (unwanted(&server) || server.state.life != Life::Building) {
                return Ok(None);
            }
            if on_host {
                server.state = leave(&server, now);
                servers::update(tx, &mut server).await?;
            }
            let held = umbel_placement::held(tx, Id::from_uuid(id.uuid())).await?;
            let Some(held) = held.first() else {
                return Ok(None);
            };
            let host = umbel_placement::host(tx, held.host).await?;
            let host = host.ok_or_else(|| Error::internal(format!("server {id} holds room on an unknown host")))?;
            let disks = documents::refs(&disks::of_server(tx, id).await?);
            Ok(Some(Remains { host: host.name, server, disks }))
        })
    }

    /// Second half: the host has nothing of it. The claim goes; a server that is wanted no more goes with it.
    pub(crate) async fn release(&self, id: ServerId) -> Result<()> {
        let now = self.clock.now();
        let released = tx!(self.cell.db, "release", |tx| {
            let Some(mut server) = one(tx, id).await? else {
                return Ok(None);
            };
            if server.state.host.is_some() {
                return Ok(None);
            }
            let disks = disks::of_server(tx, id).await?;
            let consumer = Id::from_uuid(id.uuid());
            let held = umbel_placement::held(tx, consumer).await?;
            let host = match held.first() {
                Some(held) => umbel_placement::host(tx, held.host).await?,
                None => None,
            };
            umbel_placement::release(tx, consumer).await?;
            disks::remove_all(tx, id).await?;
            if server.state.want == Want::Absent && server.state.life != Life::Deleted {
                end(tx, &mut server, now).await?;
            }
            Ok(Some((server, disks, host)))
        })?;
        if let Some((server, disks, host)) = released {
            if let Some(host) = host {
                self.count_out(&host.name, &server, &disks);
            }
            self.nudge_flows();
            self.watchers.tell(id.uuid(), |news| news.server = Some(Arc::new(server)));
        }
        Ok(())
    }

    /// The host does not confirm: the server stays with it, in error, and whoever deletes it deletes it there. False
    /// if its owner deleted it: then nobody waits for it, and the host is asked until it answers.
    pub(crate) async fn strand(&self, remains: &Remains, message: &str) -> Result<bool> {
        let now = self.clock.now();
        tx!(self.cell.db, "strand", |tx| {
            let mut server = must(tx, remains.server.id).await?;
            if unwanted(&server) {
                return Ok(false);
            }
            let held = umbel_placement::held(tx, Id::from_uuid(server.id.uuid())).await?;
            if let Some(held) = held.first().filter(|_| server.state.host.is_none()) {
                close(tx, &server, now).await?;
                server.state = failed(&server, fault(message, now), now);
                server.state.host = Some(HostRef { id: held.host, name: remains.host.clone() });
                server.state.generation = server.state.generation.next();
                servers::update(tx, &mut server).await?;
            }
            Ok(true)
        })
    }

    /// Deletes a server as its owner would.
    pub(crate) async fn delete(&self, id: ServerId) -> Result<()> {
        let now = self.clock.now();
        tx!(self.cell.db, "delete server", |tx| {
            let Some(mut server) = one(tx, id).await?.filter(|server| !unwanted(server)) else {
                return Ok(());
            };
            let request_id = server.spec.request_id.clone();
            server.state = transition(&server, Action::Delete, &request_id, now)?;
            servers::update(tx, &mut server).await
        })?;
        self.changed(id).await
    }

    /// A server that is being built ends in error where it is. `Ok(false)` if it has no row here.
    pub(crate) async fn fail(&self, id: ServerId, message: &str) -> Result<bool> {
        let now = self.clock.now();
        let ended = tx!(self.cell.db, "fail server", |tx| {
            let Some(mut server) = one(tx, id).await? else {
                return Ok(None);
            };
            if server.state.life == Life::Building && !unwanted(&server) {
                close(tx, &server, now).await?;
                server.state = failed(&server, fault(message, now), now);
                servers::update(tx, &mut server).await?;
            }
            Ok(Some(server))
        })?;
        let here = ended.is_some();
        if let Some(server) = ended {
            self.watchers.tell(id.uuid(), |news| news.server = Some(Arc::new(server)));
        }
        Ok(here)
    }
}

/// The row of a server that is not to be claimed for: it is on a host already, or unwanted.
async fn claimed(tx: &mut Tx<Cell>, row: Option<&Server>) -> Result<Option<Claimed>> {
    match row {
        Some(server) if unwanted(server) => Ok(Some(Claimed::Unwanted)),
        Some(server) if server.state.host.is_some() => {
            let disks = disks::of_server(tx, server.id).await?;
            Ok(Some(Claimed::On(Box::new(server.clone()), disks)))
        }
        _ => Ok(None),
    }
}

/// Writes a server that found no host into `cell0`.
pub(crate) async fn bury(tx: &mut Tx<Cell>, server: &Server, message: &str, now: Timestamp) -> Result<()> {
    if one(tx, server.id).await?.is_some() {
        return Ok(());
    }
    let mut server = server.clone();
    record_action(tx, &server).await?;
    let event = EventRow {
        server_id: server.id,
        request_id: server.spec.request_id.clone(),
        name: "schedule".to_owned(),
        started_at: server.spec.created_at,
        finished_at: Some(now),
        ok: Some(false),
        host: String::new(),
        details: Some(message.to_owned()),
    };
    actions::event(tx, &event, now).await?;
    close(tx, &server, now).await?;
    server.state = failed(&server, fault(message, now), now);
    servers::insert(tx, &server).await
}

/// As upstream words it, with the way to it.
pub(crate) fn no_host(funnel: &Funnel) -> Error {
    Error::new(Kind::NoSpace, funnel.to_string())
}

fn fault(message: &str, now: Timestamp) -> Fault {
    Fault { code: 500, message: message.to_owned(), details: None, created: now }
}

/// The action that was under way ended badly.
async fn close(tx: &mut Tx<Cell>, server: &Server, now: Timestamp) -> Result<()> {
    match &server.state.action {
        Some(request_id) => actions::finish(tx, server.id, request_id, true, now).await,
        None => Ok(()),
    }
}

async fn record_action(tx: &mut Tx<Cell>, server: &Server) -> Result<()> {
    let spec = &server.spec;
    let action = ActionRow {
        server_id: server.id,
        request_id: spec.request_id.clone(),
        action: "create".to_owned(),
        user_id: spec.user_id.clone(),
        project_id: spec.project_id.clone(),
        started_at: spec.created_at,
        finished_at: None,
        updated_at: spec.created_at,
        message: None,
    };
    actions::start(tx, &action).await
}

async fn record_schedule(
    tx: &mut Tx<Cell>,
    server: &Server,
    funnel: &Funnel,
    started: Timestamp,
    now: Timestamp,
) -> Result<()> {
    record_action(tx, server).await?;
    let event = EventRow {
        server_id: server.id,
        request_id: server.spec.request_id.clone(),
        name: "schedule".to_owned(),
        started_at: started,
        finished_at: Some(now),
        ok: Some(true),
        host: server.state.host.as_ref().map_or_else(String::new, |host| host.name.clone()),
        details: Some(funnel.to_string()),
    };
    actions::event(tx, &event, now).await
}

fn claim_of(server: &Server, plan: &[DiskPlan], placement: &Placement) -> Claim {
    let mut disks: Vec<DiskClaim> = Vec::new();
    for (disk, (pool, _)) in plan.iter().zip(&placement.pools) {
        match disks.iter_mut().find(|claim| claim.pool == *pool) {
            Some(claim) => claim.bytes += disk.size_bytes,
            None => disks.push(DiskClaim { pool: *pool, bytes: disk.size_bytes }),
        }
    }
    Claim {
        consumer: Id::from_uuid(server.id.uuid()),
        host: placement.host.id,
        vcpus: server.spec.flavor.vcpus.into(),
        memory_mib: server.spec.flavor.memory_mib,
        disks,
    }
}

fn disk_rows(server: &Server, plan: &[DiskPlan], placement: &Placement) -> Vec<DiskRow> {
    let row = |(disk, (pool_id, pool)): (&DiskPlan, &(PoolId, String))| DiskRow {
        server_id: server.id,
        name: disk.name.clone(),
        pool_id: *pool_id,
        pool: pool.clone(),
        size_bytes: disk.size_bytes,
        source: disk.source,
        boot_index: disk.boot_index,
    };
    plan.iter().zip(&placement.pools).map(row).collect()
}

/// Where these servers are, those of other cells left out.
async fn hosts_of(tx: &mut Tx<Cell>, ids: &[ServerId]) -> Result<Vec<String>> {
    let servers = servers::get_many(tx, ids).await?;
    Ok(servers.into_iter().filter_map(|server| server.state.host.map(|host| host.name)).collect())
}
