//! The task that owns one guest: its process, its QMP stream, and what is known of its power and its disks.

use std::ffi::OsString;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep_until;
use umbel_core::{Error, Kind, Result};
use umbel_driver::{DomainEvent, DomainSpec, Power};

use crate::drive::Plug;
use crate::home::{Home, Passing};
use crate::machine::{Call, Incident, Reply, Request, Running, Shared, end_of};
use crate::plugging::{Leaving, expected, resolved};
use crate::process::Process;
use crate::qmp::{Command, Event, Failure};
use crate::{command, console};

/// A guest that is just booting does not see the power button, so it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// An asked-for shutdown that the guest has not obeyed yet.
struct Stopping {
    deadline: Instant,
    press: Instant,
    waiting: Vec<Reply>,
}

pub(crate) struct Driver {
    pub(crate) home: Home,
    shared: Arc<Shared>,
    pub(crate) power: watch::Sender<Option<Power>>,
    /// As QEMU listed them last; before it was asked, as the definition has them.
    pub(crate) plugs: watch::Sender<Vec<Plug>>,
    pub(crate) running: Option<Running>,
    stopping: Option<Stopping>,
    pub(crate) leaving: Vec<Leaving>,
    /// Stopped for a moment; see [`Request::Hold`].
    pub(crate) held: bool,
}

impl Driver {
    pub(crate) fn new(home: Home, shared: Arc<Shared>, running: Option<Running>) -> Driver {
        let definition = home.definition().ok().flatten().filter(|_| running.is_some());
        let plugs = definition.map(|spec| expected(&spec.disks)).unwrap_or_default();
        let (power, plugs) = (watch::Sender::new(None), watch::Sender::new(plugs));
        Driver { home, shared, power, plugs, running, stopping: None, leaving: Vec::new(), held: false }
    }

