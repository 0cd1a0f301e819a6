//! `umbel storage`: what no row knows is named, and nothing else; mended; and left alone where it is somebody else's.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use umbel_client::{Body, Call, Cloud, NewServer};
use umbel_testkit::{Ceph, Process, ceph_conf, process, until};

const LIMIT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(50);

/// The shared test cluster has other tests' disks in its usual pools, which are orphans to this cloud: it gets pools of
/// its own, which go with it.
pub struct Pools {
    mark: String,
}

impl Pools {
    const NAMES: [&str; 3] = ["images", "vms", "volumes"];

    pub async fn new() -> Pools {
        let pools = Pools { mark: umbel_core::Id::<Pools>::random(&umbel_core::SystemRng::new()).simple() };
        for name in Pools::NAMES {
            tool("ceph", &["osd", "pool", "create", &pools.of(name), "8"]).await;
            tool("rbd", &["pool", "init", &pools.of(name)]).await;
        }
        // Until then no host has room for a disk.
        until::yes("Ceph knows the room in new pools", LIMIT, async || pools.have_room().await).await;
        pools
    }

    async fn have_room(&self) -> bool {
        let df = tool("ceph", &["df", "--format", "json"]).await;
        let df: serde_json::Value = serde_json::from_slice(&df).unwrap();
        let pools = df["pools"].as_array().unwrap();
        let room = |name: &str| {
            let pool = pools.iter().find(|pool| pool["name"] == self.of(name));
            pool.is_some_and(|pool| pool["stats"]["max_avail"].as_u64() > Some(0))
        };
        Pools::NAMES.into_iter().all(room)
    }

    pub fn of(&self, name: &str) -> String {
        format!("audit-{name}-{}", &self.mark[..8])
    }

    pub fn config(&self) -> String {
        let pool = |name: &&str| {
            let (conf, ceph_pool) = (ceph_conf(), self.of(name));
            let conf = conf.display();
            format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{conf}'\nceph_pool = '{ceph_pool}'\n")
        };
        let pools: String = Pools::NAMES.iter().map(pool).collect();
        format!("[agent]\nhypervisor = 'simulated'\n[audit]\ngrace_seconds = 1\nhidden_seconds = 2\n{pools}")
    }

    pub async fn remove(&self) {
        // Ceph wants to be told that pools may go at all.
        tool("ceph", &["config", "set", "mon", "mon_allow_pool_delete", "true"]).await;
        for name in Pools::NAMES {
            let pool = self.of(name);
            tool("ceph", &["osd", "pool", "rm", &pool, &pool, "--yes-i-really-really-mean-it"]).await;
        }
    }
}

/// What the program printed.
pub async fn tool(program: &str, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    let output = command.arg("-c").arg(ceph_conf()).args(args).output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {} failed: {error}", args.join(" "));
    output.stdout
}

