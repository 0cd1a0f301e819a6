//! Lists of servers over all cells at once. Every cell is asked side by side and has a deadline; what they send is merged
//! in order, and a cell is asked for more only when its part is used up, so that what is held is a page per cell at
//! most, however many servers there are.
//!
//! A cell that fails or is late does not spoil the answer: after the known servers come those that the map has in it,
//! newest first, with what the map knows. They can be paged through like the others; where a filter asks for more than
//! the map knows they are left out.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures_util::future::join_all;
use umbel_auth::Visible;
use umbel_core::{Error, Kind, Result};
use umbel_db::{Value, read};

use super::Compute;
use super::pattern::Pattern;
use crate::model::{Server, ServerId};
use crate::store::server_list::{self, Deleted, Field, Order, ServerFilter};
use crate::store::server_map::{self, Mapped};
use crate::store::{build_requests, servers};
use crate::{CellHandle, CellId};

pub(crate) struct ListQuery {
    pub filter: ServerFilter,
    pub name: Option<Pattern>,
    pub order: Order,
    pub marker: Option<ServerId>,
    pub limit: usize,
}

pub(crate) struct ServerPage {
    /// With the cell each is in; `None` for build requests.
    pub servers: Vec<(Option<CellId>, Server)>,
    /// Those of cells that did not answer, as the map has them.
    pub unknown: Vec<Mapped>,
    /// Whether there may be more.
    pub more: bool,
}

/// What one cell has sent and was not taken yet.
struct Source {
    cell: Arc<CellHandle>,
    ready: VecDeque<(Vec<Value>, Server)>,
    /// Key of the last row it sent.
    last: Option<Vec<Value>>,
    exhausted: bool,
    failed: bool,
}

/// Rows asked of a cell at once, at least.
const LEAST_BATCH: usize = 50;

/// Where a page begins.
enum Start {
    First,
    After(Vec<Value>),
    /// The marker is in a cell that does not answer: all known servers came before it.
    AfterUnknown(Mapped),
}

impl Compute {
    pub(crate) async fn list_servers(&self, query: &ListQuery) -> Result<ServerPage> {
        let cells = self.cells.all();
        let after = match self.start(query).await? {
            Start::First => None,
            Start::After(key) => Some(key),
            Start::AfterUnknown(marker) => {
                let down = self.cells_down(&cells).await;
                let (unknown, more) = self.unknown(query, &down, Some(&marker), query.limit).await?;
                return Ok(ServerPage { servers: Vec::new(), unknown, more });
            }
        };
        // With many cells a page is spread over them; what one has more of is asked for when it is needed.
        let share = query.limit / cells.len().saturating_sub(1).max(1);
        let batch = (share + share / 10 + 1).max(LEAST_BATCH).min(query.limit + 1);
        let mut sources: Vec<Source> = cells
            .into_iter()
            .map(|cell| Source { cell, ready: VecDeque::new(), last: after.clone(), exhausted: false, failed: false })
            .collect();
        // First what is on its way, then the cells: a server that moves meanwhile is seen twice and not never.
        let mut building = self.building(query, after.as_deref()).await?;
        join_all(sources.iter_mut().map(|source| self.refill(source, query, batch))).await;
        let mut page = ServerPage { servers: Vec::new(), unknown: Vec::new(), more: false };
        let mut taken_building = HashSet::new();
        while let Some((cell, server)) = self.next(&mut sources, &mut building, query, batch).await {
            if cell.is_none() {
                taken_building.insert(server.id);
            } else if taken_building.contains(&server.id) {
                continue;
            }
            if page.servers.len() == query.limit {
                page.more = true;
                break;
            }
            page.servers.push((cell, server));
        }
        let down: Vec<CellId> = sources.iter().filter(|source| source.failed).map(|source| source.cell.id).collect();
        if !down.is_empty() && !page.more {
            let left = query.limit - page.servers.len();
            (page.unknown, page.more) = self.unknown(query, &down, None, left).await?;
        }
        Ok(page)
    }

    /// Takes the first in order of what all have, asking a cell again whose part is used up.
    async fn next(
        &self,
        sources: &mut [Source],
        building: &mut VecDeque<(Vec<Value>, Server)>,
        query: &ListQuery,
        batch: usize,
    ) -> Option<(Option<CellId>, Server)> {
        for source in sources.iter_mut() {
            while source.ready.is_empty() && !source.exhausted && !source.failed {
                self.refill(source, query, batch).await;
            }
        }
        let mut best: Option<(usize, &[Value])> = None;
        for (at, source) in sources.iter().enumerate() {
            let Some((key, _)) = source.ready.front() else {
                continue;
            };
            if best.is_none_or(|(_, known)| query.order.compare(key, known).is_lt()) {
                best = Some((at, key));
            }
        }
        if let Some((key, _)) = building.front()
            && best.is_none_or(|(_, known)| query.order.compare(key, known).is_lt())
        {
            return building.pop_front().map(|(_, server)| (None, server));
        }
        let (at, _) = best?;
        let source = &mut sources[at];
        let (_, server) = source.ready.pop_front()?;
        building.retain(|(_, twin)| twin.id != server.id);
        Some((Some(source.cell.id), server))
    }

