//! A cloud that a test may hurt: the real process, and where it is wanted a Ceph of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use umbel_client::{Body, Call, Cloud, collect};
use umbel_testkit::{Process, process, until};

/// Deadline of whatever comes to its end by itself, on a machine with much else to do.
pub const SLOW: Duration = Duration::from_secs(150);
pub const MIB: usize = 1 << 20;
pub const VOLUME: &str = "block-storage";
pub const IMAGE: &str = "image";

/// A one-node cluster below a directory of its own, gone with it.
pub struct OwnCeph {
    dir: tempfile::TempDir,
}

impl OwnCeph {
    pub async fn up() -> OwnCeph {
        let ceph = OwnCeph { dir: tempfile::tempdir().unwrap() };
        ceph.start().await;
        ceph
    }

    /// Starts what does not run, over the data there are.
    pub async fn start(&self) {
        let output = Command::new(script("ceph-up.sh"))
            .arg(self.dir.path())
            .envs([("OSD_SIZE_GIB", "4"), ("POOLS", "images vms volumes fast")])
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "ceph-up.sh: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn conf(&self) -> PathBuf {
        self.dir.path().join("ceph.conf")
    }

    /// Sends a signal, by the name that `kill` has for it.
    pub fn signal(&self, daemon: &str, signal: &str) {
        let pid = std::fs::read_to_string(self.pid_file(daemon)).unwrap();
        let status = std::process::Command::new("kill").args([signal, pid.trim()]).status();
        assert!(status.unwrap().success(), "kill {signal} of ceph-{daemon}");
    }

    fn pid_file(&self, daemon: &str) -> PathBuf {
        self.dir.path().join("run").join(format!("{daemon}.pid"))
    }

    /// What `ceph` or `rbd` prints, as an administrator.
    pub async fn tool(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).arg("-c").arg(self.conf()).args(args).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {}: {error}", args.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything in the pools, trash and all.
    pub async fn contents(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pool in ["images", "vms", "volumes", "fast"] {
            for args in [&["ls", pool][..], &["trash", "ls", "--all", pool]] {
                let lines = self.tool("rbd", args).await;
                found.extend(lines.lines().map(|line| format!("{pool}: {line}")));
            }
        }
        found
    }
}

impl Drop for OwnCeph {
    fn drop(&mut self) {
        // A daemon that is stopped does not end when it is told to.
        for daemon in ["osd", "mon"] {
            if self.pid_file(daemon).exists() {
                let pid = std::fs::read_to_string(self.pid_file(daemon)).unwrap_or_default();
                let _ = std::process::Command::new("kill").args(["-CONT", pid.trim()]).status();
            }
        }
        let _ = std::process::Command::new(script("ceph-down.sh")).arg(self.dir.path()).output();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name)
}

/// What a request was answered, if it was.
#[derive(Debug)]
pub struct Answer {
    /// 0: the connection broke before.
    pub status: u16,
    pub body: Value,
    pub took: Duration,
}

impl Answer {
    pub fn good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// It was refused by the cloud, with a sentence.
    pub fn says_why(&self) -> bool {
        let why = self.message();
        self.status >= 500 && !why.is_empty() && !why.contains("unexpected internal error")
    }

    pub fn message(&self) -> String {
        let nested = || self.body.as_object()?.values().find_map(|fault| fault.get("message")?.as_str());
        self.body["message"].as_str().or_else(nested).unwrap_or_default().to_owned()
    }

    /// The id of what was made.
    pub fn id(&self) -> String {
        assert!(self.good(), "{self:?}");
        let one = self.body.as_object().and_then(|body| body.values().find_map(|one| one["id"].as_str()));
        self.body["id"].as_str().or(one).unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }
}

/// The cloud and its administrator.
pub struct Site {
    pub dir: PathBuf,
    pub cloud: Cloud,
    process: Option<Process>,
    config: String,
}

impl Site {
    /// `config` is the whole configuration.
    pub async fn start(dir: &Path, config: &str) -> Site {
        let file = dir.join("umbel.toml");
        std::fs::write(&file, config).unwrap();
        let config = file.to_str().unwrap().to_owned();
        let process = Process::up(dir, &["--config", &config]).await;
        Site { dir: dir.to_owned(), cloud: process.admin().await, process: Some(process), config }
    }

    /// `kill -9`, and another process over the same state.
    pub async fn kill_and_restart(&mut self) {
        self.process.take().unwrap().kill().await;
        let process = Process::up(&self.dir, &["--config", &self.config]).await;
        self.cloud = process.admin().await;
        self.process = Some(process);
    }

    pub async fn stop(mut self) {
        self.process.take().unwrap().stop().await;
    }

