//! What operators and projects do with volumes beside using them, with the `openstack` client on two pools of a Ceph: types,
//! limits, moves, transfers, groups, volumes that were there before, quotas. No guest is needed for any of it.

use tokio::process::Command;
use umbel_testkit::{Ceph, Openstack, ceph_conf, until};

use crate::integrity::{qemu_io, reads};
use crate::site::{SLOW, SWEEPS, Site, id, rbd_pool};

/// A cloud with the volume pools `volumes` and `second`, which is the Ceph pool `vms`.
async fn start() -> Site {
    let pools = ["images", "vms", "volumes"].map(|name| rbd_pool(name, name)).concat();
    let second = rbd_pool("second", "vms");
    let config =
        format!("{SWEEPS}[volume]\npools = ['volumes', 'second']\n[agent]\nhypervisor = 'simulated'\n{pools}{second}");
    Site::start(&config, Some(Ceph::new())).await
}

#[tokio::test]
async fn types_limits_and_moves() {
    let site = start().await;
    let ceph = site.ceph.as_ref().unwrap();
    let volume = site.volume("--size 1 data").await;
    let disk = format!("volume-{volume}");
    qemu_io(&site.disk("volumes", &disk), &["write -P 0x77 3M 5M".into()], &[]).await;

    site.run("volume type create --property volume_backend_name=second elsewhere").await;
    site.run(
        "volume qos create --consumer back-end --property total_iops_sec=500 --property total_iops_sec_max=700 slow",
    )
    .await;
    site.run("volume qos associate slow elsewhere").await;
    let said = site.fails("volume set --type elsewhere --migration-policy never data").await;
    assert!(said.contains("Retype requires migration but is not allowed"), "{said}");
    site.run("volume set --type elsewhere --migration-policy on-demand data").await;
    let shown = site.available("volume", &volume).await;
    assert_eq!(
        (&shown["volume_type"], &shown["os-vol-host-attr:host"]),
        (&"elsewhere".into(), &"umbel@second#second".into())
    );
    until::yes("it is in the other pool alone", SLOW, async || {
        ceph.has("vms", &disk).await && !ceph.has("volumes", &disk).await
    })
    .await;
    reads(&site.disk("vms", &disk), &[("3M 5M", 0x77), ("0 3M", 0), ("8M 8M", 0)]).await;
    // The limit is the limit, and the burst the burst.
    let limits = ceph.rbd(&["image-meta", "ls", &format!("vms/{disk}")]).await;
    let limit = |key: &str| limits[key].as_str().map(str::to_owned);
    assert_eq!(limit("conf_rbd_qos_iops_limit").as_deref(), Some("500"), "{limits}");
    assert_eq!(limit("conf_rbd_qos_iops_burst").as_deref(), Some("700"), "{limits}");

    let said = site.fails("volume migrate --host umbel@volumes#volumes data").await;
    assert!(said.contains("retype it instead"), "the type is for one pool alone: {said}");
    site.run("volume type create anywhere").await;
    site.run("volume set --type anywhere --migration-policy never data").await;
    assert_eq!(site.available("volume", &volume).await["volume_type"], "anywhere");
    let limits = ceph.rbd(&["image-meta", "ls", &format!("vms/{disk}")]).await;
    assert!(!limits.to_string().contains("qos"), "limits go with the type: {limits}");
    site.run("volume migrate --host umbel@volumes#volumes data").await;
    until::yes("the volume is in the other pool", SLOW, async || {
        let shown = site.shown("volume", &volume).await;
        assert_ne!(shown["migration_status"], "error", "{shown}");
        shown["os-vol-host-attr:host"] == "umbel@volumes#volumes" && shown["migration_status"] == "success"
    })
    .await;
    until::yes("it is in the first pool alone", SLOW, async || {
        ceph.has("volumes", &disk).await && !ceph.has("vms", &disk).await
    })
    .await;
    reads(&site.disk("volumes", &disk), &[("3M 5M", 0x77), ("0 3M", 0), ("8M 8M", 0)]).await;
    site.delete_volumes(&[&volume]).await;
    site.nothing_left(&[&volume]).await;
    site.stop().await;
}

#[tokio::test]
async fn transfers_quotas_groups_and_foreign_volumes() {
    let site = start().await;
    let other = site.openstack.in_project("other");
    site.run("project create other").await;
    site.run("role add --project other --user admin admin").await;
    transfer(&site, &other).await;
    quotas(&site, &other).await;
    groups(&site).await;
    managed(&site).await;
    site.stop().await;
}

/// A volume and its snapshot go to another project, which needs the key.
async fn transfer(site: &Site, other: &Openstack) {
    let volume = site.volume("--size 1 gift").await;
    let snapshot = site.made("snapshot", "volume snapshot create --volume gift ribbon").await;
    let offer = site.json("volume transfer request create gift").await;
    let transfer = id(&offer);
    site.status("volume", &volume, "awaiting-transfer").await;
    let wrong = ["volume", "transfer", "request", "accept", "--auth-key", "0000000000000000", &transfer];
    let said = other.fails(&wrong).await;
    assert!(said.contains("invalid auth key"), "{said}");
    let key = offer["auth_key"].as_str().unwrap();
    other.run(&["volume", "transfer", "request", "accept", "--auth-key", key, &transfer]).await;
    let shown = site.available("volume", &volume).await;
    assert_ne!(shown["os-vol-tenant-attr:tenant_id"].as_str(), site.cloud.project_id.as_deref());
    let theirs = other.json(&["volume", "snapshot", "list"]).await;
    assert_eq!(theirs[0]["ID"].as_str(), Some(snapshot.as_str()), "{theirs}");
    assert_eq!(site.json("volume list").await.as_array().map(Vec::len), Some(0), "it is the giver's no more");
    other.run(&["volume", "delete", "--cascade", &volume]).await;
    site.gone("volume", &volume).await;
    site.nothing_left(&[&volume]).await;
}

