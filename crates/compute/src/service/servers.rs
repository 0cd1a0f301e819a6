//! One server: finding it, changing it, and what is done to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_auth::{Visible, visible};
use umbel_bus::{Task as AgentTask, TaskReply};
use umbel_core::{Ctx, Error, Kind, Result, Timestamp};
use umbel_db::{Tx, read, tx};

use super::Compute;
use super::listing::is_down;
use super::quotas::allows;
use crate::flows;
use crate::model::{
    Action, Lock, Server, ServerId, State, VmState, Want, deleted, project, reset, transition, vacated,
};
use crate::store::actions::{self, ActionPage, ActionRow, EventRow};
use crate::store::server_map::{self, Mapped};
use crate::store::{build_requests, servers};
use crate::{Cell, CellHandle, Cells};

pub(crate) fn not_found(id: ServerId) -> Error {
    Error::not_found(format!("Instance {id} could not be found."))
}

/// Where a server is, as far as is known.
pub(crate) enum Found {
    /// In no cell yet.
    Building(Box<Server>),
    InCell(Arc<CellHandle>, Box<Server>),
    /// Its cell does not answer.
    Unknown(Mapped),
}

/// What of a server a change touches, besides its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touches {
    State,
    Metadata,
    Tags,
    Volumes,
}

/// Bytes of console output that are asked for at most.
const CONSOLE_BYTES: usize = 256 * 1024;

impl Compute {
    async fn mapped(&self, id: ServerId, who: &Visible) -> Result<Mapped> {
        let mapped = read!(self.db, "find server", |tx| server_map::get(tx, id, who).await)?;
        mapped.ok_or_else(|| not_found(id))
    }

    fn cell_of(&self, mapped: &Mapped) -> Result<Option<Arc<CellHandle>>> {
        let Some(cell) = mapped.cell else {
            return Ok(None);
        };
        let handle = self.cells.get(cell);
        handle.map(Some).ok_or_else(|| Error::unavailable("The server's cell is not open here.").because(cell))
    }

    /// The server, wherever it is. Deleted ones are not found.
    pub(crate) async fn find(&self, ctx: &Ctx, id: ServerId) -> Result<Found> {
        let who = visible(ctx)?;
        // A build request that is gone by the time it is read has become a server in a cell.
        for _ in 0..3 {
            let mapped = self.mapped(id, &who).await?;
            let Some(cell) = self.cell_of(&mapped)? else {
                match read!(self.db, "find build request", |tx| build_requests::get(tx, id).await)? {
                    Some(request) if request.deleted => return Err(not_found(id)),
                    Some(request) => return Ok(Found::Building(Box::new(request.server))),
                    None => continue,
                }
            };
            let reading = async { read!(cell.db, "show server", |tx| servers::get(tx, id, &who).await) };
            return match self.in_time(reading).await {
                Ok(Some(server)) if server.state.life != crate::model::Life::Deleted => {
                    Ok(Found::InCell(cell, Box::new(server)))
                }
                Ok(_) => Err(not_found(id)),
                Err(error) if is_down(&error) => Ok(Found::Unknown(mapped)),
                Err(error) => Err(error),
            };
        }
        Err(not_found(id))
    }

    /// The server, in a cell or not; 503 where its cell does not answer.
    pub(crate) async fn server_of(&self, ctx: &Ctx, id: ServerId) -> Result<Server> {
        match self.find(ctx, id).await? {
            Found::Building(server) | Found::InCell(_, server) => Ok(*server),
            Found::Unknown(_) => Err(cell_down()),
        }
    }

    /// Changes a server that has a cell, in one transaction.
    pub(super) async fn in_cell(
        &self,
        cell: &CellHandle,
        id: ServerId,
        who: &Visible,
        touches: Touches,
        change: impl Fn(&Server) -> Result<State>,
        record: Option<&ActionRow>,
    ) -> Result<Server> {
        tx!(cell.db, "change server", |tx| {
            let mut server = existing(tx, id, who).await?;
            server.state = change(&server)?;
            match touches {
                Touches::State => servers::update(tx, &mut server).await?,
                Touches::Metadata => servers::update_metadata(tx, &mut server).await?,
                Touches::Tags => servers::update_tags(tx, &mut server).await?,
                Touches::Volumes => servers::update_volumes(tx, &mut server).await?,
            }
            if let Some(action) = record {
                actions::start(tx, action).await?;
            }
            Ok(server)
        })
    }

