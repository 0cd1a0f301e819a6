//! The flow that makes a server.
//!
//! A server is in one cell from its first claim on: another host is tried in the same cell only, as upstream has it. So
//! where a server is changes once, and between two tries it stays where its owner sees it.
//!
//! Two databases take part, and no transaction spans them. The order makes up for it: the cell is noted in the flow
//! before anything is written there, and the global map follows what the cell has. Whatever a crash leaves between the
//! two is found by running the same step again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use umbel_compute::model::{BlockDeviceId, Life, Server, ServerId};
use umbel_compute::store::server_map::Placed;
use umbel_compute::store::{build_requests, server_map};
use umbel_compute::{Api, CellId, Cells, flows};
use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};
use umbel_scheduler::Funnel;
use umbel_workflow::{Flow, Next, Run, Step};

use crate::CellConductor;
use crate::cell::{must, one, unwanted};
use crate::conductor::Parts;
use crate::documents;
use crate::placing::{Claimed, Remains, bury, no_host};

/// How long a step waits for its agent before it gives the runner's slot to another flow.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon a flow looks again whose agent takes long: an import.
const PAUSE: Duration = Duration::from_millis(500);

/// How often another cell is chosen because the one before was full by then.
const REFUSALS: u32 = 5;

/// How long one try of an undo waits for the host.
const CONFIRM: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateStep {
    ChooseCell,
    Claim,
    Volumes,
    Spawn,
}

impl Step for CreateStep {
    const ALL: &'static [Self] = &[CreateStep::ChooseCell, CreateStep::Claim, CreateStep::Volumes, CreateStep::Spawn];

    fn name(self) -> &'static str {
        match self {
            CreateStep::ChooseCell => flows::SERVER_CREATE_FIRST,
            CreateStep::Claim => "claim",
            CreateStep::Volumes => "volumes",
            CreateStep::Spawn => "spawn",
        }
    }
}

/// What compute's API starts the flow with, and what the flow adds.
#[derive(Serialize, Deserialize)]
pub struct CreateState {
    pub(crate) server_id: ServerId,
    /// Block devices whose volumes this flow makes; noted before it makes any.
    #[serde(default)]
    pub(crate) making: Option<Vec<BlockDeviceId>>,
    /// The cell that has the server, or is about to.
    #[serde(default)]
    cell: Option<CellId>,
    /// Hosts that failed, and with what.
    #[serde(default)]
    tried: Vec<Tried>,
    /// How often a chosen cell turned out to be full.
    #[serde(default)]
    refused: u32,
}

#[derive(Serialize, Deserialize)]
struct Tried {
    host: String,
    fault: String,
}

impl CreateState {
    fn tried_hosts(&self) -> Vec<String> {
        self.tried.iter().map(|tried| tried.host.clone()).collect()
    }
}

pub(crate) struct ServerCreate(pub Arc<Parts>);

#[async_trait]
impl Flow for ServerCreate {
    type Schema = Api;
    type State = CreateState;
    type Step = CreateStep;
    const KIND: &'static str = flows::SERVER_CREATE;
    const DEADLINE: Duration = flows::SERVER_CREATE_DEADLINE;

    async fn run(&self, step: CreateStep, state: &mut CreateState, _run: &Run) -> Result<Next<CreateStep>> {
        match step {
            CreateStep::ChooseCell => self.choose_cell(state).await,
            CreateStep::Claim => self.claim(state).await,
            CreateStep::Volumes => self.volumes(state).await,
            CreateStep::Spawn => self.spawn(state).await,
        }
    }

    async fn undo(&self, step: CreateStep, state: &mut CreateState, _run: &Run) -> Result<()> {
        let Some(cell) = self.cell(state)? else {
            return Ok(());
        };
        match step {
            CreateStep::ChooseCell => Ok(()),
            CreateStep::Claim => cell.release(state.server_id).await,
            // Without volumes it did nothing.
            CreateStep::Volumes if state.making.is_none() => Ok(()),
            // The step before takes the server off its host too.
            CreateStep::Spawn if state.making.is_some() => Ok(()),
            CreateStep::Volumes | CreateStep::Spawn => match cell.retreat(state.server_id).await? {
                Some(remains) => self.clean_up(&cell, remains).await,
                None => Ok(()),
            },
        }
    }

    async fn failed(&self, state: &mut CreateState, error: &Error, run: &Run) -> Result<()> {
        let id = state.server_id;
        // The owner reads what went wrong on the hosts rather than that none is left.
        let message = match state.tried.last() {
            Some(last) => format!("{} Tried: {}.", last.fault, state.tried_hosts().join(", ")),
            None => error.message().to_owned(),
        };
        if let Some(cell) = self.cell(state)? {
            self.drop_made(state, &cell, run.attempt).await?;
        }
        if let Some(cell) = self.cell(state)?
            && cell.fail(id, &message).await?
        {
            let placed = tx!(self.0.api, "place", |tx| server_map::place(tx, id, cell.id()).await)?;
            if placed == Placed::Deleted {
                self.abandon(id, &cell).await?;
            }
            return Ok(());
        }
        self.bury(id, &message).await
    }
}

