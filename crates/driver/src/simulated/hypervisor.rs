use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use umbel_core::{Error, Result};
use uuid::Uuid;

use super::{Operation, Simulation};
use crate::{
    Attachment, DomainDisk, DomainEvent, DomainSpec, DomainState, HostFacts, Hypervisor, Limits, Mirroring, Power,
};

/// As many as a slow listener may be behind; more, and it is told that it lags.
const EVENTS: usize = 1_024;

/// Of a guest's console, the newest bytes are kept.
const CONSOLE: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSize {
    pub vcpus: u32,
    pub memory_mib: u64,
}

impl Default for HostSize {
    fn default() -> Self {
        HostSize { vcpus: 64, memory_mib: 256 << 10 }
    }
}

/// A host of the world; outlives the drivers over it.
pub(super) struct Host {
    domains: Mutex<HashMap<Uuid, Domain>>,
    events: broadcast::Sender<DomainEvent>,
}

struct Domain {
    spec: DomainSpec,
    power: Power,
    console: Vec<u8>,
    /// Bytes that the guest was told its disks have grown to, by serial.
    grown: HashMap<String, u64>,
    /// By serial; gone when it ends.
    limits: HashMap<String, Limits>,
    /// Where its disks are being brought to, by serial.
    mirrors: HashMap<String, Attachment>,
    has_agent: bool,
    frozen: bool,
}

/// File systems that a guest's agent finds.
const FILE_SYSTEMS: u32 = 1;

/// A hypervisor whose guests start at once, say one line on their console, and obey.
pub struct SimulatedHypervisor {
    world: Arc<Simulation>,
    host: Arc<Host>,
    size: HostSize,
}

impl SimulatedHypervisor {
    /// The world's host of that name; a new one without guests if there is none.
    pub fn new(world: &Arc<Simulation>, host: &str, size: HostSize) -> Self {
        let new = || Arc::new(Host { domains: Mutex::default(), events: broadcast::channel(EVENTS).0 });
        let host = world.hosts.lock().entry(host.to_owned()).or_insert_with(new).clone();
        SimulatedHypervisor { world: world.clone(), host, size }
    }

    /// The guest shuts itself down, as after `poweroff` in it.
    pub fn guest_powers_off(&self, id: Uuid) -> Result<()> {
        self.host.change(id, |domain| domain.power = Power::Shutdown)
    }

    /// The guest's process dies.
    pub fn guest_crashes(&self, id: Uuid) -> Result<()> {
        self.host.change(id, |domain| domain.power = Power::Crashed)
    }

    /// From now on an agent answers in the guest while it runs.
    pub fn guest_runs_agent(&self, id: Uuid) -> Result<()> {
        self.host.change(id, |domain| domain.has_agent = true)
    }

    /// Whether the guest's file systems are held.
    pub fn is_frozen(&self, id: Uuid) -> Result<bool> {
        self.host.domains.lock().get(&id).map(|domain| domain.frozen).ok_or_else(|| unknown(id))
    }

    /// The size that the guest was last told of, in bytes.
    pub fn told_size(&self, id: Uuid, serial: &str) -> Option<u64> {
        self.host.domains.lock().get(&id)?.grown.get(serial).copied()
    }

    /// What bounds a disk of a guest.
    pub fn limits(&self, id: Uuid, serial: &str) -> Limits {
        let domains = self.host.domains.lock();
        domains.get(&id).and_then(|domain| domain.limits.get(serial)).cloned().unwrap_or_default()
    }

    /// The guest writes on its serial port.
    pub fn guest_says(&self, id: Uuid, line: &str) -> Result<()> {
        self.host.change(id, |domain| domain.say(line))
    }

    /// What a running guest was started with.
    pub fn spec(&self, id: Uuid) -> Option<DomainSpec> {
        self.host.domains.lock().get(&id).map(|domain| domain.spec.clone())
    }

    async fn change(&self, operation: Operation, id: Uuid, work: impl FnOnce(&mut Domain)) -> Result<()> {
        self.world.perform(operation, &id.to_string(), || self.host.change(id, work)).await
    }
}

#[async_trait]
impl Hypervisor for SimulatedHypervisor {
    fn facts(&self) -> HostFacts {
        HostFacts {
            hypervisor_type: "fake".to_owned(),
            hypervisor_version: 1_000_000,
            accelerator: "none".to_owned(),
            accelerator_reason: "Guests are simulated; no processor runs their code.".to_owned(),
            vcpus: self.size.vcpus,
            memory_mib: self.size.memory_mib,
            cpu_arch: "x86_64".to_owned(),
            cpu_model: "simulated".to_owned(),
        }
    }

    async fn list(&self) -> Result<Vec<DomainState>> {
        let all = || {
            let domains = self.host.domains.lock();
            Ok(domains.iter().map(|(id, domain)| DomainState { id: *id, power: domain.power }).collect())
        };
        self.world.perform(Operation::Query, "", all).await
    }

