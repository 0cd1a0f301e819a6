//! A Ceph that fails under a cloud: an OSD that dies, pools without room, a network that is cut. Whatever was accepted
//! comes to an end, well or with a reason; nothing that was acknowledged is lost; everything can be deleted; and then
//! pools and databases agree.

mod backups;
pub(crate) mod site;

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use umbel_testkit::until;

use site::{Answer, IMAGE, MIB, OwnCeph, SLOW, Site, VOLUME, noise};

/// "Within seconds", on a machine that has more to do.
const SOON: Duration = Duration::from_secs(15);

/// All pools in the cluster, beside local ones for images (`files`) and volumes (`disks`).
fn config(ceph: &OwnCeph) -> String {
    let conf = ceph.conf();
    let rbd = |name: &str| {
        format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{}'\nuser = 'umbel'\n", conf.display())
    };
    let local = |name: &str| format!("[[pools]]\nname = '{name}'\ndriver = 'local'\n");
    let pools: String =
        ["images", "vms", "volumes"].into_iter().map(rbd).chain(["files", "disks"].map(local)).collect();
    format!(
        "[agent]\nhypervisor = 'simulated'\n[audit]\ngrace_seconds = 1\n[image]\nstores = ['files']\n\
         [volume]\npools = ['volumes', 'disks']\n[volume.options]\nsweep_seconds = 2\n\
         [volume.options.quota]\nvolumes = -1\nsnapshots = -1\ngigabytes = -1\n{pools}"
    )
}

/// Types of volumes for each of the two backends, so that no volume goes where another one was meant.
async fn types(site: &Site) {
    for (name, backend) in [("ceph", "volumes"), ("local", "disks")] {
        let kind = json!({"volume_type": {"name": name, "extra_specs": {"volume_backend_name": backend}}});
        assert!(site.post(VOLUME, "/types", &kind).await.good());
    }
}

/// An image with data in Ceph.
async fn uploaded(site: &Site, bytes: Vec<u8>) -> String {
    let image = site.image("raw").await;
    let answer = site.upload(&image, None, bytes).await;
    assert!(answer.good(), "{answer:?}");
    image
}

async fn volume(site: &Site, body: Value) -> String {
    let id = site.make("volume", body).await;
    site.available("volume", &id).await;
    id
}

async fn snapshot(site: &Site, of: &str) -> String {
    let id = site.make("snapshot", json!({"volume_id": of, "force": true})).await;
    site.available("snapshot", &id).await;
    id
}

