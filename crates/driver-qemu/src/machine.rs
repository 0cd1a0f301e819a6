//! One guest as its hypervisor holds it, and the stream to its process. Its task is in [`crate::driver`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Attachment, DomainDisk, DomainEvent, DomainSpec, Limits, Mirroring, Power};

use crate::drive::Plug;
use crate::driver::Driver;
use crate::home::Home;
use crate::host::Accelerator;
use crate::hypervisor::Options;
use crate::process::Process;
use crate::qmp::{Command, Event, Failure, Qmp};

/// QEMU flushes its disks before it goes. Storage that hangs makes it hang; then it is killed.
const QUIT: Duration = Duration::from_secs(5);

/// A killed process is gone at once unless the kernel waits for storage on its behalf.
const KILL: Duration = Duration::from_secs(30);

/// After a QMP stream that broke while its process lives.
const RECONNECT: Duration = Duration::from_secs(1);

/// What the tasks of one hypervisor share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) accelerator: Accelerator,
    pub(crate) starts: Semaphore,
    pub(crate) events: broadcast::Sender<DomainEvent>,
}

pub(crate) enum Request {
    Start(Box<DomainSpec>),
    Shutdown(Duration),
    Destroy,
    Reset,
    Pause,
    Resume,
    Undefine,
    Attach(Box<DomainDisk>),
    Detach(String),
    /// Bytes.
    Resize(Which, u64),
    Limit(String, Limits),
    /// The disk of this serial goes there; answered with how far it is.
    Mirror(String, Attachment, oneshot::Sender<Mirroring>),
    CancelMirror(String),
    /// Whether the disk of this serial is there.
    IsAt(String, Attachment, oneshot::Sender<bool>),
    /// Whether the guest's agent listens; answered where it does.
    FindAgent(oneshot::Sender<bool>),
    /// Opens the overlays, so that what follows can hardly fail.
    PrepareSwitch(Vec<Move>),
    Switch(Vec<Move>),
    /// Closes overlays that were opened in vain, and goes back to where the disk was from those in use.
    Unswitch(Vec<Move>),
    /// Keeps the processors still until released; to whoever looks on, the guest runs.
    Hold,
    Release,
}

/// A disk by its serial, or by the file that the guest writes.
pub(crate) enum Which {
    Serial(String),
    File(PathBuf),
}

/// From a file to its overlay.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
}

pub(crate) type Reply = oneshot::Sender<Result<()>>;

pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) reply: Reply,
}

/// A guest as its hypervisor holds it. Its task ends when the last one is dropped, and leaves the guest running.
#[derive(Clone)]
pub(crate) struct Machine {
    calls: mpsc::Sender<Call>,
    power: watch::Receiver<Option<Power>>,
    plugs: watch::Receiver<Vec<Plug>>,
}

impl Machine {
    /// For a guest without a process: off, crashed, or not defined yet.
    pub(crate) fn idle(home: Home, shared: Arc<Shared>) -> Machine {
        let power = match home.power() {
            Some(Power::Running | Power::Paused) => Some(Power::Crashed),
            // A definition without a word about power was never started.
            None if home.exists() => Some(Power::Shutdown),
            known => known,
        };
        Machine::spawn(Driver::new(home, shared, None), power)
    }

    /// For a guest whose process was found.
    pub(crate) async fn adopt(home: Home, shared: Arc<Shared>, process: Process) -> Machine {
        let (id, pid) = (home.id, process.pid);
        let mut driver = Driver::new(home, shared, Some(Running { process, qmp: None, end: None }));
        let power = match driver.take_over().await {
            Ok(power) => power,
            Err(failure) => {
                tracing::warn!(server = %id, pid, "a guest's QEMU does not answer yet: {failure}");
                Power::Running
            }
        };
        tracing::info!(server = %id, pid, ?power, "adopted a guest");
        Machine::spawn(driver, Some(power))
    }

