//! Certificates: who may say what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use umbel_bus::{
    Conductors, Credentials, Hubs, Issued, Security, ToAgents, ToCells, ToConductor, Uplink, Uplinks, fingerprint,
};
use umbel_core::Kind;
use uuid::Uuid;

use crate::world::{CELL, Host, Outpost, Papers, Post, console, eventually, now, report};

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
    assert!(api.task(CELL, "h1", console(3), limit).await.is_ok());
    assert_eq!(api.task(CELL, "h1", console(101), limit).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(api.task("cell2", "h1", console(3), limit).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(api.task(CELL, "h2", console(3), limit).await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(api.task(CELL, "h1", console(0), Duration::from_millis(20)).await.unwrap_err().kind(), Kind::Timeout);

    let host = Conductors::new(&addresses[1..], &papers.agent(&["h1"])).unwrap();
    assert_eq!(host.flow().await.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(host.task(CELL, "h1", console(3), limit).await.unwrap_err().kind(), Kind::Forbidden);
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

/// Names of hosts are their cells' own.
#[tokio::test]
async fn a_task_goes_to_the_host_of_its_cell() {
    let hubs: Vec<_> = ["cell1", "cell2"].map(|cell| (cell.to_owned(), umbel_bus::local())).into();
    let _second = hubs[1].1.connect("h", Arc::new(Host::default()));
    let all = Hubs(hubs);
    let limit = Duration::from_secs(10);
    assert!(all.task("cell2", "h", console(3), limit).await.is_ok());
    for cell in ["cell1", "cell3"] {
        assert_eq!(all.task(cell, "h", console(3), limit).await.unwrap_err().kind(), Kind::Unavailable, "{cell}");
    }
}

/// The folder of one process.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(issued: &Issued) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.put(issued);
        folder
    }

    fn put(&self, issued: &Issued) {
        self.write("ca.pem", &issued.ca);
        self.write("cert.pem", &issued.certificate);
        self.write("key.pem", &issued.key);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn open(&self) -> Arc<Credentials> {
        Credentials::open(self.0.path()).unwrap()
    }
}

#[tokio::test]
async fn who_is_revoked_is_shut_out_at_once() {
    let papers = Papers::new();
    let folder = Folder::new(&papers.0.control(now()).unwrap());
    let credentials = folder.open();
    let post = Post::start(Security::Mutual(credentials.clone())).await;
    let hosts = |name: &str| papers.0.agent(now(), CELL, &[name.to_owned()]).unwrap();
    let (bad, good) = (hosts("h1"), hosts("h2"));
    let secure = |issued: &Issued| {
        let Issued { ca, certificate, key } = issued;
        Security::Mutual(Credentials::from_pem(ca.clone(), certificate.clone(), key.clone()).unwrap())
    };
    let first = Outpost::start("h1", secure(&bad), &[post.address]);
    let second = Outpost::start("h2", secure(&good), &[post.address]);
    first.up(1).await;
    second.up(1).await;
    folder.write("revoked", &format!("# broken into\n{} h1\n", fingerprint(&bad.certificate).unwrap()));
    assert!(credentials.reload().unwrap());
    assert!(!credentials.reload().unwrap(), "nothing new");
    first.up(0).await;
    eventually("the hub has forgotten it", || post.hub.hosts() == ["h2"]).await;
    assert!(first.uplinks.report(report("h1")).await.is_err());
    second.uplinks.report(report("h2")).await.unwrap();
    // A new certificate for the same host is another one.
    let mended = Outpost::start("h1", secure(&hosts("h1")), &[post.address]);
    mended.up(1).await;
    assert_eq!(first.uplinks.up(), 0);
    // What cannot be read changes nothing.
    folder.write("revoked", "h1\n");
    assert!(credentials.reload().is_err());
    assert_eq!(mended.uplinks.up(), 1);
}

#[tokio::test]
async fn a_stolen_conductor_is_not_believed() {
    let papers = Papers::new();
    let stolen = papers.0.control(now()).unwrap();
    let folder = Folder::new(&papers.0.agent(now(), CELL, &["h1".to_owned()]).unwrap());
    folder.write("revoked", &fingerprint(&stolen.certificate).unwrap());
    let trap = Post::start(Security::Mutual(Folder::new(&stolen).open())).await;
    let outpost = Outpost::start("h1", Security::Mutual(folder.open()), &[trap.address]);
    assert!(outpost.uplinks.report(report("h1")).await.is_err());
    never_in(&outpost);
}

#[tokio::test]
async fn a_conductor_that_is_revoked_is_left_at_once() {
    let papers = Papers::new();
    let (stolen, other) = (papers.0.control(now()).unwrap(), papers.0.control(now()).unwrap());
    let ours = Folder::new(&papers.0.agent(now(), CELL, &["h1".to_owned()]).unwrap());
    let apis = Folder::new(&papers.0.control(now()).unwrap());
    let (agent, api) = (ours.open(), apis.open());
    let bad = Post::start(Security::Mutual(Folder::new(&stolen).open())).await;
    let good = Post::start(Security::Mutual(Folder::new(&other).open())).await;
    let outpost = Outpost::start("h1", Security::Mutual(agent.clone()), &[bad.address, good.address]);
    outpost.up(2).await;
    let way = Conductors::new(&[bad.address.to_string()], &Security::Mutual(api.clone())).unwrap();
    way.flow().await.unwrap();
    for (folder, credentials) in [(&ours, &agent), (&apis, &api)] {
        folder.write("revoked", &fingerprint(&stolen.certificate).unwrap());
        assert!(credentials.reload().unwrap());
    }
    outpost.up(1).await;
    eventually("it is gone from there", || bad.hub.hosts().is_empty()).await;
    assert_eq!(good.hub.hosts(), ["h1"]);
    outpost.uplinks.report(report("h1")).await.unwrap();
    assert!(bad.conductor.reports.lock().is_empty());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while way.flow().await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "orders still go there");
    }
    assert_eq!(way.flow().await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn certificates_are_renewed_while_it_runs() {
    let (old, new) = (Papers::new(), Papers::new());
    let (theirs, ours) = (Folder::new(&old.0.control(now()).unwrap()), Folder::new(&old.0.control(now()).unwrap()));
    let (conductor, api) = (theirs.open(), ours.open());
    let post = Post::start(Security::Mutual(conductor.clone())).await;
    // Another authority altogether: each side changes without a restart.
    theirs.put(&new.0.control(now()).unwrap());
    assert!(conductor.reload().unwrap());
    let way = Conductors::new(&[post.address.to_string()], &Security::Mutual(api.clone())).unwrap();
    assert_eq!(way.flow().await.unwrap_err().kind(), Kind::Unavailable);
    ours.put(&new.0.control(now()).unwrap());
    assert!(api.reload().unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = way.flow().await {
        assert!(std::time::Instant::now() < deadline, "{error}");
    }
}
