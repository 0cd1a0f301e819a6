//! What takes longer than a request. A flow's id is that of what it works on.

pub(crate) mod backup_create;
pub(crate) mod backup_delete;
pub(crate) mod backup_restore;
mod backup_work;
pub(crate) mod convert;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod extend;
pub(crate) mod flatten;
pub(crate) mod group_create;
pub(crate) mod group_snapshot;
pub(crate) mod live_move;
pub(crate) mod manage;
pub(crate) mod reimage;
pub(crate) mod relocate;
pub(crate) mod revert;
pub(crate) mod snapshot;
pub(crate) mod snapshot_together;
pub(crate) mod start;
pub(crate) mod upload;

use std::sync::Arc;

use umbel_workflow::Runner;

use crate::Volumes;
use crate::store::Volume;

/// A runner that knows every flow.
pub(crate) fn all(runner: Runner<Volume>, state: &Arc<Volumes>) -> Runner<Volume> {
    let runner = create::add(runner, state);
    let runner = manage::add(runner, state);
    let runner = upload::add(runner, state);
    let runner = relocate::add(runner, state);
    let runner = live_move::add(runner, state);
    let runner = reimage::add(runner, state);
    let runner = delete::add(runner, state);
    let runner = extend::add(runner, state);
    let runner = flatten::add(runner, state);
    let runner = revert::add(runner, state);
    let runner = group_create::add(runner, state);
    let runner = group_snapshot::add(runner, state);
    let runner = backup_create::add(runner, state);
    let runner = backup_delete::add(runner, state);
    let runner = backup_restore::add(runner, state);
    let runner = snapshot_together::add(runner, state);
    snapshot::add(runner, state)
}
