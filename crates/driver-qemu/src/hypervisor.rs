use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio::task::spawn_blocking;
use umbel_core::{Error, Result};
use umbel_driver::{
    Attachment, DomainDisk, DomainEvent, DomainSpec, DomainState, HostFacts, Hypervisor, Limits, Mirroring, Power,
};
use uuid::Uuid;

use crate::home::{Home, Passing};
use crate::host::{self, Accelerator};
use crate::machine::{Machine, Request, Shared, Which};
use crate::{console, guest_agent, process};

/// Between two looks at the lengths of the console logs. A guest writes a few MiB per second at most.
const TRIM: Duration = Duration::from_secs(10);

/// Events that a slow subscriber may lag behind before it loses the oldest.
const EVENTS: usize = 1024;

#[derive(Clone, Debug)]
pub struct Options {
    /// A path, or a name that is looked for in `PATH`.
    pub binary: PathBuf,
    /// `None`: KVM where it works, else TCG.
    pub accelerator: Option<Accelerator>,
    /// Starts beyond these wait. One at a time is slower than a few, and hundreds at once starve the guests that run.
    pub starts_at_once: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { binary: "qemu-system-x86_64".into(), accelerator: None, starts_at_once: 8 }
    }
}

type Machines = Mutex<HashMap<Uuid, Machine>>;

/// QEMU guests whose files and processes belong to one directory.
pub struct QemuHypervisor {
    root: PathBuf,
    facts: HostFacts,
    shared: Arc<Shared>,
    machines: Arc<Machines>,
    /// Locked as long as we live, so that there is one owner of the guests.
    _lock: File,
}

impl QemuHypervisor {
    /// Opens the directory, makes it if need be, and adopts the guests that run.
    ///
    /// # Errors
    /// `Unavailable` if QEMU cannot be run; `Conflict` if another process has the directory open.
    pub async fn open(dir: &Path, options: Options) -> Result<Arc<QemuHypervisor>> {
        let failed = |error: std::io::Error| Error::internal(error).because(format!("opening {}", dir.display()));
        fs::create_dir_all(dir).map_err(failed)?;
        let root = dir.canonicalize().map_err(failed)?;
        let lock = lock(&root)?;
        let (facts, accelerator) = host::facts(&options.binary, options.accelerator)?;
        let shared = Arc::new(Shared {
            accelerator,
            starts: Semaphore::new(options.starts_at_once.max(1)),
            events: broadcast::Sender::new(EVENTS),
            options,
        });
        let mut processes = process::running(&root).map_err(failed)?;
        let mut homes = Home::all(&root).map_err(failed)?;
        // A process without a directory cannot be ours by construction, but somebody may have removed one by hand.
        let known: Vec<Uuid> = homes.iter().map(|home| home.id).collect();
        homes.extend(processes.keys().filter(|id| !known.contains(id)).map(|id| Home::new(&root, *id)));
        let machines = join_all(homes.into_iter().map(|home| {
            let (shared, process) = (shared.clone(), processes.remove(&home.id));
            async move {
                let id = home.id;
                let machine = match process {
                    Some(process) => Machine::adopt(home, shared, process).await,
                    None => Machine::idle(home, shared),
                };
                (id, machine)
            }
        }));
        let machines: Arc<Machines> = Arc::new(Mutex::new(machines.await.into_iter().collect()));
        tokio::spawn(trim_consoles(root.clone(), Arc::downgrade(&machines)));
        let hypervisor = Arc::new(QemuHypervisor { root, facts, shared, machines, _lock: lock });
        hypervisor.clone().thaw_forgotten();
        Ok(hypervisor)
    }