async fn image_status(site: &Site, id: &str) -> String {
    let answer = site.get(IMAGE, &format!("/v2/images/{id}")).await;
    match answer.status {
        404 => "gone".to_owned(),
        _ => answer.body["status"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned(),
    }
}

/// Nothing is left in any pool, of anything.
async fn all_is_gone(site: &Site, ceph: &OwnCeph) {
    site.audit_is_clean().await;
    until::yes("the pools are empty", SLOW, async || ceph.contents().await.is_empty()).await;
}

/// One of many things asked for at once.
enum Work {
    /// A volume.
    Make(Value),
    Snapshot(String),
    Upload(String),
    Delete(&'static str, String),
}

impl Work {
    async fn ask(&self, site: &Site) -> Answer {
        match self {
            Work::Make(body) => site.post(VOLUME, "/volumes", &json!({ "volume": body })).await,
            Work::Snapshot(of) => {
                let body = json!({"snapshot": {"volume_id": of, "force": true}});
                site.post(VOLUME, "/snapshots", &body).await
            }
            Work::Upload(image) => site.upload(image, None, noise(8 * MIB)).await,
            Work::Delete("image", id) => site.delete(IMAGE, &format!("/v2/images/{id}")).await,
            Work::Delete(kind, id) => site.delete(VOLUME, &format!("/{kind}s/{id}")).await,
        }
    }

    /// What became of it: acknowledged and there, or failed and telling why. What is left of it, to be deleted.
    async fn outcome(&self, site: &Site, answer: &Answer) -> Option<(&'static str, String)> {
        let kind = match self {
            Work::Make(_) => "volume",
            Work::Snapshot(_) => "snapshot",
            Work::Upload(image) => {
                let status = image_status(site, image).await;
                match answer.good() {
                    true => {
                        assert_eq!(status, "active", "an upload was acknowledged");
                        assert!(site.download(image).await == noise(8 * MIB), "what was acknowledged is there");
                    }
                    false => {
                        assert!(answer.says_why(), "{answer:?}");
                        let what = format!("the upload of {image} is undone");
                        until::yes(&what, SLOW, async || image_status(site, image).await == "queued").await;
                    }
                }
                return Some(("image", image.clone()));
            }
            Work::Delete(kind, id) => {
                assert!(answer.good() || answer.says_why(), "{answer:?}");
                return (!answer.good()).then(|| (*kind, id.clone()));
            }
        };
        if !answer.good() {
            assert!(answer.says_why(), "{answer:?}");
            return None;
        }
        let id = answer.id();
        let status = site.settled(kind, &id).await;
        if status != "available" {
            let reasons = site.reasons(&id).await;
            eprintln!("{kind} {id} is {status}: {reasons:?}");
            assert!(status == "error" && !reasons.is_empty(), "{kind} {id} is {status}: {reasons:?}");
        }
        Some((kind, id))
    }
}

/// What is left of all, to be deleted.
async fn outcomes(site: &Site, all: &[Work], answers: &[Answer]) -> Vec<(&'static str, String)> {
    let mut left = Vec::new();
    for (work, answer) in all.iter().zip(answers) {
        left.extend(work.outcome(site, answer).await);
    }
    left
}

/// All at once, but snapshots first: they hold their volumes.
async fn remove_all(site: &Site, all: Vec<(&'static str, String)>) {
    let (snapshots, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(kind, _)| *kind == "snapshot");
    for some in [snapshots, rest] {
        join_all(some.iter().map(|(kind, id)| site.remove(kind, id))).await;
    }
}

#[tokio::test]
async fn an_osd_that_dies_under_load_loses_nothing() {
    let ceph = OwnCeph::up().await;
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), &config(&ceph)).await;
    types(&site).await;
    let base = uploaded(&site, noise(8 * MIB)).await;
    let source = volume(&site, json!({"size": 1, "volume_type": "ceph"})).await;
    let all = fifty(&site, &base, &source).await;

    let answered = Cell::new(0);
    let asking = join_all(all.iter().map(async |work| {
        let answer = work.ask(&site).await;
        answered.set(answered.get() + 1);
        answer
    }));
    let hurting = async {
        until::yes("the work has begun", SLOW, async || answered.get() >= 8).await;
        ceph.signal("osd", "-KILL");
        for path in ["/volumes/detail", "/snapshots/detail"] {
            let answer = site.get(VOLUME, path).await;
            assert!(answer.status == 200 && answer.took < SOON, "without an OSD: {answer:?}");
        }
        ceph.start().await;
    };
    let (answers, ()) = tokio::join!(asking, hurting);

    let mut left = outcomes(&site, &all, &answers).await;
    site.audit_is_clean().await;
    left.extend([("volume", source), ("image", base)]);
    remove_all(&site, left).await;
    all_is_gone(&site, &ceph).await;
    site.stop().await;
}

/// Volumes by clone and by copy, snapshots, uploads, and deletions of what is made here.
async fn fifty(site: &Site, base: &str, source: &str) -> Vec<Work> {
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(Work::Delete(
            "volume",
            volume(site, json!({"size": 1, "volume_type": "ceph", "imageRef": base})).await,
        ));
    }
    for _ in 0..3 {
        all.push(Work::Delete("snapshot", snapshot(site, source).await));
        all.push(Work::Delete("image", uploaded(site, noise(MIB)).await));
    }
    for _ in 0..8 {
        all.push(Work::Upload(site.image("raw").await));
    }
    all.extend((0..10).map(|_| Work::Snapshot(source.to_owned())));
    all.extend((0..16).map(|_| Work::Make(json!({"size": 1, "volume_type": "ceph", "imageRef": base}))));
    all.extend((0..4).map(|_| Work::Make(json!({"size": 1, "volume_type": "ceph", "source_volid": source}))));
    assert_eq!(all.len(), 50);
    // Of everything something early and something late.
    (0..50).map(|at| at * 7 % 50).map(|at| std::mem::replace(&mut all[at], Work::Upload(String::new()))).collect()
}

/// Why there is no room.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Of the two pools, below what is in them.
    Quota,
    /// OSDs count as full that are hardly filled.
    Ratio,
}

impl Limit {
    async fn set(self, ceph: &OwnCeph, on: bool) {
        let command = async |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            ceph.tool("ceph", &words).await;
        };
        match self {
            Limit::Quota => {
                let bytes = if on { 4 << 20 } else { 0 };
                for pool in ["images", "volumes"] {
                    command(&format!("osd pool set-quota {pool} max_bytes {bytes}")).await;
                }
            }
            Limit::Ratio => {
                let ratios = if on { [0.002, 0.003, 0.004] } else { [0.85, 0.9, 0.95] };
                for (name, ratio) in ["nearfull", "backfillfull", "full"].into_iter().zip(ratios) {
                    command(&format!("osd set-{name}-ratio {ratio}")).await;
                }
            }
        }
        // The cluster itself takes seconds to notice, and until then it takes what comes.
        for pool in ["images", "volumes"] {
            until::yes(&format!("{pool} is full by {self:?}: {on}"), SLOW, async || is_full(ceph, pool).await == on)
                .await;
        }
    }
}

