//! Every role in a process of its own, each with its own directory, over database servers, Ceph and QEMU: the same main
//! job, also where processes die in the midst of it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use umbel_client::{Body, Call, Cloud, NewServer};
use umbel_core::Kind;
use umbel_testkit::{Ceph, Openstack, Process, ceph_conf, fresh_database, guest_image, process, until};

const LIMIT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(50);

/// A cloud in four processes, later five.
struct Apart {
    root: PathBuf,
    host: String,
    _dir: tempfile::TempDir,
}

impl Apart {
    async fn new() -> Apart {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let apart = Apart { host: "node1".to_owned(), root, _dir: dir };
        apart.configure().await;
        let certificates = |args: &[&str], who: &str| {
            let out = apart.dir(who).join("keys/bus");
            let mut command = Command::new(process::binary());
            command.arg("cert").args(args).arg("--dir").arg(apart.dir("control")).arg("--out").arg(out);
            assert!(command.status().unwrap().success(), "{args:?}");
        };
        certificates(&["control"], "compute");
        certificates(&["control"], "conductor");
        certificates(&["control"], "conductor2");
        certificates(&["agent", &apart.host], "agent");
        apart
    }

    async fn configure(&self) {
        let engine = umbel_db::Engine::Postgres;
        let (identity, image) = (fresh_database(engine).await, fresh_database(engine).await);
        let (api, zero, one) =
            (fresh_database(engine).await, fresh_database(engine).await, fresh_database(engine).await);
        let [control, compute, bus, second] = ports();
        let plane = format!("api = '{api}'\ncell0 = '{zero}'\ncells = {{ cell1 = '{one}' }}\n");
        let conductors = format!("'127.0.0.1:{bus}', '127.0.0.1:{second}'");
        let password = self.dir("control").join("keys/service.password");
        let password = format!("password_file = '{}'\n", password.display());
        let pool =
            |name: &str| format!("[[pools]]\nname = '{name}'\ndriver = 'rbd'\nconf = '{}'\n", ceph_conf().display());
        let write = |name: &str, port: u16, bus: u16, databases: &str, password: &str| {
            let text = format!(
                "[listen]\nport = {port}\n\
                 [services]\nidentity = 'http://127.0.0.1:{control}/identity'\n\
                 compute = 'http://127.0.0.1:{compute}/compute'\n{password}\
                 [bus]\nlisten = '127.0.0.1:{bus}'\nconductors = [{conductors}]\n\
                 [database]\nconnections = 4\n{databases}\
                 [agent]\nhost = '{}'\n{}{}",
                self.host,
                pool("images"),
                pool("vms"),
            );
            std::fs::write(self.config(name), text).unwrap();
        };
        write("control", control, bus, &format!("identity = '{identity}'\nimage = '{image}'\n"), "");
        write("compute", compute, bus, &plane, &password);
        write("conductor", 0, bus, &plane, &password);
        write("conductor2", 0, second, &plane, &password);
        // A host knows no database and no password.
        write("agent", 0, bus, "", "");
    }

    fn config(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.toml"))
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    async fn start(&self, name: &str, roles: &str) -> Process {
        let config = self.config(name);
        let args = ["--role", roles, "--config", config.to_str().unwrap()];
        Process::serve(&self.dir(name), &args).await
    }
}

/// Free ones, as far as one can know.
fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// Uploads the guest image; (image, flavor).
async fn prepare(cloud: &Cloud) -> (String, String) {
    let body = json!({"name": "guest", "disk_format": "raw", "container_format": "bare"});
    let image: serde_json::Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let bytes = tokio::fs::read(guest_image()).await.unwrap();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(bytes.into()));
    cloud.bytes(call).await.unwrap();
    let flavor = json!({"flavor": {"name": "tiny", "ram": 128, "vcpus": 1, "disk": 1}});
    let flavor: serde_json::Value = cloud.post("compute", "/flavors", None, &flavor).await.unwrap();
    (image, flavor["flavor"]["id"].as_str().unwrap().to_owned())
}

