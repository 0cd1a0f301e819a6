use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use umbel_core::Result;

/// Keeps processes from what others go on with in their place.
///
/// A lease that ran out says that nobody has heard of its owner, and not that it does nothing any more: it may stand still in the
/// middle of a step and go on later, or see everything but the database. What its steps work on must refuse it first.
#[async_trait]
pub trait Fence: Send + Sync {
    /// After this, nothing takes effect any more of what the process of this name has begun. It may be the own process, whose
    /// steps were broken off; what it begins later does take effect.
    async fn shut_out(&self, process: &str) -> Result<()>;
}

/// The process that runs flows, where their steps change more than rows.
#[derive(Clone)]
pub struct Process {
    /// By which the fence knows it; no other process has had it, or will have it. At most 16 letters and digits.
    pub name: String,
    pub fence: Arc<dyn Fence>,
}

/// For steps that change nothing but what they save: rows go by their generation.
pub(crate) struct NoFence;

#[async_trait]
impl Fence for NoFence {
    async fn shut_out(&self, _process: &str) -> Result<()> {
        Ok(())
    }
}

/// Owners that are being shut out just now.
#[derive(Clone, Default)]
pub(crate) struct Fencing(Arc<Mutex<HashSet<String>>>);

impl Fencing {
    /// None if it is under way already.
    pub fn begin(&self, owner: &str) -> Option<ShuttingOut> {
        let new = self.0.lock().insert(owner.to_owned());
        new.then(|| ShuttingOut { owner: owner.to_owned(), fencing: self.clone() })
    }
}

pub(crate) struct ShuttingOut {
    pub owner: String,
    fencing: Fencing,
}

impl Drop for ShuttingOut {
    fn drop(&mut self) {
        self.fencing.0.lock().remove(&self.owner);
    }
}
