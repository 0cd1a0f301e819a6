//! Shutting out a process that somebody else goes on for.
//!
//! A process that stood still, or was cut off from its database, may go on in the middle of a call, long after another one
//! took its work over: it would remove the disk that was made in its place, or roll back what was written since. So each
//! process enters its clients into the roll of every pool that it opens, under a name that its work carries too, and whoever takes
//! that work over first has the cluster refuse those clients. What they ask for from then on fails, and they know it.

use std::sync::Arc;

use umbel_core::Result;

use crate::errno::{EACCES, EDQUOT, ENOSPC, EPERM, EROFS, Failed};
use crate::ffi::{Connection, IoCtx};
use crate::pool::CephName;

/// Who works with a connection.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Its name on the rolls; none: it is not entered.
    pub process: Option<String>,
    /// Addresses of clients that are shut out already, whose entries can go.
    pub gone: Vec<String>,
}

/// Enters the connection's client, the first time that it opens the pool. Blocks.
pub fn enroll(pool: &IoCtx, worker: &Worker) -> Result<(), Failed> {
    let Some(process) = &worker.process else { return Ok(()) };
    pool.enrolled_once(|pool| match pool.enroll(process) {
        Ok(()) => {
            strike_off(pool, |address| worker.gone.iter().any(|gone| gone == address));
            Ok(true)
        }
        // Who may not write there can do no harm there.
        Err(failed) if [EPERM, EACCES, EROFS].contains(&failed.errno) => Ok(true),
        // It must be possible to empty a full pool. It is tried again with the next call.
        Err(failed) if [ENOSPC, EDQUOT].contains(&failed.errno) => {
            tracing::debug!(pool = pool.name(), error = %failed, "a client works in a pool that has not got it on its roll");
            Ok(false)
        }
        Err(failed) => Err(failed),
    })
}

/// Has the cluster refuse all clients of `process` but the connection's own. Blocks.
pub fn shut_out(connection: &Arc<Connection>, ceph: &CephName, process: &str) -> Result<()> {
    let about = |failed: Failed| failed.about(&format!("Pool '{}'", ceph.0));
    let pool = ceph.open(connection)?;
    let own = connection.address().map_err(about)?;
    let enrolled = match pool.enrolled() {
        // Nor could that process: it is one with the same role, and so with the same user.
        Err(failed) if [EPERM, EACCES].contains(&failed.errno) => return Ok(()),
        enrolled => enrolled.map_err(about)?,
    };
    let others = enrolled.into_iter().filter(|entry| entry.process == process && entry.address != own);
    let addresses: Vec<_> = others.map(|entry| entry.address).collect();
    connection.shut_out(&addresses).map_err(about)?;
    if !addresses.is_empty() {
        tracing::info!(process, pool = %ceph.0, clients = ?addresses, "shut out of the cluster: its work was taken over");
    }
    strike_off(&pool, |address| addresses.iter().any(|gone| gone == address));
    Ok(())
}

/// An entry that stays is refused once more some day, at no cost.
fn strike_off(pool: &IoCtx, is_gone: impl Fn(&str) -> bool) {
    let gone = pool.enrolled().map(|entries| entries.into_iter().filter(|entry| is_gone(&entry.address)));
    let struck = gone.and_then(|mut gone| gone.try_for_each(|entry| pool.strike_off(&entry)));
    if let Err(failed) = struck {
        tracing::debug!(pool = pool.name(), error = %failed, "entries of clients that are gone stay on the roll");
    }
}
