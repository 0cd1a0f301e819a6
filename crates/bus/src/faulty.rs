//! A transport that behaves as badly as a network may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use umbel_core::{Error, Kind, Result, Rng};
use uuid::Uuid;

use crate::{Desired, HostReport, Observed, Task, TaskReply, ToAgents, ToConductor};

/// How often what goes wrong, each in percent of the messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The message is gone, and the sender does not learn of it.
    pub lose: usize,
    /// It arrives twice.
    pub duplicate: usize,
    /// It is kept back and arrives after the next one.
    pub reorder: usize,
    /// It arrives, and the sender is told that it did not.
    pub deny: usize,
}

/// Wraps either end of a bus. Every document is also written down and read again, as on a wire.
pub struct Faulty<L: ?Sized> {
    faults: Faults,
    rng: Arc<dyn Rng>,
    calm: AtomicBool,
    kept: Mutex<Option<Message>>,
    inner: Arc<L>,
}

#[derive(Clone)]
enum Message {
    Desire(String, Desired),
    Report(HostReport),
    Observed(String, Observed),
}

impl<L: ?Sized> Faulty<L> {
    pub fn new(inner: Arc<L>, faults: Faults, rng: Arc<dyn Rng>) -> Self {
        Faulty { faults, rng, calm: AtomicBool::new(false), kept: Mutex::new(None), inner }
    }

    /// From now on (or not) everything arrives, once and in order. What was kept back stays lost.
    pub fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::SeqCst);
        *self.kept.lock() = None;
    }

    fn happens(&self, percent: usize) -> bool {
        !self.calm.load(Ordering::SeqCst) && self.rng.below(100) < percent
    }

    /// What to deliver now, in order, and what to tell the sender.
    fn fate(&self, message: Message) -> (Vec<Message>, Result<()>) {
        let answer = match self.happens(self.faults.deny) {
            true => Err(Error::new(Kind::Timeout, "The answer was lost.")),
            false => Ok(()),
        };
        if self.happens(self.faults.lose) {
            return (Vec::new(), Ok(()));
        }
        if self.happens(self.faults.reorder) {
            return (self.kept.lock().replace(message).into_iter().collect(), Ok(()));
        }
        let twice = self.happens(self.faults.duplicate).then(|| message.clone());
        let kept = self.kept.lock().take();
        (std::iter::once(message).chain(twice).chain(kept).collect(), answer)
    }
}

#[async_trait]
impl ToAgents for Faulty<dyn ToAgents> {
    async fn desire(&self, host: &str, desired: Desired) -> Result<()> {
        let (messages, answer) = self.fate(Message::Desire(host.to_owned(), on_the_wire(&desired)?));
        for message in messages {
            if let Message::Desire(host, desired) = message {
                self.inner.desire(&host, desired).await?;
            }
        }
        answer
    }

    async fn task(&self, host: &str, task: Task, deadline: Duration) -> Result<TaskReply> {
        if self.happens(self.faults.lose) {
            return Err(Error::new(Kind::Timeout, format!("Host '{host}' did not answer in time.")));
        }
        on_the_wire(&self.inner.task(host, on_the_wire(&task)?, deadline).await?)
    }

    fn connected(&self, host: &str) -> bool {
        self.inner.connected(host)
    }
}

impl Faulty<dyn ToConductor> {
    async fn deliver(&self, message: Message) -> Result<()> {
        let (messages, answer) = self.fate(message);
        for message in messages {
            match message {
                Message::Report(report) => self.inner.report(report).await?,
                Message::Observed(host, observed) => self.inner.observed(&host, observed).await?,
                Message::Desire(..) => {}
            }
        }
        answer
    }
}

#[async_trait]
impl ToConductor for Faulty<dyn ToConductor> {
    async fn report(&self, report: HostReport) -> Result<()> {
        self.deliver(Message::Report(on_the_wire(&report)?)).await
    }

    async fn observed(&self, host: &str, observed: Observed) -> Result<()> {
        self.deliver(Message::Observed(host.to_owned(), on_the_wire(&observed)?)).await
    }

    async fn resync(&self, host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>> {
        if self.happens(self.faults.lose) {
            return Err(Error::new(Kind::Timeout, "The conductor did not answer in time."));
        }
        on_the_wire(&self.inner.resync(host, held).await?)
    }
}

fn on_the_wire<T: Serialize + DeserializeOwned>(document: &T) -> Result<T> {
    let text = serde_json::to_vec(document).map_err(Error::internal)?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::internal(error).because("a document does not survive the wire"))
}
