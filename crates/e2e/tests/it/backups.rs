//! Backups: a full one and three increments, each restored to what the volume held when it was made, on both kinds of pool
//! and into both kinds of place; the chain is taken apart from its end; and a cloud that has lost its database goes on with
//! the records that were exported.

use std::path::Path;

use serde_json::json;
use umbel_testkit::{Ceph, until};

use crate::integrity::{FAR, NEAR, NOWHERE, delete, make, qemu_io, reads};
use crate::site::{SLOW, Site, local_pool, rbd_pool};

/// Where backups are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Directory,
    Pool,
}

#[tokio::test]
async fn local_disks_to_a_directory() {
    check(None, Target::Directory).await;
}

#[tokio::test]
async fn local_disks_to_a_pool() {
    check(None, Target::Pool).await;
}

#[tokio::test]
async fn ceph_to_a_directory() {
    check(Some(Ceph::new()), Target::Directory).await;
}

#[tokio::test]
async fn ceph_to_a_pool() {
    check(Some(Ceph::new()), Target::Pool).await;
}

/// A cloud whose backups, and the pool with them, are below this folder if they are not in Ceph.
async fn start(on_ceph: bool, target: Target, shared: &Path) -> Site {
    let ours = ["images", "vms"].map(local_pool).concat();
    let (pools, ceph) = match on_ceph {
        true => (format!("{ours}{}", rbd_pool("volumes", "volumes")), Some(Ceph::new())),
        false => {
            let path = shared.join("pools");
            (format!("{ours}{}path = '{}'\n", local_pool("volumes"), path.display()), None)
        }
    };
    let place = match target {
        Target::Directory => format!("directory = '{}'", shared.join("backups").display()),
        Target::Pool => "pool = 'volumes'".to_owned(),
    };
    let config = format!(
        "[agent]\nhypervisor = 'simulated'\n[image.options]\nsweep_seconds = 1\n[volume.options]\nsweep_seconds = 1\n\
         [volume.options.backup]\n{place}\n{pools}"
    );
    Site::start(&config, ceph).await
}

struct Test {
    site: Site,
    /// Beside every cloud's own directory.
    shared: tempfile::TempDir,
}

impl Test {
    fn disk(&self, site: &Site, volume: &str) -> String {
        let name = format!("volume-{volume}");
        match &site.ceph {
            Some(_) => site.disk("volumes", &name),
            None => {
                let head = self.shared.path().join("pools/volumes").join(name).join("head");
                head.canonicalize().unwrap().display().to_string()
            }
        }
    }

    async fn write(&self, volume: &str, commands: &[&str]) {
        let commands: Vec<String> = commands.iter().map(|&one| one.to_owned()).collect();
        qemu_io(&self.disk(&self.site, volume), &commands, &[]).await;
    }

    async fn holds(&self, site: &Site, volume: &str, (near, far): (u8, u8)) {
        reads(&self.disk(site, volume), &[(NEAR, near), (FAR, far), (NOWHERE, 0)]).await;
    }

    async fn back_up(&self, volume: &str, incremental: bool) -> String {
        make(&self.site, "backup", json!({"volume_id": volume, "incremental": incremental})).await
    }
}

