//! Uploads that run in this process: how far they are, and how to stop them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use umbel_core::{Error, Kind};

use crate::model::ImageId;

/// One upload, seen from outside.
pub(crate) struct Flow {
    pub received: watch::Sender<u64>,
    /// The image was deleted, or another took the upload for dead: nothing more may be written.
    lost: watch::Sender<bool>,
}

impl Flow {
    pub fn new() -> Arc<Self> {
        Arc::new(Flow { received: watch::Sender::new(0), lost: watch::Sender::new(false) })
    }

    pub fn lose(&self) {
        self.lost.send_replace(true);
    }

    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    pub async fn until_lost(&self) {
        // The sender is ours, so waiting ends with the truth.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }
}

pub(crate) fn lost() -> Error {
    Error::new(Kind::Gone, "The image could not be found after upload. It may have been deleted meanwhile.")
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

    pub fn lose(&self, id: ImageId) {
        let flow = self.running.lock().get(&id).cloned();
        if let Some(flow) = flow {
            flow.lose();
        }
    }

    pub fn subscribe(&self, id: ImageId) -> Option<watch::Receiver<u64>> {
        self.running.lock().get(&id).map(|flow| flow.received.subscribe())
    }
}
