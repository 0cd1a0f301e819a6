//! Which servers a list shows, and in which order: as SQL for the rows of a cell, and as a predicate for build requests,
//! which are few and in no cell. Both say the same; a test holds them to it.

use std::cmp::Ordering;

use umbel_auth::Visible;
use umbel_core::{Result, Timestamp};
use umbel_db::{Direction, Sql, Tx, Value, args};

use super::servers::{SELECT, read};
use crate::Cell;
use crate::model::{Life, Server, Status, Task, VmState, project};

#[derive(Clone, Debug)]
pub struct ServerFilter {
    pub visible: Visible,
    pub equal: Vec<(Field, Value)>,
    /// `LIKE` patterns for the name in lower case; a match here is only a candidate.
    pub name_like: Option<String>,
    /// Any of these; none for all.
    pub statuses: Option<Vec<Status>>,
    pub vm_states: Option<Vec<String>>,
    pub deleted: Deleted,
    pub changes_since: Option<Timestamp>,
    pub changes_before: Option<Timestamp>,
    /// All of them.
    pub tags: Vec<String>,
    /// One of them, where there are any.
    pub tags_any: Vec<String>,
    /// Not all of them, where there are any.
    pub not_tags: Vec<String>,
    /// None of them.
    pub not_tags_any: Vec<String>,
    pub metadata: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    No,
    Only,
    Any,
}

/// A column that a list can be filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Id,
    ProjectId,
    UserId,
    ReservationId,
    ImageId,
    FlavorId,
    Host,
    Hostname,
    Zone,
    KeyName,
    ConfigDrive,
    Locked,
    LaunchIndex,
    PowerState,
    TaskState,
    Description,
    CreatedAt,
    LaunchedAt,
    TerminatedAt,
}

impl Field {
    pub const ALL: &'static [Field] = &[
        Field::Id,
        Field::ProjectId,
        Field::UserId,
        Field::ReservationId,
        Field::ImageId,
        Field::FlavorId,
        Field::Host,
        Field::Hostname,
        Field::Zone,
        Field::KeyName,
        Field::ConfigDrive,
        Field::Locked,
        Field::LaunchIndex,
        Field::PowerState,
        Field::TaskState,
        Field::Description,
        Field::CreatedAt,
        Field::LaunchedAt,
        Field::TerminatedAt,
    ];

    fn column(self) -> &'static str {
        match self {
            Field::Id => "id",
            Field::ProjectId => "project_id",
            Field::UserId => "user_id",
            Field::ReservationId => "reservation_id",
            Field::ImageId => "image_id",
            Field::FlavorId => "flavor_id",
            Field::Host => "host",
            Field::Hostname => "hostname",
            Field::Zone => "zone",
            Field::KeyName => "key_name",
            Field::ConfigDrive => "config_drive",
            Field::Locked => "locked",
            Field::LaunchIndex => "launch_index",
            Field::PowerState => "power_state",
            Field::TaskState => "task_state",
            Field::Description => "description",
            Field::CreatedAt => "created_at",
            Field::LaunchedAt => "launched_at",
            Field::TerminatedAt => "terminated_at",
        }
    }

    /// What the column holds of a server.
    pub fn of(self, server: &Server) -> Value {
        let (spec, state) = (&server.spec, &server.state);
        match self {
            Field::Id => Value::from(server.id),
            Field::ProjectId => Value::from(&spec.project_id),
            Field::UserId => Value::from(&spec.user_id),
            Field::ReservationId => Value::from(&spec.reservation_id),
            Field::ImageId => Value::from(spec.image.as_ref().map_or("", |image| &image.id)),
            Field::FlavorId => Value::from(&spec.flavor.id),
            Field::Host => Value::from(state.host.as_ref().map_or("", |host| &host.name)),
            Field::Hostname => Value::from(&state.hostname),
            Field::Zone => Value::from(state.zone.as_deref().unwrap_or("")),
            Field::KeyName => Value::from(spec.key.as_ref().map_or("", |key| &key.name)),
            Field::ConfigDrive => Value::from(spec.config_drive),
            Field::Locked => Value::from(state.locked.is_some()),
            Field::LaunchIndex => Value::from(spec.launch_index),
            Field::PowerState => Value::from(u32::from(project(server).power_state)),
            Field::TaskState => Value::from(state.task.map_or("", Task::name)),
            Field::Description => Value::from(state.description.as_deref().unwrap_or("")),
            Field::CreatedAt => Value::from(spec.created_at),
            Field::LaunchedAt => Value::from(state.launched_at.unwrap_or_default()),
            Field::TerminatedAt => Value::from(state.terminated_at.unwrap_or_default()),
        }
    }
}

