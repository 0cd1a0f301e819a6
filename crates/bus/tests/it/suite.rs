//! What holds for every transport.

use std::sync::Arc;
use std::time::Duration;

use umbel_bus::{Blob, Faults, Faulty, Hub, Security, TaskReply, ToAgents, ToConductor, local};
use umbel_core::{Kind, SeededRng};
use uuid::Uuid;

use crate::world::{Conductor, Host, Outpost, Papers, Post, console, desired, eventually, observed, report};

/// One way between a conductor and an agent on host h1.
struct Way {
    hub: Arc<Hub>,
    link: Arc<dyn ToConductor>,
    host: Arc<Host>,
    conductor: Arc<Conductor>,
    /// What must live as long.
    _ends: Ends,
}

#[derive(Default)]
struct Ends {
    _processes: Option<(Post, Outpost)>,
    _conductor: Option<Arc<dyn ToConductor>>,
}

/// Two calls, plain gRPC, and gRPC with certificates.
async fn ways() -> Vec<Way> {
    let papers = Papers::new();
    vec![
        in_process(),
        between(Security::Plain, Security::Plain).await,
        between(papers.control(), papers.agent(&["h1"])).await,
    ]
}

fn in_process() -> Way {
    let (hub, host, conductor) = (local(), Arc::new(Host::default()), Arc::new(Conductor::default()));
    let end: Arc<dyn ToConductor> = conductor.clone();
    hub.conduct(&end);
    let link = Arc::new(hub.connect("h1", host.clone()));
    Way { hub, link, host, conductor, _ends: Ends { _conductor: Some(end), ..Ends::default() } }
}

async fn between(control: Security, agent: Security) -> Way {
    let post = Post::start(control).await;
    let outpost = Outpost::start("h1", agent, &[post.address]);
    outpost.up(1).await;
    Way {
        hub: post.hub.clone(),
        link: outpost.uplinks.clone(),
        host: outpost.host.clone(),
        conductor: post.conductor.clone(),
        _ends: Ends { _processes: Some((post, outpost)), ..Ends::default() },
    }
}

#[tokio::test]
async fn both_ends_hear_each_other() {
    for way in ways().await {
        eventually("the host is there", || way.hub.connected("h1")).await;
        assert!(way.hub.desire("h2", desired(Uuid::nil(), 1)).await.unwrap_err().is(Kind::Unavailable));
        way.hub.desire("h1", desired(Uuid::nil(), 3)).await.unwrap();
        eventually("the document comes", || *way.host.desired.lock() == [3]).await;
        way.link.observed("h1", observed(2)).await.unwrap();
        way.link.report(report("h1")).await.unwrap();
        assert_eq!(
            (way.conductor.observed.lock().clone(), way.conductor.reports.lock().clone()),
            (vec![2], vec!["h1".to_owned()])
        );
    }
}

#[tokio::test]
async fn a_resync_answers_for_every_server() {
    for way in ways().await {
        // More than one message holds.
        let held: Vec<Uuid> = (0..1_000).map(Uuid::from_u128).collect();
        let answer = way.link.resync("h1", held.clone()).await.unwrap();
        let servers: Vec<Uuid> = answer.iter().map(|desired| desired.server_id).collect();
        assert_eq!(servers, held);
        assert_eq!(way.link.resync("h1", Vec::new()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_task_has_an_answer_or_a_deadline() {
    for way in ways().await {
        eventually("the host is there", || way.hub.connected("h1")).await;
        let ask = async |limit: usize, deadline| way.hub.task("h1", console(limit), deadline).await;
        let long = Duration::from_secs(10);
        assert_eq!(ask(3, long).await.unwrap(), TaskReply::Console(Blob(b"xxx".to_vec())));
        assert!(ask(0, Duration::from_millis(20)).await.unwrap_err().is(Kind::Timeout));
        let refused = ask(101, long).await.unwrap_err();
        assert_eq!((refused.kind(), refused.message(), refused.cause()), (Kind::Conflict, "Too much.", Some("a test")));
        // Those that wait do not keep others from their answers.
        let (late, answered) = tokio::join!(ask(0, Duration::from_millis(300)), ask(1, long));
        assert!(late.is_err() && answered.is_ok());
    }
}

#[tokio::test]
async fn documents_keep_their_order() {
    for way in ways().await {
        eventually("the host is there", || way.hub.connected("h1")).await;
        for generation in 1..=500 {
            way.hub.desire("h1", desired(Uuid::nil(), generation)).await.unwrap();
        }
        eventually("all have come", || way.host.desired.lock().len() == 500).await;
        assert!(way.host.desired.lock().is_sorted());
    }
}

#[tokio::test]
async fn a_faulty_way_loses_doubles_and_reorders() {
    for way in ways().await {
        eventually("the host is there", || way.hub.connected("h1")).await;
        let faults = Faults { lose: 20, duplicate: 20, reorder: 20, deny: 20 };
        let down: Arc<Faulty<dyn ToAgents>> =
            Arc::new(Faulty::new(way.hub.clone(), faults, Arc::new(SeededRng::new(7))));
        let up: Faulty<dyn ToConductor> = Faulty::new(way.link.clone(), faults, Arc::new(SeededRng::new(8)));
        let mut denied = 0;
        for generation in 1..=200 {
            denied += usize::from(down.desire("h1", desired(Uuid::nil(), generation)).await.is_err());
            denied += usize::from(up.observed("h1", observed(generation)).await.is_err());
        }
        down.calm(true);
        up.calm(true);
        down.desire("h1", desired(Uuid::nil(), 201)).await.unwrap();
        up.observed("h1", observed(201)).await.unwrap();
        eventually("the last has come", || way.host.desired.lock().last() == Some(&201)).await;
        for got in [way.host.desired.lock().clone(), way.conductor.observed.lock().clone()] {
            let has = |generation: i64| got.iter().filter(|g| **g == generation).count();
            assert!((1..=200).any(|g| has(g) == 0) && (1..=200).any(|g| has(g) == 2), "{got:?}");
            assert!(!got.is_sorted() && denied > 0 && got.last() == Some(&201), "{got:?}");
        }
    }
}

#[tokio::test]
async fn a_newer_connection_takes_the_place() {
    let hub = local();
    let (host, conductor) = (Arc::new(Host::default()), Arc::new(Conductor::default()));
    let link = hub.connect("h1", host.clone());
    assert!(link.observed("h1", observed(1)).await.unwrap_err().is(Kind::Unavailable), "no conductor yet");
    let end: Arc<dyn ToConductor> = conductor;
    hub.conduct(&end);
    let newer = hub.connect("h1", host);
    assert!(link.observed("h1", observed(4)).await.unwrap_err().is(Kind::Unavailable), "replaced");
    drop(link);
    assert!(hub.connected("h1"), "dropping the old connection leaves the new one");
    drop(newer);
    assert!(!hub.connected("h1"));

    let post = Post::start(Security::Plain).await;
    let old = Outpost::start("h1", Security::Plain, &[post.address]);
    old.up(1).await;
    let stale = old.uplinks.clone();
    let new = Outpost::start("h1", Security::Plain, &[post.address]);
    new.up(1).await;
    drop(old);
    eventually("the old stream is gone", || stale.up() == 0 || post.hub.hosts() == ["h1"]).await;
    new.up(1).await;
    eventually("the host is there", || post.hub.connected("h1")).await;
    new.uplinks.report(report("h1")).await.unwrap();
    drop(new);
    eventually("nobody speaks for the host", || post.hub.hosts().is_empty()).await;
}
