//! Who waits for news of a server within this process. Only a short cut: who waits looks at the database too.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use umbel_bus::Observed;
use umbel_compute::model::Server;
use uuid::Uuid;

/// The newest that was heard since somebody listens.
#[derive(Clone, Default)]
pub(crate) struct News {
    pub server: Option<Arc<Server>>,
    /// With the host that reported it.
    pub observed: Option<Arc<(String, Observed)>>,
}

#[derive(Default)]
pub(crate) struct Watchers(Mutex<HashMap<Uuid, watch::Sender<News>>>);

impl Watchers {
    /// From now on; what was before is for the caller to read.
    pub fn listen(&self, id: Uuid) -> watch::Receiver<News> {
        self.0.lock().entry(id).or_insert_with(|| watch::Sender::new(News::default())).subscribe()
    }

    pub fn tell(&self, id: Uuid, change: impl FnOnce(&mut News)) {
        if let Some(sender) = self.0.lock().get(&id) {
            sender.send_modify(change);
        }
    }

    /// Forgets those whom nobody listens to any more.
    pub fn tidy(&self) {
        self.0.lock().retain(|_, sender| sender.receiver_count() > 0);
    }
}