async fn is_full(ceph: &OwnCeph, pool: &str) -> bool {
    let pools = ceph.tool("ceph", &["osd", "pool", "ls", "detail"]).await;
    let line = pools.lines().find(|line| line.contains(&format!("'{pool}'"))).unwrap_or_default();
    line.split([',', ' ']).any(|word| word.starts_with("full"))
}

#[tokio::test]
async fn pools_without_room_say_so_and_can_be_emptied() {
    let ceph = OwnCeph::up().await;
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), &config(&ceph)).await;
    types(&site).await;
    let base = uploaded(&site, noise(8 * MIB)).await;
    let kept = volume(&site, json!({"size": 1, "volume_type": "ceph", "imageRef": base})).await;
    // What fills the pools is nobody's of this cloud.
    let filler = dir.path().join("filler");
    std::fs::write(&filler, noise(8 * MIB)).unwrap();
    for pool in ["images", "volumes"] {
        ceph.tool("rbd", &["import", "--no-progress", filler.to_str().unwrap(), &format!("{pool}/filler")]).await;
    }
    for limit in [Limit::Quota, Limit::Ratio] {
        let spare = uploaded(&site, noise(MIB)).await;
        let other = volume(&site, json!({"size": 1, "volume_type": "ceph"})).await;
        let taken = snapshot(&site, &kept).await;
        limit.set(&ceph, true).await;
        refused(&site, &base, &kept).await;
        for (kind, id) in [("snapshot", &taken), ("volume", &other), ("image", &spare)] {
            site.remove(kind, id).await;
        }
        until::yes("what was deleted makes room", SLOW, async || {
            let left = ceph.contents().await.concat();
            !left.contains(&other) && !left.contains(&spare)
        })
        .await;
        site.audit_is_clean().await;
        limit.set(&ceph, false).await;
        room_again(&site).await;
    }
    let again = uploaded(&site, noise(MIB)).await;
    let clone = volume(&site, json!({"size": 1, "volume_type": "ceph", "imageRef": again})).await;
    let copy = volume(&site, json!({"size": 1, "volume_type": "ceph", "source_volid": kept})).await;
    let point = snapshot(&site, &kept).await;
    let volumes = [copy, clone, kept].map(|id| ("volume", id));
    let images = [again, base].map(|id| ("image", id));
    for (kind, id) in [("snapshot", point)].into_iter().chain(volumes).chain(images) {
        site.remove(kind, &id).await;
    }
    for pool in ["images", "volumes"] {
        ceph.tool("rbd", &["rm", "--no-progress", &format!("{pool}/filler")]).await;
    }
    all_is_gone(&site, &ceph).await;
    site.stop().await;
}

/// Figures of what is free come some seconds later than the flags that say what is full.
async fn room_again(site: &Site) {
    until::yes("there is room again", SLOW, async || {
        let image = site.image("raw").await;
        let answer = site.upload(&image, None, noise(MIB)).await;
        assert!(answer.good() || answer.message().contains("full"), "{answer:?}");
        site.remove("image", &image).await;
        answer.good()
    })
    .await;
}

/// Whatever needs room fails, and says why to whoever asked; what is there stays usable.
async fn refused(site: &Site, base: &str, kept: &str) {
    let image = site.image("raw").await;
    let answer = site.upload(&image, None, noise(8 * MIB)).await;
    assert!(!answer.good() && answer.message().contains("full"), "an upload: {answer:?}");
    assert_eq!(image_status(site, &image).await, "queued");
    site.remove("image", &image).await;

    let asked = [
        ("volume", json!({"size": 1, "volume_type": "ceph"})),
        ("volume", json!({"size": 1, "volume_type": "ceph", "imageRef": base})),
        ("volume", json!({"size": 1, "volume_type": "ceph", "source_volid": kept})),
        ("snapshot", json!({"volume_id": kept, "force": true})),
    ];
    let mut made = Vec::new();
    for (kind, body) in asked {
        made.push((kind, site.make(kind, body).await));
    }
    for (kind, id) in &made {
        assert_eq!(site.settled(kind, id).await, "error", "a {kind} in a full pool");
        let reasons = site.reasons(id).await;
        // The scheduler may know it before the pool is asked.
        let full = |reason: &String| reason.contains("full") || reason.contains("available weighted backend");
        assert!(reasons.iter().any(full), "a {kind}: {reasons:?}");
    }
    site.audit_is_clean().await;
    for (kind, id) in &made {
        site.remove(kind, id).await;
    }
    assert_eq!(site.status("volume", kept).await, "available");
}

