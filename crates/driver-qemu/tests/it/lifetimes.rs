//! Guests and drivers that end at any moment.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use umbel_core::Kind;
use umbel_driver::{Hypervisor, Power};
use umbel_driver_qemu::{Options, QemuHypervisor};

use crate::support::{Host, eventually, kill, says, spec, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_a_crash() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let mut events = hypervisor.subscribe();
    let spec = spec(vec![]);
    hypervisor.start(&spec).await.unwrap();
    let [pid] = host.pids()[..] else { panic!("one guest, one process: {:?}", host.pids()) };
    kill(pid);
    told(&mut events, spec.id, Power::Crashed).await;
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Crashed));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the process is reaped");
    for call in [hypervisor.pause(spec.id).await, hypervisor.reset(spec.id).await] {
        assert!(call.unwrap_err().is(Kind::Conflict), "what does not run cannot be paused or reset");
    }

    hypervisor.start(&spec).await.unwrap();
    told(&mut events, spec.id, Power::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_no_driver_listens_is_known() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let (obeys, crashes) = (spec(vec![host.boot_disk()]), spec(vec![]));
    hypervisor.start(&crashes).await.unwrap();
    let [pid] = host.pids()[..] else { panic!("one guest, one process") };
    hypervisor.start(&obeys).await.unwrap();
    says(&hypervisor, obeys.id, "umbel-guest: ready").await;
    // The button is pressed, and the driver is gone before the guest has reacted.
    let pressed = tokio::spawn({
        let hypervisor = hypervisor.clone();
        async move { hypervisor.shutdown(obeys.id, Duration::from_secs(60)).await }
    });
    let console = host.guests().join(obeys.id.to_string()).join("console.log");
    eventually("the guest reacts", async || std::fs::read_to_string(&console).unwrap().contains("power button")).await;
    pressed.abort();
    // Cancelled, or done already: the guest needs a tenth of a second from here.
    drop(pressed.await);
    drop(hypervisor);
    kill(pid);

    let hypervisor = host.open().await;
    let mut events = hypervisor.subscribe();
    if hypervisor.state(obeys.id).await.unwrap() != Some(Power::Shutdown) {
        told(&mut events, obeys.id, Power::Shutdown).await;
    }
    assert_eq!(hypervisor.state(crashes.id).await.unwrap(), Some(Power::Crashed));
    eventually("no process is left", async || host.pids().is_empty()).await;
    drop(hypervisor);

    let hypervisor = host.open().await;
    assert_eq!(hypervisor.state(obeys.id).await.unwrap(), Some(Power::Shutdown), "known in a third life, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_driver_adopts_and_hears() {
    let host = Host::new();
    let (first, second) = (spec(vec![]), spec(vec![]));
    {
        let hypervisor = host.open().await;
        hypervisor.start(&first).await.unwrap();
        hypervisor.start(&second).await.unwrap();
        hypervisor.pause(second.id).await.unwrap();
    }
    let pids = host.pids();
    assert_eq!(pids.len(), 2, "guests outlive their driver");

    let hypervisor = host.open().await;
    let mut events = hypervisor.subscribe();
    assert_eq!(hypervisor.state(first.id).await.unwrap(), Some(Power::Running));
    assert_eq!(hypervisor.state(second.id).await.unwrap(), Some(Power::Paused));
    hypervisor.start(&first).await.unwrap();
    assert_eq!(host.pids(), pids, "an adopted guest is not started twice");
    kill(pids[0]);
    kill(pids[1]);
    told(&mut events, first.id, Power::Crashed).await;
    assert_eq!(hypervisor.list().await.unwrap().len(), 2);
}

/// A directory that vanished by hand does not hide the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_files_is_found_and_ended() {
    let host = Host::new();
    let spec = spec(vec![]);
    host.open().await.start(&spec).await.unwrap();
    std::fs::remove_dir_all(host.guests().join(spec.id.to_string())).unwrap();

    let hypervisor = host.open().await;
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Running));
    hypervisor.undefine(spec.id).await.unwrap();
    assert_eq!(host.pids(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_driver() {
    let host = Host::new();
    let _hypervisor = host.open().await;
    let second = QemuHypervisor::open(&host.guests(), Options::default()).await;
    assert!(second.is_err_and(|error| error.is(Kind::Conflict)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_qemu_is_named() {
    let host = Host::new();
    let options = Options { binary: "/nowhere/qemu".into(), ..Options::default() };
    let error = QemuHypervisor::open(&host.guests(), options).await.err().unwrap();
    assert!(error.is(Kind::Unavailable) && error.message().contains("apt-get install"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_starts_at_once() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let specs: Vec<_> = (0..8).map(|_| spec(vec![])).collect();
    let begin = Instant::now();
    try_join_all(specs.iter().map(|spec| hypervisor.start(spec))).await.unwrap();
    println!("8 starts took {:?}", begin.elapsed());
    assert_eq!(host.pids().len(), 8);
    join_all(specs.iter().map(|spec| hypervisor.undefine(spec.id))).await;
    assert_eq!(host.pids(), [0; 0]);
    assert!(hypervisor.list().await.unwrap().is_empty());
}

/// Every order of calls on one guest ends in something that is true.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cross_each_other() {
    let host = Host::new();
    let hypervisor = host.open().await;
    let spec = spec(vec![]);
    for _ in 0..5 {
        let (start, undefine) = tokio::join!(hypervisor.start(&spec), hypervisor.undefine(spec.id));
        start.unwrap();
        undefine.unwrap();
        let expected = usize::from(hypervisor.state(spec.id).await.unwrap() == Some(Power::Running));
        assert_eq!(host.pids().len(), expected);
    }
    hypervisor.start(&spec).await.unwrap();
    let (shutdown, destroy) =
        tokio::join!(hypervisor.shutdown(spec.id, Duration::from_secs(60)), hypervisor.destroy(spec.id));
    shutdown.unwrap();
    destroy.unwrap();
    assert_eq!(hypervisor.state(spec.id).await.unwrap(), Some(Power::Shutdown));
}