    /// Connects to a QEMU that runs, and learns what it does and has.
    pub(crate) async fn take_over(&mut self) -> Result<Power, Failure> {
        let Some(running) = &mut self.running else { return Ok(Power::Shutdown) };
        let mut power = running.connect(&self.home).await?;
        if self.home.is(Passing::Held) {
            // A process that died has stopped the guest for a moment that is long over. What its disks have come to is
            // settled first: before the guest writes, each place is as good as the other.
            let settled = self.settle_mirrors().await;
            if let Err(error) = settled.and(self.compare_disks().await) {
                tracing::warn!(server = %self.home.id, "the disks of a guest are not known: {}", error.for_log());
            }
            match self.let_on().await {
                Ok(()) => power = Power::Running,
                Err(error) => tracing::error!(server = %self.home.id, "a guest stands still: {}", error.for_log()),
            }
        }
        if let Err(error) = self.compare_disks().await {
            tracing::warn!(server = %self.home.id, "the disks of a guest are not known: {}", error.for_log());
        }
        Ok(power)
    }

    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Call>) {
        // Adopted in a state that has no process of its own.
        self.settle().await;
        loop {
            let press = self.stopping.as_ref().map(|stopping| stopping.press.min(stopping.deadline));
            let ask = self.leaving.iter().map(|leaving| leaving.ask.min(leaving.deadline)).min();
            tokio::select! {
                call = requests.recv() => {
                    let Some(call) = call else { return };
                    if !self.obey(call).await {
                        return;
                    }
                }
                incident = incident(self.running.as_mut()) => self.react(incident).await,
                () = at(press) => self.press().await,
                () = at(ask) => self.ask_to_let_go().await,
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
            Request::Detach(serial) => {
                self.detach(&serial, reply).await;
                return true;
            }
            Request::Destroy => self.destroy().await,
            Request::Reset => self.qemu(&Command::RESET).await.map(drop),
            Request::Pause => self.change(&Command::STOP, Power::Paused).await,
            Request::Resume => self.change(&Command::CONT, Power::Running).await,
            Request::Attach(disk) => self.attach(*disk).await,
            Request::Resize(which, size) => self.resize(&which, size).await,
            Request::Mirror(serial, to, answer) => {
                // Nobody waits any more: as good. So below.
                self.mirror(&serial, &to).await.map(|so_far| answer.send(so_far).unwrap_or_default())
            }
            Request::CancelMirror(serial) => self.cancel_mirror(&serial).await,
            Request::IsAt(serial, place, answer) => {
                self.is_disk_at(&serial, &place).await.map(|is| answer.send(is).unwrap_or_default())
            }
            Request::Limit(serial, limits) => self.limit(&serial, &limits).await,
            Request::FindAgent(answer) => self.find_agent(answer).await,
            Request::PrepareSwitch(moves) => self.prepare_switch(&moves).await,
            Request::Switch(moves) => self.switch(&moves).await,
            Request::Unswitch(moves) => self.unswitch(&moves).await,
            Request::Hold => self.hold().await,
            Request::Release => self.let_on().await,
        };
        let _ = reply.send(outcome);
        true
    }

    async fn react(&mut self, incident: Incident) {
        match incident {
            // As was asked for a moment, and nobody's business.
            Incident::Event(Event::Stop | Event::Resume) if self.held => {}
            Incident::Event(Event::Stop) if self.ending().is_none() => self.set(Power::Paused),
            Incident::Event(Event::Resume) => self.set(Power::Running),
            Incident::Event(Event::Deleted { device }) => self.released(&device).await,
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

    /// Forgets what QEMU told of processors that stop and go on.
    pub(crate) fn forget_stops(&mut self) {
        if let Some(qmp) = self.running.as_mut().and_then(|running| running.qmp.as_mut()) {
            qmp.forget(|event| matches!(event, Event::Stop | Event::Resume));
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
        match self.take_over().await {
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
        self.held = false;
        self.plugs.send_replace(Vec::new());
        self.note(power);
        self.set(power);
        for reply in self.stopping.take().into_iter().flat_map(|stopping| stopping.waiting) {
            let _ = reply.send(Ok(()));
        }
        self.none_holds();
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
        let mut spec = spec;
        spec.disks = resolved(spec.disks).await;
        let arguments = command::arguments(&spec, &self.home.console(), self.shared.accelerator)?;
        // From here on files are in use, whether QEMU has opened them yet or not.
        self.plugs.send_replace(expected(&spec.disks));
        let shared = self.shared.clone();
        // Fails only for a semaphore that was closed, and nobody closes it.
        let _permit = shared.starts.acquire().await.map_err(Error::internal)?;
        let begin = Instant::now();
        let (home, binary) = (self.home.clone(), shared.options.binary.clone());
        let spawned = spawn_blocking(move || spawn(&home, &spec, &binary, &arguments)).await.map_err(Error::internal);
        let process = match spawned
            .and_then(|process| process.map_err(|error| Error::internal(error).because("starting QEMU")))
        {
            Ok(process) => process,
            Err(error) => {
                self.plugs.send_replace(Vec::new());
                return Err(error);
            }
        };
        let mut running = Running { process, qmp: None, end: None };
        if let Err(failure) = first_words(&mut running, &self.home).await {
            running.end().await?;
            self.off(Power::Shutdown);
            return Err(not_started(&self.home.complaint(), &failure));
        }
        let (pid, milliseconds) = (running.process.pid, begin.elapsed().as_millis());
        tracing::info!(server = %self.home.id, pid, milliseconds, "started a guest");
        self.running = Some(running);
        if let Err(error) = self.refresh().await {
            tracing::warn!(server = %self.home.id, "QEMU does not list its disks: {}", error.for_log());
        }
        self.set(Power::Running);
        Ok(())
    }

    async fn shutdown(&mut self, grace: Duration, reply: Reply) -> bool {
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
            if let Err(error) = self.qemu(&Command::POWERDOWN).await {
                tracing::warn!(server = %self.home.id, "the power button cannot be pressed: {}", error.for_log());
            }
            return;
        }
        tracing::info!(server = %self.home.id, "a guest did not power off in time and is powered off");
        let waiting = self.stopping.take().map(|stopping| stopping.waiting).unwrap_or_default();
        let outcome = self.destroy().await;
        answer(waiting, &outcome);
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

    async fn change(&mut self, command: &Command, power: Power) -> Result<()> {
        self.qemu(command).await?;
        self.held = false;
        self.set(power);
        Ok(())
    }

    /// # Errors
    /// `Conflict` if the guest is off, or QEMU refuses; `Unavailable` if it does not answer.
    pub(crate) async fn qemu(&mut self, command: &Command) -> Result<Box<RawValue>> {
        let Some(running) = &mut self.running else {
            return Err(Error::conflict(format!("Domain {} is not running.", self.home.id)));
        };
        let unavailable =
            |failure: &Failure| Error::unavailable("The guest's hypervisor process does not answer.").because(failure);
        if running.qmp.is_none() {
            running.connect(&self.home).await.map_err(|failure| unavailable(&failure))?;
        }
        let Some(qmp) = &mut running.qmp else { return Err(Error::internal("a stream that is none")) };
        match qmp.execute(command).await {
            Ok(answer) => Ok(answer),
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

/// Tells all who wait how it ended.
pub(crate) fn answer(waiting: Vec<Reply>, outcome: &Result<()>) {
    for reply in waiting {
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
        };
        let _ = reply.send(outcome);
    }
}

/// Everything about a guest is on disk before its process is.
fn spawn(home: &Home, spec: &DomainSpec, binary: &Path, arguments: &[OsString]) -> std::io::Result<Process> {
    home.define(spec)?;
    home.set_power(Power::Running)?;
    console::trim(&home.console())?;
    let listener = home.listen()?;
    Process::spawn(binary, arguments, listener.into(), home)
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
