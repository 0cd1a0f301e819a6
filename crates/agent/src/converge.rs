//! From what is to what should be, for one server.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use umbel_bus::{Desired, DiskRef, Domain, Observed, Restart, Step, Target, Want};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{DomainDisk, DomainSpec, Power};
use uuid::Uuid;

use crate::agent::Agent;
use crate::disks;
use crate::steps::Steps;
use crate::volumes::Plugging;

/// How often work is tried that failed in a way that may pass.
const ATTEMPTS: u32 = 4;

/// How far a guest's disks are prepared when it must start.
struct Start<'a> {
    server_id: Uuid,
    domain: &'a Domain,
    cancel: &'a CancellationToken,
}

impl Agent {
    /// Makes it so, and says how it ended.
    pub(crate) async fn converge(&self, desired: &Desired, cancel: &CancellationToken) -> Observed {
        let mut steps = Steps::new(&self.clock);
        let outcome = self.attempts(desired, cancel, &mut steps).await;
        if let Err(error) = &outcome {
            tracing::warn!(
                server = %desired.server_id,
                generation = desired.generation.0,
                request_id = desired.request_id,
                cause = error.cause(),
                "a server is not as desired: {error}"
            );
        }
        // A hypervisor that does not answer now has not lost the guest for that.
        let power = self.hypervisor.state(desired.server_id).await;
        let present = power.as_ref().map_or(!desired.want.is_absent(), Option::is_some);
        let power = power.ok().flatten();
        let volumes = self.volumes_of(desired.server_id).await.unwrap_or_default();
        Observed {
            server_id: desired.server_id,
            generation: desired.generation,
            present,
            power: power.map(crate::report::power),
            volumes,
            fault: outcome.err().map(|error| error.message().to_owned()),
            steps: steps.into_reports(),
        }
    }