    /// Changes what a server is called and labelled with, also before it has a cell.
    pub(crate) async fn change(
        &self,
        ctx: &Ctx,
        id: ServerId,
        touches: Touches,
        change: impl Fn(&Server) -> Result<State>,
    ) -> Result<Server> {
        for _ in 0..3 {
            match self.find(ctx, id).await? {
                Found::InCell(cell, _) => {
                    return self.in_cell(&cell, id, &visible(ctx)?, touches, change, None).await;
                }
                Found::Building(mut server) => {
                    server.state = change(&server)?;
                    let kept = tx!(self.db, "change build request", |tx| build_requests::update(tx, &server).await)?;
                    if kept {
                        return Ok(*server);
                    }
                }
                Found::Unknown(_) => return Err(cell_down()),
            }
        }
        Err(Error::new(Kind::Busy, "The server is being moved into its cell; try again."))
    }

    pub(super) fn record(&self, ctx: &Ctx, id: ServerId, action: &str, now: Timestamp) -> ActionRow {
        ActionRow {
            server_id: id,
            request_id: ctx.request_id.to_string(),
            action: action.to_owned(),
            user_id: ctx.user_id().unwrap_or_default().to_owned(),
            project_id: ctx.project_id().unwrap_or_default().to_owned(),
            started_at: now,
            finished_at: None,
            updated_at: now,
            message: None,
        }
    }

    /// Starts, stops, reboots, pauses: writes what is wanted; the host's agent does it.
    pub(crate) async fn act(&self, ctx: &Ctx, id: ServerId, action: Action) -> Result<()> {
        let now = self.clock.now();
        let admin = ctx.is_admin();
        let request_id = ctx.request_id.to_string();
        match self.find(ctx, id).await? {
            Found::Unknown(_) => Err(cell_down()),
            Found::Building(server) => {
                check_lock(&server, admin)?;
                transition(&server, action, &request_id, now).map(drop)
            }
            Found::InCell(cell, _) => {
                let change = |server: &Server| {
                    check_lock(server, admin)?;
                    transition(server, action, &request_id, now)
                };
                let record = self.record(ctx, id, action.name(), now);
                self.in_cell(&cell, id, &visible(ctx)?, Touches::State, change, Some(&record)).await?;
                self.nudge.server(cell.id, id);
                Ok(())
            }
        }
    }

    pub(crate) async fn delete_server(&self, ctx: &Ctx, id: ServerId) -> Result<()> {
        let admin = ctx.is_admin();
        for _ in 0..3 {
            match self.find(ctx, id).await? {
                Found::Unknown(_) => return Err(cell_down()),
                Found::Building(server) => {
                    check_lock(&server, admin)?;
                    if tx!(self.db, "delete build request", |tx| server_map::delete_unplaced(tx, id).await)? {
                        self.nudge.flow();
                        return Ok(());
                    }
                }
                Found::InCell(cell, server) => {
                    check_lock(&server, admin)?;
                    self.delete_in_cell(ctx, &cell, id).await?;
                    // Quota is free at once. A crash before this is mended by the reconciler that compares the two.
                    tx!(self.db, "free quota", |tx| server_map::queue_for_delete(tx, id).await)?;
                    self.nudge.server(cell.id, id);
                    return Ok(());
                }
            }
        }
        Err(Error::new(Kind::Busy, "The server is being moved into its cell; try again."))
    }