impl ServerCreate {
    /// The cell that was chosen. Only its absence from this process is an error: then another process must go on.
    pub(crate) fn cell(&self, state: &CreateState) -> Result<Option<Arc<CellConductor>>> {
        state.cell.map(|id| self.0.cell(id)).transpose()
    }

    async fn build_request(&self, id: ServerId) -> Result<Option<umbel_compute::model::BuildRequest>> {
        read!(self.0.api, "read build request", |tx| build_requests::get(tx, id).await)
    }

    async fn choose_cell(&self, state: &mut CreateState) -> Result<Next<CreateStep>> {
        if state.cell.is_some() {
            // A further try: the server stays in its cell.
            return Ok(Next::Through(CreateStep::Claim));
        }
        let id = state.server_id;
        let Some(request) = self.build_request(id).await? else {
            return Ok(Next::Done);
        };
        if request.deleted {
            return self.end_unplaced(id).await;
        }
        let started = self.0.clock.now();
        let mut funnel = Funnel::default();
        let mut best = None;
        for cell in self.0.cells_with_hosts() {
            match cell.choose(&request.server, &[]).await? {
                Err(of_cell) => funnel.add(of_cell),
                Ok(placement) => best = Some(self.better(best, (cell, placement), &request.server)),
            }
        }
        let Some((cell, placement)) = best else {
            return match self.0.is_settling() && funnel.waits_for_hosts() {
                true => Ok(Next::Wait(PAUSE)),
                false => Err(no_host(&funnel)),
            };
        };
        state.cell = Some(cell.id());
        self.0.chosen.lock().insert(id, (placement, started));
        Ok(Next::Go(CreateStep::Claim))
    }

    /// The cell with more free memory. What was chosen in the other one is taken back.
    fn better(&self, one: Option<Chosen>, other: Chosen, server: &Server) -> Chosen {
        let Some(one) = one else {
            return other;
        };
        let (winner, loser) = match one.1.free_memory_mib >= other.1.free_memory_mib {
            true => (one, other),
            false => (other, one),
        };
        loser.0.unchoose(server, &loser.1);
        winner
    }

    async fn claim(&self, state: &mut CreateState) -> Result<Next<CreateStep>> {
        let id = state.server_id;
        let cell = self.cell(state)?.ok_or_else(|| Error::internal("a claim without a cell"))?;
        let (chosen, started) = match self.0.chosen.lock().remove(&id) {
            Some((placement, started)) => (Some(placement), started),
            None => (None, self.0.clock.now()),
        };
        // On a further try, and after a crash behind the commit in the cell, the cell has the server; else the API.
        let server = match self.build_request(id).await? {
            Some(request) if !request.deleted => Some(request.server),
            _ => read!(cell.cell.db, "read server", |tx| one(tx, id).await)?,
        };
        let Some(server) = server else {
            // Deleted before it came here.
            return self.end_unplaced(id).await;
        };
        let claimed = match cell.claim(&server, state.tried_hosts(), chosen, started).await {
            Err(error) if error.is(Kind::NoSpace) && state.tried.is_empty() && state.refused < REFUSALS => {
                // Filled since the choice. The server has no row there yet, so any other cell will do.
                state.refused += 1;
                state.cell = None;
                return Ok(Next::Rewind(CreateStep::ChooseCell));
            }
            claimed => claimed?,
        };
        let placed = tx!(self.0.api, "place", |tx| server_map::place(tx, id, cell.id()).await)?;
        match (claimed, placed) {
            (Claimed::On(..), Placed::InCell) => Ok(Next::Through(CreateStep::Volumes)),
            (Claimed::Unwanted, Placed::InCell) => {
                cell.delete_homeless(id).await?;
                Ok(Next::Done)
            }
            (_, Placed::Deleted) => {
                self.abandon(id, &cell).await?;
                Ok(Next::Done)
            }
        }
    }

    /// The owner deleted the server when only the API knew it, and meanwhile it came to a cell: there it is deleted as
    /// any other.
    async fn abandon(&self, id: ServerId, cell: &CellConductor) -> Result<()> {
        cell.delete(id).await?;
        // Its volumes are let go there.
        tx!(self.0.api, "end build request", |tx| build_requests::remove(tx, id).await)
    }

    /// Nothing of it is anywhere but the volumes that were reserved for it.
    async fn end_unplaced(&self, id: ServerId) -> Result<Next<CreateStep>> {
        if let Some(request) = self.build_request(id).await? {
            self.let_go(&request.server).await?;
        }
        tx!(self.0.api, "end build request", |tx| build_requests::remove(tx, id).await)?;
        Ok(Next::Done)
    }

