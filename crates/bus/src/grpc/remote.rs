use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use umbel_core::{Error, Result};

use super::ROOM;
use super::wire::{Down, Fault};
use crate::{Desired, OnHost, Task, TaskReply};

/// An agent at the end of a stream, as the hub holds it. The hub alone: once it lets go, because the host has connected
/// anew, the stream's queue ends and with it the stream.
pub(super) struct Remote {
    cell: String,
    host: String,
    queue: mpsc::Sender<Down>,
    /// None once the stream has ended.
    asked: Mutex<Option<HashMap<u64, oneshot::Sender<Result<TaskReply>>>>>,
    serial: AtomicU64,
    exports: Arc<Exports>,
}

/// Images that an agent may fill, because a task of ours tells it to.
#[derive(Default)]
pub(super) struct Exports(Mutex<Vec<(String, String, String)>>);

impl Exports {
    pub fn allow(&self, cell: &str, host: &str, image_id: &str) -> bool {
        self.0.lock().iter().any(|known| (&*known.0, &*known.1, &*known.2) == (cell, host, image_id))
    }
}

impl Remote {
    pub fn new(cell: &str, host: &str, queue: mpsc::Sender<Down>, exports: Arc<Exports>) -> Remote {
        let (cell, host) = (cell.to_owned(), host.to_owned());
        Remote { cell, host, queue, asked: Mutex::new(Some(HashMap::new())), serial: AtomicU64::new(0), exports }
    }

    /// Waits for room in the queue, not for ever: a peer that takes nothing must not hold up a conductor.
    pub async fn say(&self, message: Down) -> Result<()> {
        self.queue.send_timeout(message, ROOM).await.map_err(|error| {
            let cause = if matches!(error, mpsc::error::SendTimeoutError::Timeout(_)) { "is slow" } else { "is gone" };
            self.gone().because(cause)
        })
    }

    pub fn replied(&self, id: u64, reply: Result<TaskReply, Fault>) {
        if let Some(asker) = self.asked.lock().as_mut().and_then(|asked| asked.remove(&id)) {
            // Whoever asked may have given up.
            let _ = asker.send(reply.map_err(Error::from));
        }
    }

    /// Nobody will reply any more.
    pub fn end(&self) {
        *self.asked.lock() = None;
    }

    fn gone(&self) -> Error {
        Error::unavailable(format!("Host '{}' is not connected.", self.host))
    }
}

#[async_trait]
impl OnHost for Remote {
    async fn desire(&self, desired: Desired) {
        let server = desired.server_id;
        if let Err(error) = self.say(Down::Desire(desired)).await {
            tracing::debug!(host = self.host, %server, cause = error.cause(), "a document is left to the sweep: {error}");
        }
    }

    async fn task(&self, task: Task) -> Result<TaskReply> {
        let id = self.serial.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        let _export = self.allow_export(&task);
        let _asked = Asked { remote: self, id };
        match &mut *self.asked.lock() {
            Some(asked) => asked.insert(id, asker),
            None => return Err(self.gone()),
        };
        self.say(Down::Task { id, task }).await?;
        answer.await.map_err(|_| self.gone())?
    }
}

impl Remote {
    fn allow_export(&self, task: &Task) -> Option<Allowed<'_>> {
        let Task::Export { image_id, .. } = task else { return None };
        let what = (self.cell.clone(), self.host.clone(), image_id.clone());
        self.exports.0.lock().push(what.clone());
        Some(Allowed { exports: &self.exports, what })
    }
}

/// Forgets the question with who asked it.
struct Asked<'a> {
    remote: &'a Remote,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(asked) = &mut *self.remote.asked.lock() {
            asked.remove(&self.id);
        }
    }
}

struct Allowed<'a> {
    exports: &'a Exports,
    what: (String, String, String),
}

impl Drop for Allowed<'_> {
    fn drop(&mut self) {
        let mut all = self.exports.0.lock();
        // One of them: the same may have been asked twice.
        if let Some(at) = all.iter().position(|known| *known == self.what) {
            all.swap_remove(at);
        }
    }
}
