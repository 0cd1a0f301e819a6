//! Connections that break, conductors that go, peers that take nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use umbel_bus::{DiskRef, Security, ToAgents, ToConductor, Want};
use umbel_core::Kind;
use uuid::Uuid;

use crate::world::{Outpost, Papers, Post, console, desired, eventually, observed, report};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Connections end, new ones too.
    Cut,
    /// Nothing is passed on, and nobody is told.
    Frozen,
}

/// A wire that can be cut.
struct Cable {
    address: SocketAddr,
    state: Arc<watch::Sender<Wire>>,
}

impl Cable {
    async fn to(target: SocketAddr) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(Wire::Whole));
        let all = state.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target, all.subscribe()));
            }
        });
        Cable { address, state }
    }

    fn set(&self, state: Wire) {
        self.state.send_replace(state);
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut state: watch::Receiver<Wire>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    loop {
        let now = *state.borrow_and_update();
        match now {
            Wire::Cut => return,
            Wire::Frozen => {
                let _ = state.changed().await;
            }
            Wire::Whole => {
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => return,
                    _ = state.changed() => {}
                }
            }
        }
    }
}

#[tokio::test]
async fn a_broken_connection_is_made_again() {
    let papers = Papers::new();
    let post = Post::start(papers.control()).await;
    let cable = Cable::to(post.address).await;
    let agent = Outpost::start("h1", papers.agent(&["h1"]), &[cable.address]);
    for round in 1..=3 {
        agent.up(1).await;
        eventually("the host is there", || post.hub.connected("h1")).await;
        assert_eq!(agent.host.greeted.load(Ordering::SeqCst), round, "each connection is told of");
        agent.uplinks.observed("h1", observed(1)).await.unwrap();

        // What waits for an answer hears of the end.
        let hub = post.hub.clone();
        let waiting = tokio::spawn(async move { hub.task("h1", console(0), Duration::from_secs(600)).await });
        cable.set(Wire::Cut);
        assert!(waiting.await.unwrap().unwrap_err().is(Kind::Unavailable));
        eventually("the agent knows", || agent.uplinks.up() == 0).await;
        eventually("the conductor knows", || !post.hub.connected("h1")).await;
        assert!(agent.uplinks.report(report("h1")).await.unwrap_err().is(Kind::Unavailable));
        assert!(post.hub.desire("h1", desired(Uuid::nil(), 1)).await.unwrap_err().is(Kind::Unavailable));
        cable.set(Wire::Whole);
    }
    agent.up(1).await;
}

#[tokio::test]
async fn one_conductor_of_two_is_enough() {
    let papers = Papers::new();
    let (one, two) = (Post::start(papers.control()).await, Post::start(papers.control()).await);
    let agent = Outpost::start("h1", papers.agent(&["h1"]), &[one.address, two.address]);
    agent.up(2).await;
    agent.uplinks.report(report("h1")).await.unwrap();
    for post in [&one, &two] {
        eventually("both hear", || post.conductor.reports.lock().len() == 1).await;
        eventually("both reach it", || post.hub.connected("h1")).await;
    }
    one.stop().await;
    agent.up(1).await;
    agent.uplinks.report(report("h1")).await.unwrap();
    assert_eq!(agent.uplinks.resync("h1", vec![Uuid::nil()]).await.unwrap().len(), 1);
    assert_eq!(two.conductor.reports.lock().len(), 2);
    two.hub.desire("h1", desired(Uuid::nil(), 9)).await.unwrap();
    eventually("it is reached", || *agent.host.desired.lock() == [9]).await;
}

/// A host that takes nothing costs its conductor a queue and moments, neither memory without end nor a wait for ever; its
/// connection ends by itself.
#[tokio::test]
async fn a_peer_that_takes_nothing_holds_nobody_up() {
    let post = Post::start(Security::Plain).await;
    let cable = Cable::to(post.address).await;
    let frozen = Outpost::start("h1", Security::Plain, &[cable.address]);
    let other = Outpost::start("h2", Security::Plain, &[post.address]);
    frozen.up(1).await;
    other.up(1).await;
    eventually("both are there", || post.hub.hosts().len() == 2).await;
    cable.set(Wire::Frozen);
    let disks = vec![DiskRef { pool: "p".repeat(1_000), name: "d".into() }; 1_000];
    let begun = Instant::now();
    let hub = post.hub.clone();
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        while hub.connected("h1") {
            let mut large = desired(Uuid::nil(), 1);
            large.want = Want::Absent { disks: disks.clone() };
            let _ = hub.desire("h1", large).await;
            sent += 1;
        }
        sent
    });
    assert!(post.hub.task("h1", console(3), Duration::from_millis(50)).await.is_err());
    post.hub.desire("h2", desired(Uuid::nil(), 5)).await.unwrap();
    eventually("others are served", || *other.host.desired.lock() == [5]).await;
    let sent = tokio::time::timeout(Duration::from_secs(60), flood).await.expect("the connection ends").unwrap();
    assert!(sent < 500, "{sent} documents of a megabyte were taken in {:?}", begun.elapsed());
    cable.set(Wire::Whole);
    frozen.up(1).await;
}

#[tokio::test]
async fn an_image_goes_on_from_another_conductor() {
    let papers = Papers::new();
    let (one, two) = (Post::start(papers.control()).await, Post::start(papers.control()).await);
    one.conductor.stuck.store(true, Ordering::SeqCst);
    let cable = Cable::to(one.address).await;
    let agent = Outpost::start("h1", papers.agent(&["h1"]), &[cable.address, two.address]);
    agent.up(2).await;
    let mut data = agent.uplinks.read_image("mine").await.unwrap().bytes;
    let mut all = Vec::new();
    while let Some(piece) = data.next().await {
        all.extend_from_slice(&piece.unwrap());
        if all.len() == 1_000_000 {
            // All that the first one gives.
            cable.set(Wire::Cut);
        }
    }
    assert_eq!(all.len(), 5_000_000);
    assert!(all.chunks(100_000).zip(0_u8..).all(|(chunk, number)| chunk.iter().all(|byte| *byte == number)));
}

/// The rest of other data would make an image that never was.
#[tokio::test]
async fn an_image_that_was_replaced_does_not_go_on() {
    let papers = Papers::new();
    let (one, two) = (Post::start(papers.control()).await, Post::start(papers.control()).await);
    one.conductor.stuck.store(true, Ordering::SeqCst);
    two.conductor.replaced.store(true, Ordering::SeqCst);
    let cable = Cable::to(one.address).await;
    let agent = Outpost::start("h1", papers.agent(&["h1"]), &[cable.address, two.address]);
    agent.up(2).await;
    let mut data = agent.uplinks.read_image("mine").await.unwrap().bytes;
    let mut came = 0;
    let error = loop {
        match data.next().await.expect("it does not end as if it were whole") {
            Ok(piece) => came += piece.len(),
            Err(error) => break error,
        }
        if came == 1_000_000 {
            cable.set(Wire::Cut);
        }
    };
    assert_eq!(error.kind(), Kind::Conflict);
}
