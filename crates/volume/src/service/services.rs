//! The daemons as operators know them. One process is all of them: it reports as a scheduler, as a backup service and
//! as one `cinder-volume` for each backend. What an operator decides about them holds for all processes alike.

use std::collections::BTreeSet;

use umbel_core::{Error, Result, Timestamp};
use umbel_db::{read, tx};

use crate::Volumes;
use crate::store::services::{self, ServiceRow};

pub(crate) const VOLUME: &str = "cinder-volume";
pub(crate) const SCHEDULER: &str = "cinder-scheduler";
pub(crate) const BACKUP: &str = "cinder-backup";

/// What an operator decides.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Enable,
    Disable(Option<String>),
    Freeze,
    Thaw,
}

impl Volumes {
    /// `umbel@fast`.
    pub(crate) fn service_host(&self, backend: &str) -> String {
        format!("{}@{backend}", self.config.host)
    }

    fn own_services(&self) -> Vec<(String, &'static str)> {
        let backends = self.backends.iter().map(|backend| (self.service_host(&backend.name), VOLUME));
        let others = [SCHEDULER, BACKUP].map(|binary| (self.config.host.clone(), binary));
        backends.chain(others).collect()
    }

    /// This process is there: for all who look into the database.
    pub(crate) async fn report_services(&self) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "report services", |tx| {
            for (host, binary) in self.own_services() {
                services::report(tx, &host, binary, now).await?;
            }
            Ok(())
        })
    }

    /// All services. Those of the process that answers are up, as it answers.
    pub(crate) async fn services(&self) -> Result<Vec<ServiceRow>> {
        self.report_services().await?;
        read!(self.db, "list services", |tx| services::list(tx).await)
    }

    pub(crate) fn service_is_up(&self, service: &ServiceRow, now: Timestamp) -> bool {
        now.since(service.seen_at).as_secs() <= self.config.service_down_seconds
    }

    /// Names of backends that take nothing new: an operator disabled or froze them.
    pub(crate) async fn closed_backends(&self) -> Result<BTreeSet<String>> {
        let all = read!(self.db, "look for closed backends", |tx| services::list(tx).await)?;
        let closed = all.into_iter().filter(|one| one.binary == VOLUME && (one.disabled || one.frozen));
        Ok(closed.filter_map(|one| one.host.split_once('@').map(|(_, backend)| backend.to_owned())).collect())
    }

    /// 404 if there is no such service.
    pub(crate) async fn decide(&self, host: &str, binary: &str, decision: &Decision) -> Result<ServiceRow> {
        let now = self.clock.now();
        let all = self.services().await?;
        let found = all.into_iter().find(|one| one.host == host && one.binary == binary);
        let mut after =
            found.ok_or_else(|| Error::not_found(format!("Service {binary} could not be found on host {host}.")))?;
        match decision {
            Decision::Enable => (after.disabled, after.disabled_reason) = (false, None),
            Decision::Disable(reason) => (after.disabled, after.disabled_reason) = (true, reason.clone()),
            Decision::Freeze => after.frozen = true,
            Decision::Thaw => after.frozen = false,
        }
        after.modified_at = Some(now);
        tx!(self.db, "change a service", |tx| services::update(tx, &after).await)?;
        Ok(after)
    }
}