async fn console(cloud: &Cloud, id: &str) -> String {
    let path = format!("/servers/{id}/action");
    let body = json!({"os-getConsoleOutput": {}});
    let answer: serde_json::Value = cloud.post("compute", &path, Some("2.60"), &body).await.unwrap();
    answer["output"].as_str().unwrap().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_cloud_in_four_processes() {
    let apart = Apart::new().await;
    let control = apart.start("control", "identity,image").await;
    let compute = apart.start("compute", "compute").await;
    let conductor = apart.start("conductor", "conductor").await;
    let agent = apart.start("agent", "agent").await;
    let cloud = control.admin().await;
    let (image, flavor) = prepare(&cloud).await;
    let new = NewServer { name: "apart", image_id: &image, flavor_id: &flavor, count: 1 };

    // Whatever dies after the answer, the server comes: first the host, then the conductor too.
    let first = cloud.create_server(&new).await.unwrap();
    agent.kill().await;
    let agent = apart.start("agent", "agent").await;
    let second = cloud.create_server(&new).await.unwrap();
    conductor.kill().await;
    agent.kill().await;
    let third = cloud.create_server(&new).await.unwrap();
    let conductor = apart.start("conductor", "conductor").await;
    let agent = apart.start("agent", "agent").await;
    for id in [&first, &second, &third] {
        cloud.wait_active(id, TICK, LIMIT).await.unwrap();
    }
    let ceph = Ceph::new();
    let info = ceph.rbd(&["info", &format!("vms/{first}_disk")]).await;
    assert_eq!(info["parent"]["image"].as_str(), Some(image.as_str()), "{info}");

    // From the API through the conductor to the host and back.
    until::yes("the guest says something", LIMIT, async || !console(&cloud, &first).await.is_empty()).await;
    let openstack = Openstack::new(&control.clouds_yaml());
    let listed = openstack.json(&["server", "list"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");

    // Guests outlive their agent, and deletes that nobody was there for are done later.
    agent.kill().await;
    cloud.delete_server(&first).await.unwrap();
    let agent = apart.start("agent", "agent").await;
    cloud.wait_gone(&first, TICK, LIMIT).await.unwrap();
    for id in [&second, &third] {
        assert_eq!(cloud.server(id).await.unwrap().status, "ACTIVE");
        cloud.delete_server(id).await.unwrap();
    }
    for id in [&second, &third] {
        cloud.wait_gone(id, TICK, LIMIT).await.unwrap();
        assert!(!ceph.has("vms", &format!("{id}_disk")).await);
    }
    // A second conductor is enough while the first one is away, without a wait for anybody's lease.
    let other = apart.start("conductor2", "conductor").await;
    let fourth = cloud.create_server(&new).await.unwrap();
    cloud.wait_active(&fourth, TICK, LIMIT).await.unwrap();
    conductor.kill().await;
    let fifth = cloud.create_server(&new).await.unwrap();
    cloud.wait_active(&fifth, TICK, LIMIT).await.unwrap();
    for id in [&fourth, &fifth] {
        cloud.delete_server(id).await.unwrap();
        cloud.wait_gone(id, TICK, LIMIT).await.unwrap();
    }
    cloud.delete("image", &format!("/v2/images/{image}")).await.unwrap();

    // What a host holds: its certificate, and no password, token key or database.
    assert_eq!(names(&apart.dir("agent").join("keys")), ["bus"]);
    assert_eq!(names(&apart.dir("agent").join("db")), Vec::<String>::new());
    assert!(!apart.dir("compute").join("keys/identity.seed").exists(), "only identity signs");
    for process in [agent, other, compute, control] {
        process.stop().await;
    }
    assert!(cloud.server(&first).await.unwrap_err().is(Kind::Unavailable));
}
