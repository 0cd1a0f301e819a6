use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use umbel_core::Kind;
use uuid::Uuid;

use super::{PATIENCE, check, done, eventually, refused};
use crate::{DomainDisk, DomainEvent, DomainSpec, Hypervisor, Power};

/// What the suite starts.
#[derive(Clone, Debug)]
pub struct Guest {
    pub vcpus: u32,
    pub memory_mib: u64,
    /// May be empty: a machine without a disk runs too. Written to, if the guest does so; each domain of the suite
    /// gets the same ones, and at most one runs at a time unless there are none.
    pub disks: Vec<DomainDisk>,
    /// What the guest writes on its first serial port soon after each start. `None`: it may say nothing.
    pub says: Option<String>,
    /// Two disks of [`SPARE`] bytes, with serials, to plug in and out.
    pub spare: [DomainDisk; 2],
    /// Whether a guest that has said what it says lets go what it is asked to.
    pub lets_go: bool,
    /// What the guest writes of a disk, by its serial, that has come with so many bytes, or has grown to them.
    pub says_disk: Option<fn(&str, u64) -> String>,
    /// Whether an agent answers in the guest, soon after it has said what it says.
    pub agent: bool,
}

/// Bytes of each of [`Guest::spare`].
pub const SPARE: u64 = 64 << 20;

impl Guest {
    /// A machine without disks and without anything that runs in it.
    pub fn bare(spare: [DomainDisk; 2]) -> Self {
        let (disks, says, says_disk) = (Vec::new(), None, None);
        Guest { vcpus: 1, memory_mib: 128, disks, says, spare, lets_go: false, says_disk, agent: false }
    }

    pub(super) fn spec(&self, name: &str) -> DomainSpec {
        DomainSpec {
            id: Uuid::new_v4(),
            name: format!("conformance-{name}"),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            disks: self.disks.clone(),
        }
    }
}

/// Runs every promise of [`Hypervisor`].
///
/// `make` opens the hypervisor, each time as a new object over the same directory, as a restarted process would; the
/// object before is dropped first.
///
/// # Panics
/// With the promise that is not kept.
pub async fn hypervisor(make: impl AsyncFn() -> Arc<dyn Hypervisor>, guest: &Guest) {
    let host = make().await;
    check("facts", facts(&*host)).await;
    check("unknown domains", unknown_domains(&*host)).await;
    check("a guest's life", life(&*host, guest)).await;
    check("shutdown", shutdown(&*host, guest)).await;
    check("console", console(&*host, guest)).await;
    if guest.disks.is_empty() {
        check("several guests at once", several(&*host, guest)).await;
    }
    check("disks that come and go", super::disks::come_and_go(&*host, guest)).await;
    check("disks of a guest that is off", super::disks::while_off(&*host, guest)).await;
    check("disks that move", super::disks::move_away(&*host, guest)).await;
    check("a guest's agent", super::disks::agent(&*host, guest)).await;
    check("open again", open_again(host, make, guest)).await;
}

async fn power(host: &dyn Hypervisor, id: Uuid) -> Option<Power> {
    done("state", host.state(id).await)
}

pub(super) async fn becomes(host: &dyn Hypervisor, id: Uuid, want: Power) {
    eventually(&format!("state of the domain becomes {want:?}"), async || power(host, id).await == Some(want)).await;
    let listed = done("list", host.list().await);
    let listed: Vec<_> = listed.iter().filter(|domain| domain.id == id).map(|domain| domain.power).collect();
    assert_eq!(listed, [want], "list tells of the domain once, and what state tells");
}

/// Waits for the event; others, and repeated ones, may come before it.
async fn told(events: &mut Receiver<DomainEvent>, id: Uuid, want: Power) {
    let heard = async {
        loop {
            match events.recv().await {
                Ok(event) if event == (DomainEvent { id, power: want }) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the hypervisor stopped telling events"),
            }
        }
    };
    if tokio::time::timeout(PATIENCE, heard).await.is_err() {
        panic!("no event {want:?} within {PATIENCE:?}");
    }
}

