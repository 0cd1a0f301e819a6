//! Promises of [`Hypervisor`] about disks that come, go, grow and move, and about the guest's agent.

use umbel_core::Kind;
use uuid::Uuid;

use super::hypervisor::{Guest, SPARE, becomes, forget, says_times};
use super::{done, eventually, refused};
use crate::{Attachment, DomainDisk, Hypervisor, Limits, Mirroring, Power};

pub(super) async fn of_nobody(host: &dyn Hypervisor, id: Uuid) {
    refused("disks of an unknown domain", host.disks(id).await, Kind::NotFound);
    refused("detach from an unknown domain", host.detach_disk(id, "serial").await, Kind::NotFound);
    refused("resize for an unknown domain", host.resize_disk(id, "serial", 1).await, Kind::NotFound);
    let none = Limits::default();
    refused("limits for an unknown domain", host.limit_disk(id, "serial", &none).await, Kind::NotFound);
    let nowhere = Attachment::Simulated { pool: "p".into(), disk: "d".into() };
    refused("mirror for an unknown domain", host.mirror_disk(id, "serial", &nowhere).await, Kind::NotFound);
    refused("cancel for an unknown domain", host.cancel_mirror(id, "serial").await, Kind::NotFound);
    refused("place of an unknown domain's disk", host.is_at(id, "serial", &nowhere).await, Kind::NotFound);
    refused("freeze of an unknown domain", host.freeze(id).await, Kind::NotFound);
    refused("thaw of an unknown domain", host.thaw(id).await, Kind::NotFound);
}

/// Which of the spare disks the guest has.
async fn has(host: &dyn Hypervisor, id: Uuid, guest: &Guest, want: [bool; 2]) {
    let disks = done("disks", host.disks(id).await);
    let count = |disk: &DomainDisk| disks.iter().filter(|serial| **serial == disk.serial).count();
    let seen = [count(&guest.spare[0]), count(&guest.spare[1])];
    assert_eq!(seen, want.map(usize::from), "disks lists each disk once, and those only: {disks:?}");
}

async fn is_up(host: &dyn Hypervisor, id: Uuid, guest: &Guest) {
    if let Some(says) = &guest.says {
        says_times(host, id, says, 1).await;
    }
}

/// Waits until the guest has seen the disk.
async fn shows(host: &dyn Hypervisor, id: Uuid, guest: &Guest, serial: &str, bytes: u64) {
    if let Some(says_disk) = guest.says_disk {
        says_times(host, id, &says_disk(serial, bytes), 1).await;
    }
}

pub(super) async fn come_and_go(host: &dyn Hypervisor, guest: &Guest) {
    let spec = guest.spec("disks");
    let (id, [first, second]) = (spec.id, &guest.spare);
    done("start", host.start(&spec).await);
    is_up(host, id, guest).await;
    has(host, id, guest, [false, false]).await;
    for disk in [first, second] {
        done("attach", host.attach_disk(id, disk).await);
        done("attach again", host.attach_disk(id, disk).await);
        shows(host, id, guest, &disk.serial, SPARE).await;
    }
    has(host, id, guest, [true, true]).await;
    let nameless = DomainDisk { serial: String::new(), ..first.clone() };
    refused("attach of a disk without a serial", host.attach_disk(id, &nameless).await, Kind::BadRequest);

    done("resize", host.resize_disk(id, &first.serial, 2 * SPARE).await);
    done("resize again", host.resize_disk(id, &first.serial, 2 * SPARE).await);
    done("resize to less than it is", host.resize_disk(id, &first.serial, SPARE).await);
    shows(host, id, guest, &first.serial, 2 * SPARE).await;
    let some = Limits { iops: Some(1_000), iops_burst: Some(2_000), bytes: Some(1 << 30), ..Limits::default() };
    for limits in [&some, &some, &Limits::default()] {
        done("limit", host.limit_disk(id, &first.serial, limits).await);
    }
    let bad = Limits { iops: Some(0), ..Limits::default() };
    refused("a limit that stops the disk", host.limit_disk(id, &first.serial, &bad).await, Kind::BadRequest);
    refused("limits of a disk that is not there", host.limit_disk(id, "none", &some).await, Kind::NotFound);
    refused("resize of a disk that is not there", host.resize_disk(id, "none", SPARE).await, Kind::NotFound);

    done("detach of a disk that is not there", host.detach_disk(id, "none").await);
    if guest.lets_go {
        done("detach", host.detach_disk(id, &first.serial).await);
        done("detach again", host.detach_disk(id, &first.serial).await);
        has(host, id, guest, [false, true]).await;
        done("attach of a disk that was there before", host.attach_disk(id, first).await);
        has(host, id, guest, [true, true]).await;
        done("detach", host.detach_disk(id, &first.serial).await);
    } else {
        let outcome = host.detach_disk(id, &first.serial).await;
        refused("detach from a guest that does not listen", outcome, Kind::Timeout);
        has(host, id, guest, [true, true]).await;
    }
    done("pause", host.pause(id).await);
    let listed = done("disks of a guest that is paused", host.disks(id).await);
    assert!(listed.contains(&second.serial), "a paused guest keeps its disks: {listed:?}");
    done("destroy", host.destroy(id).await);
    has(host, id, guest, [!guest.lets_go, true]).await;
    forget(host, id).await;
}

