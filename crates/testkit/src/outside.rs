//! The programs that look at a cloud from outside: the unmodified `openstack` client, and Ceph's own `rbd`.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

/// The openstack client, at a cloud.
pub struct Openstack {
    program: PathBuf,
    clouds_yaml: PathBuf,
}

impl Openstack {
    pub fn new(clouds_yaml: &Path) -> Openstack {
        Openstack { program: needed("UMBEL_TEST_OPENSTACK", "make test"), clouds_yaml: clouds_yaml.to_owned() }
    }

    /// Runs the command and gives what it printed; it must succeed.
    pub async fn run(&self, args: &[&str]) -> String {
        let output = self.output(args).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openstack {} failed: {error}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the command with `-f json`.
    pub async fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["-f", "json"]);
        let text = self.run(&args).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("openstack {}: {error}: {text}", args.join(" ")))
    }

    /// Runs the command, which must fail; what it said.
    pub async fn fails(&self, args: &[&str]) -> String {
        let output = self.output(args).await;
        assert!(!output.status.success(), "openstack {} succeeded", args.join(" "));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OS_")) {
            command.env_remove(name);
        }
        command
            .args(args)
            .env("OS_CLIENT_CONFIG_FILE", &self.clouds_yaml)
            .env("OS_CLOUD", "umbel")
            .output()
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }
}

/// Ceph, as its own tools see it.
pub struct Ceph {
    conf: PathBuf,
}

impl Ceph {
    pub fn new() -> Ceph {
        Ceph { conf: ceph_conf() }
    }

    /// `rbd … --format json`.
    pub async fn rbd(&self, args: &[&str]) -> Value {
        let output = self.output(args).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rbd {} failed: {error}", args.join(" "));
        serde_json::from_slice(&output.stdout).expect("rbd writes JSON")
    }

    /// Names of the images in a pool.
    pub async fn images(&self, pool: &str) -> Vec<String> {
        names(&self.rbd(&["ls", pool]).await)
    }

    pub async fn has(&self, pool: &str, image: &str) -> bool {
        self.images(pool).await.iter().any(|name| name == image)
    }

    async fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new("rbd");
        command.arg("-c").arg(&self.conf).args(args).args(["--format", "json"]);
        command.output().await.unwrap_or_else(|error| panic!("rbd: {error}"))
    }
}

impl Default for Ceph {
    fn default() -> Self {
        Self::new()
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list.as_array().expect("a list");
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

pub fn ceph_conf() -> PathBuf {
    needed("UMBEL_TEST_CEPH_CONF", "make ceph-up")
}

pub fn guest_image() -> PathBuf {
    needed("UMBEL_TEST_GUEST_IMAGE", "make guest-image")
}

fn needed(variable: &str, mend: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run `{mend}`, or `make test`, which sets it"),
    }
}
