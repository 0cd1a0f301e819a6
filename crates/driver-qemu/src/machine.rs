//! The task that owns one guest: its process, its QMP stream, and what is known of its power.

use std::ffi::OsString;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until, timeout};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{DomainEvent, DomainSpec, Power};

use crate::home::Home;
use crate::host::Accelerator;
use crate::hypervisor::Options;
use crate::process::Process;
use crate::qmp::{Command, Event, Failure, Qmp};
use crate::{command, console};

/// QEMU flushes its disks before it goes. Storage that hangs makes it hang; then it is killed.
const QUIT: Duration = Duration::from_secs(5);

/// A killed process is gone at once unless the kernel waits for storage on its behalf.
const KILL: Duration = Duration::from_secs(30);

/// A guest that is just booting does not see the power button, so it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

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
}

struct Call {
    request: Request,
    reply: oneshot::Sender<Result<()>>,
}

/// A guest as its hypervisor holds it. Its task ends when the last one is dropped, and leaves the guest running.
#[derive(Clone)]
pub(crate) struct Machine {
    calls: mpsc::Sender<Call>,
    power: watch::Receiver<Option<Power>>,
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
        Machine::spawn(home, shared, power, None)
    }

    /// For a guest whose process was found.
    pub(crate) async fn adopt(home: Home, shared: Arc<Shared>, process: Process) -> Machine {
        let mut running = Running { process, qmp: None, end: None };
        let power = match running.connect(&home).await {
            Ok(power) => power,
            Err(failure) => {
                tracing::warn!(server = %home.id, pid = running.process.pid, "a guest's QEMU does not answer yet: {failure}");
                Power::Running
            }
        };
        tracing::info!(server = %home.id, pid = running.process.pid, ?power, "adopted a guest");
        Machine::spawn(home, shared, Some(power), Some(running))
    }

    fn spawn(home: Home, shared: Arc<Shared>, power: Option<Power>, running: Option<Running>) -> Machine {
        let (calls, requests) = mpsc::channel(16);
        let (sender, power) = watch::channel(power);
        tokio::spawn(Driver { home, shared, power: sender, running, stopping: None }.run(requests));
        Machine { calls, power }
    }

    /// `None` before the first definition and after the last.
    pub(crate) fn power(&self) -> Option<Power> {
        *self.power.borrow()
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

struct Running {
    process: Process,
    /// `None` after the stream broke.
    qmp: Option<Qmp>,
    /// What QEMU said about its coming end.
    end: Option<Power>,
}

/// An asked-for shutdown that the guest has not obeyed yet.
struct Stopping {
    deadline: Instant,
    press: Instant,
    waiting: Vec<oneshot::Sender<Result<()>>>,
}

enum Incident {
    Event(Event),
    Lost(std::io::Error),
    Ended,
    Reconnect,
}

impl Running {
    /// Waits for whatever the guest's process does next.
    async fn incident(&mut self) -> Incident {
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

    async fn connect(&mut self, home: &Home) -> Result<Power, Failure> {
        let stream = home.connect()?;
        stream.set_nonblocking(true)?;
        let mut qmp = Qmp::open(tokio::net::UnixStream::from_std(stream)?).await?;
        let status = qmp.status().await?;
        self.qmp = Some(qmp);
        Ok(power_of(&status))
    }

    /// Ends the process and waits until it is gone.
    async fn end(&mut self) -> Result<()> {
        if let Some(qmp) = &mut self.qmp {
            // Its end is what counts, not what it answers.
            let asked = qmp.execute_within(Command::Quit, QUIT).await;
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
fn power_of(status: &str) -> Power {
    match status {
        "running" | "suspended" => Power::Running,
        "shutdown" => Power::Shutdown,
        "guest-panicked" | "internal-error" => Power::Crashed,
        _ => Power::Paused,
    }
}

/// QEMU's ShutdownCause: who asked for it.
fn end_of(reason: &str) -> Power {
    match reason {
        "host-error" | "guest-panic" => Power::Crashed,
        _ => Power::Shutdown,
    }
}

struct Driver {
    home: Home,
    shared: Arc<Shared>,
    power: watch::Sender<Option<Power>>,
    running: Option<Running>,
    stopping: Option<Stopping>,
}

impl Driver {
    async fn run(mut self, mut requests: mpsc::Receiver<Call>) {
        // Adopted in a state that has no process of its own.
        self.settle().await;
        loop {
            let press = self.stopping.as_ref().map(|stopping| stopping.press.min(stopping.deadline));
            tokio::select! {
                call = requests.recv() => {
                    let Some(call) = call else { return };
                    if !self.obey(call).await {
                        return;
                    }
                }
                incident = incident(self.running.as_mut()) => self.react(incident).await,
                () = at(press) => self.press().await,
            }
        }
    }

    /// Returns whether the guest is still there. Answers go to callers who may have left; what they asked is done all the
    /// same.
    async fn obey(&mut self, Call { request, reply }: Call) -> bool {
        let outcome = match request {
            Request::Shutdown(grace) => return self.shutdown(grace, reply).await,
            Request::Undefine => {
                let outcome = self.undefine().await;
                let gone = outcome.is_ok();
                let _ = reply.send(outcome);
                return !gone;
            }
            Request::Start(spec) => {
                let outcome = self.start(*spec).await;
                // A start that was refused before anything was written leaves no domain.
                let there = outcome.is_ok() || self.power.borrow().is_some();
                let _ = reply.send(outcome);
                return there;
            }
            Request::Destroy => self.destroy().await,
            Request::Reset => self.command(Command::SystemReset).await,
            Request::Pause => self.change(Command::Stop, Power::Paused).await,
            Request::Resume => self.change(Command::Cont, Power::Running).await,
        };
        let _ = reply.send(outcome);
        true
    }

    async fn react(&mut self, incident: Incident) {
        match incident {
            Incident::Event(Event::Stop) if self.ending().is_none() => self.set(Power::Paused),
            Incident::Event(Event::Resume) => self.set(Power::Running),
            Incident::Event(Event::Shutdown { reason }) => {
                tracing::info!(server = %self.home.id, reason, "a guest powers off");
                self.finish(end_of(&reason)).await;
            }
            Incident::Event(Event::Panicked) => self.finish(Power::Crashed).await,
            Incident::Event(Event::Stop) => {}
            Incident::Lost(error) => {
                tracing::debug!(server = %self.home.id, "a guest's QMP stream ended: {error}");
                self.lose();
            }
            Incident::Reconnect => self.reconnect().await,
            Incident::Ended => {
                let end = self.ending().unwrap_or(Power::Crashed);
                if end == Power::Crashed {
                    tracing::warn!(server = %self.home.id, "a guest's QEMU ended by itself: {}", self.home.complaint());
                }
                self.off(end);
            }
        }
    }

    fn ending(&self) -> Option<Power> {
        self.running.as_ref()?.end
    }

    fn lose(&mut self) {
        if let Some(running) = &mut self.running {
            running.qmp = None;
        }
    }

    async fn reconnect(&mut self) {
        let Some(running) = &mut self.running else { return };
        match running.connect(&self.home).await {
            Ok(power) => {
                self.set(power);
                self.settle().await;
            }
            Err(failure) => tracing::debug!(server = %self.home.id, "a guest's QEMU does not answer: {failure}"),
        }
    }

    /// A guest that powered off or broke while nobody listened has a process that is of no more use.
    async fn settle(&mut self) {
        let power = *self.power.borrow();
        if let (Some(end @ (Power::Shutdown | Power::Crashed)), Some(_)) = (power, &self.running) {
            self.finish(end).await;
        }
    }

    /// The guest is at its end: its process goes, too.
    async fn finish(&mut self, end: Power) {
        let Some(running) = &mut self.running else { return };
        running.end = Some(end);
        match running.end().await {
            Ok(()) => self.off(end),
            Err(error) => tracing::error!(server = %self.home.id, "{}", error.for_log()),
        }
    }

    /// The process is gone.
    fn off(&mut self, power: Power) {
        self.running = None;
        self.note(power);
        self.set(power);
        for reply in self.stopping.take().into_iter().flat_map(|stopping| stopping.waiting) {
            let _ = reply.send(Ok(()));
        }
    }

    fn set(&mut self, power: Power) {
        let changed = self.power.send_if_modified(|known| known.replace(power) != Some(power));
        if !changed {
            return;
        }
        // Nobody listens: not a failure.
        let _ = self.shared.events.send(DomainEvent { id: self.home.id, power });
    }

    /// For a driver that comes after us. That it runs was noted before it did.
    fn note(&self, power: Power) {
        if let Err(error) = self.home.set_power(power) {
            tracing::error!(server = %self.home.id, "the power of a guest cannot be noted: {error}");
        }
    }

    async fn start(&mut self, spec: DomainSpec) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let arguments = command::arguments(&spec, &self.home.console(), self.shared.accelerator)?;
        let shared = self.shared.clone();
        // Fails only for a semaphore that was closed, and nobody closes it.
        let _permit = shared.starts.acquire().await.map_err(Error::internal)?;
        let begin = Instant::now();
        let (home, binary) = (self.home.clone(), shared.options.binary.clone());
        let spawned =
            spawn_blocking(move || spawn(&home, &spec, &binary, &arguments)).await.map_err(Error::internal)?;
        let process = spawned.map_err(|error| Error::internal(error).because("starting QEMU"))?;
        let mut running = Running { process, qmp: None, end: None };
        if let Err(failure) = first_words(&mut running, &self.home).await {
            running.end().await?;
            self.off(Power::Shutdown);
            return Err(not_started(&self.home.complaint(), &failure));
        }
        let (pid, milliseconds) = (running.process.pid, begin.elapsed().as_millis());
        tracing::info!(server = %self.home.id, pid, milliseconds, "started a guest");
        self.running = Some(running);
        self.set(Power::Running);
        Ok(())
    }

    async fn shutdown(&mut self, grace: Duration, reply: oneshot::Sender<Result<()>>) -> bool {
        if self.running.is_none() || grace.is_zero() {
            let _ = reply.send(self.destroy().await);
            return true;
        }
        let now = Instant::now();
        let stopping = self.stopping.get_or_insert(Stopping { deadline: now + grace, press: now, waiting: Vec::new() });
        stopping.deadline = stopping.deadline.min(now + grace);
        stopping.waiting.push(reply);
        true
    }

    /// Presses the power button, or loses patience.
    async fn press(&mut self) {
        let now = Instant::now();
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.deadline > now {
            stopping.press = now + PRESS_AGAIN;
            if let Err(error) = self.command(Command::SystemPowerdown).await {
                tracing::warn!(server = %self.home.id, "the power button cannot be pressed: {}", error.for_log());
            }
            return;
        }
        tracing::info!(server = %self.home.id, "a guest did not power off in time and is powered off");
        let waiting = self.stopping.take().map(|stopping| stopping.waiting).unwrap_or_default();
        let outcome = self.destroy().await;
        for reply in waiting {
            let outcome = match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
            };
            let _ = reply.send(outcome);
        }
    }

    async fn destroy(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.end = Some(Power::Shutdown);
        running.end().await?;
        self.off(Power::Shutdown);
        Ok(())
    }

    async fn undefine(&mut self) -> Result<()> {
        self.destroy().await?;
        self.home.remove().map_err(|error| Error::internal(error).because("removing a guest's directory"))?;
        self.power.send_replace(None);
        Ok(())
    }

    async fn change(&mut self, command: Command, power: Power) -> Result<()> {
        self.command(command).await?;
        self.set(power);
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<()> {
        let Some(running) = &mut self.running else {
            return Err(Error::conflict(format!("Domain {} is not running.", self.home.id)));
        };
        let unavailable =
            |failure: &Failure| Error::unavailable("The guest's hypervisor process does not answer.").because(failure);
        if running.qmp.is_none() {
            running.connect(&self.home).await.map_err(|failure| unavailable(&failure))?;
        }
        let Some(qmp) = &mut running.qmp else { return Ok(()) };
        match qmp.execute(command).await {
            Ok(_) => Ok(()),
            Err(failure @ Failure::Refused(_)) => {
                Err(Error::conflict("The guest cannot do this now.").because(failure))
            }
            Err(failure @ Failure::Lost(_)) => {
                running.qmp = None;
                Err(unavailable(&failure))
            }
        }
    }
}

/// Everything about a guest is on disk before its process is.
fn spawn(home: &Home, spec: &DomainSpec, binary: &Path, arguments: &[OsString]) -> std::io::Result<Process> {
    home.define(spec)?;
    home.set_power(Power::Running)?;
    console::trim(&home.console())?;
    let listener = home.listen()?;
    Process::spawn(binary, arguments, listener.into(), home.open_log()?)
}

async fn incident(running: Option<&mut Running>) -> Incident {
    match running {
        Some(running) => running.incident().await,
        None => pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => pending().await,
    }
}

/// A QEMU that answers has opened the disks and let the processors run. One that ends before has said why.
async fn first_words(running: &mut Running, home: &Home) -> Result<(), Failure> {
    match running.connect(home).await? {
        Power::Running => Ok(()),
        power => Err(Failure::Refused(format!("the guest is {power:?} after its start"))),
    }
}

fn not_started(complaint: &str, failure: &Failure) -> Error {
    let cause = format!("{failure}; QEMU says: {complaint}");
    if complaint.contains("Cannot allocate memory") {
        return Error::new(Kind::NoSpace, "The host has not enough memory for the guest.").because(cause);
    }
    if complaint.contains("Unknown driver 'rbd'") {
        let text = "The host's QEMU cannot open RBD images; on Debian: apt-get install qemu-block-extra.";
        return Error::unavailable(text).because(cause);
    }
    Error::new(Kind::Internal, "QEMU did not start the guest.").because(cause)
}