    /// A process that died between freezing a guest and thawing it has left it standing.
    fn thaw_forgotten(self: Arc<Self>) {
        let frozen = |id: &Uuid| Home::new(&self.root, *id).is(Passing::Frozen);
        let forgotten: Vec<Uuid> = self.machines.lock().keys().copied().filter(frozen).collect();
        for id in forgotten {
            let hypervisor = self.clone();
            tokio::spawn(async move {
                match hypervisor.thaw(id).await {
                    Ok(()) => tracing::info!(server = %id, "thawed a guest that was left frozen"),
                    Err(error) => tracing::error!(server = %id, "a guest stays frozen: {}", error.for_log()),
                }
            });
        }
    }

    fn machine(&self, id: Uuid) -> Result<Machine> {
        let machine = self.machines.lock().get(&id).cloned();
        machine.filter(|machine| machine.power().is_some()).ok_or_else(|| unknown(id))
    }

    async fn ask(&self, id: Uuid, request: Request) -> Result<()> {
        self.machine(id)?.ask(request).await.unwrap_or_else(|| Err(unknown(id)))
    }

    pub(crate) fn machines(&self) -> Vec<Machine> {
        self.machines.lock().values().cloned().collect()
    }

    /// Whether an agent listens in the guest.
    async fn has_agent(&self, id: Uuid) -> Result<bool> {
        if self.machine(id)?.power() != Some(Power::Running) {
            return Ok(false);
        }
        let (answer, found) = oneshot::channel();
        self.ask(id, Request::FindAgent(answer)).await?;
        Ok(found.await.unwrap_or(false))
    }

    /// Takes the machine out of the map once its task has ended with the domain.
    fn forget(&self, id: Uuid) {
        let mut machines = self.machines.lock();
        if machines.get(&id).is_some_and(Machine::ended) {
            machines.remove(&id);
        }
    }
}

