//! Limits that differ from the defaults: of the class `default`, of a project, of a user in a project. What is used is
//! not stored but counted ([`super::server_map::usage`]), under [`lock`].

use std::collections::HashMap;

use umbel_core::Result;
use umbel_db::{Tx, args};

use crate::Api;

/// Limits by the resource's name; -1 for none.
pub type Limits = HashMap<String, i64>;

/// Makes all who add servers to the project wait for each other until the transaction ends.
pub async fn lock(tx: &mut Tx<Api>, project_id: &str) -> Result<()> {
    tx.execute("INSERT IGNORE INTO quota_locks (project_id) VALUES (?)", args![project_id]).await?;
    tx.fetch_one("SELECT project_id FROM quota_locks WHERE project_id = ? FOR UPDATE", args![project_id]).await?;
    Ok(())
}

/// A project's own limits, or with a user those of the user in it.
pub async fn of_project(tx: &mut Tx<Api>, project_id: &str, user_id: Option<&str>) -> Result<Limits> {
    let sql = "SELECT resource, hard_limit FROM quotas WHERE project_id = ? AND user_id = ?";
    limits(tx.fetch_all(sql, args![project_id, user_id.unwrap_or("")]).await?)
}

pub async fn set(tx: &mut Tx<Api>, project_id: &str, user_id: Option<&str>, resource: &str, limit: i64) -> Result<()> {
    let user = user_id.unwrap_or("");
    let sql = "INSERT IGNORE INTO quotas (project_id, user_id, resource, hard_limit) VALUES (?, ?, ?, ?)";
    if tx.execute(sql, args![project_id, user, resource, limit]).await? == 0 {
        let sql = "UPDATE quotas SET hard_limit = ? WHERE project_id = ? AND user_id = ? AND resource = ?";
        tx.execute(sql, args![limit, project_id, user, resource]).await?;
    }
    Ok(())
}

/// Back to the defaults; without a user, those of its users too.
pub async fn clear(tx: &mut Tx<Api>, project_id: &str, user_id: Option<&str>) -> Result<()> {
    match user_id {
        Some(user) => {
            tx.execute("DELETE FROM quotas WHERE project_id = ? AND user_id = ?", args![project_id, user]).await?
        }
        None => tx.execute("DELETE FROM quotas WHERE project_id = ?", args![project_id]).await?,
    };
    Ok(())
}

pub async fn of_class(tx: &mut Tx<Api>, class: &str) -> Result<Limits> {
    limits(tx.fetch_all("SELECT resource, hard_limit FROM quota_classes WHERE class = ?", args![class]).await?)
}

pub async fn set_class(tx: &mut Tx<Api>, class: &str, resource: &str, limit: i64) -> Result<()> {
    let sql = "INSERT IGNORE INTO quota_classes (class, resource, hard_limit) VALUES (?, ?, ?)";
    if tx.execute(sql, args![class, resource, limit]).await? == 0 {
        let sql = "UPDATE quota_classes SET hard_limit = ? WHERE class = ? AND resource = ?";
        tx.execute(sql, args![limit, class, resource]).await?;
    }
    Ok(())
}

fn limits(rows: Vec<umbel_db::Row>) -> Result<Limits> {
    rows.iter().map(|row| Ok((row.text("resource")?, row.int("hard_limit")?))).collect()
}