    async fn refill(&self, source: &mut Source, query: &ListQuery, batch: usize) {
        let db = &source.cell.db;
        let after = source.last.as_deref();
        let reading = async {
            read!(db, "list servers", |tx| server_list::list(tx, &query.filter, &query.order, after, batch).await)
        };
        match self.in_time(reading).await {
            Ok(rows) => {
                source.exhausted = rows.len() < batch;
                if let Some(last) = rows.last() {
                    source.last = Some(query.order.key(last));
                }
                source.ready.reserve(rows.len());
                for server in rows {
                    let key = query.order.key(&server);
                    if query.name.as_ref().is_none_or(|name| name.matches(&server.state.name)) {
                        source.ready.push_back((key, server));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(cell = source.cell.name, cause = error.cause(), "a cell is left out of a list: {error}");
                source.failed = true;
            }
        }
    }

    async fn building(&self, query: &ListQuery, after: Option<&[Value]>) -> Result<VecDeque<(Vec<Value>, Server)>> {
        let requests =
            read!(self.db, "list build requests", |tx| build_requests::list(tx, &query.filter.visible).await)?;
        let mut passing: Vec<(Vec<Value>, Server)> = requests
            .into_iter()
            .filter(|server| query.filter.matches(server))
            .filter(|server| query.name.as_ref().is_none_or(|name| name.matches(&server.state.name)))
            .map(|server| (query.order.key(&server), server))
            .filter(|(key, _)| after.is_none_or(|after| query.order.compare(key, after).is_gt()))
            .collect();
        passing.sort_by(|(a, _), (b, _)| query.order.compare(a, b));
        Ok(passing.into())
    }

    async fn start(&self, query: &ListQuery) -> Result<Start> {
        let Some(marker) = query.marker else {
            return Ok(Start::First);
        };
        let not_found = || Error::bad_request(format!("marker [{marker}] not found"));
        let visible = &query.filter.visible;
        let mapped = read!(self.db, "find marker", |tx| server_map::get(tx, marker, visible).await)?;
        let mapped = mapped.ok_or_else(not_found)?;
        let server = match mapped.cell {
            None => {
                read!(self.db, "find marker", |tx| build_requests::get(tx, marker).await)?.map(|request| request.server)
            }
            Some(cell) => {
                let cell = self.cells.get(cell).ok_or_else(not_found)?;
                let reading = async { read!(cell.db, "find marker", |tx| servers::get(tx, marker, visible).await) };
                match self.in_time(reading).await {
                    Ok(server) => server,
                    Err(error) if is_down(&error) => return Ok(Start::AfterUnknown(mapped)),
                    Err(error) => return Err(error),
                }
            }
        };
        server.map(|server| Start::After(query.order.key(&server))).ok_or_else(not_found)
    }

    /// The servers of these cells as the map has them, after the marker, and whether there are more.
    async fn unknown(
        &self,
        query: &ListQuery,
        cells: &[CellId],
        after: Option<&Mapped>,
        limit: usize,
    ) -> Result<(Vec<Mapped>, bool)> {
        let Some(visible) = query.for_the_map() else {
            return Ok((Vec::new(), false));
        };
        let mut rows = read!(self.db, "servers of cells that are down", |tx| {
            server_map::of_cells(tx, cells, &visible, after, limit + 1).await
        })?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok((rows, more))
    }

    async fn cells_down(&self, cells: &[Arc<CellHandle>]) -> Vec<CellId> {
        let asked = cells.iter().map(|cell| async {
            let reading = async { read!(cell.db, "is the cell there", |tx| servers::any(tx).await) };
            (cell.id, self.in_time(reading).await.is_err())
        });
        join_all(asked).await.into_iter().filter(|(_, down)| *down).map(|(id, _)| id).collect()
    }

    /// The answer of a cell, or that it is late.
    pub(crate) async fn in_time<T>(&self, reading: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.config.cell_deadline(), reading)
            .await
            .unwrap_or_else(|_| Err(Error::new(Kind::Timeout, "The cell did not answer in time.")))
    }
}

/// Whether a cell that fails so may be back later.
pub(crate) fn is_down(error: &Error) -> bool {
    matches!(error.kind(), Kind::Timeout | Kind::Unavailable | Kind::Busy | Kind::Internal)
}

impl ListQuery {
    /// Whose servers to list of those that only the map knows; `None` where a filter asks for what it does not.
    fn for_the_map(&self) -> Option<Visible> {
        let ServerFilter { visible, equal, .. } = &self.filter;
        let plain = self.name.is_none()
            && self.filter.statuses.is_none()
            && self.filter.vm_states.is_none()
            && self.filter.deleted != Deleted::Only
            && self.filter.changes_since.is_none()
            && self.filter.changes_before.is_none()
            && self.filter.metadata.is_empty()
            && [&self.filter.tags, &self.filter.tags_any, &self.filter.not_tags, &self.filter.not_tags_any]
                .iter()
                .all(|tags| tags.is_empty());
        match equal.as_slice() {
            _ if !plain => None,
            [] => Some(visible.clone()),
            [(Field::ProjectId, Value::Text(Some(project)))] => Some(Visible::Project(project.clone())),
            _ => None,
        }
    }
}