fn unknown(id: Uuid) -> Error {
    Error::not_found(format!("Domain {id} could not be found."))
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let failed = |error: std::io::Error| Error::internal(error).because(format!("opening {}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::conflict(format!("The guests in {} belong to another process that runs.", root.display())))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Ends with the hypervisor.
async fn trim_consoles(root: PathBuf, machines: Weak<Machines>) {
    loop {
        tokio::time::sleep(TRIM).await;
        let Some(machines) = machines.upgrade() else { return };
        let running =
            |(id, machine): (&Uuid, &Machine)| (machine.power() == Some(Power::Running)).then(|| Home::new(&root, *id));
        let homes: Vec<Home> = machines.lock().iter().filter_map(running).collect();
        drop(machines);
        if let Err(error) = spawn_blocking(move || homes.iter().for_each(trim)).await {
            tracing::error!("trimming console logs failed: {error}");
        }
    }
}

fn trim(home: &Home) {
    for path in [home.console(), home.log()] {
        if let Err(error) = console::trim(&path) {
            tracing::warn!(server = %home.id, "{} cannot be cut: {error}", path.display());
        }
    }
}

#[async_trait]
impl Hypervisor for QemuHypervisor {
    fn facts(&self) -> HostFacts {
        self.facts.clone()
    }

    async fn list(&self) -> Result<Vec<DomainState>> {
        let machines = self.machines.lock();
        let states = machines.iter().filter_map(|(id, machine)| Some(DomainState { id: *id, power: machine.power()? }));
        Ok(states.collect())
    }

    async fn state(&self, id: Uuid) -> Result<Option<Power>> {
        Ok(self.machines.lock().get(&id).and_then(Machine::power))
    }

    async fn start(&self, spec: &DomainSpec) -> Result<()> {
        loop {
            let machine = self
                .machines
                .lock()
                .entry(spec.id)
                .or_insert_with(|| Machine::idle(Home::new(&self.root, spec.id), self.shared.clone()))
                .clone();
            if let Some(outcome) = machine.ask(Request::Start(Box::new(spec.clone()))).await {
                return outcome;
            }
            // It was undefined at this moment; the next one is new.
            self.forget(spec.id);
        }
    }

    async fn shutdown(&self, id: Uuid, grace: Duration) -> Result<()> {
        self.ask(id, Request::Shutdown(grace)).await
    }

    async fn destroy(&self, id: Uuid) -> Result<()> {
        self.ask(id, Request::Destroy).await
    }

    async fn reset(&self, id: Uuid) -> Result<()> {
        self.ask(id, Request::Reset).await
    }

    async fn pause(&self, id: Uuid) -> Result<()> {
        self.ask(id, Request::Pause).await
    }

    async fn resume(&self, id: Uuid) -> Result<()> {
        self.ask(id, Request::Resume).await
    }

    async fn undefine(&self, id: Uuid) -> Result<()> {
        let machine = self.machines.lock().get(&id).cloned();
        let Some(machine) = machine else { return Ok(()) };
        let outcome = machine.ask(Request::Undefine).await.unwrap_or(Ok(()));
        self.forget(id);
        outcome
    }

    async fn console(&self, id: Uuid, limit: usize) -> Result<Bytes> {
        self.machine(id)?;
        let path = Home::new(&self.root, id).console();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let read = spawn_blocking(move || console::tail(&path, limit)).await.map_err(Error::internal)?;
        read.map(Bytes::from).map_err(|error| Error::internal(error).because("reading a console log"))
    }

    async fn disks(&self, id: Uuid) -> Result<Vec<String>> {
        let machine = self.machine(id)?;
        let serials: Vec<String> = match machine.power() {
            Some(Power::Running | Power::Paused) => {
                machine.plugs().into_iter().filter_map(|plug| plug.serial).collect()
            }
            _ => {
                let home = Home::new(&self.root, id);
                let definition = home.definition();
                let definition = definition.map_err(|error| Error::internal(error).because("a guest's definition"))?;
                definition.into_iter().flat_map(|spec| spec.disks).map(|disk| disk.serial).collect()
            }
        };
        Ok(serials.into_iter().filter(|serial| !serial.is_empty()).collect())
    }

    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<()> {
        self.ask(id, Request::Attach(Box::new(disk.clone()))).await
    }

    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<()> {
        self.ask(id, Request::Detach(serial.to_owned())).await
    }

    async fn resize_disk(&self, id: Uuid, serial: &str, size: u64) -> Result<()> {
        self.ask(id, Request::Resize(Which::Serial(serial.to_owned()), size)).await
    }

    async fn limit_disk(&self, id: Uuid, serial: &str, limits: &Limits) -> Result<()> {
        self.ask(id, Request::Limit(serial.to_owned(), limits.clone())).await
    }

    async fn mirror_disk(&self, id: Uuid, serial: &str, to: &Attachment) -> Result<Mirroring> {
        let (answer, so_far) = oneshot::channel();
        self.ask(id, Request::Mirror(serial.to_owned(), to.clone(), answer)).await?;
        so_far.await.map_err(|error| Error::internal(error).because("a disk's way to another place"))
    }

    async fn cancel_mirror(&self, id: Uuid, serial: &str) -> Result<()> {
        self.ask(id, Request::CancelMirror(serial.to_owned())).await
    }

    async fn is_at(&self, id: Uuid, serial: &str, place: &Attachment) -> Result<bool> {
        let (answer, found) = oneshot::channel();
        self.ask(id, Request::IsAt(serial.to_owned(), place.clone(), answer)).await?;
        found.await.map_err(|error| Error::internal(error).because("the place of a disk"))
    }

    async fn freeze(&self, id: Uuid) -> Result<u32> {
        match self.has_agent(id).await? {
            true => guest_agent::freeze(&Home::new(&self.root, id)).await,
            false => Err(guest_agent::absent()),
        }
    }

    async fn thaw(&self, id: Uuid) -> Result<()> {
        match self.has_agent(id).await? {
            true => guest_agent::thaw(&Home::new(&self.root, id)).await,
            // Without an agent nothing was frozen, or the guest has booted since.
            false => {
                let noted = Home::new(&self.root, id).note(Passing::Frozen, false);
                noted.map_err(|error| Error::internal(error).because("noting that a guest is thawed"))
            }
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<DomainEvent> {
        self.shared.events.subscribe()
    }
}