    async fn spawn(&self, state: &mut CreateState) -> Result<Next<CreateStep>> {
        let id = state.server_id;
        let cell = self.cell(state)?.ok_or_else(|| Error::internal("a spawn without a cell"))?;
        let mut news = cell.watchers.listen(id.uuid());
        let mut server = read!(cell.cell.db, "read server", |tx| must(tx, id).await)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            if server.state.life != Life::Building || unwanted(&server) {
                return Ok(Next::Done);
            }
            let host = server.state.host.as_ref().map(|host| host.name.clone());
            let host = host.ok_or_else(|| Error::internal(format!("server {id} is spawned on no host")))?;
            if let Some(fault) = server.state.fault.as_ref().filter(|_| !server.is_behind()) {
                return self.another_host(state, &host, &fault.message);
            }
            let changed =
                news.wait_for(|news| news.server.as_ref().is_some_and(|newer| newer.version > server.version));
            match tokio::time::timeout_at(give_up, changed).await {
                Ok(Ok(news)) => {
                    if let Some(newer) = &news.server {
                        server = (**newer).clone();
                    }
                }
                // Nobody can tell any more: look again.
                Ok(Err(_)) => return Ok(Next::Wait(PAUSE)),
                Err(_) => break,
            }
        }
        self.still_spawning(&cell, &server).await
    }

    fn another_host(&self, state: &mut CreateState, host: &str, fault: &str) -> Result<Next<CreateStep>> {
        tracing::info!(server = %state.server_id, host, "a host could not spawn a server: {fault}");
        state.tried.push(Tried { host: host.to_owned(), fault: fault.to_owned() });
        match state.tried.len() < self.0.config.tries {
            true => Ok(Next::Rewind(CreateStep::ChooseCell)),
            false => Err(Error::new(Kind::Internal, fault.to_owned())),
        }
    }

    /// A host that is gone with the server half made keeps it, in error: it may come back with the guest running, and no
    /// other host may open its disks before that is known.
    async fn still_spawning(&self, cell: &CellConductor, server: &Server) -> Result<Next<CreateStep>> {
        let Some(host) = &server.state.host else {
            return Ok(Next::Wait(PAUSE));
        };
        let patient_until = server.state.updated_at.plus(self.0.config.down_after);
        let patient = self.0.clock.now() < patient_until || self.0.is_settling();
        if patient || cell.is_up(&host.name).await? {
            return Ok(Next::Wait(PAUSE));
        }
        cell.fail(server.id, &format!("Host '{}' went away while it made the server.", host.name)).await?;
        Ok(Next::Done)
    }

    /// Has the host take away what is left there. `Unavailable` until it has, so that the runner asks again.
    async fn clean_up(&self, cell: &CellConductor, remains: Remains) -> Result<()> {
        let Remains { host, server, disks } = &remains;
        let generation = server.state.generation;
        let mut news = cell.watchers.listen(server.id.uuid());
        cell.send(host, documents::absent(server, generation, disks.clone())).await;
        let confirmed = news.wait_for(|news| {
            news.observed.as_ref().is_some_and(|told| told.0 == *host && told.1.generation >= generation)
        });
        let outcome = match tokio::time::timeout(CONFIRM, confirmed).await {
            Ok(Ok(news)) => news.observed.as_ref().map(|told| (told.1.present, told.1.fault.clone())),
            _ => None,
        };
        if let Some((false, None)) = outcome {
            return Ok(());
        }
        let why = outcome.and_then(|(_, fault)| fault).unwrap_or_else(|| "no answer".to_owned());
        let message = format!("Host '{host}' failed to make the server and does not clean up.");
        let late = self.0.clock.now() >= server.state.updated_at.plus(self.0.config.clean_up);
        match late && cell.strand(&remains, &message).await? {
            true => Ok(()),
            false => Err(Error::unavailable(format!("Host '{host}' has not cleaned up yet.")).because(why)),
        }
    }

    async fn bury(&self, id: ServerId, message: &str) -> Result<()> {
        let Some(request) = self.build_request(id).await? else {
            return Ok(());
        };
        if request.deleted {
            return self.end_unplaced(id).await.map(drop);
        }
        let now = self.0.clock.now();
        let zero = self.0.cells.zero();
        tx!(zero.db, "bury", |tx| bury(tx, &request.server, message, now).await)?;
        let placed = tx!(self.0.api, "place", |tx| server_map::place(tx, id, Cells::ZERO).await)?;
        if placed == Placed::Deleted {
            tx!(zero.db, "forget", |tx| umbel_compute::store::servers::forget(tx, id).await)?;
            self.end_unplaced(id).await?;
        }
        Ok(())
    }
}

type Chosen = (Arc<CellConductor>, crate::view::Placement);
