//! What agents report of servers, and what they ask after a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use umbel_bus::{Desired, DiskRef, Observed, Step};
use umbel_compute::Cell;
use umbel_compute::flows;
use umbel_compute::model::{self, Fault, Life, Server, ServerId, Want, observe};
use umbel_compute::store::actions::{self, EventRow};
use umbel_compute::store::disks::{self, DiskRow};
use umbel_compute::store::{block_devices, servers};
use umbel_core::{Id, Result, Timestamp};
use umbel_db::{Tx, read, tx};
use uuid::Uuid;

use crate::CellConductor;
use crate::cell::{one, unwanted};
use crate::{documents, request};

/// For how long a report that said nothing new is taken to say nothing new when it comes again.
const MEMORY: Duration = Duration::from_secs(60);

/// Between two tries of what an agent could not do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reports that were taken in. Only spares work: a heartbeat repeats them all.
#[derive(Default)]
pub(crate) struct Told(Mutex<HashMap<Uuid, (String, Observed, Timestamp)>>);

impl Told {
    pub fn is_known(&self, host: &str, observed: &Observed, now: Timestamp) -> bool {
        self.0
            .lock()
            .get(&observed.server_id)
            .is_some_and(|(on, known, at)| on == host && known == observed && now.since(*at) < MEMORY)
    }

    pub fn remember(&self, host: &str, observed: &Observed, now: Timestamp) {
        self.0.lock().insert(observed.server_id, (host.to_owned(), observed.clone(), now));
    }

    /// Whether its agent gave up on the server so lately that it is not worth another try yet.
    pub fn gave_up_lately(&self, server: Uuid, now: Timestamp) -> bool {
        let told = self.0.lock();
        told.get(&server).is_some_and(|(_, known, at)| known.fault.is_some() && now.since(*at) < PATIENCE)
    }

    pub fn forget(&self, server: Uuid) {
        self.0.lock().remove(&server);
    }

    /// Drops what is too old to be used.
    pub fn tidy(&self, now: Timestamp) {
        self.0.lock().retain(|_, (_, _, at)| now.since(*at) < MEMORY);
    }
}

/// What a report came to.
enum Outcome {
    Nothing,
    Changed(Server),
    /// Gone from its host and its pools; with what it had there.
    Deleted(Server, Vec<DiskRow>),
}

impl CellConductor {
    /// Whether a report would change this row.
    pub(crate) fn says_something(&self, server: &Server, host: &str, observed: &Observed) -> bool {
        observe(server, host, observed, self.clock.now()).is_some()
    }

    pub(crate) async fn take_observed(&self, host: &str, observed: Observed) -> Result<()> {
        let now = self.clock.now();
        let id: ServerId = Id::from_uuid(observed.server_id);
        let repeated = self.told.is_known(host, &observed, now);
        let outcome = match repeated {
            true => Outcome::Nothing,
            false => tx!(self.cell.db, "observe server", |tx| apply(tx, id, host, &observed, now).await)?,
        };
        let server = match outcome {
            Outcome::Nothing => None,
            Outcome::Changed(server) => Some(server),
            Outcome::Deleted(server, disks) => {
                self.count_out(host, &server, &disks);
                self.nudge_flows();
                Some(server)
            }
        };
        self.told.remember(host, &observed, now);
        let observed = Arc::new((host.to_owned(), observed));
        self.watchers.tell(id.uuid(), |news| {
            news.observed = Some(observed);
            if let Some(server) = server {
                news.server = Some(Arc::new(server));
            }
        });
        Ok(())
    }

    /// Its room is free for the next choice.
    pub(crate) fn count_out(&self, host: &str, server: &Server, disks: &[DiskRow]) {
        let plan = request::disks(server, self.config.config_drives);
        let request = request::request(server, &plan);
        let pool = |name: &str| disks.iter().find(|disk| disk.name == name).map(|disk| disk.pool.clone());
        let pools: Vec<String> = plan.iter().map(|disk| pool(&disk.name).unwrap_or_default()).collect();
        self.view.give_back(host, &request, &pools);
    }

    pub(crate) async fn answer_resync(&self, host: &str, held: &[Uuid]) -> Result<Vec<Desired>> {
        let held: Vec<ServerId> = held.iter().map(|id| Id::from_uuid(*id)).collect();
        let (here, others, all_disks) = read!(self.cell.db, "resync host", |tx| {
            let here = servers::on_host(tx, host).await?;
            let not_here: Vec<ServerId> =
                held.iter().filter(|id| !here.iter().any(|server| server.id == **id)).copied().collect();
            let others = servers::get_many(tx, &not_here).await?;
            let ids: Vec<ServerId> = here.iter().map(|server| server.id).collect();
            Ok((here, others, disks::of_servers(tx, &ids).await?))
        })?;
        let mut by_server: HashMap<ServerId, Vec<DiskRow>> = HashMap::new();
        for disk in all_disks {
            by_server.entry(disk.server_id).or_default().push(disk);
        }
        let mut answer = Vec::with_capacity(here.len() + others.len());
        for server in here.iter().filter(|server| !documents::is_held_back(server)) {
            let disks = by_server.get(&server.id).map_or(&[][..], Vec::as_slice);
            answer.push(documents::desired(server, disks)?);
        }
        for server in &others {
            let on = server.state.host.as_ref().map(|on| on.name.as_str());
            // One that has no host is being taken away from one, or has never had one: the flow that does it asks itself.
            if on.is_some() {
                answer.push(documents::absent(server, server.state.generation, self.remains(server, host)));
            }
            self.told.forget(server.id.uuid());
        }
        Ok(answer)
    }

