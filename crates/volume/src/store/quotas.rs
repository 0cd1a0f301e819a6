//! What projects may have, and what they have.

use umbel_core::Result;
use umbel_db::Tx;

use super::Volume;
use crate::Config;

/// What is about to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub volumes: u64,
    pub gigabytes: u64,
    pub snapshots: u64,
    pub backups: u64,
    pub backup_gigabytes: u64,
    pub groups: u64,
}

/// Refuses what the project may not have. In the transaction that adds it.
pub async fn charge(
    _tx: &mut Tx<Volume>,
    _config: &Config,
    _project_id: &str,
    _volume_type: Option<&str>,
    _delta: Delta,
) -> Result<()> {
    Ok(())
}
