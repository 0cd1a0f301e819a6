//! Certificates: who may say what.

use std::sync::atomic::Ordering;
use std::time::Duration;

use umbel_bus::{Conductors, Security, ToAgents, ToConductor, Uplink, Uplinks};
use umbel_core::Kind;
use uuid::Uuid;

use crate::world::{CELL, Outpost, Papers, Post, console, eventually, report};

/// Why a conductor does not take this agent.
async fn refused(post: &Post, host: &str, security: Security) -> Outpost {
    let outpost = Outpost::start(host, security.clone(), &[post.address]);
    assert!(outpost.uplinks.report(report(host)).await.unwrap_err().is(Kind::Unavailable));
    let uplink = Uplink {
        conductors: vec![post.address.to_string()],
        security,
        cell: CELL.to_owned(),
        host: host.to_owned(),
        patience: Duration::ZERO,
    };
    let image = Uplinks::new(&uplink).unwrap().read_image("mine").await.err().expect("no image either");
    assert!(matches!(image.kind(), Kind::Forbidden | Kind::Unavailable), "{image}");
    outpost
}

/// After it has tried for as long as the rest of the test took.
fn never_in(outpost: &Outpost) {
    assert_eq!((outpost.uplinks.up(), outpost.host.greeted.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn an_agent_speaks_for_the_hosts_of_its_certificate_alone() {
    let (papers, foreign) = (Papers::new(), Papers::new());
    let post = Post::start(papers.control()).await;
    let refused = [
        refused(&post, "h2", papers.agent(&["h1"])).await,
        refused(&post, "h1", papers.agent_of("cell2", &["h1"])).await,
        refused(&post, "h1", foreign.agent(&["h1"])).await,
        refused(&post, "h1", papers.expired("h1")).await,
        refused(&post, "h1", Security::Plain).await,
    ];
    let (one, two) = (papers.agent(&["h1", "h2"]), papers.agent(&["h3"]));
    let agents = [
        Outpost::start("h1", one.clone(), &[post.address]),
        Outpost::start("h2", one, &[post.address]),
        Outpost::start("h3", two, &[post.address]),
    ];
    for agent in &agents {
        agent.up(1).await;
    }
    assert_eq!(agents[0].uplinks.report(report("h3")).await.unwrap_err().kind(), Kind::Forbidden);
    agents[2].uplinks.report(report("h3")).await.unwrap();
    assert_eq!(*post.conductor.reports.lock(), ["h3"]);
    let mut hosts = post.hub.hosts();
    hosts.sort();
    assert_eq!(hosts, ["h1", "h2", "h3"]);
    refused.iter().for_each(never_in);
}

#[tokio::test]
async fn an_agent_believes_conductors_only() {
    let papers = Papers::new();
    // Signed by the same authority, for a host: whoever broke into one stands there and waits for others.
    let trap = Post::start(papers.agent(&["h1"])).await;
    never_in(&refused(&trap, "h2", papers.agent(&["h2"])).await);
    assert!(trap.conductor.reports.lock().is_empty());
}

#[tokio::test]
async fn only_an_api_gives_orders() {
    let papers = Papers::new();
    let post = Post::start(papers.control()).await;
    let agent = Outpost::start("h1", papers.agent(&["h1"]), &[post.address]);
    agent.up(1).await;
    eventually("the host is there", || post.hub.connected("h1")).await;

    let addresses = ["127.0.0.1:1".to_owned(), post.address.to_string()];
    let api = Conductors::new(&addresses, &papers.control()).unwrap();
    api.flow().await.unwrap();
    api.server(Uuid::nil(), Uuid::nil()).await.unwrap();
    assert_eq!(api.server(Uuid::max(), Uuid::nil()).await.unwrap_err().kind(), Kind::Unavailable, "another's cell");
    assert_eq!(post.conductor.flows.load(Ordering::SeqCst), 1);
    let limit = Duration::from_secs(10);
    assert!(api.task("h1", console(3), limit).await.is_ok());
    assert_eq!(api.task("h1", console(101), limit).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(api.task("h2", console(3), limit).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(api.task("h1", console(0), Duration::from_millis(20)).await.unwrap_err().kind(), Kind::Timeout);

    let host = Conductors::new(&addresses[1..], &papers.agent(&["h1"])).unwrap();
    assert_eq!(host.flow().await.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(host.task("h1", console(3), limit).await.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(post.conductor.flows.load(Ordering::SeqCst), 1);
}

#[test]
fn names_that_could_be_misread_get_no_certificate() {
    let authority = umbel_bus::Authority::create(umbel_core::Timestamp::from_secs(1_795_224_000)).unwrap();
    for (cell, host) in [("c", ""), ("c", "a/b"), ("a/b", "c"), ("c", "*"), ("", "h"), ("c", "h\u{e9}")] {
        let now = umbel_core::Timestamp::from_secs(1_795_224_000);
        assert!(authority.agent(now, cell, &[host.to_owned()]).is_err(), "{cell} {host}");
    }
}