    pub async fn call(&self, method: Method, service: &str, path: &str, body: Body) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        if service == VOLUME {
            headers.push(("openstack-api-version", "volume 3.70"));
        }
        let call = Call::new(service, method, path).headers(&headers).body(body);
        let began = Instant::now();
        let (status, bytes) = answered(&self.cloud, call).await;
        Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), took: began.elapsed() }
    }

    pub async fn get(&self, service: &str, path: &str) -> Answer {
        self.call(Method::GET, service, path, Body::Empty).await
    }

    pub async fn post(&self, service: &str, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, service, path, Body::Bytes(body.to_string().into())).await
    }

    pub async fn delete(&self, service: &str, path: &str) -> Answer {
        self.call(Method::DELETE, service, path, Body::Empty).await
    }

    /// A record without data, in a format.
    pub async fn image(&self, format: &str) -> String {
        let body = json!({"name": "i", "disk_format": format, "container_format": "bare"});
        self.post(IMAGE, "/v2/images", &body).await.id()
    }

    pub async fn upload(&self, image: &str, store: Option<&str>, bytes: Vec<u8>) -> Answer {
        upload(&self.cloud, image, store, bytes).await
    }

    pub async fn download(&self, image: &str) -> Vec<u8> {
        let path = format!("/v2/images/{image}/file");
        self.cloud.bytes(Call::new(IMAGE, Method::GET, &path)).await.unwrap().to_vec()
    }

    /// Makes one of `kind` in the volume service; its id.
    pub async fn make(&self, kind: &str, body: Value) -> String {
        self.post(VOLUME, &format!("/{kind}s"), &json!({ kind: body })).await.id()
    }

    pub async fn act(&self, volume: &str, body: &Value) -> Answer {
        self.post(VOLUME, &format!("/volumes/{volume}/action"), body).await
    }

    /// One thing of the volume service as it is; none if it is gone.
    pub async fn show(&self, kind: &str, id: &str) -> Option<Value> {
        let mut answer = self.get(VOLUME, &format!("/{kind}s/{id}")).await;
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.status, 200, "{kind} {id}: {answer:?}");
        Some(answer.body[kind].take())
    }

    pub async fn status(&self, kind: &str, id: &str) -> String {
        match self.show(kind, id).await {
            Some(shown) => shown["status"].as_str().unwrap_or_default().to_owned(),
            None => "gone".to_owned(),
        }
    }

    /// Waits until nothing works on it any more; what it then is.
    pub async fn settled(&self, kind: &str, id: &str) -> String {
        let what = format!("the {kind} {id} settles");
        until::some(&what, SLOW, async || {
            let status = self.status(kind, id).await;
            is_final(&status).then_some(status)
        })
        .await
    }

    pub async fn available(&self, kind: &str, id: &str) {
        let status = self.settled(kind, id).await;
        let why = self.reasons(id).await;
        assert_eq!(status, "available", "the {kind} {id}: {why:?}");
    }

    /// What the user is told of something that came to nothing.
    pub async fn reasons(&self, id: &str) -> Vec<String> {
        let answer = self.get(VOLUME, &format!("/messages?resource_uuid={id}")).await;
        let all = answer.body["messages"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| one["user_message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Deletes it, whatever became of it, and waits until it is gone.
    pub async fn remove(&self, kind: &str, id: &str) {
        let path = match kind {
            "image" => format!("/v2/images/{id}"),
            _ => format!("/{kind}s/{id}"),
        };
        let service = if kind == "image" { IMAGE } else { VOLUME };
        let what = format!("the {kind} {id} is deleted");
        until::yes(&what, SLOW, async || {
            let answer = self.delete(service, &path).await;
            assert!(
                answer.good() || matches!(answer.status, 400 | 404 | 409),
                "the {kind} {id} cannot be deleted: {answer:?}"
            );
            self.get(service, &path).await.status == 404
        })
        .await;
    }

    /// What `umbel storage audit` says.
    pub async fn audit(&self, args: &[&str]) -> String {
        let mut command = Command::new(process::binary());
        let output = command.args(["storage", "audit", "--dir"]).arg(&self.dir).args(args).output().await.unwrap();
        // Beside what it found, it tells of disks that are not of this cloud's making.
        let told = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Waits until the audit finds nothing: what was deleted goes behind the requests.
    pub async fn audit_is_clean(&self) {
        let deadline = Instant::now() + SLOW;
        loop {
            let told = self.audit(&[]).await;
            if told == "0\n" {
                return;
            }
            assert!(Instant::now() < deadline, "pools and databases differ: {told}");
        }
    }
}

/// Sends an image's data.
pub async fn upload(cloud: &Cloud, image: &str, store: Option<&str>, bytes: Vec<u8>) -> Answer {
    let path = format!("/v2/images/{image}/file");
    let mut headers = vec![("content-type", "application/octet-stream")];
    headers.extend(store.map(|store| ("x-image-meta-store", store)));
    let call = Call::new(IMAGE, Method::PUT, &path).headers(&headers).body(Body::Bytes(bytes.into()));
    let began = Instant::now();
    let (status, bytes) = answered(cloud, call).await;
    // The image service tells its faults in HTML where nobody asks for JSON.
    let text = String::from_utf8_lossy(&bytes);
    let body = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "message": text }));
    Answer { status, body, took: began.elapsed() }
}

/// Status and body; 0 and nothing if the connection broke before.
async fn answered(cloud: &Cloud, call: Call<'_>) -> (u16, Bytes) {
    let path = call.path.to_owned();
    let answer = async {
        let response = cloud.send(call).await.ok()?;
        let status = response.status().as_u16();
        Some((status, collect(response.into_body(), 64 * MIB).await.ok()?))
    };
    let answer = tokio::time::timeout(SLOW, answer).await;
    answer.unwrap_or_else(|_| panic!("{path} is not answered")).unwrap_or_default()
}

/// Whether something is at rest, well or not.
pub fn is_final(status: &str) -> bool {
    matches!(status, "available" | "in-use" | "active" | "queued" | "gone") || status.starts_with("error")
}

/// Bytes without a zero among them, no two pages alike.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at / 4_096 + at) % 251) as u8 + 1).collect()
}