    async fn attempts(&self, desired: &Desired, cancel: &CancellationToken, steps: &mut Steps) -> Result<()> {
        let mut attempt = 0;
        loop {
            let outcome = self.attempt(desired, cancel, steps).await;
            attempt += 1;
            match outcome {
                Err(error) if may_pass(&error) && attempt < ATTEMPTS && !cancel.is_cancelled() => {
                    tracing::debug!(server = %desired.server_id, attempt, cause = error.cause(), "again: {error}");
                }
                outcome => return outcome,
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(20 << (2 * attempt))) => {}
                () = cancel.cancelled() => {}
            }
        }
    }

    async fn attempt(&self, desired: &Desired, cancel: &CancellationToken, steps: &mut Steps) -> Result<()> {
        let server_id = desired.server_id;
        match &desired.want {
            Want::Absent { disks } => self.make_absent(server_id, disks, steps).await,
            Want::Present(domain) => self.make_present(&Start { server_id, domain, cancel }, steps).await,
        }
    }

    async fn make_absent(&self, server_id: Uuid, disks: &[DiskRef], steps: &mut Steps) -> Result<()> {
        self.end_moves(server_id);
        let _slot = self.slots.acquire().await.map_err(Error::internal)?;
        if self.hypervisor.state(server_id).await?.is_some() {
            let name = format!("guest {server_id}");
            steps.run(Step::DomainRemove, name, self.hypervisor.undefine(server_id)).await?;
        }
        for disk in disks {
            let pool = self.pool(&disk.pool)?;
            let detail = format!("{} in pool {}", disk.name, disk.pool);
            steps.run(Step::DiskRemove, detail, disks::remove(&**pool, &disk.name)).await?;
        }
        self.ledger.lock().forget(server_id);
        Ok(())
    }

    async fn make_present(&self, start: &Start<'_>, steps: &mut Steps) -> Result<()> {
        let (id, domain) = (start.server_id, start.domain);
        let power = self.hypervisor.state(id).await?;
        match (domain.power, power) {
            (Target::On, Some(Power::Running | Power::Paused)) if domain.restart.is_some() => {
                self.stop(id, domain.restart, steps).await?;
                self.start(start, Step::DomainRestart, steps).await
            }
            (Target::On, Some(Power::Running)) | (Target::Paused, Some(Power::Paused)) => {
                self.plug(start, true, steps).await
            }
            (Target::On, Some(Power::Paused)) => {
                steps.run(Step::DomainResume, "", self.hypervisor.resume(id)).await?;
                self.plug(start, true, steps).await
            }
            (Target::On, Some(Power::Shutdown | Power::Crashed) | None) => {
                self.start(start, Step::DomainStart, steps).await
            }
            (Target::Paused, Some(Power::Running)) => {
                // First: a guest that stands still lets nothing go.
                self.plug(start, true, steps).await?;
                steps.run(Step::DomainPause, "", self.hypervisor.pause(id)).await
            }
            (Target::Paused, _) => {
                self.start(start, Step::DomainStart, steps).await?;
                steps.run(Step::DomainPause, "", self.hypervisor.pause(id)).await
            }
            (Target::Off, Some(Power::Running | Power::Paused)) => {
                let grace = self.config.grace;
                steps.run(Step::DomainStop, "", self.hypervisor.shutdown(id, grace)).await?;
                self.plug(start, false, steps).await
            }
            (Target::Off, Some(Power::Shutdown | Power::Crashed)) => self.plug(start, false, steps).await,
            (Target::Off, None) => {
                let _slot = self.slots.acquire().await.map_err(Error::internal)?;
                self.make_disks(domain, false, start.cancel, steps).await
            }
        }
    }

    async fn plug(&self, start: &Start<'_>, runs: bool, steps: &mut Steps) -> Result<()> {
        let plugging = Plugging { server_id: start.server_id, domain: start.domain, runs, cancel: start.cancel };
        let outcome = self.converge_volumes(&plugging, steps).await;
        if runs {
            self.limit_disks(start.server_id, start.domain).await;
        }
        outcome
    }

    async fn stop(&self, id: Uuid, how: Option<Restart>, steps: &mut Steps) -> Result<()> {
        match how {
            Some(Restart::Soft) => {
                steps.run(Step::DomainStop, "", self.hypervisor.shutdown(id, self.config.grace)).await
            }
            _ => steps.run(Step::DomainStop, "powered off", self.hypervisor.destroy(id)).await,
        }
    }

    async fn start(&self, start: &Start<'_>, step: Step, steps: &mut Steps) -> Result<()> {
        // Starts side by side beat starts in a row, up to what the machine can do at once.
        let _slot = self.slots.acquire().await.map_err(Error::internal)?;
        let id = start.server_id;
        let defined = self.hypervisor.state(id).await?.is_some();
        self.make_disks(start.domain, defined, start.cancel, steps).await?;
        if start.cancel.is_cancelled() {
            return Err(overtaken());
        }
        // Who copies a disk of a guest that is off does it again while the guest runs.
        self.make_way(id);
        // From the look where disks are until they are open, no snapshot may move them.
        let _turn = self.turns.of(id).await;
        let domain = &self.settled(id, start.domain).await?;
        let spec = self.spec(id, domain)?;
        let facts = self.hypervisor.facts();
        let detail = format!("{} with {}", facts.hypervisor_type, facts.accelerator);
        steps.run(step, detail, self.hypervisor.start(&spec)).await?;
        if let Err(error) = self.volumes_are_where_they_were(domain, &spec) {
            // Before it has written a thing.
            self.hypervisor.destroy(id).await?;
            return Err(error);
        }
        self.note_started(id, domain);
        self.applied.lock().forget(id);
        self.limit_disks(id, start.domain).await;
        Ok(())
    }

    fn spec(&self, id: Uuid, domain: &Domain) -> Result<DomainSpec> {
        let mut disks = Vec::with_capacity(domain.disks.len() + domain.volumes.len() + 1);
        for disk in &domain.disks {
            disks.push(DomainDisk {
                attachment: self.pool(&disk.at.pool)?.attachment(&disk.at.name),
                serial: disk.serial.clone(),
                boot_index: disk.boot_index,
                read_only: false,
                cdrom: false,
            });
        }
        for volume in &domain.volumes {
            disks.push(self.volume_disk(volume)?);
        }
        // What is booted from comes first: guests look for their root on the first disk.
        disks.sort_by_key(|disk| disk.boot_index.unwrap_or(u32::MAX));
        if let Some(drive) = &domain.config_drive {
            disks.push(DomainDisk {
                attachment: self.pool(&drive.at.pool)?.attachment(&drive.at.name),
                serial: String::new(),
                boot_index: None,
                read_only: true,
                cdrom: true,
            });
        }
        let (name, vcpus, memory_mib) = (domain.name.clone(), domain.vcpus, domain.memory_mib);
        Ok(DomainSpec { id, name, vcpus, memory_mib, disks })
    }
}

/// Why work ended that was no longer wanted. Never reported: what overtook it is.
pub(crate) fn overtaken() -> Error {
    Error::conflict("The server is wanted otherwise by now.")
}

pub(crate) fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), Kind::Busy | Kind::Unavailable | Kind::Timeout)
}