pub(super) async fn while_off(host: &dyn Hypervisor, guest: &Guest) {
    let mut spec = guest.spec("disks-off");
    let (id, [first, second]) = (spec.id, &guest.spare);
    spec.disks.push(second.clone());
    done("start", host.start(&spec).await);
    has(host, id, guest, [false, true]).await;
    done("destroy", host.destroy(id).await);
    becomes(host, id, Power::Shutdown).await;
    has(host, id, guest, [false, true]).await;
    for _ in 0..2 {
        done("attach to a guest that is off", host.attach_disk(id, first).await);
        has(host, id, guest, [true, true]).await;
    }
    done("resize for a guest that is off", host.resize_disk(id, &first.serial, 2 * SPARE).await);
    for _ in 0..2 {
        done("detach from a guest that is off", host.detach_disk(id, &second.serial).await);
        has(host, id, guest, [true, false]).await;
    }
    refused("freeze of a guest that is off", host.freeze(id).await, Kind::Unavailable);
    done("thaw of a guest that is off", host.thaw(id).await);
    done("start, with disks of its own", host.start(&spec).await);
    has(host, id, guest, [false, true]).await;
    done("destroy", host.destroy(id).await);
    forget(host, id).await;
}

/// The second spare disk's bytes go to where the first one is, which may have grown.
pub(super) async fn move_away(host: &dyn Hypervisor, guest: &Guest) {
    let spec = guest.spec("mirror");
    let (id, [place, disk]) = (spec.id, &guest.spare);
    let (serial, from, to) = (disk.serial.as_str(), &disk.attachment, &place.attachment);
    let at = async |want: [bool; 2]| {
        let seen = [done("is_at", host.is_at(id, serial, from).await), done("is_at", host.is_at(id, serial, to).await)];
        assert_eq!(seen, want, "a disk is at one place");
    };
    done("start", host.start(&spec).await);
    is_up(host, id, guest).await;
    done("attach", host.attach_disk(id, disk).await);
    shows(host, id, guest, serial, SPARE).await;
    at([true, false]).await;
    refused("mirror of a disk that is not there", host.mirror_disk(id, "none", to).await, Kind::NotFound);
    assert!(!done("is_at", host.is_at(id, "none", to).await), "a disk that is not there is nowhere");

    if done("mirror", host.mirror_disk(id, serial, to).await) != Mirroring::There {
        for _ in 0..2 {
            done("cancel", host.cancel_mirror(id, serial).await);
            at([true, false]).await;
        }
    }
    eventually("the disk is there", async || {
        done("mirror", host.mirror_disk(id, serial, to).await) == Mirroring::There
    })
    .await;
    assert_eq!(done("mirror again", host.mirror_disk(id, serial, to).await), Mirroring::There);
    done("cancel of what is done", host.cancel_mirror(id, serial).await);
    at([false, true]).await;
    has(host, id, guest, [false, true]).await;
    assert_eq!(done("state", host.state(id).await), Some(Power::Running), "the guest runs on");

    done("destroy", host.destroy(id).await);
    at([false, true]).await;
    refused("mirror for a guest that is off", host.mirror_disk(id, serial, from).await, Kind::Conflict);
    done("cancel for a guest that is off", host.cancel_mirror(id, serial).await);
    done("attach to a guest that is off, elsewhere", host.attach_disk(id, disk).await);
    at([true, false]).await;
    forget(host, id).await;
}

pub(super) async fn agent(host: &dyn Hypervisor, guest: &Guest) {
    let spec = guest.spec("agent");
    let id = spec.id;
    done("start", host.start(&spec).await);
    done("thaw of what is not frozen", host.thaw(id).await);
    if guest.agent {
        // The guest may be up before its agent is.
        eventually("the agent freezes", async || host.freeze(id).await.is_ok()).await;
        assert_eq!(done("freeze again", host.freeze(id).await), 0, "what is held already is not counted");
        done("thaw", host.thaw(id).await);
        done("thaw again", host.thaw(id).await);
        assert!(done("freeze", host.freeze(id).await) > 0, "a guest has file systems to hold");
        done("thaw", host.thaw(id).await);
    } else {
        refused("freeze without an agent", host.freeze(id).await, Kind::Unavailable);
    }
    forget(host, id).await;
}
