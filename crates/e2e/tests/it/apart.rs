//! Roles apart, each with its own directory and SQLite: what they must tell each other, and what goes on while one is away.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use umbel::cli::Role;
use umbel::config::{Config, HypervisorKind};
use umbel::running::Running;
use umbel_client::{Body, Call, Cloud, HttpTransport, NewServer, Transport, collect};
use umbel_testkit::until;

const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where everything is.
struct Map {
    shared: u16,
    identity: u16,
    image: u16,
    compute: u16,
    bus: u16,
    root: tempfile::TempDir,
}

impl Map {
    fn config(&self, name: &str, port: u16) -> Config {
        let mut config = Config { dir: self.root.path().join(name), ..Config::default() };
        config.listen.port = port;
        config.services.identity = Some(format!("http://127.0.0.1:{}", self.identity));
        config.services.compute = Some(format!("http://127.0.0.1:{}/compute", self.compute));
        config.bus.insecure = true;
        config.agent.hypervisor = HypervisorKind::Simulated;
        config
    }

    async fn control(&self) -> Running {
        let mut config = self.config("control", self.shared);
        // Beside the shared port, without paths.
        config.listen.ports = [("identity".to_owned(), self.identity), ("image".to_owned(), self.image)].into();
        config.listen.metrics = Some(([127, 0, 0, 1], 0).into());
        start(config, &[Role::Identity, Role::Image]).await
    }

    async fn compute(&self) -> Running {
        let mut config = self.config("compute", self.compute);
        config.services.password_file = Some(self.root.path().join("control/keys/service.password"));
        config.bus.listen = Some(([127, 0, 0, 1], self.bus).into());
        start(config, &[Role::Compute, Role::Conductor]).await
    }

    async fn agent(&self) -> Running {
        let mut config = self.config("agent", 0);
        config.bus.conductors = vec![format!("127.0.0.1:{}", self.bus)];
        start(config, &[Role::Agent]).await
    }
}

async fn start(config: Config, roles: &[Role]) -> Running {
    Running::start(config, roles).await.unwrap_or_else(|error| panic!("{}", error.for_log()))
}

async fn connect(running: &Running) -> Cloud {
    let transport = Arc::new(HttpTransport::new(false).unwrap());
    Cloud::connect(&running.admin(), transport).await.unwrap_or_else(|error| panic!("{}", error.for_log()))
}

async fn get(url: String, token: &str) -> (u16, String) {
    let request = http::Request::get(url).header("x-auth-token", token).body(Body::Empty).unwrap();
    let answer = HttpTransport::new(false).unwrap().send(request).await.unwrap();
    let status = answer.status().as_u16();
    let text = collect(answer.into_body(), 16 << 20).await.unwrap();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

async fn upload(cloud: &Cloud) -> String {
    let body = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
    let image: Value = cloud.post("image", "/v2/images", None, &body).await.unwrap();
    let image = image["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/images/{image}/file");
    let call = Call::new("image", http::Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Bytes(vec![7; 9 << 20].into()));
    cloud.bytes(call).await.unwrap();
    image
}

/// Names of the steps that made a server.
async fn steps(cloud: &Cloud, id: &str) -> String {
    let path = format!("/servers/{id}/os-instance-actions");
    let actions: Value = cloud.get("compute", &path, Some("2.60")).await.unwrap();
    let request = actions["instanceActions"][0]["request_id"].as_str().unwrap().to_owned();
    let action: Value = cloud.get("compute", &format!("{path}/{request}"), Some("2.60")).await.unwrap();
    action["instanceAction"]["events"].to_string()
}

fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|mut all| all.any(|entry| entry.unwrap().file_name().to_string_lossy().contains(text)))
}