/// Refusals name the resource and the limit, with each service's own status.
async fn quotas(site: &Site, other: &Openstack) {
    site.run("quota set --volumes 1 --gigabytes 2 --snapshots 0 --instances 0 other").await;
    let made = other.json(&["volume", "create", "--size", "1", "only"]).await;
    let volume = id(&made);
    site.available("volume", &volume).await;
    let said = other.fails(&["volume", "create", "--size", "1", "more"]).await;
    assert!(said.contains("413") && said.contains("Maximum number of volumes allowed (1) exceeded"), "{said}");
    let said = other.fails(&["volume", "set", "--size", "3", "only"]).await;
    assert!(said.contains("413") && said.contains("gigabytes"), "{said}");
    let said = other.fails(&["volume", "snapshot", "create", "--volume", "only", "none"]).await;
    assert!(said.contains("413") && said.contains("snapshots"), "{said}");
    other.run(&["volume", "set", "--bootable", "only"]).await;
    let server = ["server", "create", "--volume", "only", "--flavor", "42", "--nic", "none", "x"];
    let said = other.fails(&server).await;
    assert!(said.contains("403") && said.contains("Quota exceeded for instances"), "{said}");
    other.run(&["volume", "delete", "only"]).await;
    site.gone("volume", &volume).await;
}

/// Volumes of a group have their snapshots of one moment, and go with it.
async fn groups(site: &Site) {
    let kind = site.make("volume group type create together").await;
    let spec =
        ["volume", "group", "type", "set", "together", "--property", "consistent_group_snapshot_enabled=<is> True"];
    site.openstack.run(&spec).await;
    site.make(&format!("volume group create --volume-group-type {kind} --volume-type __DEFAULT__ --name pair")).await;
    let (one, two) = (site.volume("--size 1 one").await, site.volume("--size 1 two").await);
    site.run("volume group add volume pair one").await;
    site.run("volume group add volume pair two").await;
    for (volume, byte) in [(&one, 0x11), (&two, 0x22)] {
        let disk = site.disk("volumes", &format!("volume-{volume}"));
        qemu_io(&disk, &[format!("write -P {byte:#x} 1M 1M")], &[]).await;
    }
    site.made("group_snapshot", "volume group snapshot create --name moment pair").await;
    let ceph = site.ceph.as_ref().unwrap();
    let copied = site.make("volume group create --group-snapshot moment --name copied").await;
    site.available("group", &copied).await;
    let path = format!("/groups/{copied}?list_volume=true");
    let shown = site.ask_volumes(http::Method::GET, &path, None).await.unwrap();
    let copies: Vec<&str> =
        shown["group"]["volumes"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(copies.len(), 2, "{shown}");
    for copy in &copies {
        site.available("volume", copy).await;
        let disk = format!("volume-{copy}");
        let parent = ceph.parent("volumes", &disk).await.unwrap();
        let byte = if parent.contains(&one) { 0x11 } else { 0x22 };
        assert!(parent.starts_with("volumes/volume-") && parent.contains("@snapshot-"), "{parent}");
        reads(&site.disk("volumes", &disk), &[("1M 1M", byte)]).await;
    }
    site.run("volume group delete --force copied").await;
    site.run("volume group snapshot delete moment").await;
    for copy in &copies {
        site.gone("volume", copy).await;
    }
    site.run("volume group delete --force pair").await;
    for volume in [&one, &two] {
        site.gone("volume", volume).await;
    }
    site.nothing_left(&[&[one.as_str(), &two], &copies[..]].concat()).await;
}

/// A volume that another service left in the pool, by the name that it has there: used, and left again.
async fn managed(site: &Site) {
    let ceph = site.ceph.as_ref().unwrap();
    let theirs = umbel_core::Id::<Site>::random(&umbel_core::SystemRng::new());
    let found = format!("volume-{theirs}");
    rbd(&["create", "--size", "1G", &format!("volumes/{found}")]).await;
    qemu_io(&site.disk("volumes", &found), &["write -P 0x33 2M 2M".into()], &[]).await;
    let command = format!("volume create --host umbel@volumes#volumes --remote-source source-name={found} adopted");
    let volume = site.made("volume", &command).await;
    let disk = format!("volume-{volume}");
    assert!(ceph.has("volumes", &disk).await && !ceph.has("volumes", &found).await, "it is named as ours are");
    let said = site.fails(&command).await;
    assert!(!said.is_empty(), "it is taken already");
    let larger = site.volume("--source adopted --size 2 larger").await;
    reads(&site.disk("volumes", &format!("volume-{larger}")), &[("2M 2M", 0x33)]).await;
    site.delete_volumes(&[&larger]).await;
    site.run("volume delete --remote adopted").await;
    site.gone("volume", &volume).await;
    assert!(ceph.has("volumes", &disk).await, "what is unmanaged stays");
    reads(&site.disk("volumes", &disk), &[("2M 2M", 0x33)]).await;
    rbd(&["rm", "--no-progress", &format!("volumes/{disk}")]).await;
    site.nothing_left(&[&volume, &larger, &theirs.to_string()]).await;
}

async fn rbd(args: &[&str]) {
    let output = Command::new("rbd").arg("-c").arg(ceph_conf()).args(args).output().await.unwrap();
    assert!(output.status.success(), "rbd {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
}