/// `umbel storage …` at the cloud in `dir`.
pub async fn storage(dir: &Path, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(process::binary());
    let Output { status, stdout, stderr } =
        command.arg("storage").args(args).arg("--dir").arg(dir).output().await.unwrap();
    let told = String::from_utf8(stdout).unwrap();
    assert!(status.success() || !told.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    (status.success(), told)
}

/// What it said to standard error when it was refused.
pub async fn refused(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new(process::binary());
    let output = command.arg("storage").args(args).arg("--dir").arg(dir).output().await.unwrap();
    assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A raw image of 4 MiB, and a flavor; (image, flavor).
pub async fn prepare(cloud: &Cloud) -> (String, String) {
    let body = json!({"name": "audited", "disk_format": "raw", "container_format": "bare"});
    let image: serde_json::Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(vec![7; 4 << 20].into()));
    cloud.bytes(call).await.unwrap();
    let flavor = json!({"flavor": {"name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}});
    let flavor: serde_json::Value = cloud.post("compute", "/flavors", None, &flavor).await.unwrap();
    (image, flavor["flavor"]["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_audit_names_what_is_one_too_many_and_mends_it() {
    let pools = Arc::new(Pools::new().await);
    // The pools go however it ends.
    let outcome = tokio::spawn(story(pools.clone())).await;
    pools.remove().await;
    outcome.unwrap();
}

async fn story(pools: Arc<Pools>) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("umbel.toml");
    std::fs::write(&config, pools.config()).unwrap();
    let umbel = Process::up(dir.path(), &["--config", config.to_str().unwrap()]).await;
    let cloud = umbel.admin().await;
    let (image, flavor) = prepare(&cloud).await;
    let new = NewServer { name: "tracked", image_id: &image, flavor_id: &flavor, count: 1 };
    let server = cloud.create_server(&new).await.unwrap();
    cloud.wait_active(&server, TICK, LIMIT).await.unwrap();
    assert_eq!(storage(dir.path(), &["audit"]).await, (true, "0\n".to_owned()));

    // One of our naming that no row knows, beside one that is somebody's.
    let ceph = Ceph::new();
    let (images, vms, volumes) = (pools.of("images"), pools.of("vms"), pools.of("volumes"));
    let stray = format!("volume-{}", umbel_core::Id::<Pools>::random(&umbel_core::SystemRng::new()));
    tool("rbd", &["create", "--size", "8M", &format!("{volumes}/{stray}")]).await;
    tool("rbd", &["create", "--size", "8M", &format!("{volumes}/golden")]).await;
    tool("rbd", &["snap", "create", &format!("{images}/{image}@mine")]).await;
    let (good, told) = storage(dir.path(), &["audit"]).await;
    assert!(!good && told.lines().count() == 1, "{told}");
    assert!(told.starts_with(&format!("orphan volumes/{stray}: ")), "{told}");
    let (good, told) = storage(dir.path(), &["audit", "--fix"]).await;
    assert!(!good && ceph.has(&volumes, &stray).await, "nobody was there to say yes: {told}");
    let refused = refused(dir.path(), &["audit", "--fix", "--yes", "--only", "volumes/stray"]).await;
    assert!(refused.contains("No finding is named 'volumes/stray'."), "{refused}");
    let (good, told) = storage(dir.path(), &["audit", "--fix", "--yes"]).await;
    assert!(good, "{told}");
    assert!(!ceph.has(&volumes, &stray).await && ceph.has(&volumes, "golden").await);
    assert_eq!(storage(dir.path(), &["audit"]).await, (true, "0\n".to_owned()));

    // Who descends from whom, from either end.
    let disk = format!("vms/{server}_disk");
    for asked in ["audited", &server, &disk] {
        let (good, told) = storage(dir.path(), &["tree", asked]).await;
        let lines: Vec<&str> = told.lines().collect();
        assert!(good && lines[0].starts_with(&format!("image audited ({image})  images/{image}  4 MiB")), "{told}");
        let at = lines.iter().position(|line| line.contains("─ @snap")).unwrap();
        assert!(lines[at + 1].contains(&format!("─ server tracked ({server})  {disk}  1 GiB")), "{told}");
    }

    // A parent that was removed is still where its clones come from.
    cloud.delete("image", &format!("/v2/images/{image}")).await.unwrap();
    let (_, told) = storage(dir.path(), &["tree", "tracked"]).await;
    assert!(told.starts_with(&format!("removed  images/{image}\n└─ @snap\n   └─ server tracked")), "{told}");
    assert_eq!(storage(dir.path(), &["audit"]).await, (true, "0\n".to_owned()));

    // A row whose disk is gone is told, and left to people.
    tool("rbd", &["rm", "--no-progress", &format!("{vms}/{server}_disk")]).await;
    let (good, told) = storage(dir.path(), &["audit", "--fix", "--yes"]).await;
    assert!(!good && told.contains(&format!("lost vms/{server}_disk: ")), "{told}");
    umbel.stop().await;
}
