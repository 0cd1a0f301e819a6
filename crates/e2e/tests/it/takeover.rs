//! Two processes with the role `volume` on one database: one stands still in the middle of its work, the other takes it
//! over, and the first goes on when the volumes have long been their users'.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use umbel_client::{Body, Call, Cloud, HttpTransport, Transport, collect};
use umbel_db::Engine;
use umbel_testkit::{Ceph, Process, ceph_conf, fresh_database, until};

use crate::faults::site::{MIB, SLOW, noise};

struct Site {
    root: tempfile::TempDir,
    control: u16,
    database: String,
}

impl Site {
    async fn control(&self) -> Process {
        let text = "[[pools]]\nname = 'images'\ndriver = 'local'\n";
        self.serve("control", "identity,image", self.control, text).await
    }

    /// A process for volumes, in the pool `volumes` of the tests' cluster.
    async fn volumes(&self, name: &str, port: u16) -> Process {
        let text = format!(
            "[services]\nidentity = 'http://127.0.0.1:{control}/identity'\nimage = 'http://127.0.0.1:{control}/image'\n\
             compute = 'http://127.0.0.1:{control}/compute'\npassword_file = '{password}'\n\
             [database]\nvolume = '{database}'\n\
             [[pools]]\nname = 'volumes'\ndriver = 'rbd'\nconf = '{conf}'\nuser = 'umbel'\n",
            control = self.control,
            password = self.dir("control").join("keys/service.password").display(),
            database = self.database,
            conf = ceph_conf().display(),
        );
        self.serve(name, "volume", port, &text).await
    }

    async fn serve(&self, name: &str, roles: &str, port: u16, text: &str) -> Process {
        let config = self.root.path().join(format!("{name}.toml"));
        std::fs::write(&config, format!("[listen]\nport = {port}\n{text}")).unwrap();
        Process::serve(&self.dir(name), &["--role", roles, "--config", config.to_str().unwrap()]).await
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The volume API of one process.
struct Volumes<'a> {
    cloud: &'a Cloud,
    port: u16,
}

impl Volumes<'_> {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let project = self.cloud.project_id.as_ref().unwrap();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}/volume/v3/{project}{path}", self.port))
            .header("x-auth-token", self.cloud.token())
            .header("content-type", "application/json")
            .body(body.map_or(Body::Empty, |body| Body::Bytes(body.to_string().into())))
            .unwrap();
        let answer = HttpTransport::new(false).unwrap().send(request).await.unwrap();
        let status = answer.status().as_u16();
        let text = collect(answer.into_body(), MIB).await.unwrap();
        (status, serde_json::from_slice(&text).unwrap_or_default())
    }

    async fn create(&self, volume: Value) -> String {
        let (status, answer) = self.call(Method::POST, "/volumes", Some(json!({"volume": volume}))).await;
        assert_eq!(status, 202, "{answer}");
        answer["volume"]["id"].as_str().unwrap().to_owned()
    }

    async fn available(&self, id: &str) {
        until::yes("the volume is available", SLOW, async || {
            let (_, answer) = self.call(Method::GET, &format!("/volumes/{id}"), None).await;
            let status = answer["volume"]["status"].as_str().unwrap_or_default().to_owned();
            assert_ne!(status, "error", "{answer}");
            status == "available"
        })
        .await;
    }
}

/// An image that no pool of volumes can clone.
async fn image(cloud: &Cloud, bytes: Vec<u8>) -> String {
    let body = json!({"name": "big", "disk_format": "raw", "container_format": "bare"});
    let image: Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", Method::PUT, &path).headers(&[("content-type", "application/octet-stream")]);
    cloud.bytes(call.body(Body::Bytes(bytes.into()))).await.unwrap();
    image
}

async fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().await.unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn sum(file: &str) -> String {
    shell(&format!("{file} | sha256sum")).await
}