pub(super) async fn forget(host: &dyn Hypervisor, id: Uuid) {
    done("undefine", host.undefine(id).await);
    done("undefine again", host.undefine(id).await);
    assert_eq!(power(host, id).await, None, "an undefined domain has no state");
    let listed = done("list", host.list().await);
    assert!(listed.iter().all(|domain| domain.id != id), "an undefined domain is not listed");
    refused("console of an undefined domain", host.console(id, 100).await, Kind::NotFound);
}

async fn facts(host: &dyn Hypervisor) {
    let facts = host.facts();
    assert!(facts.vcpus > 0 && facts.memory_mib > 0, "a host has processors and memory: {facts:?}");
    for text in [&facts.hypervisor_type, &facts.accelerator, &facts.accelerator_reason, &facts.cpu_arch] {
        assert!(!text.is_empty(), "facts are told in full: {facts:?}");
    }
}

async fn unknown_domains(host: &dyn Hypervisor) {
    let id = Uuid::new_v4();
    assert_eq!(power(host, id).await, None, "an unknown domain has no state");
    refused("shutdown of an unknown domain", host.shutdown(id, Duration::ZERO).await, Kind::NotFound);
    refused("destroy of an unknown domain", host.destroy(id).await, Kind::NotFound);
    refused("reset of an unknown domain", host.reset(id).await, Kind::NotFound);
    refused("pause of an unknown domain", host.pause(id).await, Kind::NotFound);
    refused("resume of an unknown domain", host.resume(id).await, Kind::NotFound);
    refused("console of an unknown domain", host.console(id, 100).await, Kind::NotFound);
    super::disks::of_nobody(host, id).await;
    done("undefine of an unknown domain", host.undefine(id).await);
}

async fn life(host: &dyn Hypervisor, guest: &Guest) {
    let mut events = host.subscribe();
    let mut spec = guest.spec("life");
    let id = spec.id;
    done("start", host.start(&spec).await);
    assert_eq!(power(host, id).await, Some(Power::Running), "start returns when the guest runs");
    told(&mut events, id, Power::Running).await;
    done("start of a running guest", host.start(&spec).await);
    becomes(host, id, Power::Running).await;

    done("pause", host.pause(id).await);
    becomes(host, id, Power::Paused).await;
    told(&mut events, id, Power::Paused).await;
    done("pause of a paused guest", host.pause(id).await);
    becomes(host, id, Power::Paused).await;
    done("resume", host.resume(id).await);
    becomes(host, id, Power::Running).await;
    told(&mut events, id, Power::Running).await;
    done("resume of a running guest", host.resume(id).await);
    done("reset", host.reset(id).await);
    becomes(host, id, Power::Running).await;

    done("destroy", host.destroy(id).await);
    becomes(host, id, Power::Shutdown).await;
    told(&mut events, id, Power::Shutdown).await;
    done("destroy of a guest that is off", host.destroy(id).await);
    becomes(host, id, Power::Shutdown).await;

    // An older definition is replaced.
    spec.memory_mib += 64;
    done("start with another definition", host.start(&spec).await);
    becomes(host, id, Power::Running).await;
    told(&mut events, id, Power::Running).await;
    forget(host, id).await;
}

async fn shutdown(host: &dyn Hypervisor, guest: &Guest) {
    let mut events = host.subscribe();
    let spec = guest.spec("shutdown");
    done("start", host.start(&spec).await);
    // Whether the guest obeys or not: after the grace it is off.
    done("shutdown", host.shutdown(spec.id, Duration::from_secs(2)).await);
    becomes(host, spec.id, Power::Shutdown).await;
    told(&mut events, spec.id, Power::Shutdown).await;
    done("shutdown of a guest that is off", host.shutdown(spec.id, Duration::ZERO).await);
    becomes(host, spec.id, Power::Shutdown).await;
    done("start of a guest that was shut down", host.start(&spec).await);
    becomes(host, spec.id, Power::Running).await;
    done("shutdown without grace", host.shutdown(spec.id, Duration::ZERO).await);
    becomes(host, spec.id, Power::Shutdown).await;
    forget(host, spec.id).await;
}

