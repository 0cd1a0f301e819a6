use std::sync::Arc;

use async_trait::async_trait;
use umbel_bus::{Desired, HostReport, Observed, ToAgents, ToConductor};
use umbel_compute::model::{Life, Server, ServerId, Want};
use umbel_compute::store::disks::{self, DiskRow};
use umbel_compute::store::servers;
use umbel_compute::{Cell, CellHandle, CellId, ImageCatalog, VolumeCatalog};
use umbel_core::{Clock, Error, Result, Rng, Timestamp};
use umbel_db::{Tx, read};
use umbel_workflow::{Nudge, Runner};
use uuid::Uuid;

use crate::ConductorConfig;
use crate::attach::VolumeAttach;
use crate::detach::VolumeDetach;
use crate::documents;
use crate::hosts::HostsSeen;
use crate::image::ServerImage;
use crate::observe::Told;
use crate::release::ServerRelease;
use crate::swap::VolumeSwap;
use crate::view::{Looking, View};
use crate::volumes_image::VolumesImage;
use crate::watch::Watchers;

/// How many servers one sweep takes up.
const SWEEP: usize = 1_000;

/// The services that flows ask.
#[derive(Clone)]
pub struct Services {
    pub images: Arc<dyn ImageCatalog>,
    pub volumes: Arc<dyn VolumeCatalog>,
}

/// The conductor of one cell: between its database and its agents.
pub struct CellConductor {
    pub(crate) cell: Arc<CellHandle>,
    pub(crate) agents: Arc<dyn ToAgents>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) config: Arc<ConductorConfig>,
    pub(crate) view: View,
    pub(crate) watchers: Watchers,
    pub(crate) hosts: HostsSeen,
    pub(crate) told: Told,
    pub(crate) images: Arc<dyn ImageCatalog>,
    pub(crate) volumes: Arc<dyn VolumeCatalog>,
    /// Of the runner of this cell's flows.
    flows: Nudge,
}

impl CellConductor {
    pub(crate) fn new(
        cell: Arc<CellHandle>,
        agents: Arc<dyn ToAgents>,
        services: Services,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        config: Arc<ConductorConfig>,
    ) -> Self {
        let (view, watchers, hosts, told) =
            (View::default(), Watchers::default(), HostsSeen::default(), Told::default());
        let flows = Nudge::default();
        let Services { images, volumes } = services;
        CellConductor { cell, agents, clock, rng, config, view, watchers, hosts, told, images, volumes, flows }
    }

    pub fn id(&self) -> CellId {
        self.cell.id
    }

    /// A runner of this cell's flows.
    pub(crate) fn runner(self: &Arc<Self>, config: &ConductorConfig) -> Arc<Runner<Cell>> {
        let runner = Runner::new(self.cell.db.clone(), self.clock.clone(), &*self.rng, config.runner.clone())
            .with(VolumeAttach(self.clone()))
            .with(VolumeDetach(self.clone()))
            .with(VolumeSwap(self.clone()))
            .with(ServerRelease(self.clone()))
            .with(ServerImage(self.clone()))
            .with(VolumesImage(self.clone()))
            .nudged_by(&self.flows);
        Arc::new(runner)
    }

    /// A flow was written to this cell.
    pub(crate) fn nudge_flows(&self) {
        self.flows.now();
    }

    /// What is wanted of a server has changed: acts on it now rather than at the next sweep. To be called after the
    /// transaction that changed it; nothing is lost if it is not.
    pub async fn changed(&self, id: ServerId) -> Result<()> {
        self.nudge_flows();
        let found = read!(self.cell.db, "look at a server", |tx| {
            Ok(match one(tx, id).await? {
                Some(server) => Some((disks::of_server(tx, id).await?, server)),
                None => None,
            })
        })?;
        match found {
            Some((disks, server)) => self.pursue(&server, &disks).await,
            None => Ok(()),
        }
    }

    /// Sends what should be of a server that is not so yet.
    pub(crate) async fn pursue(&self, server: &Server, disks: &[DiskRow]) -> Result<()> {
        self.watchers.tell(server.id.uuid(), |news| news.server = Some(Arc::new(server.clone())));
        if !server.is_behind() {
            return Ok(());
        }
        match &server.state.host {
            Some(_) if documents::is_held_back(server) => {}
            Some(host) => self.send(&host.name, documents::desired(server, disks)?).await,
            None if server.state.want == Want::Absent => self.delete_homeless(server.id).await?,
            None => {}
        }
        Ok(())
    }

    /// A host that cannot be reached now asks when it can.
    pub(crate) async fn send(&self, host: &str, desired: Desired) {
        let (server, generation) = (desired.server_id, desired.generation);
        if let Err(error) = self.agents.desire(host, desired).await {
            tracing::debug!(%server, host, generation = generation.0, cause = error.cause(), "not sent: {error}");
        }
    }

    /// Takes up everything whose messages were lost.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let now = self.clock.now();
        self.watchers.tidy();
        self.told.tidy(now);
        let quiet_since = now.minus(self.config.quiet);
        let behind = read!(self.cell.db, "sweep servers", |tx| {
            let servers = servers::behind(tx, quiet_since, SWEEP).await?;
            let ids: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
            Ok((servers, disks::of_servers(tx, &ids).await?))
        })?;
        let (servers, all_disks) = behind;
        for server in servers {
            if self.told.gave_up_lately(server.id.uuid(), now) {
                continue;
            }
            let disks: Vec<DiskRow> = all_disks.iter().filter(|disk| disk.server_id == server.id).cloned().collect();
            if let Err(error) = self.pursue(&server, &disks).await {
                tracing::warn!(server = %server.id, cause = error.cause(), "a server is left as it is: {error}");
            }
        }
        Ok(())
    }

    pub(crate) fn looking(&self) -> Looking<'_> {
        Looking {
            db: &self.cell.db,
            scheduler: &self.config.scheduler,
            rng: &*self.rng,
            age: self.config.view_age,
            heard: &self.hosts,
            seen_since: self.seen_since(),
        }
    }

    /// Hosts heard of before this moment are down.
    pub(crate) fn seen_since(&self) -> Timestamp {
        self.clock.now().minus(self.config.down_after)
    }
}

#[async_trait]
impl ToConductor for CellConductor {
    async fn report(&self, report: HostReport) -> Result<()> {
        self.take_report(report).await
    }

    async fn observed(&self, host: &str, observed: Observed) -> Result<()> {
        self.take_observed(host, observed).await
    }

    async fn resync(&self, host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>> {
        self.answer_resync(host, &held).await
    }
}

/// The server, deleted or not.
pub(crate) async fn one(tx: &mut Tx<Cell>, id: ServerId) -> Result<Option<Server>> {
    Ok(servers::get_many(tx, &[id]).await?.pop())
}

/// The server that must be there.
pub(crate) async fn must(tx: &mut Tx<Cell>, id: ServerId) -> Result<Server> {
    one(tx, id).await?.ok_or_else(|| Error::internal(format!("server {id} has no row in its cell")))
}

/// Whether its owner wants it no more.
pub(crate) fn unwanted(server: &Server) -> bool {
    server.state.want == Want::Absent || server.state.life == Life::Deleted
}
