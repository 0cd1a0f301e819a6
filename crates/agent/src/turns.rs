use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// One at a time for each server, for work that must not cross: a disk that moves to another file must not do so while a
/// hypervisor is about to open it.
#[derive(Default)]
pub(crate) struct Turns {
    servers: parking_lot::Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    pub async fn of(&self, server_id: Uuid) -> OwnedMutexGuard<()> {
        let turn = {
            let mut servers = self.servers.lock();
            servers.retain(|_, turn| turn.strong_count() > 0);
            let turn = servers.get(&server_id).and_then(Weak::upgrade).unwrap_or_default();
            servers.insert(server_id, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}