    async fn delete_in_cell(&self, ctx: &Ctx, cell: &CellHandle, id: ServerId) -> Result<()> {
        let now = self.clock.now();
        let request_id = ctx.request_id.to_string();
        let who = visible(ctx)?;
        let record = self.record(ctx, id, Action::Delete.name(), now);
        tx!(cell.db, "delete server", |tx| {
            let mut server = existing(tx, id, &who).await?;
            if server.state.want == Want::Absent && server.state.task.is_some() {
                return Ok(());
            }
            actions::start(tx, &record).await?;
            // In cell0, or never placed: there is nothing on any host.
            if cell.id == Cells::ZERO || server.state.host.is_none() {
                if !server.state.volumes.is_empty() {
                    server.state = vacated(&server, now);
                    server.state.action = Some(request_id.clone());
                    servers::update(tx, &mut server).await?;
                    return flows::release_volumes(tx, id, &request_id, now).await;
                }
                server.state = deleted(&server, now);
                servers::update_metadata(tx, &mut server).await?;
                return actions::finish(tx, id, &request_id, false, now).await;
            }
            server.state = transition(&server, Action::Delete, &request_id, now)?;
            servers::update(tx, &mut server).await
        })
    }

    pub(crate) async fn lock(&self, ctx: &Ctx, id: ServerId, reason: Option<String>) -> Result<()> {
        let by_admin = ctx.is_admin();
        self.change(ctx, id, Touches::State, |server| {
            let mut state = server.state.clone();
            state.locked = Some(Lock { by_admin, reason: reason.clone() });
            Ok(state)
        })
        .await
        .map(drop)
    }

    /// The owner's lock can be taken away by the owner, an administrator's only by an administrator.
    pub(crate) async fn unlock(&self, ctx: &Ctx, id: ServerId) -> Result<()> {
        let admin = ctx.is_admin();
        self.change(ctx, id, Touches::State, |server| {
            let mut state = server.state.clone();
            if !admin && state.locked.as_ref().is_some_and(|lock| lock.by_admin) {
                return Err(Error::forbidden(
                    "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.",
                ));
            }
            state.locked = None;
            Ok(state)
        })
        .await
        .map(drop)
    }

    pub(crate) async fn reset_state(&self, ctx: &Ctx, id: ServerId, to_error: bool) -> Result<()> {
        let now = self.clock.now();
        match self.find(ctx, id).await? {
            Found::Unknown(_) => Err(cell_down()),
            Found::Building(_) => Err(Error::conflict(format!("Instance {id} is not ready: it has no host yet."))),
            Found::InCell(cell, _) => {
                let change = |server: &Server| Ok(reset(server, to_error, now));
                self.in_cell(&cell, id, &visible(ctx)?, Touches::State, change, None).await.map(drop)
            }
        }
    }

    /// Replaces the metadata with what the function makes of it.
    pub(crate) async fn change_metadata(
        &self,
        ctx: &Ctx,
        id: ServerId,
        change: impl Fn(&mut BTreeMap<String, String>) -> Result<()>,
    ) -> Result<BTreeMap<String, String>> {
        let now = self.clock.now();
        let admin = ctx.is_admin();
        let limits = self.limits(ctx.project_id().unwrap_or_default(), None).await?;
        let changed = self.change(ctx, id, Touches::Metadata, |server| {
            check_lock(server, admin)?;
            check_settled(server, "update metadata")?;
            let mut state = server.state.clone();
            change(&mut state.metadata)?;
            if !allows(&limits, "metadata_items", state.metadata.len() as u64) {
                let limit = limits.get("metadata_items").copied().unwrap_or_default();
                let message = format!("Maximum number of metadata items exceeds {limit}");
                return Err(Error::new(Kind::OverQuota, message));
            }
            state.updated_at = now;
            Ok(state)
        });
        Ok(changed.await?.state.metadata)
    }

    pub(crate) async fn change_tags(
        &self,
        ctx: &Ctx,
        id: ServerId,
        change: impl Fn(&mut Vec<String>) -> Result<()>,
    ) -> Result<Server> {
        let now = self.clock.now();
        self.change(ctx, id, Touches::Tags, |server| {
            check_settled(server, "update tags")?;
            let mut state = server.state.clone();
            change(&mut state.tags)?;
            state.tags.sort();
            state.updated_at = now;
            Ok(state)
        })
        .await
    }

