//! Mends what a crash can leave between the global database and the cells.
//!
//! * A server that its cell has deleted, or is deleting, still counts for its owner's quota: the process died between
//!   the two transactions of a delete.
//! * A build request without a flow: nothing of ours leaves one, but an operator who restores one of the two databases
//!   from a backup does.

use umbel_compute::model::ServerId;
use umbel_compute::store::{build_requests, server_map, servers};
use umbel_compute::{CellId, flows};
use umbel_core::{Result, Timestamp};
use umbel_db::{read, tx};
use umbel_workflow::{NewFlow, enqueue, pending};

use crate::Conductor;
use crate::cell::unwanted;
use crate::conductor::Parts;

/// Rows of the map that are compared in one go.
const PAGE: usize = 500;

impl Conductor {
    /// One comparison of everything.
    pub async fn reconcile_once(&self) -> Result<()> {
        self.parts.forget_old_choices();
        self.parts.restart_lost_builds().await?;
        for cell in self.parts.cells.all() {
            self.parts.mend_map(cell.id).await?;
            let purged = self.parts.purge(&cell).await?;
            if purged > 0 {
                tracing::info!(cell = cell.name, purged, "servers deleted long ago are forgotten");
            }
        }
        self.nudge().now();
        Ok(())
    }
}

impl Parts {
    async fn mend_map(&self, cell: CellId) -> Result<()> {
        let Some(handle) = self.cells.get(cell) else {
            return Ok(());
        };
        let mut after = None;
        loop {
            let mapped = read!(self.api, "map of a cell", |tx| server_map::of_cell(tx, cell, after, PAGE).await)?;
            let Some(last) = mapped.last() else {
                return Ok(());
            };
            after = Some(last.server_id);
            let ids: Vec<ServerId> = mapped.iter().map(|mapped| mapped.server_id).collect();
            let rows = read!(handle.db, "servers of the map", |tx| servers::get_many(tx, &ids).await)?;
            for server in rows.iter().filter(|server| unwanted(server)) {
                tracing::info!(server = %server.id, "its delete is completed in the map");
                tx!(self.api, "mend map", |tx| server_map::queue_for_delete(tx, server.id).await)?;
            }
            if mapped.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn restart_lost_builds(&self) -> Result<()> {
        let now = self.clock.now();
        let lost = read!(self.api, "build requests without flows", |tx| {
            let mut lost = Vec::new();
            for id in build_requests::ids(tx).await? {
                if !pending(tx, flows::SERVER_CREATE, &id.to_string()).await? {
                    lost.push(id);
                }
            }
            Ok(lost)
        })?;
        for id in lost {
            let lost = tx!(self.api, "restart build", |tx| self.restart_build(tx, id, now).await)?;
            if lost {
                tracing::warn!(server = %id, "a build request had no flow; it has one again");
            }
        }
        Ok(())
    }

    async fn restart_build(
        &self,
        tx: &mut umbel_db::Tx<umbel_compute::Api>,
        id: ServerId,
        now: Timestamp,
    ) -> Result<bool> {
        let text = id.to_string();
        if pending(tx, flows::SERVER_CREATE, &text).await? {
            return Ok(false);
        }
        let Some(request) = build_requests::get(tx, id).await? else {
            return Ok(false);
        };
        let flow = NewFlow {
            id: &text,
            kind: flows::SERVER_CREATE,
            first_step: flows::SERVER_CREATE_FIRST,
            state: &flows::ServerCreate { server_id: id },
            request_id: &request.server.spec.request_id,
            now,
            deadline: now.plus(flows::SERVER_CREATE_DEADLINE),
        };
        enqueue(tx, flow).await?;
        Ok(true)
    }
}