    async fn state(&self, id: Uuid) -> Result<Option<Power>> {
        let one = || Ok(self.host.domains.lock().get(&id).map(|domain| domain.power));
        self.world.perform(Operation::Query, &id.to_string(), one).await
    }

    async fn start(&self, spec: &DomainSpec) -> Result<()> {
        self.world.perform(Operation::Start, &spec.id.to_string(), || self.host.start(spec)).await
    }

    async fn shutdown(&self, id: Uuid, _grace: Duration) -> Result<()> {
        self.change(Operation::Shutdown, id, Domain::power_off).await
    }

    async fn destroy(&self, id: Uuid) -> Result<()> {
        self.change(Operation::Destroy, id, Domain::power_off).await
    }

    async fn reset(&self, id: Uuid) -> Result<()> {
        self.change(Operation::Reset, id, |domain| {
            if domain.runs() {
                domain.boot();
            }
        })
        .await
    }

    async fn pause(&self, id: Uuid) -> Result<()> {
        self.change(Operation::Pause, id, |domain| {
            if domain.power == Power::Running {
                domain.power = Power::Paused;
            }
        })
        .await
    }

    async fn resume(&self, id: Uuid) -> Result<()> {
        self.change(Operation::Resume, id, |domain| {
            if domain.power == Power::Paused {
                domain.power = Power::Running;
            }
        })
        .await
    }

    async fn undefine(&self, id: Uuid) -> Result<()> {
        self.world
            .perform(Operation::Undefine, &id.to_string(), || {
                let removed = self.host.domains.lock().remove(&id);
                if removed.is_some_and(|domain| domain.runs()) {
                    self.host.tell(id, Power::Shutdown);
                }
                Ok(())
            })
            .await
    }

    async fn console(&self, id: Uuid, limit: usize) -> Result<Bytes> {
        let tail = || {
            let domains = self.host.domains.lock();
            let console = &domains.get(&id).ok_or_else(|| unknown(id))?.console;
            Ok(Bytes::copy_from_slice(&console[console.len().saturating_sub(limit)..]))
        };
        self.world.perform(Operation::Query, &id.to_string(), tail).await
    }

    async fn disks(&self, id: Uuid) -> Result<Vec<String>> {
        let serials = || {
            let domains = self.host.domains.lock();
            let disks = &domains.get(&id).ok_or_else(|| unknown(id))?.spec.disks;
            Ok(disks.iter().map(|disk| disk.serial.clone()).filter(|serial| !serial.is_empty()).collect())
        };
        self.world.perform(Operation::Query, &id.to_string(), serials).await
    }

    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<()> {
        if disk.serial.is_empty() {
            return Err(Error::bad_request("A disk that is attached needs a serial number."));
        }
        self.change(Operation::Attach, id, |domain| {
            let runs = domain.runs();
            match domain.spec.disks.iter_mut().find(|other| other.serial == disk.serial) {
                Some(_) if runs => {}
                Some(other) => *other = disk.clone(),
                None => domain.spec.disks.push(disk.clone()),
            }
        })
        .await
    }

    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<()> {
        self.change(Operation::Detach, id, |domain| {
            domain.spec.disks.retain(|disk| disk.serial != serial);
            domain.grown.remove(serial);
            domain.limits.remove(serial);
            domain.mirrors.remove(serial);
        })
        .await
    }

    async fn resize_disk(&self, id: Uuid, serial: &str, size: u64) -> Result<()> {
        let grow = || {
            let mut domains = self.host.domains.lock();
            let domain = domains.get_mut(&id).ok_or_else(|| unknown(id))?;
            if !domain.runs() {
                return Ok(());
            }
            if domain.spec.disks.iter().all(|disk| disk.serial != serial) {
                return Err(Error::not_found("The guest has no such disk."));
            }
            let known = domain.grown.entry(serial.to_owned()).or_default();
            *known = size.max(*known);
            Ok(())
        };
        self.world.perform(Operation::Extend, &id.to_string(), grow).await
    }

    /// Two steps: what a process that died between them has begun, another one ends.
    async fn mirror_disk(&self, id: Uuid, serial: &str, to: &Attachment) -> Result<Mirroring> {
        let mirror = || {
            let mut domains = self.host.domains.lock();
            let domain = domains.get_mut(&id).ok_or_else(|| unknown(id))?;
            if !domain.runs() {
                return Err(Error::conflict(format!("Domain {id} is not running.")));
            }
            let disk = domain.spec.disks.iter_mut().find(|disk| disk.serial == serial);
            let disk = disk.ok_or_else(|| Error::not_found("The guest has no such disk."))?;
            if disk.attachment == *to {
                domain.mirrors.remove(serial);
                return Ok(Mirroring::There);
            }
            if domain.mirrors.get(serial) != Some(to) {
                domain.mirrors.insert(serial.to_owned(), to.clone());
                return Ok(Mirroring::Copying { done: 0, total: 1 });
            }
            self.world.pools.lock().copy(place(&disk.attachment)?, place(to)?)?;
            disk.attachment = to.clone();
            domain.mirrors.remove(serial);
            Ok(Mirroring::There)
        };
        self.world.perform(Operation::Mirror, &id.to_string(), mirror).await
    }

