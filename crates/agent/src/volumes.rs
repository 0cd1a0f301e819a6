//! A server's volumes: those the guest has, and those it should have. The volume service makes them; here they are only
//! plugged in and out.
//!
//! The hypervisor knows disks by their serials, of which a volume's is the first 20 characters of its id: all that a
//! virtio disk can show; that of a volume whose disk took another one's place is the other one's. Which volume a serial stands for is learned from documents. So of a volume that a process
//! before this one was told to detach, and could not, nothing can be reported but by a document that names it again.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;
use umbel_bus::{Domain, Step, Volume};
use umbel_core::{Error, Generation, Kind, Result};
use umbel_driver::{Attachment, DomainDisk, DomainSpec};
use uuid::Uuid;

use crate::agent::Agent;
use crate::converge::overtaken;
use crate::steps::Steps;

/// As long as a virtio disk's serial can be.
const SERIAL: usize = 20;

/// What guests find the volume by.
pub(crate) fn serial(volume_id: Uuid) -> String {
    let mut text = volume_id.to_string();
    text.truncate(SERIAL);
    text
}

/// What this volume's guest finds it by.
fn serial_of(volume: &Volume) -> String {
    serial(volume.seen_as.unwrap_or(volume.volume_id))
}

/// What is known of volumes beyond their serials.
#[derive(Default)]
pub(crate) struct Ledger {
    servers: HashMap<Uuid, Page>,
}

#[derive(Default)]
struct Page {
    /// Of the newest document that was read.
    generation: Generation,
    volumes: HashMap<String, Known>,
}

struct Known {
    volume_id: Uuid,
    /// Bytes that the guest sees, if that was this process's doing.
    size: Option<u64>,
}

impl Ledger {
    pub fn learn(&mut self, server_id: Uuid, generation: Generation, volumes: &[Volume]) {
        if volumes.is_empty() {
            return;
        }
        let page = self.servers.entry(server_id).or_default();
        let newest = generation >= page.generation;
        page.generation = generation.max(page.generation);
        for volume in volumes {
            let known =
                page.volumes.entry(serial_of(volume)).or_insert(Known { volume_id: volume.volume_id, size: None });
            if newest {
                known.volume_id = volume.volume_id;
            }
        }
    }

    pub fn forget(&mut self, server_id: Uuid) {
        self.servers.remove(&server_id);
    }

    fn named(&self, server_id: Uuid, serials: &[String]) -> Vec<Uuid> {
        let known = self.servers.get(&server_id);
        serials.iter().filter_map(|serial| Some(known?.volumes.get(serial)?.volume_id)).collect()
    }

    fn size(&self, server_id: Uuid, serial: &str) -> Option<u64> {
        self.servers.get(&server_id)?.volumes.get(serial)?.size
    }

    fn set_size(&mut self, server_id: Uuid, serial: &str, size: Option<u64>) {
        if let Some(known) = self.servers.get_mut(&server_id).and_then(|page| page.volumes.get_mut(serial)) {
            known.size = size;
        }
    }
}

/// A guest whose volumes are made as desired.
pub(crate) struct Plugging<'a> {
    pub server_id: Uuid,
    pub domain: &'a Domain,
    /// Else its definition is changed, for its next start.
    pub runs: bool,
    pub cancel: &'a CancellationToken,
}

impl Agent {
    /// The volumes that the guest has; `None` if it cannot be told.
    pub(crate) async fn volumes_of(&self, server_id: Uuid) -> Option<Vec<Uuid>> {
        match self.hypervisor.disks(server_id).await {
            Ok(serials) => Some(self.ledger.lock().named(server_id, &serials)),
            Err(error) if error.is(Kind::NotFound) => Some(Vec::new()),
            Err(error) => {
                tracing::warn!(server = %server_id, cause = error.cause(), "the disks of a guest are not known: {error}");
                None
            }
        }
    }

    /// Plugs in and out what differs. All of it is tried, and the first failure told: one volume that hangs does not
    /// keep the others from their guest.
    pub(crate) async fn converge_volumes(&self, plugging: &Plugging<'_>, steps: &mut Steps) -> Result<()> {
        let (id, domain) = (plugging.server_id, plugging.domain);
        let has = self.hypervisor.disks(id).await?;
        let stays = |serial: &String| {
            domain.disks.iter().any(|disk| disk.serial == *serial)
                || domain.volumes.iter().any(|volume| serial_of(volume) == *serial)
        };
        let mut outcomes = Vec::new();
        for serial in has.iter().filter(|serial| !stays(serial)) {
            outcomes.push(self.detach(plugging, serial, steps).await);
        }
        for volume in &domain.volumes {
            let serial = serial_of(volume);
            outcomes.push(match has.contains(&serial) {
                true => self.extend(plugging, volume, &serial, steps).await,
                false => self.attach(plugging, volume, &serial, steps).await,
            });
        }
        outcomes.into_iter().collect()
    }

    async fn attach(&self, plugging: &Plugging<'_>, volume: &Volume, serial: &str, steps: &mut Steps) -> Result<()> {
        let detail = format!("volume {} in pool {}", volume.volume_id, volume.at.pool);
        let attach = async {
            // Between the look where the disk is and the hypervisor's opening it, no snapshot may move it.
            let _turn = self.turns.of(plugging.server_id).await;
            let mut disk = self.volume_disk(volume)?;
            if plugging.runs {
                // A guest that runs has booted.
                disk.boot_index = None;
            }
            self.hypervisor.attach_disk(plugging.server_id, &disk).await?;
            if self.is_where_it_was(volume, &disk.attachment)? {
                return Ok(());
            }
            self.hypervisor.detach_disk(plugging.server_id, serial).await?;
            Err(moved())
        };
        let attach = async { attach.await.map_err(|error| naming(volume.volume_id, "attached", error)) };
        steps.run(Step::VolumeAttach, detail, attach).await?;
        self.ledger.lock().set_size(plugging.server_id, serial, Some(volume.size_bytes));
        Ok(())
    }

