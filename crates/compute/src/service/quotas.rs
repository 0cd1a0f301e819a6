//! Quotas. Servers are counted, not reserved: a new one is written in the transaction that counts those there are, under
//! a lock per project, so that what is used is always exactly what is there.

use std::collections::BTreeMap;

use umbel_api::compute::quotas::RESOURCES;
use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, read, tx};

use super::Compute;
use crate::Api;
use crate::store::quotas::Limits;
use crate::store::{keypairs, quotas, server_map};

/// The class whose limits hold for all projects without limits of their own.
pub(crate) const DEFAULT_CLASS: &str = "default";

/// What is asked for beyond what is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub instances: u64,
    pub cores: u64,
    pub memory_mib: u64,
}

impl Compute {
    fn built_in(&self) -> Limits {
        let configured = |name: &str| self.config.quota.get(name).copied();
        RESOURCES.iter().map(|one| (one.name.to_owned(), configured(one.name).unwrap_or(one.default))).collect()
    }

    async fn limits_in(&self, tx: &mut Tx<Api>, project_id: &str, user_id: Option<&str>) -> Result<Limits> {
        let mut limits = self.built_in();
        limits.extend(quotas::of_class(tx, DEFAULT_CLASS).await?);
        limits.extend(quotas::of_project(tx, project_id, None).await?);
        if user_id.is_some() {
            limits.extend(quotas::of_project(tx, project_id, user_id).await?);
        }
        Ok(limits)
    }

    /// The limits that hold for a project, or for a user in it.
    pub(crate) async fn limits(&self, project_id: &str, user_id: Option<&str>) -> Result<Limits> {
        read!(self.db, "limits", |tx| self.limits_in(tx, project_id, user_id).await)
    }

    /// The limits of a project that has none of its own.
    pub(crate) async fn default_limits(&self) -> Result<Limits> {
        let mut limits = self.built_in();
        limits.extend(read!(self.db, "default limits", |tx| quotas::of_class(tx, DEFAULT_CLASS).await)?);
        Ok(limits)
    }

    pub(crate) async fn class_limits(&self, class: &str) -> Result<Limits> {
        let mut limits = self.built_in();
        limits.extend(read!(self.db, "class limits", |tx| quotas::of_class(tx, class).await)?);
        Ok(limits)
    }

    /// What the project uses, by resource; resources that are not counted are 0.
    pub(crate) async fn usage(&self, project_id: &str, user_id: Option<&str>) -> Result<BTreeMap<&'static str, u64>> {
        let (usage, keys) = read!(self.db, "usage", |tx| {
            let keys = match user_id {
                Some(user) => keypairs::count(tx, user).await?,
                None => 0,
            };
            Ok((server_map::usage(tx, project_id).await?, keys))
        })?;
        let mut by_name: BTreeMap<&'static str, u64> = RESOURCES.iter().map(|one| (one.name, 0)).collect();
        by_name.insert("instances", usage.instances);
        by_name.insert("cores", usage.cores);
        by_name.insert("ram", usage.memory_mib);
        by_name.insert("key_pairs", keys);
        Ok(by_name)
    }

    /// Sets limits of a project. A limit below what is used is refused unless it is forced.
    pub(crate) async fn set_limits(
        &self,
        project_id: &str,
        user_id: Option<&str>,
        limits: &BTreeMap<&'static str, i64>,
        force: bool,
    ) -> Result<()> {
        tx!(self.db, "set limits", |tx| {
            let usage = server_map::usage(tx, project_id).await?;
            for (resource, limit) in limits {
                let used = match *resource {
                    "instances" => usage.instances,
                    "cores" => usage.cores,
                    "ram" => usage.memory_mib,
                    _ => 0,
                };
                if !force && *limit >= 0 && used > limit.unsigned_abs() {
                    return Err(Error::bad_request(format!(
                        "Quota limit {limit} for {resource} must be greater than or equal to already used and \
                         reserved {used}."
                    )));
                }
                quotas::set(tx, project_id, user_id, resource, *limit).await?;
            }
            Ok(())
        })
    }

    pub(crate) async fn clear_limits(&self, project_id: &str, user_id: Option<&str>) -> Result<()> {
        tx!(self.db, "clear limits", |tx| quotas::clear(tx, project_id, user_id).await)
    }

    pub(crate) async fn set_class_limits(&self, class: &str, limits: &BTreeMap<&'static str, i64>) -> Result<()> {
        tx!(self.db, "set class limits", |tx| {
            for (resource, limit) in limits {
                quotas::set_class(tx, class, resource, *limit).await?;
            }
            Ok(())
        })
    }

    /// How many of `max` servers of this size the project may still have, at least `min`; 403 with the resource that
    /// forbids it. Holds the project's lock until the transaction ends.
    pub(super) async fn admit(
        &self,
        tx: &mut Tx<Api>,
        project_id: &str,
        one: Ask,
        (min, max): (u64, u64),
    ) -> Result<u64> {
        quotas::lock(tx, project_id).await?;
        let limits = self.limits_in(tx, project_id, None).await?;
        let usage = server_map::usage(tx, project_id).await?;
        let checks = [
            ("instances", one.instances, usage.instances),
            ("cores", one.cores, usage.cores),
            ("ram", one.memory_mib, usage.memory_mib),
        ];
        let (mut allowed, mut over) = (max, Vec::new());
        for (resource, each, used) in checks {
            let Ok(limit) = u64::try_from(limits.get(resource).copied().unwrap_or(-1)) else {
                continue;
            };
            let fit = limit.saturating_sub(used).checked_div(each).unwrap_or(max);
            if fit < min {
                over.push(Over { resource, asked: each * min, used, limit });
            }
            allowed = allowed.min(fit);
        }
        match over.is_empty() {
            true => Ok(allowed),
            false => Err(exceeded(&over)),
        }
    }
}

/// A resource of which there is too little left.
struct Over {
    resource: &'static str,
    asked: u64,
    used: u64,
    limit: u64,
}

/// As upstream words it, all resources in one sentence: `Quota exceeded for cores: Requested 4, but already used 18 of
/// 20 cores`.
fn exceeded(over: &[Over]) -> Error {
    let join = |texts: Vec<String>| texts.join(", ");
    let names = join(over.iter().map(|one| one.resource.to_owned()).collect());
    let asked = join(over.iter().map(|one| one.asked.to_string()).collect());
    let used = join(over.iter().map(|one| one.used.to_string()).collect());
    let limit = join(over.iter().map(|one| one.limit.to_string()).collect());
    Error::new(
        Kind::OverQuota,
        format!("Quota exceeded for {names}: Requested {asked}, but already used {used} of {limit} {names}"),
    )
}

/// How many are allowed of what is counted one by one (metadata items, keys).
pub(crate) fn allows(limits: &Limits, resource: &str, count: u64) -> bool {
    match u64::try_from(limits.get(resource).copied().unwrap_or(-1)) {
        Ok(limit) => count <= limit,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_all_that_is_over() {
        let over = |resource, asked, used, limit| Over { resource, asked, used, limit };
        let error = exceeded(&[over("cores", 4, 18, 20)]);
        assert_eq!(error.message(), "Quota exceeded for cores: Requested 4, but already used 18 of 20 cores");
        assert_eq!(error.kind().status(), 403);
        let error = exceeded(&[over("instances", 1, 10, 10), over("ram", 512, 51_200, 51_200)]);
        assert_eq!(
            error.message(),
            "Quota exceeded for instances, ram: Requested 1, 512, but already used 10, 51200 of 10, 51200 instances, ram"
        );
    }
}
