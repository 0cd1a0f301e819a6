//! The drivers' words in those of the bus.

use std::collections::HashMap;

use umbel_bus::{ConfigDrive, Facts, HostReport, Observed, PoolReport};
use umbel_core::{Generation, Result};
use umbel_driver::Capacity;
use uuid::Uuid;

use crate::agent::Agent;
use crate::config::HostPool;

pub(crate) fn power(power: umbel_driver::Power) -> umbel_bus::Power {
    match power {
        umbel_driver::Power::Running => umbel_bus::Power::Running,
        umbel_driver::Power::Paused => umbel_bus::Power::Paused,
        umbel_driver::Power::Shutdown => umbel_bus::Power::Shutdown,
        umbel_driver::Power::Crashed => umbel_bus::Power::Crashed,
    }
}

/// The drive's files as the bytes of a disk.
pub(crate) fn iso(drive: &ConfigDrive) -> Vec<u8> {
    let files: Vec<(&str, Vec<u8>)> =
        drive.files.iter().map(|file| (file.path.as_str(), file.content.0.clone())).collect();
    umbel_driver::config_drive::iso9660(&files)
}

impl Agent {
    /// Everything about this host. Guests that nobody asked for are told of too.
    pub(crate) async fn host_report(&self) -> Result<HostReport> {
        let powers = self.powers().await?;
        let mut guests = self.book.lock().all();
        for (id, power) in powers {
            if !guests.iter().any(|guest| guest.server_id == id) {
                guests.push(unasked(id, power));
            }
        }
        let mut pools = Vec::with_capacity(self.pools.system.len());
        for pool in &self.pools.system {
            pools.push(self.pool_report(pool).await);
        }
        Ok(HostReport {
            host: self.config.host.clone(),
            availability_zone: self.config.availability_zone.clone(),
            facts: self.facts(),
            pools,
            guests,
        })
    }

    /// The guests that the hypervisor knows.
    pub(crate) async fn powers(&self) -> Result<HashMap<Uuid, umbel_bus::Power>> {
        let domains = self.hypervisor.list().await?;
        Ok(domains.into_iter().map(|domain| (domain.id, power(domain.power))).collect())
    }

    fn facts(&self) -> Facts {
        let facts = self.hypervisor.facts();
        Facts {
            hypervisor_type: facts.hypervisor_type,
            hypervisor_version: facts.hypervisor_version,
            accelerator: facts.accelerator,
            accelerator_reason: facts.accelerator_reason,
            vcpus: facts.vcpus,
            memory_mib: facts.memory_mib,
            cpu_arch: facts.cpu_arch,
            cpu_model: facts.cpu_model,
        }
    }

    /// A pool that does not answer keeps its size and has no room, so that nothing new is sent there.
    async fn pool_report(&self, pool: &HostPool) -> PoolReport {
        let name = pool.pool.name().to_owned();
        let capacity = match pool.pool.capacity().await {
            Ok(capacity) => {
                self.capacities.lock().insert(name.clone(), capacity);
                capacity
            }
            Err(error) => {
                tracing::warn!(pool = name, cause = error.cause(), "a pool does not tell its room: {error}");
                let total = self.capacities.lock().get(&name).map_or(0, |capacity| capacity.total);
                Capacity { total, free: 0 }
            }
        };
        let location = pool.pool.location("-", "-");
        PoolReport {
            name,
            tier: pool.tier.clone(),
            driver: pool.driver.clone(),
            cluster: format!("{}://{}", location.scheme, location.cluster),
            shared: pool.shared,
            total: capacity.total,
            free: capacity.free,
        }
    }
}

fn unasked(server_id: Uuid, power: umbel_bus::Power) -> Observed {
    Observed {
        server_id,
        generation: Generation(0),
        present: true,
        power: Some(power),
        volumes: Vec::new(),
        fault: None,
        steps: Vec::new(),
    }
}