    fn spawn(driver: Driver, power: Option<Power>) -> Machine {
        let (calls, requests) = mpsc::channel(16);
        driver.power.send_replace(power);
        let machine = Machine { calls, power: driver.power.subscribe(), plugs: driver.plugs.subscribe() };
        tokio::spawn(driver.run(requests));
        machine
    }

    /// `None` before the first definition and after the last.
    pub(crate) fn power(&self) -> Option<Power> {
        *self.power.borrow()
    }

    /// The disks that are plugged in; none while the guest is off.
    pub(crate) fn plugs(&self) -> Vec<Plug> {
        self.plugs.borrow().clone()
    }

    /// Whether its guest has the file open for writing.
    pub(crate) fn writes(&self, file: &Path) -> bool {
        self.plugs.borrow().iter().any(|plug| !plug.read_only && Path::new(&plug.place) == file)
    }

    /// Whether its domain is gone, and its task with it.
    pub(crate) fn ended(&self) -> bool {
        self.calls.is_closed()
    }

    /// `None` if the guest was undefined meanwhile. What was asked is done even if nobody waits for the answer.
    pub(crate) async fn ask(&self, request: Request) -> Option<Result<()>> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { request, reply }).await.ok()?;
        answer.await.ok()
    }
}

pub(crate) struct Running {
    pub(crate) process: Process,
    /// `None` after the stream broke.
    pub(crate) qmp: Option<Qmp>,
    /// What QEMU said about its coming end.
    pub(crate) end: Option<Power>,
}

pub(crate) enum Incident {
    Event(Event),
    Lost(std::io::Error),
    Ended,
    Reconnect,
}

impl Running {
    /// Waits for whatever the guest's process does next.
    pub(crate) async fn incident(&mut self) -> Incident {
        let Some(qmp) = &mut self.qmp else {
            return tokio::select! {
                () = self.process.ended() => Incident::Ended,
                () = sleep(RECONNECT) => Incident::Reconnect,
            };
        };
        tokio::select! {
            // Its last words first, then its end.
            biased;
            event = qmp.event() => event.map_or_else(Incident::Lost, Incident::Event),
            () = self.process.ended() => Incident::Ended,
        }
    }

    pub(crate) async fn connect(&mut self, home: &Home) -> Result<Power, Failure> {
        let stream = home.connect()?;
        stream.set_nonblocking(true)?;
        let mut qmp = Qmp::open(tokio::net::UnixStream::from_std(stream)?).await?;
        let status = qmp.status().await?;
        self.qmp = Some(qmp);
        Ok(power_of(&status))
    }

    /// Ends the process and waits until it is gone.
    pub(crate) async fn end(&mut self) -> Result<()> {
        if let Some(qmp) = &mut self.qmp {
            // Its end is what counts, not what it answers.
            let asked = qmp.execute_within(&Command::QUIT, QUIT).await;
            if asked.is_ok() && timeout(QUIT, self.process.ended()).await.is_ok() {
                return Ok(());
            }
        }
        self.process.kill();
        if timeout(KILL, self.process.ended()).await.is_ok() {
            return Ok(());
        }
        let cause = format!("QEMU process {} does not end after SIGKILL", self.process.pid);
        Err(Error::new(Kind::Timeout, "The guest's process does not end.").because(cause))
    }
}

/// QEMU's run states (RunState in its QMP reference).
pub(crate) fn power_of(status: &str) -> Power {
    match status {
        "running" | "suspended" => Power::Running,
        "shutdown" => Power::Shutdown,
        "guest-panicked" | "internal-error" => Power::Crashed,
        _ => Power::Paused,
    }
}

/// QEMU's ShutdownCause: who asked for it.
pub(crate) fn end_of(reason: &str) -> Power {
    match reason {
        "host-error" | "guest-panic" => Power::Crashed,
        _ => Power::Shutdown,
    }
}
