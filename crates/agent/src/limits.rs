//! Bounds on guests' use of their disks.
//!
//! They are set on guests that run, right after a start and whenever they change: the document has those of flavors and
//! of volume types, and a pool of files keeps some that it cannot enforce itself. Nobody tells of a change of the latter,
//! so every heartbeat looks at them. A bound that cannot be set is no reason to take a guest down, or a volume away from it: it is
//! logged, and tried again.

use std::collections::HashMap;

use umbel_bus::{DiskRef, Domain, Want};
use umbel_core::{Kind, Result};
use umbel_driver::{Attachment, Limits};
use uuid::Uuid;

use crate::agent::Agent;

/// What this process has set, by server and serial.
#[derive(Default)]
pub(crate) struct Applied(HashMap<Uuid, HashMap<String, Limits>>);

impl Applied {
    /// The guest has none: it was just started.
    pub fn forget(&mut self, server_id: Uuid) {
        self.0.remove(&server_id);
    }

    /// Of disks that the guest has no more nothing is known.
    fn keep(&mut self, server_id: Uuid, disks: &[(String, DiskRef)]) {
        if let Some(known) = self.0.get_mut(&server_id) {
            known.retain(|serial, _| disks.iter().any(|(has, _)| has == serial));
        }
    }

    fn of(&self, server_id: Uuid, serial: &str) -> Option<Limits> {
        self.0.get(&server_id)?.get(serial).cloned()
    }

    fn note(&mut self, server_id: Uuid, serial: String, limits: Limits) {
        self.0.entry(server_id).or_default().insert(serial, limits);
    }
}

impl Agent {
    /// Sets what differs from what was set last.
    pub(crate) async fn limit_disks(&self, server_id: Uuid, domain: &Domain) {
        let mut disks: Vec<(String, DiskRef)> =
            domain.disks.iter().map(|disk| (disk.serial.clone(), disk.at.clone())).collect();
        for volume in &domain.volumes {
            // One without a pool here was not plugged in either.
            if let Ok(disk) = self.volume_disk(volume) {
                disks.push((disk.serial, volume.at.clone()));
            }
        }
        self.applied.lock().keep(server_id, &disks);
        for (serial, at) in disks {
            if let Err(error) = self.limit_disk(server_id, domain, (&serial, &at)).await {
                tracing::warn!(server = %server_id, disk = serial, cause = error.cause(), "a disk is not bounded: {error}");
            }
        }
    }

    async fn limit_disk(&self, server_id: Uuid, domain: &Domain, (serial, at): (&str, &DiskRef)) -> Result<()> {
        let named = domain.limits.iter().find(|limited| limited.at == *at);
        let told = named.map(|limited| Limits::named(|name| limited.limits.get(name).copied())).unwrap_or_default();
        let limits = told.and(&self.kept(at).await?);
        let known = self.applied.lock().of(server_id, serial);
        if known.as_ref() == Some(&limits) || (known.is_none() && limits == Limits::default()) {
            return Ok(());
        }
        match self.hypervisor.limit_disk(server_id, serial, &limits).await {
            // It is not plugged in.
            Err(error) if error.is(Kind::NotFound) => return Ok(()),
            outcome => outcome?,
        }
        self.applied.lock().note(server_id, serial.to_owned(), limits);
        Ok(())
    }

    /// What the disk's pool keeps for the hypervisor. Ceph enforces its own.
    async fn kept(&self, at: &DiskRef) -> Result<Limits> {
        let pool = self.pool(&at.pool)?;
        if matches!(pool.attachment(&at.name), Attachment::Rbd { .. }) {
            return Ok(Limits::default());
        }
        match pool.limits(&at.name).await {
            Err(error) if error.is(Kind::NotFound) => Ok(Limits::default()),
            kept => kept,
        }
    }

    /// Of all guests that should be here and run.
    pub(crate) async fn refresh_limits(&self) {
        let Ok(powers) = self.powers().await else { return };
        let wanted = self.book.lock().wanted();
        for (server_id, want) in wanted {
            let runs = matches!(powers.get(&server_id), Some(umbel_bus::Power::Running | umbel_bus::Power::Paused));
            if let (true, Want::Present(domain)) = (runs, &want) {
                self.limit_disks(server_id, domain).await;
            }
        }
    }
}