async fn console(host: &dyn Hypervisor, guest: &Guest) {
    let spec = guest.spec("console");
    done("start", host.start(&spec).await);
    if let Some(says) = &guest.says {
        says_times(host, spec.id, says, 1).await;
        done("destroy", host.destroy(spec.id).await);
        says_times(host, spec.id, says, 1).await;
        done("start", host.start(&spec).await);
        says_times(host, spec.id, says, 2).await;
    }
    done("destroy", host.destroy(spec.id).await);
    let whole = done("console of a guest that is off", host.console(spec.id, usize::MAX).await);
    for limit in [0, 1, 10] {
        let tail = done("console", host.console(spec.id, limit).await);
        assert_eq!(tail[..], whole[whole.len().saturating_sub(limit)..], "console gives the last {limit} bytes");
    }
    forget(host, spec.id).await;
}

/// Waits until the console holds `says` at least so often.
pub(super) async fn says_times(host: &dyn Hypervisor, id: Uuid, says: &str, times: usize) {
    eventually(&format!("the console holds '{says}' {times} times"), async || {
        let bytes = done("console", host.console(id, 1 << 20).await);
        String::from_utf8_lossy(&bytes).matches(says).count() >= times
    })
    .await;
}

async fn several(host: &dyn Hypervisor, guest: &Guest) {
    let specs: Vec<_> = (0..3).map(|at| guest.spec(&format!("several-{at}"))).collect();
    let starts = futures_util::future::join_all(specs.iter().map(|spec| host.start(spec))).await;
    for outcome in starts {
        done("one of three starts at once", outcome);
    }
    for spec in &specs {
        becomes(host, spec.id, Power::Running).await;
    }
    done("destroy", host.destroy(specs[0].id).await);
    becomes(host, specs[0].id, Power::Shutdown).await;
    becomes(host, specs[1].id, Power::Running).await;
    for spec in &specs {
        forget(host, spec.id).await;
    }
}

async fn open_again(host: Arc<dyn Hypervisor>, make: impl AsyncFn() -> Arc<dyn Hypervisor>, guest: &Guest) {
    let (running, off) = (guest.spec("running"), guest.spec("off"));
    done("start", host.start(&off).await);
    done("destroy", host.destroy(off.id).await);
    done("start", host.start(&running).await);
    let serial = &guest.spare[0].serial;
    done("attach", host.attach_disk(running.id, &guest.spare[0]).await);
    drop(host);

    let host = make().await;
    let mut events = host.subscribe();
    becomes(&*host, running.id, Power::Running).await;
    let disks = done("disks of an adopted guest", host.disks(running.id).await);
    assert!(disks.contains(serial), "an adopted guest has the disks that were attached to it: {disks:?}");
    done("attach again, to an adopted guest", host.attach_disk(running.id, &guest.spare[0]).await);
    becomes(&*host, off.id, Power::Shutdown).await;
    done("start of an adopted guest that runs", host.start(&running).await);
    done("pause of an adopted guest", host.pause(running.id).await);
    becomes(&*host, running.id, Power::Paused).await;
    drop(host);

    let host = make().await;
    becomes(&*host, running.id, Power::Paused).await;
    drop(events);
    events = host.subscribe();
    done("resume of an adopted guest", host.resume(running.id).await);
    becomes(&*host, running.id, Power::Running).await;
    done("console of an adopted guest", host.console(running.id, 100).await);
    done("destroy of an adopted guest", host.destroy(running.id).await);
    becomes(&*host, running.id, Power::Shutdown).await;
    told(&mut events, running.id, Power::Shutdown).await;
    forget(&*host, running.id).await;
    forget(&*host, off.id).await;
}