fn signal(process: &Process, signal: &str) {
    let pid = process.pid().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Names of the processes on the roll of the pool `volumes`.
async fn roll(conf: &Path) -> Vec<String> {
    let conf = conf.display();
    let info = shell(&format!("rados -c {conf} -p volumes lock info umbel_clients umbel --format json")).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    let lockers = info["lockers"].as_array().unwrap();
    lockers.iter().map(|locker| locker["cookie"].as_str().unwrap().to_owned()).collect()
}

const SIZE: usize = 160 * MIB;

#[tokio::test]
async fn a_process_that_stood_still_leaves_alone_what_was_taken_over() {
    let database = fresh_database(Engine::Postgres).await;
    let site = Site { root: tempfile::tempdir().unwrap(), control: port(), database };
    let (ceph, conf) = (Ceph::new(), ceph_conf());
    let control = site.control().await;
    let cloud = control.admin().await;
    let image = image(&cloud, noise(SIZE)).await;
    let (first_port, second_port) = (port(), port());
    let before = roll_or_none(&conf).await;
    let first = site.volumes("first", first_port).await;
    let at_first = Volumes { cloud: &cloud, port: first_port };
    let mut volumes = Vec::new();
    for _ in 0..3 {
        volumes.push(at_first.create(json!({"size": 1, "imageRef": image})).await);
    }
    let disk = |id: &String| format!("volume-{id}");
    until::yes("it is at work", SLOW, async || {
        let images = ceph.images("volumes").await;
        volumes.iter().any(|id| images.contains(&disk(id)))
    })
    .await;
    signal(&first, "-STOP");
    let stood_still: Vec<_> = roll(&conf).await.into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(stood_still.len(), 1, "{stood_still:?}");

    let second = site.volumes("second", second_port).await;
    let at_second = Volumes { cloud: &cloud, port: second_port };
    let export = |id: &String| format!("rbd -c {} export --no-progress volumes/{} -", conf.display(), disk(id));
    let stored = sum(&format!("cat {}", stored_image(&site.dir("control"), &image).await.display())).await;
    for id in &volumes {
        at_second.available(id).await;
        assert_eq!(sum(&format!("{} | head -c {SIZE}", export(id))).await, stored, "{id}");
    }
    assert!(!roll(&conf).await.contains(&stood_still[0]), "its client is on the roll");

    // The users write.
    let mut written = Vec::new();
    for id in &volumes {
        let bench = "bench --io-type write --io-size 4M --io-total 64M --io-pattern seq";
        shell(&format!("rbd -c {} {bench} volumes/{}", conf.display(), disk(id))).await;
        written.push(sum(&export(id)).await);
    }
    signal(&first, "-CONT");
    let another = at_first.create(json!({"size": 1})).await;
    at_first.available(&another).await;
    until::yes("it has a new client", SLOW, async || roll(&conf).await.contains(&stood_still[0])).await;
    for (id, written) in volumes.iter().zip(&written) {
        at_first.available(id).await;
        assert_eq!(&sum(&export(id)).await, written, "{id} was changed by the process that stood still");
    }

    volumes.push(another);
    for id in &volumes {
        assert_eq!(at_first.call(Method::DELETE, &format!("/volumes/{id}"), None).await.0, 202);
    }
    let marks: Vec<_> = volumes.iter().map(String::as_str).collect();
    until::yes("nothing is left", SLOW, async || ceph.left(&["volumes"], &marks).await.is_empty()).await;
    for process in [first, second, control] {
        process.stop().await;
    }
}

async fn roll_or_none(conf: &Path) -> Vec<String> {
    let made = format!("rados -c {} -p volumes stat umbel_clients", conf.display());
    let made = Command::new("sh").args(["-c", &made]).output().await.unwrap().status.success();
    if made { roll(conf).await } else { Vec::new() }
}

/// The file with the image's bytes in the local pool.
async fn stored_image(dir: &Path, image: &str) -> PathBuf {
    let found = shell(&format!(
        "find -L {} -type f -size +{}c -path '*{image}*'",
        dir.join("pools/images").display(),
        SIZE - 1
    ))
    .await;
    PathBuf::from(found.lines().next().unwrap_or_else(|| panic!("no file of {image}")))
}