#[tokio::test]
async fn roles_apart_tell_each_other_what_they_need() {
    let (shared, identity, image, compute, bus) = (port(), port(), port(), port(), port());
    let map = Map { shared, identity, image, compute, bus, root: tempfile::tempdir().unwrap() };
    let control = map.control().await;
    let plane = map.compute().await;
    let host = map.agent().await;
    let cloud = connect(&control).await;

    // Ports of their own, and metrics nowhere else than where they were asked for.
    assert_eq!(get(format!("http://127.0.0.1:{identity}/v3"), "").await.0, 200);
    assert_eq!(get(format!("http://127.0.0.1:{image}/v2/images"), cloud.token()).await.0, 200);
    let metrics = format!("http://{}/metrics", control.metrics.unwrap());
    assert!(get(metrics, "").await.1.contains("umbel_http_requests_total"));
    assert_eq!(get(format!("{}/metrics", control.url), "").await.0, 404);
    assert!(plane.metrics.is_none() && host.url.is_empty());

    // No pool is shared, so the image comes through the conductor to a host that has no password to ask for it.
    let picture = upload(&cloud).await;
    let new = NewServer { name: "s", image_id: &picture, flavor_id: "42", count: 2 };
    let first = cloud.create_server(&new).await.unwrap();
    let servers = cloud.servers("s").await.unwrap();
    assert_eq!(servers.len(), 2);
    for server in &servers {
        cloud.wait_active(&server.id, TICK, LIMIT).await.unwrap();
        assert!(steps(&cloud, &server.id).await.contains("disk_import"));
        assert!(holds(&map.root.path().join("agent/pools/vms"), &server.id));
    }
    assert!(!map.root.path().join("agent/keys/service.password").exists());

    taken_back(&control, &cloud, compute).await;
    let control = away(&map, control, &cloud, &first).await;

    let cloud = connect(&control).await;
    for server in &servers {
        cloud.delete_server(&server.id).await.unwrap();
        cloud.wait_gone(&server.id, TICK, LIMIT).await.unwrap();
        assert!(!holds(&map.root.path().join("agent/pools/vms"), &server.id));
    }
    for running in [host, plane, control] {
        running.stop(Duration::from_secs(10)).await;
    }
}

/// A token that was revoked is refused where identity's database is not read.
async fn taken_back(control: &Running, cloud: &Cloud, compute: u16) {
    let other = connect(control).await;
    let flavors = format!("http://127.0.0.1:{compute}/compute/v2.1/flavors");
    assert_eq!(get(flavors.clone(), other.token()).await.0, 200);
    let headers = [("x-subject-token", other.token())];
    let call = Call::new("identity", http::Method::DELETE, "/v3/auth/tokens").headers(&headers);
    cloud.bytes(call).await.unwrap();
    until::yes("compute knows that the token was revoked", LIMIT, async || {
        get(flavors.clone(), other.token()).await.0 == 401
    })
    .await;
    assert_eq!(get(flavors, cloud.token()).await.0, 200);
}

/// Without identity, tokens are judged and servers work; it comes back with another key, which is learned.
async fn away(map: &Map, control: Running, cloud: &Cloud, id: &str) -> Running {
    control.stop(Duration::from_secs(10)).await;
    assert_eq!(cloud.server(id).await.unwrap().status, "ACTIVE");
    let stop = json!({"os-stop": null}).to_string();
    let path = format!("/servers/{id}/action");
    let call = Call::new("compute", http::Method::POST, &path).headers(&[("content-type", "application/json")]);
    cloud.bytes(call.body(Body::Bytes(stop.into()))).await.unwrap();
    until::yes("the server stops", LIMIT, async || cloud.server(id).await.unwrap().status == "SHUTOFF").await;

    std::fs::remove_file(map.root.path().join("control/keys/identity.seed")).unwrap();
    let control = map.control().await;
    let fresh = connect(&control).await;
    until::yes("compute knows the new key", LIMIT, async || fresh.server(id).await.is_ok()).await;
    assert!(cloud.server(id).await.is_ok(), "tokens of the old key are good still");
    control
}

#[tokio::test]
async fn what_a_role_needs_is_asked_for_at_the_start() {
    let refused = async |roles: &[Role], change: fn(&mut Config), key: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { dir: dir.path().to_owned(), ..Config::default() };
        config.listen.port = 0;
        config.agent.hypervisor = HypervisorKind::Simulated;
        change(&mut config);
        let error = Running::start(config, roles).await.err().expect("it does not start");
        assert!(error.message().contains(key), "{error}");
    };
    let nothing = |_: &mut Config| {};
    refused(&[Role::Image], nothing, "services.identity").await;
    refused(&[Role::Agent], nothing, "bus.conductors").await;
    let elsewhere = |config: &mut Config| config.services.identity = Some("http://127.0.0.1:1/identity".into());
    refused(&[Role::Image], elsewhere, "services.password_file").await;
    let lonely = |config: &mut Config| config.bus.conductors = vec!["127.0.0.1:1".into()];
    refused(&[Role::Agent], lonely, "umbel cert").await;
}
