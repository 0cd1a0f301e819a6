use umbel_core::{Ctx, Result};
use umbel_db::tx;

use super::policy::{self, in_reach};
use super::projects::not_found;
use super::valid;
use crate::store::projects::ProjectRow;
use crate::{Identity, store};

/// Changes the tags of a project: `change` gets those that stand and gives those that shall.
pub(crate) async fn change(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    change: impl Fn(Vec<String>) -> Result<Vec<String>> + Sync,
) -> Result<Vec<String>> {
    let manages = policy::manages(ctx, policy)?;
    tx!(identity.db, "change project tags", |tx| {
        let found = store::projects::get(tx, id).await?;
        let mut row = in_reach(found, &manages, ProjectRow::owner, policy, || not_found(id))?;
        valid::mutable("project", id, &row.options)?;
        row.tags = change(row.tags)?;
        row.tags.sort();
        row.tags.dedup();
        valid::tags(&row.tags)?;
        store::projects::update(tx, &row).await?;
        Ok(row.tags)
    })
}