/// A column that a list can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    Field(Field),
    Name,
    VmState,
    UpdatedAt,
}

impl SortKey {
    fn column(self) -> &'static str {
        match self {
            SortKey::Field(field) => field.column(),
            SortKey::Name => "name",
            SortKey::VmState => "vm_state",
            SortKey::UpdatedAt => "updated_at",
        }
    }

    fn of(self, server: &Server) -> Value {
        match self {
            SortKey::Field(field) => field.of(server),
            SortKey::Name => Value::from(&server.state.name),
            SortKey::VmState => Value::from(project(server).vm_state.name()),
            SortKey::UpdatedAt => Value::from(server.state.updated_at),
        }
    }
}

/// An order that is total: it ends with the id.
#[derive(Clone, Debug)]
pub struct Order(Vec<(SortKey, Direction)>);

impl Order {
    /// The keys as given, then what upstream adds: when it was made, and its id, in the direction of the first.
    pub fn new(keys: &[(SortKey, Direction)]) -> Self {
        let direction = keys.first().map_or(Direction::Desc, |(_, direction)| *direction);
        let mut all: Vec<(SortKey, Direction)> = Vec::new();
        let added = [(SortKey::Field(Field::CreatedAt), direction), (SortKey::Field(Field::Id), direction)];
        for (key, direction) in keys.iter().copied().chain(added) {
            if all.iter().all(|(known, _)| *known != key) {
                all.push((key, direction));
            }
        }
        Order(all)
    }

    /// Where the server stands in the order.
    pub fn key(&self, server: &Server) -> Vec<Value> {
        self.0.iter().map(|(key, _)| key.of(server)).collect()
    }

