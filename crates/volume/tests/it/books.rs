//! Whether rows, pools and quotas say the same once nothing goes on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use umbel_db::read;
use umbel_volume::store::audit;

use crate::cloud::Cloud;

/// Disks by pool, with their snapshots.
type Disks = BTreeMap<(String, String), BTreeSet<String>>;

/// What rows know: what must be there, and what may be.
#[derive(Default)]
struct Known {
    must: Disks,
    may: Disks,
}

impl Known {
    fn add(&mut self, pool: &str, disk: &str, snapshot: Option<String>, expected: bool) {
        let at = (pool.to_owned(), disk.to_owned());
        self.may.entry(at.clone()).or_default().extend(snapshot.clone());
        if expected {
            self.must.entry(at).or_default().extend(snapshot);
        }
    }
}

/// Compares them both ways: everything in the pools has a row, and everything that a row promises is in a pool. No flow
/// is left, nothing is on its way anywhere, and each project is charged for what it has.
pub async fn check(cloud: &Cloud, place: &str) {
    let left = read!(cloud.db, "look for flows", |tx| umbel_workflow::under_way(tx).await).unwrap();
    assert!(left.is_empty(), "{place}: {left:?}");
    let (known, pools) = (known(cloud).await, pools(cloud).await);
    for (at, snapshots) in &pools {
        let may = known.may.get(at);
        if at.1 == crate::flows::THEIRS {
            continue;
        }
        assert!(may.is_some(), "{place}: nobody's disk {at:?}");
        let strays: Vec<_> = snapshots.difference(may.unwrap()).filter(|name| *name != crate::flows::THEIRS).collect();
        assert!(strays.is_empty(), "{place}: nobody's snapshots {strays:?} of {at:?}");
    }
    for (at, snapshots) in &known.must {
        let there = pools.get(at);
        assert!(there.is_some(), "{place}: the disk {at:?} is lost");
        let lost: Vec<_> = snapshots.difference(there.unwrap()).collect();
        assert!(lost.is_empty(), "{place}: the snapshots {lost:?} of {at:?} are lost");
    }
    for pool in [&cloud.pool, &cloud.second] {
        let hidden = pool.hidden().await.unwrap();
        assert!(hidden.iter().all(|one| !one.free), "{place}: {hidden:?}");
    }
    settled(cloud, place).await;
    charged(cloud, place).await;
}

async fn known(cloud: &Cloud) -> Known {
    let (disks, backups) =
        read!(cloud.db, "audit", |tx| Ok((audit::disks(tx).await?, audit::backups(tx).await?))).unwrap();
    let mut known = Known::default();
    let mut places = BTreeMap::new();
    for row in disks {
        places.insert(row.id.clone(), (row.backend.clone(), row.disk.clone()));
        known.add(&row.backend, &row.disk, row.snapshot, row.expected);
    }
    for row in backups {
        if let Some((volume, snapshot)) = row.source
            && let Some((pool, disk)) = places.get(&volume)
        {
            known.add(pool, disk, Some(snapshot), false);
        }
        let Some(pool) = row.target.strip_prefix("pool:") else { continue };
        let disk = format!("volume-{}.backup.{}", row.volume, row.base);
        known.add(pool, &disk, Some(format!("backup.{}", row.data)), row.expected);
    }
    known
}

async fn pools(cloud: &Cloud) -> Disks {
    let mut all = Disks::new();
    for pool in [&cloud.pool, &cloud.second] {
        for disk in pool.list().await.unwrap() {
            let snapshots = pool.stat(&disk).await.unwrap().unwrap().snapshots;
            all.insert((pool.name().to_owned(), disk), snapshots.into_iter().collect());
        }
    }
    all
}

async fn list(cloud: &Cloud, path: &str, name: &str) -> Vec<Value> {
    let answer = cloud.get(&cloud.admin(), &format!("{path}/detail?all_tenants=1")).await.expect(200);
    answer[name].as_array().unwrap().clone()
}

/// Nothing is in a status that something would have to end.
async fn settled(cloud: &Cloud, place: &str) {
    let at_rest = ["available", "in-use", "reserved", "awaiting-transfer"];
    for (path, name) in [
        ("/volumes", "volumes"),
        ("/snapshots", "snapshots"),
        ("/backups", "backups"),
        ("/groups", "groups"),
        ("/group_snapshots", "group_snapshots"),
    ] {
        for one in list(cloud, path, name).await {
            let status = one["status"].as_str().unwrap();
            assert!(at_rest.contains(&status) || status.starts_with("error"), "{place}: {path} is {status}");
            let migration = one["migration_status"].as_str().or(one["os-vol-mig-status-attr:migstat"].as_str());
            assert!(!matches!(migration, Some("starting" | "migrating" | "completing")), "{place}: {one}");
        }
    }
}

async fn charged(cloud: &Cloud, place: &str) {
    let (mut have, admin) = (BTreeMap::<&str, u64>::new(), cloud.admin());
    let of_p = |one: &&Value| {
        [
            "os-vol-tenant-attr:tenant_id",
            "os-extended-snapshot-attributes:project_id",
            "os-backup-project-attr:project_id",
        ]
        .iter()
        .any(|name| one[*name] == "p")
    };
    for (path, name, gib) in [
        ("/volumes", "volumes", "gigabytes"),
        ("/snapshots", "snapshots", "gigabytes"),
        ("/backups", "backups", "backup_gigabytes"),
    ] {
        for one in list(cloud, path, name).await.iter().filter(of_p) {
            *have.entry(name).or_default() += 1;
            *have.entry(gib).or_default() += one["size"].as_u64().unwrap();
        }
    }
    let used = cloud.get(&admin, "/os-quota-sets/p?usage=true").await.expect(200)["quota_set"].clone();
    for name in ["volumes", "snapshots", "backups", "gigabytes", "backup_gigabytes"] {
        assert_eq!(used[name]["in_use"], have.get(name).copied().unwrap_or(0), "{place}: {name}");
        assert_eq!(used[name]["reserved"], 0, "{place}: {name}");
    }
}