#[tokio::test]
async fn a_network_that_is_cut_leaves_the_api_answering() {
    let ceph = OwnCeph::up().await;
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), &config(&ceph)).await;
    types(&site).await;
    let base = uploaded(&site, noise(8 * MIB)).await;
    let kept = volume(&site, json!({"size": 1, "volume_type": "ceph", "imageRef": base})).await;
    let mut left = cut_off(&site, &ceph, &base, &kept).await;
    site.audit_is_clean().await;
    left.extend([("volume", kept), ("image", base)]);
    remove_all(&site, left).await;
    all_is_gone(&site, &ceph).await;
    site.stop().await;
}

/// Stops the monitor and then the OSD too, asks for much, has them go on, and waits for all that was asked for.
async fn cut_off(site: &Site, ceph: &OwnCeph, base: &str, kept: &str) -> Vec<(&'static str, String)> {
    let doomed = volume(site, json!({"size": 1, "volume_type": "ceph"})).await;
    let mut all = vec![Work::Delete("volume", doomed), Work::Delete("image", uploaded(site, noise(MIB)).await)];
    for _ in 0..12 {
        all.push(Work::Make(json!({"size": 1, "volume_type": "ceph", "imageRef": base})));
        all.push(Work::Make(json!({"size": 1, "volume_type": "ceph"})));
        all.push(Work::Snapshot(kept.to_owned()));
    }
    let upload = Work::Upload(site.image("raw").await);
    ceph.signal("mon", "-STOP");
    let uploading = async {
        let answer = upload.ask(site).await;
        assert!(answer.says_why(), "an upload without a monitor: {answer:?}");
        answer
    };
    let rest = async {
        let answers = join_all(all.iter().map(|work| work.ask(site))).await;
        for answer in &answers {
            assert!((answer.good() || answer.says_why()) && answer.took < SOON, "without a monitor: {answer:?}");
        }
        elsewhere(site).await;
        reads(site, base, kept).await;
        it_is_told(site).await;
        answers
    };
    let (uploaded, mut answers) = tokio::join!(uploading, rest);
    ceph.signal("osd", "-STOP");
    elsewhere(site).await;
    reads(site, base, kept).await;
    for daemon in ["osd", "mon"] {
        ceph.signal(daemon, "-CONT");
    }
    all.push(upload);
    answers.push(uploaded);
    outcomes(site, &all, &answers).await
}

/// What has nothing to do with the cluster goes on.
async fn elsewhere(site: &Site) {
    let image = site.image("raw").await;
    let answer = site.upload(&image, Some("files"), noise(MIB)).await;
    assert!(answer.good() && answer.took < SOON, "an upload to local files: {answer:?}");
    assert!(site.download(&image).await == noise(MIB));
    let local = site.make("volume", json!({"size": 1, "volume_type": "local"})).await;
    let what = "a local volume is made";
    until::yes(what, SOON * 3, async || site.status("volume", &local).await == "available").await;
    let point = site.make("snapshot", json!({"volume_id": local})).await;
    let what = "a local snapshot is made";
    until::yes(what, SOON * 3, async || site.status("snapshot", &point).await == "available").await;
    for (kind, id) in [("snapshot", &point), ("volume", &local), ("image", &image)] {
        site.remove(kind, id).await;
    }
}

/// Whoever looks after the cloud sees which backend is down, and which is not.
async fn it_is_told(site: &Site) {
    until::yes("the backend counts as down", SLOW, async || {
        let answer = site.get(VOLUME, "/os-services?binary=cinder-volume").await;
        assert!(answer.status == 200 && answer.took < SOON, "{answer:?}");
        let services = answer.body["services"].as_array().unwrap();
        let state = |end: &str| {
            let found = services.iter().find(|one| one["host"].as_str().unwrap().ends_with(end));
            found.unwrap()["backend_state"].as_str().unwrap().to_owned()
        };
        assert_eq!(state("@disks"), "up");
        state("@volumes") == "down"
    })
    .await;
}

/// What only reads databases.
async fn reads(site: &Site, base: &str, kept: &str) {
    let (image, one) = (format!("/v2/images/{base}"), format!("/volumes/{kept}"));
    let asked = [
        (IMAGE, "/v2/images"),
        (IMAGE, &image),
        (VOLUME, "/volumes/detail"),
        (VOLUME, &one),
        (VOLUME, "/snapshots/detail"),
        (VOLUME, "/limits"),
        (VOLUME, "/scheduler-stats/get_pools?detail=true"),
        ("compute", "/servers/detail"),
        ("compute", "/os-services"),
        ("compute", "/os-hypervisors/detail"),
        ("compute", "/limits"),
    ];
    for (service, path) in asked {
        let answer = site.get(service, path).await;
        assert!(answer.status == 200 && answer.took < SOON, "{path}: {} after {:?}", answer.status, answer.took);
    }
}
