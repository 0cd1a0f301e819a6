//! Deleted servers are kept for a while, for lists of what changed and for their actions, and then forgotten.
//!
//! First by the global map, then by the cell: a purge that dies between the two leaves a row that the next one finds. The
//! other order would leave a place in the map that nothing leads to any more.

use umbel_compute::CellHandle;
use umbel_compute::store::{server_map, servers};
use umbel_core::Result;
use umbel_db::{read, tx};

use crate::conductor::Parts;

/// Servers that are forgotten in one transaction, which others wait for.
const PAGE: usize = 100;

impl Parts {
    /// How many were forgotten.
    pub(crate) async fn purge(&self, cell: &CellHandle) -> Result<usize> {
        let moment = self.clock.now().minus(self.config.keep_deleted);
        let mut purged = 0;
        loop {
            let old = read!(cell.db, "old servers", |tx| servers::deleted_before(tx, moment, PAGE).await)?;
            tx!(self.api, "forget old servers", |tx| {
                for id in &old {
                    server_map::forget(tx, *id).await?;
                }
                Ok(())
            })?;
            tx!(cell.db, "purge old servers", |tx| {
                for id in &old {
                    servers::forget(tx, *id).await?;
                }
                Ok(())
            })?;
            purged += old.len();
            if old.len() < PAGE {
                return Ok(purged);
            }
        }
    }
}
