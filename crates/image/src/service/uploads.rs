//! Uploads that run in this process: how far they are, and how to stop them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use umbel_core::{Error, Kind};

use crate::model::ImageId;

/// Why an upload ends before its data do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The request was dropped: the client is gone, or the server goes.
    Abandoned,
    /// The image was deleted, or another took the upload for dead.
    Lost,
}

/// One upload, seen from outside.
pub(crate) struct Flow {
    pub received: watch::Sender<u64>,
    stop: watch::Sender<Option<Stop>>,
}

impl Flow {
    pub fn new() -> Arc<Self> {
        Arc::new(Flow { received: watch::Sender::new(0), stop: watch::Sender::new(None) })
    }

    /// The first reason counts.
    pub fn stop(&self, reason: Stop) {
        self.stop.send_if_modified(|stop| match stop {
            Some(_) => false,
            None => {
                *stop = Some(reason);
                true
            }
        });
    }

    pub fn stopped(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    pub async fn until_stopped(&self) -> Stop {
        let mut stop = self.stop.subscribe();
        let reason = stop.wait_for(|stop| stop.is_some()).await.map(|stop| *stop);
        // The sender is ours, so waiting ends with a reason.
        reason.ok().flatten().unwrap_or(Stop::Lost)
    }
}

impl Stop {
    pub fn error(self) -> Error {
        match self {
            Stop::Abandoned => Error::bad_request("The request body ended before it was complete."),
            Stop::Lost => {
                Error::new(Kind::Gone, "The image could not be found after upload. It may have been deleted meanwhile.")
            }
        }
    }
}

/// Stops the upload when the request is dropped; after the upload's end that means nothing.
pub(crate) struct StopOnDrop(pub Arc<Flow>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(Stop::Abandoned);
    }
}

#[derive(Default)]
pub(crate) struct Uploads {
    running: Mutex<HashMap<ImageId, Arc<Flow>>>,
}

impl Uploads {
    pub fn add(&self, id: ImageId, flow: &Arc<Flow>) {
        self.running.lock().insert(id, flow.clone());
    }

    /// Only if it is still this one.
    pub fn remove(&self, id: ImageId, flow: &Arc<Flow>) {
        let mut running = self.running.lock();
        if running.get(&id).is_some_and(|known| Arc::ptr_eq(known, flow)) {
            running.remove(&id);
        }
    }

    pub fn stop(&self, id: ImageId) {
        let flow = self.running.lock().get(&id).cloned();
        if let Some(flow) = flow {
            flow.stop(Stop::Lost);
        }
    }

    pub fn subscribe(&self, id: ImageId) -> Option<watch::Receiver<u64>> {
        self.running.lock().get(&id).map(|flow| flow.received.subscribe())
    }
}