    async fn cancel_mirror(&self, id: Uuid, serial: &str) -> Result<()> {
        let cancel = || self.host.change(id, |domain| drop(domain.mirrors.remove(serial)));
        self.world.perform(Operation::Query, &id.to_string(), cancel).await
    }

    async fn is_at(&self, id: Uuid, serial: &str, at: &Attachment) -> Result<bool> {
        let look = || {
            let domains = self.host.domains.lock();
            let disks = &domains.get(&id).ok_or_else(|| unknown(id))?.spec.disks;
            Ok(disks.iter().any(|disk| disk.serial == serial && disk.attachment == *at))
        };
        self.world.perform(Operation::Query, &id.to_string(), look).await
    }

    async fn limit_disk(&self, id: Uuid, serial: &str, limits: &Limits) -> Result<()> {
        limits.check()?;
        let bound = || {
            let mut domains = self.host.domains.lock();
            let domain = domains.get_mut(&id).ok_or_else(|| unknown(id))?;
            if !domain.runs() {
                return Ok(());
            }
            if domain.spec.disks.iter().all(|disk| disk.serial != serial) {
                return Err(Error::not_found("The guest has no such disk."));
            }
            domain.limits.insert(serial.to_owned(), limits.clone());
            Ok(())
        };
        self.world.perform(Operation::Limit, &id.to_string(), bound).await
    }

    async fn freeze(&self, id: Uuid) -> Result<u32> {
        let freeze = || {
            let mut domains = self.host.domains.lock();
            let domain = domains.get_mut(&id).ok_or_else(|| unknown(id))?;
            if !domain.has_agent || domain.power != Power::Running {
                return Err(Error::unavailable("No agent answers in the guest."));
            }
            let before = std::mem::replace(&mut domain.frozen, true);
            Ok(if before { 0 } else { FILE_SYSTEMS })
        };
        self.world.perform(Operation::Freeze, &id.to_string(), freeze).await
    }

    async fn thaw(&self, id: Uuid) -> Result<()> {
        self.change(Operation::Thaw, id, |domain| domain.frozen = false).await
    }

    fn subscribe(&self) -> broadcast::Receiver<DomainEvent> {
        self.host.events.subscribe()
    }
}

impl Host {
    fn start(&self, spec: &DomainSpec) -> Result<()> {
        let new = || Domain {
            spec: spec.clone(),
            power: Power::Shutdown,
            console: Vec::new(),
            grown: HashMap::new(),
            limits: HashMap::new(),
            mirrors: HashMap::new(),
            has_agent: false,
            frozen: false,
        };
        self.domains.lock().entry(spec.id).or_insert_with(new);
        self.change(spec.id, |domain| {
            if !domain.runs() {
                domain.spec = spec.clone();
                domain.power = Power::Running;
                domain.limits.clear();
                domain.boot();
            }
        })
    }

    /// Changes a domain, and tells of its power if that is another one then.
    fn change(&self, id: Uuid, work: impl FnOnce(&mut Domain)) -> Result<()> {
        let mut domains = self.domains.lock();
        let domain = domains.get_mut(&id).ok_or_else(|| unknown(id))?;
        let before = domain.power;
        work(domain);
        // Told under the lock, so that listeners hear changes in their order.
        if domain.power != before {
            self.tell(id, domain.power);
        }
        Ok(())
    }

    fn tell(&self, id: Uuid, power: Power) {
        // Fails only when nobody listens.
        let _ = self.events.send(DomainEvent { id, power });
    }
}

impl Domain {
    fn runs(&self) -> bool {
        matches!(self.power, Power::Running | Power::Paused)
    }

    fn power_off(&mut self) {
        self.frozen = false;
        self.mirrors.clear();
        if self.runs() {
            self.power = Power::Shutdown;
        }
    }

    fn boot(&mut self) {
        let line = format!("simulated guest {} is up", self.spec.name);
        self.say(&line);
    }

    fn say(&mut self, line: &str) {
        self.console.extend_from_slice(line.as_bytes());
        self.console.extend_from_slice(b"\r\n");
        self.console.drain(..self.console.len().saturating_sub(CONSOLE));
    }
}

/// Pool and disk.
fn place(attachment: &Attachment) -> Result<(&str, &str)> {
    match attachment {
        Attachment::Simulated { pool, disk } => Ok((pool, disk)),
        _ => Err(Error::bad_request("A simulated guest has simulated disks only.")),
    }
}

fn unknown(id: Uuid) -> Error {
    Error::not_found(format!("There is no domain {id} on this host."))
}