    /// Disks that may be left of a server which should have none on this host. The rows are gone by then, or belong to
    /// another host; so of a server that ended here every pool is searched, and of one that lives elsewhere none.
    fn remains(&self, server: &Server, host: &str) -> Vec<DiskRef> {
        let ended_here =
            server.state.life == Life::Deleted && server.state.host.as_ref().is_some_and(|on| on.name == host);
        if !ended_here {
            return Vec::new();
        }
        let pools = self.hosts.pools(host);
        let plan = request::disks(server, self.config.config_drives);
        let names = plan.into_iter().map(|disk| disk.name);
        names
            .flat_map(|name| pools.iter().map(move |pool| DiskRef { pool: pool.clone(), name: name.clone() }))
            .collect()
    }

    /// Ends a server that is wanted no more and is on no host.
    pub(crate) async fn delete_homeless(&self, id: ServerId) -> Result<()> {
        let now = self.clock.now();
        let ended = tx!(self.cell.db, "delete server without a host", |tx| {
            let Some(mut server) = one(tx, id).await? else {
                return Ok(None);
            };
            let consumer = Id::from_uuid(id.uuid());
            let busy = !umbel_placement::held(tx, consumer).await?.is_empty();
            // With a claim something of it may be on a host still; the flow that cleans up there comes back here.
            if busy || server.state.host.is_some() || server.state.want != Want::Absent {
                return Ok(None);
            }
            if server.state.life == Life::Deleted {
                return Ok(None);
            }
            end(tx, &mut server, now).await?;
            Ok(Some(server))
        })?;
        if let Some(server) = ended {
            self.nudge_flows();
            self.watchers.tell(id.uuid(), |news| news.server = Some(Arc::new(server)));
        }
        Ok(())
    }
}

async fn apply(tx: &mut Tx<Cell>, id: ServerId, host: &str, observed: &Observed, now: Timestamp) -> Result<Outcome> {
    let Some(mut server) = one(tx, id).await? else {
        return Ok(Outcome::Nothing);
    };
    let here = server.state.host.as_ref().is_some_and(|on| on.name == host);
    let current = here && observed.generation == server.state.generation && server.is_behind();
    if let Some(fault) = observed.fault.as_ref().filter(|_| unwanted(&server)) {
        // A delete is never given up: what it would leave behind is an orphan. The sweep sends it again, and the owner
        // is told once.
        let told = server.state.fault.as_ref().is_some_and(|known| known.message == *fault);
        if !current || told {
            return Ok(Outcome::Nothing);
        }
        events(tx, &server, host, observed, now).await?;
        server.state.fault = Some(Fault { code: 500, message: fault.clone(), details: None, created: now });
        servers::update(tx, &mut server).await?;
        return Ok(Outcome::Changed(server));
    }
    if current {
        events(tx, &server, host, observed, now).await?;
    }
    let Some(change) = observe(&server, host, observed, now) else {
        return Ok(Outcome::Nothing);
    };
    if let Some(closed) = &change.closed {
        actions::finish(tx, id, &closed.request_id, closed.error.is_some(), now).await?;
    }
    if change.state.life == Life::Deleted {
        let disks = disks::of_server(tx, id).await?;
        end(tx, &mut server, now).await?;
        return Ok(Outcome::Deleted(server, disks));
    }
    server.state = change.state;
    servers::update(tx, &mut server).await?;
    Ok(Outcome::Changed(server))
}

/// Nothing of the server is left on a host: its claim and its disks' rows go, in one transaction. The server goes with
/// them, unless it has volumes: those are let go first, by a flow.
pub(crate) async fn end(tx: &mut Tx<Cell>, server: &mut Server, now: Timestamp) -> Result<()> {
    umbel_placement::release(tx, Id::from_uuid(server.id.uuid())).await?;
    disks::remove_all(tx, server.id).await?;
    if server.state.volumes.is_empty() {
        return end_row(tx, server, now).await;
    }
    server.state = model::vacated(server, now);
    servers::update(tx, server).await?;
    let request_id = server.state.action.as_ref().unwrap_or(&server.spec.request_id);
    flows::release_volumes(tx, server.id, request_id, now).await
}

/// The server is deleted, and what hangs on its row goes.
pub(crate) async fn end_row(tx: &mut Tx<Cell>, server: &mut Server, now: Timestamp) -> Result<()> {
    block_devices::clear(tx, server.id).await?;
    if let Some(request_id) = &server.state.action {
        actions::finish(tx, server.id, request_id, false, now).await?;
    }
    let tagged = !server.state.tags.is_empty();
    server.state = model::deleted(server, now);
    servers::update_metadata(tx, server).await?;
    if tagged {
        servers::update_tags(tx, server).await?;
    }
    Ok(())
}

/// The steps that led to the generation belong to the action that asked for it: those of volumes to the change of
/// volumes, where one is under way.
async fn events(tx: &mut Tx<Cell>, server: &Server, host: &str, observed: &Observed, now: Timestamp) -> Result<()> {
    let (action, of_volumes) = (server.state.action.as_ref(), server.state.volume_action.as_ref());
    for step in &observed.steps {
        let asked = match step.step {
            Step::VolumeAttach | Step::VolumeDetach | Step::VolumeExtend => of_volumes.or(action),
            _ => action.or(of_volumes),
        };
        let Some(request_id) = asked else {
            continue;
        };
        let event = EventRow {
            server_id: server.id,
            request_id: request_id.clone(),
            name: step.step.name().to_owned(),
            started_at: step.started,
            finished_at: Some(step.finished),
            ok: Some(step.ok),
            host: host.to_owned(),
            details: (!step.detail.is_empty()).then(|| step.detail.clone()),
        };
        actions::event(tx, &event, now).await?;
    }
    Ok(())
}
