//! The programs that look at a cloud from outside: the unmodified `openstack` client, and Ceph's own `rbd`.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

/// The openstack client, at a cloud.
pub struct Openstack {
    program: PathBuf,
    clouds_yaml: PathBuf,
    /// More variables, as a user would export them.
    variables: Vec<(String, String)>,
}

impl Openstack {
    pub fn new(clouds_yaml: &Path) -> Openstack {
        let program = needed("UMBEL_TEST_OPENSTACK", "make test");
        Openstack { program, clouds_yaml: clouds_yaml.to_owned(), variables: Vec::new() }
    }

    /// The same user in another project.
    #[must_use]
    pub fn in_project(&self, project: &str) -> Openstack {
        let variables = vec![("OS_PROJECT_NAME".to_owned(), project.to_owned())];
        Openstack { program: self.program.clone(), clouds_yaml: self.clouds_yaml.clone(), variables }
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
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
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
        Ceph::at(&ceph_conf())
    }

    /// Another cluster than the tests' usual one.
    pub fn at(conf: &Path) -> Ceph {
        Ceph { conf: conf.to_owned() }
    }

    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// `rbd … --format json`; null for a list of nothing, of which some commands print nothing.
    pub async fn rbd(&self, args: &[&str]) -> Value {
        let output = self.output(args).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rbd {} failed: {error}", args.join(" "));
        match output.stdout.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&output.stdout).expect("rbd writes JSON"),
        }
    }

    /// Names of the images in a pool.
    pub async fn images(&self, pool: &str) -> Vec<String> {
        names(&self.rbd(&["ls", pool]).await)
    }

    /// What `rbd info` tells of an image: its size, its parent.
    pub async fn info(&self, pool: &str, image: &str) -> Value {
        self.rbd(&["info", &format!("{pool}/{image}")]).await
    }

    /// The parent as `rbd info` names it, `pool/image@snapshot`. A parent that was removed and lives on for its clones
    /// ends with ` (trash)`.
    pub async fn parent(&self, pool: &str, image: &str) -> Option<String> {
        let info = self.info(pool, image).await;
        let parent = info.get("parent").filter(|parent| parent.is_object())?;
        let text = |key: &str| parent[key].as_str().unwrap_or_default().to_owned();
        let trash = if parent["trash"].as_bool() == Some(true) { " (trash)" } else { "" };
        Some(format!("{}/{}@{}{trash}", text("pool"), text("image"), text("snapshot")))
    }

    /// Names of an image's snapshots.
    pub async fn snapshots(&self, pool: &str, image: &str) -> Vec<String> {
        let list = self.rbd(&["snap", "ls", &format!("{pool}/{image}")]).await;
        list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    }

    /// Names of the clones of a snapshot, as `pool/image`.
    pub async fn children(&self, pool: &str, image: &str, snapshot: &str) -> Vec<String> {
        let list = self.rbd(&["children", &format!("{pool}/{image}@{snapshot}")]).await;
        let name = |one: &Value| format!("{}/{}", one["pool"].as_str().unwrap(), one["image"].as_str().unwrap());
        list.as_array().expect("a list").iter().map(name).collect()
    }

    /// Whether the pool's trash has an image of this name.
    pub async fn hides(&self, pool: &str, image: &str) -> bool {
        let trash = self.rbd(&["trash", "ls", "--all", pool]).await;
        trash.as_array().expect("a list").iter().any(|one| one["name"] == image)
    }

    /// Clients that have the image open.
    pub async fn watchers(&self, pool: &str, image: &str) -> usize {
        let status = self.rbd(&["status", &format!("{pool}/{image}")]).await;
        status["watchers"].as_array().map_or(0, Vec::len)
    }

    /// Images, hidden ones too, whose names have one of these in them.
    pub async fn left(&self, pools: &[&str], marks: &[&str]) -> Vec<String> {
        let mut left = Vec::new();
        for pool in pools {
            let trash = self.rbd(&["trash", "ls", "--all", pool]).await;
            let trash = trash.as_array().expect("a list").iter();
            let hidden = trash.filter_map(|one| Some(format!("{} (trash)", one["name"].as_str()?)));
            let all = self.images(pool).await.into_iter().chain(hidden);
            let found = all.filter(|name| marks.iter().any(|mark| name.contains(mark)));
            left.extend(found.map(|name| format!("{pool}/{name}")));
        }
        left
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