    pub fn compare(&self, a: &[Value], b: &[Value]) -> Ordering {
        for ((a, b), (_, direction)) in a.iter().zip(b).zip(&self.0) {
            let order = match (a, b) {
                (Value::Int(a), Value::Int(b)) => a.cmp(b),
                (Value::Text(a), Value::Text(b)) => a.cmp(b),
                _ => Ordering::Equal,
            };
            let order = if *direction == Direction::Desc { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }
}

impl ServerFilter {
    pub fn new(visible: Visible) -> Self {
        ServerFilter {
            visible,
            equal: Vec::new(),
            name_like: None,
            statuses: None,
            vm_states: None,
            deleted: Deleted::No,
            changes_since: None,
            changes_before: None,
            tags: Vec::new(),
            tags_any: Vec::new(),
            not_tags: Vec::new(),
            not_tags_any: Vec::new(),
            metadata: Vec::new(),
        }
    }

    fn sql(&self) -> Sql {
        let mut sql = Sql::new(SELECT);
        if let Visible::Project(project) = &self.visible {
            sql = sql.and("project_id = ?", args![project]);
        }
        match self.deleted {
            Deleted::No => sql = sql.and("deleted = 0", args![]),
            Deleted::Only => sql = sql.and("deleted = 1", args![]),
            Deleted::Any => {}
        }
        for (field, value) in &self.equal {
            sql = sql.and(&format!("{} = ?", field.column()), vec![value.clone()]);
        }
        if let Some(pattern) = &self.name_like {
            sql = sql.and("LOWER(name) LIKE ? ESCAPE '!'", args![pattern]);
        }
        if let Some(statuses) = &self.statuses {
            sql = with_statuses(sql, statuses);
        }
        if let Some(states) = &self.vm_states {
            sql = sql.and_in("vm_state", states);
        }
        if let Some(since) = self.changes_since {
            sql = sql.and("updated_at >= ?", args![since]);
        }
        if let Some(before) = self.changes_before {
            sql = sql.and("updated_at <= ?", args![before]);
        }
        for (item, content) in &self.metadata {
            let condition = "id IN (SELECT server_id FROM server_metadata WHERE item = ? AND content = ?)";
            sql = sql.and(condition, args![item, content]);
        }
        self.with_tags(sql)
    }

    fn with_tags(&self, mut sql: Sql) -> Sql {
        const TAGGED: &str = "id IN (SELECT server_id FROM server_tags WHERE tag = ?)";
        let values = |tags: &[String]| -> Vec<Value> { tags.iter().map(Value::from).collect() };
        for tag in &self.tags {
            sql = sql.and(TAGGED, args![tag]);
        }
        if !self.tags_any.is_empty() {
            sql = sql.and(&vec![TAGGED; self.tags_any.len()].join(" OR "), values(&self.tags_any));
        }
        if !self.not_tags.is_empty() {
            let all = vec![TAGGED; self.not_tags.len()].join(" AND ");
            sql = sql.and(&format!("NOT ({all})"), values(&self.not_tags));
        }
        if !self.not_tags_any.is_empty() {
            let any = vec![TAGGED; self.not_tags_any.len()].join(" OR ");
            sql = sql.and(&format!("NOT ({any})"), values(&self.not_tags_any));
        }
        sql
    }

    /// The same, for a server at hand; all but [`ServerFilter::name_like`], which only preselects.
    pub fn matches(&self, server: &Server) -> bool {
        let (state, shown) = (&server.state, project(server));
        let has = |tag: &String| state.tags.contains(tag);
        let deleted = state.life == Life::Deleted;
        self.visible.allows(&server.spec.project_id)
            && match self.deleted {
                Deleted::No => !deleted,
                Deleted::Only => deleted,
                Deleted::Any => true,
            }
            && self.equal.iter().all(|(field, value)| field.of(server) == *value)
            && self.statuses.as_ref().is_none_or(|statuses| statuses.contains(&shown.status))
            && self.vm_states.as_ref().is_none_or(|states| states.iter().any(|state| state == shown.vm_state.name()))
            && self.changes_since.is_none_or(|since| state.updated_at >= since)
            && self.changes_before.is_none_or(|before| state.updated_at <= before)
            && self.metadata.iter().all(|(item, content)| state.metadata.get(item) == Some(content))
            && self.tags.iter().all(has)
            && (self.tags_any.is_empty() || self.tags_any.iter().any(has))
            && (self.not_tags.is_empty() || !self.not_tags.iter().all(has))
            && !self.not_tags_any.iter().any(has)
    }
}

fn with_statuses(sql: Sql, statuses: &[Status]) -> Sql {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    for status in statuses {
        match status.states() {
            (vm_state, Some(task)) => {
                conditions.push("(vm_state = ? AND task_state = ?)");
                values.extend(args![vm_state.name(), task.name()]);
            }
            (VmState::Active, None) => {
                conditions.push("(vm_state = ? AND task_state NOT IN (?, ?))");
                values.extend(args![VmState::Active.name(), Task::Rebooting.name(), Task::RebootingHard.name()]);
            }
            (vm_state, None) => {
                conditions.push("vm_state = ?");
                values.extend(args![vm_state.name()]);
            }
        }
    }
    match conditions.is_empty() {
        true => sql.and("1 = 0", values),
        false => sql.and(&conditions.join(" OR "), values),
    }
}

/// Up to `limit` servers that pass, in this order, after the one whose key is `after`.
pub async fn list(
    tx: &mut Tx<Cell>,
    filter: &ServerFilter,
    order: &Order,
    after: Option<&[Value]>,
    limit: usize,
) -> Result<Vec<Server>> {
    let columns: Vec<(&str, Direction)> = order.0.iter().map(|(key, direction)| (key.column(), *direction)).collect();
    let mut sql = filter.sql();
    if let Some(after) = after {
        sql = sql.after(&columns, after);
    }
    let rows = tx.select(sql.order(&columns).limit(limit)).await?;
    rows.iter().map(read).collect()
}