async fn check(ceph: Option<Ceph>, target: Target) {
    let shared = tempfile::tempdir().unwrap();
    let site = start(ceph.is_some(), target, shared.path()).await;
    let test = Test { site, shared };
    let volume = test.site.volume("--size 1 data").await;
    // Each backup, with what the volume held near its start and far from it.
    test.write(&volume, &["write -P 0xa1 1M 8M", "write -P 0xa2 600M 2M"]).await;
    let full = test.site.made("backup", "volume backup create --name full data").await;
    test.write(&volume, &["write -P 0xb1 1M 8M"]).await;
    let one = test.site.made("backup", "volume backup create --name one --incremental data").await;
    test.write(&volume, &["write -P 0xc2 600M 2M"]).await;
    let two = test.back_up(&volume, true).await;
    // What became zeros is a change too.
    test.write(&volume, &["write -z 1M 8M", "write -P 0xd2 600M 2M"]).await;
    let three = test.back_up(&volume, true).await;
    let chain = [(&full, (0xa1, 0xa2)), (&one, (0xb1, 0xa2)), (&two, (0xb1, 0xc2)), (&three, (0, 0xd2))];

    for (id, incremental) in [(&full, false), (&three, true)] {
        assert_eq!(test.site.shown("backup", id).await["is_incremental"], incremental);
    }
    let said = test.site.fails("volume backup delete full").await;
    assert!(said.contains("Incremental backups exist for this backup"), "{said}");

    restored(&test, &chain).await;
    over_an_existing_volume(&test, &two).await;
    elsewhere(&test, target, &three, (0, 0xd2)).await;

    // The newest first: what others are built on cannot go.
    for (id, _) in chain.iter().rev() {
        delete(&test.site, "backup", id).await;
    }
    delete(&test.site, "volume", &volume).await;
    let Test { site, shared } = test;
    until::none("files of backups and volumes", SLOW, async || files(shared.path())).await;
    site.nothing_left(&[&volume, &full]).await;
    site.stop().await;
}

/// Each into a new volume.
async fn restored(test: &Test, chain: &[(&String, (u8, u8))]) {
    for (backup, held) in chain {
        let path = format!("/backups/{backup}/restore");
        let answer = test.site.ask_volumes(http::Method::POST, &path, Some(json!({"restore": {}}))).await.unwrap();
        let to = answer["restore"]["volume_id"].as_str().unwrap();
        test.site.available("volume", to).await;
        test.site.available("backup", backup).await;
        test.holds(&test.site, to, *held).await;
        delete(&test.site, "volume", to).await;
    }
}

/// A volume that is larger and full of something else: beyond the backup it is zeros, as upstream has it.
async fn over_an_existing_volume(test: &Test, backup: &str) {
    let target = test.site.volume("--size 2 target").await;
    test.write(&target, &["write -P 0xff 0 16M", "write -P 0xff 590M 30M", "write -P 0xff 1500M 1M"]).await;
    test.site.run(&format!("volume backup restore --force {backup} target")).await;
    test.site.available("volume", &target).await;
    test.site.available("backup", backup).await;
    test.holds(&test.site, &target, (0xb1, 0xc2)).await;
    let disk = test.disk(&test.site, &target);
    reads(&disk, &[("0 1M", 0), ("9M 7M", 0), ("590M 10M", 0), ("602M 18M", 0), ("1500M 1M", 0)]).await;
    delete(&test.site, "volume", &target).await;
}

/// Another cloud over the same pools and backups, which knows nothing of either, goes by an exported record.
async fn elsewhere(test: &Test, target: Target, backup: &str, held: (u8, u8)) {
    let record = test.site.json(&format!("volume backup record export {backup}")).await;
    let text = |key: &str| record[key].as_str().unwrap_or_else(|| panic!("no {key} in {record}")).to_owned();
    let (service, metadata) = (text("backup_service"), text("backup_url"));
    let other = start(test.site.ceph.is_some(), target, test.shared.path()).await;
    // By HTTP: the client's library calls the wrong address for it.
    let body = json!({"backup-record": {"backup_service": service, "backup_url": metadata}});
    let import = async || other.ask_volumes(http::Method::POST, "/backups/import_record", Some(body.clone())).await;
    let imported = import().await.unwrap();
    assert_eq!(imported["backup"]["id"].as_str(), Some(backup), "{imported}");
    other.available("backup", backup).await;
    let volume = other.volume(&format!("--backup {backup} rescued")).await;
    test.holds(&other, &volume, held).await;
    let error = import().await.unwrap_err();
    assert!(error.message().contains("already exists"), "{error}");
    delete(&other, "volume", &volume).await;
    other.stop().await;
}

/// Disks below the shared folder, and files of backups.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        match path.is_dir() {
            true => found.extend(files(&path)),
            // The store's own: who it is, and who works on it.
            false if name == "id" || name.starts_with('.') => {}
            false => found.push(path.display().to_string()),
        }
    }
    found
}
