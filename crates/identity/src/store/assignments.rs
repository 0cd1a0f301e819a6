use umbel_core::{Error, Result};
use umbel_db::{Row, Sql, args};

use super::{Tx, select_in};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ActorKind {
    User,
    Group,
}

impl ActorKind {
    pub fn name(self) -> &'static str {
        match self {
            ActorKind::User => "user",
            ActorKind::Group => "group",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    Project,
    Domain,
    System,
}

impl TargetKind {
    pub fn name(self) -> &'static str {
        match self {
            TargetKind::Project => "project",
            TargetKind::Domain => "domain",
            TargetKind::System => "system",
        }
    }

    pub fn read(row: &Row) -> Result<Self> {
        match row.text("target_kind")?.as_str() {
            "project" => Ok(TargetKind::Project),
            "domain" => Ok(TargetKind::Domain),
            "system" => Ok(TargetKind::System),
            other => Err(Error::internal(format!("an assignment's target is a {other}"))),
        }
    }
}

/// The id of the one target that has none.
pub(crate) const SYSTEM: &str = "system";

/// One role of one actor on one target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AssignmentRow {
    pub actor_kind: ActorKind,
    pub actor_id: String,
    pub target_kind: TargetKind,
    pub target_id: String,
    pub role_id: String,
    /// Good on the projects below the target, not on the target itself.
    pub inherited: bool,
}

impl AssignmentRow {
    fn read(row: &Row) -> Result<Self> {
        let actor_kind = match row.text("actor_kind")?.as_str() {
            "user" => ActorKind::User,
            _ => ActorKind::Group,
        };
        Ok(AssignmentRow {
            actor_kind,
            actor_id: row.text("actor_id")?,
            target_kind: TargetKind::read(row)?,
            target_id: row.text("target_id")?,
            role_id: row.text("role_id")?,
            inherited: row.bool("inherited")?,
        })
    }
}

const SELECT: &str = "SELECT actor_kind, actor_id, target_kind, target_id, role_id, inherited FROM assignments";

pub(crate) async fn exists(tx: &mut Tx, row: &AssignmentRow) -> Result<bool> {
    let sql = "SELECT role_id FROM assignments \
        WHERE actor_id = ? AND target_id = ? AND role_id = ? AND inherited = ? AND target_kind = ?";
    let found = tx
        .fetch_opt(sql, args![&row.actor_id, &row.target_id, &row.role_id, row.inherited, row.target_kind.name()])
        .await?;
    Ok(found.is_some())
}

/// Does nothing where it stands already.
pub(crate) async fn insert(tx: &mut Tx, row: &AssignmentRow) -> Result<()> {
    tx.execute(
        "INSERT IGNORE INTO assignments (actor_id, target_id, role_id, inherited, actor_kind, target_kind) \
         VALUES (?, ?, ?, ?, ?, ?)",
        args![
            &row.actor_id,
            &row.target_id,
            &row.role_id,
            row.inherited,
            row.actor_kind.name(),
            row.target_kind.name()
        ],
    )
    .await?;
    Ok(())
}

/// Whether there was one.
pub(crate) async fn delete(tx: &mut Tx, row: &AssignmentRow) -> Result<bool> {
    let sql = "DELETE FROM assignments \
        WHERE actor_id = ? AND target_id = ? AND role_id = ? AND inherited = ? AND target_kind = ?";
    let values = args![&row.actor_id, &row.target_id, &row.role_id, row.inherited, row.target_kind.name()];
    Ok(tx.execute(sql, values).await? > 0)
}

/// The grants of one actor on one target.
pub(crate) async fn of_pair(
    tx: &mut Tx,
    actor_id: &str,
    target_kind: TargetKind,
    target_id: &str,
    inherited: bool,
) -> Result<Vec<String>> {
    let sql = "SELECT role_id FROM assignments \
        WHERE actor_id = ? AND target_id = ? AND target_kind = ? AND inherited = ? ORDER BY role_id";
    let rows = tx.fetch_all(sql, args![actor_id, target_id, target_kind.name(), inherited]).await?;
    rows.iter().map(|row| row.text("role_id")).collect()
}

/// All, or those of these actors.
pub(crate) async fn list(tx: &mut Tx, actor_ids: Option<&[String]>) -> Result<Vec<AssignmentRow>> {
    let rows = match actor_ids {
        Some(ids) => select_in(tx, SELECT, "actor_id", ids).await?,
        None => tx.select(Sql::new(SELECT)).await?,
    };
    let mut all: Vec<AssignmentRow> = rows.iter().map(AssignmentRow::read).collect::<Result<_>>()?;
    all.sort();
    Ok(all)
}

/// Those of these roles.
pub(crate) async fn of_roles(tx: &mut Tx, role_ids: &[String]) -> Result<Vec<AssignmentRow>> {
    select_in(tx, SELECT, "role_id", role_ids).await?.iter().map(AssignmentRow::read).collect()
}
