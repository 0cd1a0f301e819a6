//! The in-process transport, and the wrapper that makes it bad.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use umbel_bus::{
    Blob, Desired, Faults, Faulty, HostReport, Observed, OnHost, Task, TaskReply, ToAgents, ToConductor, Want, local,
};
use umbel_core::{Generation, Kind, Result, SeededRng};
use uuid::Uuid;

#[derive(Default)]
struct Host(Mutex<Vec<i64>>);

#[async_trait]
impl OnHost for Host {
    async fn desire(&self, desired: Desired) {
        self.0.lock().push(desired.generation.0);
    }

    async fn task(&self, task: Task) -> Result<TaskReply> {
        let Task::Console { limit, .. } = task else { panic!("nobody asks this") };
        if limit == 0 {
            std::future::pending::<()>().await;
        }
        Ok(TaskReply::Console(Blob(vec![b'x'; limit])))
    }
}

#[derive(Default)]
struct Conductor(Mutex<Vec<i64>>);

#[async_trait]
impl ToConductor for Conductor {
    async fn report(&self, _report: HostReport) -> Result<()> {
        Ok(())
    }

    async fn observed(&self, _host: &str, observed: Observed) -> Result<()> {
        self.0.lock().push(observed.generation.0);
        Ok(())
    }

    async fn resync(&self, _host: &str, held: Vec<Uuid>) -> Result<Vec<Desired>> {
        Ok(held.into_iter().map(|id| desired(id, 7)).collect())
    }
}

fn desired(server_id: Uuid, generation: i64) -> Desired {
    Desired {
        server_id,
        generation: Generation(generation),
        reached: Generation(0),
        request_id: "req-test".into(),
        want: Want::Absent { disks: Vec::new() },
    }
}

fn observed(generation: i64) -> Observed {
    Observed {
        server_id: Uuid::nil(),
        generation: Generation(generation),
        present: false,
        volumes: Vec::new(),
        power: None,
        fault: None,
        steps: Vec::new(),
    }
}

#[tokio::test]
async fn ends_meet_and_part() {
    let hub = local();
    let (host, conductor) = (Arc::new(Host::default()), Arc::new(Conductor::default()));
    let gone = hub.desire("h1", desired(Uuid::nil(), 1)).await.unwrap_err();
    assert!(gone.is(Kind::Unavailable));

    let link = hub.connect("h1", host.clone());
    assert!(link.observed("h1", observed(1)).await.unwrap_err().is(Kind::Unavailable), "no conductor yet");
    let as_conductor: Arc<dyn ToConductor> = conductor.clone();
    hub.conduct(&as_conductor);
    link.observed("h1", observed(2)).await.unwrap();
    hub.desire("h1", desired(Uuid::nil(), 3)).await.unwrap();
    assert_eq!(link.resync("h1", vec![Uuid::max()]).await.unwrap()[0].server_id, Uuid::max());
    assert_eq!((host.0.lock().clone(), conductor.0.lock().clone()), (vec![3], vec![2]));

    let newer = hub.connect("h1", host);
    assert!(link.observed("h1", observed(4)).await.unwrap_err().is(Kind::Unavailable), "replaced");
    drop(link);
    assert!(hub.connected("h1"), "dropping the old connection leaves the new one");
    drop(newer);
    assert!(!hub.connected("h1"));
}

#[tokio::test]
async fn a_task_has_a_deadline() {
    let hub = local();
    let _link = hub.connect("h1", Arc::new(Host::default()));
    let ask = |limit| Task::Console { server_id: Uuid::nil(), limit };
    let reply = hub.task("h1", ask(3), Duration::from_secs(10)).await.unwrap();
    assert_eq!(reply, TaskReply::Console(Blob(b"xxx".to_vec())));
    let late = hub.task("h1", ask(0), Duration::from_millis(5)).await.unwrap_err();
    assert!(late.is(Kind::Timeout));
}

#[tokio::test]
async fn a_faulty_bus_loses_doubles_and_reorders() {
    let (hub, host) = (local(), Arc::new(Host::default()));
    let _link = hub.connect("h1", host.clone());
    let faults = Faults { lose: 20, duplicate: 20, reorder: 20, deny: 20 };
    let bad: Faulty<dyn ToAgents> = Faulty::new(hub, faults, Arc::new(SeededRng::new(7)));
    let mut denied = 0;
    for generation in 1..=200 {
        denied += usize::from(bad.desire("h1", desired(Uuid::nil(), generation)).await.is_err());
    }
    let got = std::mem::take(&mut *host.0.lock());
    let has = |generation: i64| got.iter().filter(|g| **g == generation).count();
    assert!((1..=200).any(|g| has(g) == 0) && (1..=200).any(|g| has(g) == 2), "{got:?}");
    assert!(!got.is_sorted() && denied > 0, "{got:?}");

    bad.calm(true);
    bad.desire("h1", desired(Uuid::nil(), 201)).await.unwrap();
    assert_eq!(*host.0.lock(), [201]);
}