    async fn detach(&self, plugging: &Plugging<'_>, serial: &str, steps: &mut Steps) -> Result<()> {
        let server_id = plugging.server_id;
        let volume_id = self.ledger.lock().named(server_id, &[serial.to_owned()]).first().copied();
        let name = volume_id.map_or_else(|| format!("disk {serial}"), |id| format!("volume {id}"));
        let detach = async {
            // A guest may take its time. One that is to go need not let its disks go first.
            let outcome = tokio::select! {
                outcome = self.hypervisor.detach_disk(server_id, serial) => outcome,
                () = plugging.cancel.cancelled() => Err(overtaken()),
            };
            outcome.map_err(|error| could_not(&name, "detached", error))
        };
        steps.run(Step::VolumeDetach, name.clone(), detach).await?;
        self.ledger.lock().set_size(server_id, serial, None);
        Ok(())
    }

    async fn extend(&self, plugging: &Plugging<'_>, volume: &Volume, serial: &str, steps: &mut Steps) -> Result<()> {
        let (id, size) = (plugging.server_id, volume.size_bytes);
        let known = self.ledger.lock().size(id, serial);
        if !plugging.runs || known.is_some_and(|known| known >= size) {
            return Ok(());
        }
        let resize = async {
            let outcome = async {
                // A document may be late: the disk is larger by now, and a hypervisor makes it what it is told.
                let now = self.pool(&volume.at.pool)?.stat(&volume.at.name).await?.map_or(0, |info| info.size);
                self.hypervisor.resize_disk(id, serial, size.max(now)).await
            };
            outcome.await.map_err(|error| naming(volume.volume_id, "extended", error))
        };
        match known {
            Some(_) => {
                let detail = format!("volume {} to {size} bytes", volume.volume_id);
                steps.run(Step::VolumeExtend, detail, resize).await?;
            }
            // Whether there is anything to do is the hypervisor's to know: not worth a step.
            None => resize.await?,
        }
        self.ledger.lock().set_size(id, serial, Some(size));
        Ok(())
    }

    /// The document with volumes on their way where the guest has them.
    pub(crate) async fn settled(&self, server_id: Uuid, domain: &Domain) -> Result<Domain> {
        let mut domain = domain.clone();
        for volume in &mut domain.volumes {
            if let Some(to) = volume.to.take()
                && self.is_there(server_id, &serial_of(volume), &to).await?
            {
                volume.at = to;
            }
        }
        Ok(domain)
    }

    pub(crate) fn volume_disk(&self, volume: &Volume) -> Result<DomainDisk> {
        Ok(DomainDisk {
            attachment: self.pool(&volume.at.pool)?.attachment(&volume.at.name),
            serial: serial_of(volume),
            boot_index: volume.boot_index,
            read_only: volume.read_only,
            cdrom: false,
        })
    }

    /// Whether a disk that was just opened is still there. Its pool may have been about to move it for a snapshot, and
    /// not have seen yet that a guest has it; what the guest has open then is the snapshot's.
    fn is_where_it_was(&self, volume: &Volume, opened: &Attachment) -> Result<bool> {
        Ok(self.pool(&volume.at.pool)?.attachment(&volume.at.name) == *opened)
    }

    /// For a guest that was just started: see [`Agent::is_where_it_was`].
    pub(crate) fn volumes_are_where_they_were(&self, domain: &Domain, started: &DomainSpec) -> Result<()> {
        for volume in &domain.volumes {
            let serial = serial_of(volume);
            let disk = started.disks.iter().find(|disk| disk.serial == serial);
            if let Some(disk) = disk
                && !self.is_where_it_was(volume, &disk.attachment)?
            {
                return Err(moved());
            }
        }
        Ok(())
    }

    /// A guest that was started has its volumes, as large as they are.
    pub(crate) fn note_started(&self, server_id: Uuid, domain: &Domain) {
        let mut ledger = self.ledger.lock();
        for volume in &domain.volumes {
            ledger.set_size(server_id, &serial_of(volume), Some(volume.size_bytes));
        }
    }
}

fn moved() -> Error {
    Error::new(Kind::Busy, "A snapshot was taken of it at this moment.")
}

fn naming(volume_id: Uuid, what: &str, error: Error) -> Error {
    could_not(&format!("volume {volume_id}"), what, error)
}

/// The same failure, saying whose it is.
fn could_not(name: &str, what: &str, error: Error) -> Error {
    let (first, rest) = name.split_at(1);
    let told = format!("{}{rest} could not be {what}: {}", first.to_uppercase(), error.message());
    let told = Error::new(error.kind(), told);
    match error.cause() {
        Some(cause) => told.because(cause),
        None => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_volume() {
        let error = naming(Uuid::nil(), "attached", Error::conflict("The disk is in use elsewhere.").because("lock"));
        assert_eq!(
            error.for_log(),
            "Volume 00000000-0000-0000-0000-000000000000 could not be attached: The disk is in use elsewhere. (lock)"
        );
    }

    #[test]
    fn serials_are_what_virtio_can_show() {
        let id = Uuid::from_u128(0x0f3b8c1e_aaaa_4bbb_8ccc_dddddddddddd);
        assert_eq!(serial(id), "0f3b8c1e-aaaa-4bbb-8");
    }
}