    /// The last `lines` lines that the guest wrote, all that is kept for `None`.
    pub(crate) async fn console(&self, ctx: &Ctx, id: ServerId, lines: Option<usize>) -> Result<String> {
        let early = || Error::conflict(format!("Instance {id} is not ready"));
        let (cell, server) = match self.find(ctx, id).await? {
            Found::InCell(cell, server) => (cell, server),
            Found::Building(_) => return Err(early()),
            Found::Unknown(_) => return Err(cell_down()),
        };
        let host = server.state.host.as_ref().ok_or_else(early)?;
        let task = AgentTask::Console { server_id: id.uuid(), limit: CONSOLE_BYTES };
        let reply = self.agents.task(&cell.name, &host.name, task, self.config.agent_deadline()).await;
        let bytes = match reply {
            Ok(TaskReply::Console(blob)) => blob.0,
            Ok(_) => return Err(Error::internal("a host answered another question")),
            Err(error) if error.is(Kind::NotFound) => return Err(Error::not_found("Unable to get console")),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        Ok(last_lines(&text, lines))
    }

    /// What was done to the server; also of one that is deleted.
    pub(crate) async fn actions(&self, ctx: &Ctx, id: ServerId, page: &ActionPage) -> Result<Vec<ActionRow>> {
        let Some(cell) = self.cell_for_actions(ctx, id).await? else {
            return Ok(Vec::new());
        };
        let found = read!(cell.db, "list actions", |tx| actions::list(tx, id, page).await)?;
        found.ok_or_else(|| {
            Error::bad_request(format!("marker [{}] not found", page.marker.as_deref().unwrap_or_default()))
        })
    }

    pub(crate) async fn action(&self, ctx: &Ctx, id: ServerId, request_id: &str) -> Result<(ActionRow, Vec<EventRow>)> {
        let missing = || Error::not_found(format!("Action {request_id} not found"));
        let cell = self.cell_for_actions(ctx, id).await?.ok_or_else(missing)?;
        read!(cell.db, "show action", |tx| {
            let action = actions::get(tx, id, request_id).await?.ok_or_else(missing)?;
            Ok((action, actions::events(tx, id, request_id).await?))
        })
    }

    async fn cell_for_actions(&self, ctx: &Ctx, id: ServerId) -> Result<Option<Arc<CellHandle>>> {
        let mapped = self.mapped(id, &visible(ctx)?).await?;
        self.cell_of(&mapped)
    }
}

pub(super) async fn existing(tx: &mut Tx<Cell>, id: ServerId, who: &Visible) -> Result<Server> {
    match servers::get_for_update(tx, id, who).await? {
        Some(server) if server.state.life != crate::model::Life::Deleted => Ok(server),
        _ => Err(not_found(id)),
    }
}

pub(crate) fn cell_down() -> Error {
    Error::unavailable("The cell that the server is in does not answer.")
}

/// A locked server is changed by administrators only.
pub(crate) fn check_lock(server: &Server, admin: bool) -> Result<()> {
    match server.state.locked.is_some() && !admin {
        true => Err(Error::conflict(format!("Instance {} is locked", server.id))),
        false => Ok(()),
    }
}

fn check_settled(server: &Server, action: &str) -> Result<()> {
    let shown = project(server);
    let settled = matches!(shown.vm_state, VmState::Active | VmState::Paused | VmState::Stopped);
    let (attribute, value) = match (settled, shown.task_state) {
        (true, None) => return Ok(()),
        (true, Some(task)) => ("task_state", task),
        (false, _) => ("vm_state", shown.vm_state.name()),
    };
    let id = server.id;
    Err(Error::conflict(format!("Cannot '{action}' instance {id} while it is in {attribute} {value}")))
}

fn last_lines(text: &str, lines: Option<usize>) -> String {
    let Some(wanted) = lines else {
        return text.to_owned();
    };
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    all[all.len().saturating_sub(wanted)..].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_cut_whole() {
        let check = |text: &str, lines, want: &str| assert_eq!(last_lines(text, lines), want);
        check("a\nb\nc\n", Some(2), "b\nc\n");
        check("a\nb\nc", Some(2), "b\nc");
        check("a\nb", Some(9), "a\nb");
        check("a\nb", Some(0), "");
        check("a\nb", None, "a\nb");
    }
}
