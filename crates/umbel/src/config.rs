//! The configuration: TOML, every key optional. What is not set has the value with which one machine runs a whole
//! cloud: SQLite, an in-process bus, local disks, one port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use umbel_core::{Error, Result};

use crate::storage::AuditConfig;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// All state that is not in a database server or a Ceph cluster.
    pub dir: PathBuf,
    pub region: String,
    pub listen: Listen,
    pub services: Services,
    pub bus: BusConfig,
    pub database: Databases,
    /// Where disks live. Without any: one local store with the pools `images`, `vms` and `volumes`.
    pub pools: Vec<PoolConfig>,
    pub image: ImageConfig,
    pub volume: VolumeConfig,
    pub compute: ComputeConfig,
    pub agent: AgentConfig,
    pub identity: IdentityConfig,
    pub audit: AuditConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Listen {
    pub address: IpAddr,
    /// Serves every service below its path: `/identity`, `/image`, `/compute`. 0 takes any free port.
    pub port: u16,
    /// Ports on which one service stands alone, without its path, beside the shared one.
    pub ports: BTreeMap<String, u16>,
    /// A certificate and its key, PEM: with them all ports of services speak TLS. Read again when the files change, and at
    /// SIGHUP.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// URL by which clients reach the shared port, where it differs from address and port (a proxy, a name).
    pub public_url: Option<String>,
    /// Where `GET /metrics` answers, without a token; nowhere if absent. Never on the port of the services: what a cloud
    /// does, and how much, is nothing for whoever reaches that.
    pub metrics: Option<SocketAddr>,
}

/// Services in other processes, as roots without a version: `http://control:5000/identity`. A process asks itself for
/// what it serves, and others for the rest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Services {
    pub identity: Option<String>,
    /// Looked up in identity's catalog where it is not named here. In the process that serves identity it goes the other
    /// way: what is named here is put into the catalog.
    pub image: Option<String>,
    pub volume: Option<String>,
    pub compute: Option<String>,
    /// Which of the catalog's URLs services call each other by: `public`, `internal` or `admin`.
    pub interface: Interface,
    /// PEM of authorities that services' certificates are believed by, beside the system's; also told to clients, in
    /// clouds.yaml.
    pub ca_cert: Option<PathBuf>,
    /// Holds the password of the services' user. Absent: `dir`/keys/service.password, which the process with identity
    /// makes at its first start.
    pub password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    Public,
    #[default]
    Internal,
    Admin,
}

impl Interface {
    pub fn name(self) -> &'static str {
        match self {
            Interface::Public => "public",
            Interface::Internal => "internal",
            Interface::Admin => "admin",
        }
    }
}

/// The way between conductors and what runs in other processes: agents, and compute's API.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BusConfig {
    /// Where this process's conductor waits for agents and APIs of other processes; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// Addresses of conductors, `host:port`: all of them, for agents and APIs without a conductor in their process.
    pub conductors: Vec<String>,
    /// Folder with `ca.pem`, `cert.pem` and `key.pem`, as `umbel cert` writes it. Absent: `dir`/keys/bus.
    pub certificates: Option<PathBuf>,
    /// Without TLS, so that whoever connects is believed. For tests; refused for other addresses than the loopback's.
    pub insecure: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Databases {
    /// Connections of each pool.
    pub connections: u32,
    /// URLs: `sqlite:<path>`, `postgres://…`, `mysql://…`. Default: one SQLite file per schema below `dir`/db.
    pub identity: Option<String>,
    pub image: Option<String>,
    pub volume: Option<String>,
    pub api: Option<String>,
    pub cell0: Option<String>,
    /// Cells by name.
    pub cells: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PoolConfig {
    pub name: String,
    #[serde(flatten)]
    pub driver: PoolDriver,
    /// What users choose by: `hdd`, `ssd`, `pcie_ssd` or any word.
    #[serde(default = "default_tier")]
    pub tier: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum PoolDriver {
    /// Files below `path`, or `dir`/pools.
    Local { path: Option<PathBuf> },
    Rbd {
        conf: PathBuf,
        /// cephx user, without `client.`.
        #[serde(default = "default_ceph_user")]
        user: String,
        /// The pool's name in Ceph; that of this pool if absent.
        ceph_pool: Option<String>,
    },
    /// In memory, for scale tests.
    Simulated,
}

fn default_tier() -> String {
    "hdd".to_owned()
}

fn default_ceph_user() -> String {
    "admin".to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// The pool that holds images: the store that is taken where nobody chooses one.
    pub pool: String,
    /// Pools that are stores too, to be chosen by their names.
    pub stores: Vec<String>,
    /// Largest image, in GiB.
    pub max_size_gib: u64,
    /// What else the image service can be told.
    pub options: umbel_image::Config,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VolumeConfig {
    /// The pools of volumes, each a back end; the first is the default. Without any: the pool `volumes`, where there is one.
    pub pools: Vec<String>,
    /// What else the volume service can be told.
    pub options: umbel_volume::Config,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ComputeConfig {
    /// The pools of system disks; the first is preferred where a server asks for no tier. Other pools are left to images
    /// and volumes, also when these are full.
    pub pools: Vec<String>,
    pub availability_zone: String,
    /// How many virtual CPUs are promised for each of a host's, and MiB for each of its.
    pub cpu_ratio: f64,
    pub memory_ratio: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct AgentConfig {
    /// Name of this host; its hostname if absent.
    pub host: Option<String>,
    /// The cell that this host belongs to, of those in `database.cells`; the first if absent.
    pub cell: Option<String>,
    pub hypervisor: HypervisorKind,
    /// Hosts that one process stands for, with the simulated hypervisor.
    pub simulated_hosts: u32,
    /// How long a simulated guest takes to start, in milliseconds.
    pub simulated_start_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HypervisorKind {
    Qemu,
    Simulated,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct IdentityConfig {
    /// Life of a token, in seconds.
    pub token_seconds: u64,
    /// What passwords and accounts must comply with; nothing if absent.
    pub security_compliance: umbel_identity::SecurityCompliance,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dir: ".umbel/run".into(),
            region: "RegionOne".into(),
            listen: Listen::default(),
            services: Services::default(),
            bus: BusConfig::default(),
            database: Databases::default(),
            pools: Vec::new(),
            image: ImageConfig::default(),
            volume: VolumeConfig::default(),
            compute: ComputeConfig::default(),
            agent: AgentConfig::default(),
            identity: IdentityConfig {
                token_seconds: 3600,
                security_compliance: umbel_identity::SecurityCompliance::default(),
            },
            audit: AuditConfig::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            address: IpAddr::from([127, 0, 0, 1]),
            port: 5000,
            ports: BTreeMap::new(),
            tls_cert: None,
            tls_key: None,
            public_url: None,
            metrics: None,
        }
    }
}

impl Default for Databases {
    fn default() -> Self {
        let cells = BTreeMap::from([("cell1".to_owned(), None)]);
        Databases { connections: 8, identity: None, image: None, volume: None, api: None, cell0: None, cells }
    }
}

impl Default for ImageConfig {
    fn default() -> Self {
        ImageConfig {
            pool: "images".into(),
            stores: Vec::new(),
            max_size_gib: 1024,
            options: umbel_image::Config::default(),
        }
    }
}

impl Default for ComputeConfig {
    fn default() -> Self {
        ComputeConfig {
            pools: vec!["vms".into()],
            availability_zone: "nova".into(),
            cpu_ratio: 16.0,
            memory_ratio: 1.0,
        }
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig {
            host: None,
            cell: None,
            hypervisor: HypervisorKind::Qemu,
            simulated_hosts: 1,
            simulated_start_ms: 0,
        }
    }
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Config::default().identity
    }
}

impl Config {
    /// Reads a file; the second half names the keys that mean nothing here (a typing error, an option of another
    /// version), which are worth a warning and not a refusal.
    pub fn read(path: &Path) -> Result<(Config, Vec<String>)> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::bad_request(format!("{} cannot be read: {error}.", path.display())))?;
        let (config, unknown) = Self::parse(&text)
            .map_err(|error| Error::bad_request(format!("{}: {}", path.display(), error.message())))?;
        config.check()?;
        Ok((config, unknown))
    }

    pub(crate) fn parse(text: &str) -> Result<(Config, Vec<String>)> {
        let document = toml::Deserializer::parse(text).map_err(|error| Error::bad_request(error.to_string()))?;
        let mut unknown = Vec::new();
        let config = serde_ignored::deserialize(document, |path| unknown.push(path.to_string()))
            .map_err(|error| Error::bad_request(error.to_string()))?;
        Ok((config, unknown))
    }

    /// What no type can say.
    pub fn check(&self) -> Result<()> {
        let mut names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::bad_request(format!("The pool '{}' is configured twice.", twice[0])));
        }
        self.identity.security_compliance.check()?;
        if self.listen.tls_cert.is_some() != self.listen.tls_key.is_some() {
            return Err(Error::bad_request("listen.tls_cert and listen.tls_key go together."));
        }
        if self.compute.pools.is_empty() {
            return Err(Error::bad_request("compute.pools names no pool."));
        }
        let of_compute = self.compute.pools.iter().map(|pool| ("compute.pools", pool));
        let of_images = self.image.stores.iter().map(|pool| ("image.stores", pool));
        let of_volumes = self.volume.pools.iter().map(|pool| ("volume.pools", pool));
        let all = of_compute.chain(of_images).chain(of_volumes).chain([("image.pool", &self.image.pool)]);
        // Nobody has asked for the pools that stand there by default: whether they are needed, the roles tell.
        let unasked = [&Config::default().image.pool, &Config::default().compute.pools[0]].map(String::clone);
        for (key, wanted) in all.filter(|(_, wanted)| !unasked.contains(wanted)) {
            self.check_pool(key, wanted)?;
        }
        for service in self.listen.ports.keys() {
            if !["identity", "image", "volume", "compute"].contains(&service.as_str()) {
                return Err(Error::bad_request(format!("listen.ports names '{service}', which is no service here.")));
            }
        }
        for (key, ratio) in [("cpu_ratio", self.compute.cpu_ratio), ("memory_ratio", self.compute.memory_ratio)] {
            if !(0.001..=1_000.0).contains(&ratio) {
                return Err(Error::bad_request(format!("compute.{key} is {ratio}; it lies between 0.001 and 1000.")));
            }
        }
        if self.database.cells.is_empty() {
            return Err(Error::bad_request("database.cells names no cell."));
        }
        self.check_bus()
    }

    /// `BadRequest` if a key names a pool that is not configured.
    pub fn check_pool(&self, key: &str, wanted: &str) -> Result<()> {
        match self.effective_pools().iter().any(|pool| pool.name == wanted) {
            true => Ok(()),
            false => {
                Err(Error::bad_request(format!("{key} names the pool '{wanted}', which [[pools]] does not have.")))
            }
        }
    }

    fn check_bus(&self) -> Result<()> {
        if let Some(cell) = self.agent.cell.as_ref().filter(|cell| !self.database.cells.contains_key(*cell)) {
            return Err(Error::bad_request(format!("agent.cell is '{cell}', which database.cells does not have.")));
        }
        if !self.bus.insecure {
            return Ok(());
        }
        let local = |address: &str| address.starts_with("127.") || address.starts_with("[::1]:");
        let listens = self.bus.listen.is_none_or(|address| address.ip().is_loopback());
        match listens && self.bus.conductors.iter().all(|address| local(address)) {
            true => Ok(()),
            false => Err(Error::bad_request(
                "bus.insecure is for the loopback (127.0.0.1) only; make certificates with `umbel cert`.",
            )),
        }
    }

    /// The cell of the hosts that this process stands for.
    pub fn host_cell(&self) -> &str {
        let first = || self.database.cells.keys().next().map_or("", String::as_str);
        self.agent.cell.as_deref().unwrap_or_else(first)
    }

    /// The pools images, vms and volumes of one Ceph cluster, in place of what was configured.
    pub fn use_ceph(&mut self, conf: &Path, user: &str) {
        let pool = |name: &str| PoolConfig {
            name: name.to_owned(),
            driver: PoolDriver::Rbd { conf: conf.to_owned(), user: user.to_owned(), ceph_pool: None },
            tier: default_tier(),
        };
        self.pools = ["images", "vms", "volumes"].map(pool).into();
    }

    /// What was configured, or the embedded default.
    pub fn effective_pools(&self) -> Vec<PoolConfig> {
        if !self.pools.is_empty() {
            return self.pools.clone();
        }
        let pool = |name: &str| PoolConfig {
            name: name.to_owned(),
            driver: PoolDriver::Local { path: None },
            tier: default_tier(),
        };
        ["images", "vms", "volumes"].map(pool).into()
    }

    /// Names of the pools in which volumes are made.
    pub fn volume_pools(&self) -> Vec<String> {
        if !self.volume.pools.is_empty() {
            return self.volume.pools.clone();
        }
        let usual = |pool: &PoolConfig| pool.name == "volumes";
        self.effective_pools().into_iter().filter(usual).map(|pool| pool.name).collect()
    }

    pub fn database_url(&self, configured: &Option<String>, name: &str) -> String {
        match configured {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.dir.join("db").join(format!("{name}.sqlite")).display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_file_is_the_embedded_cloud() {
        let (config, unknown) = Config::parse("").unwrap();
        assert!(unknown.is_empty());
        assert_eq!(config.effective_pools().len(), 3);
        assert_eq!(config.database_url(&None, "api"), "sqlite:.umbel/run/db/api.sqlite");
        config.check().unwrap();
    }

    #[test]
    fn pools_and_unknown_keys_are_read() {
        let text = "regoin = 'x'\n[listen]\nport = 0\n[[pools]]\nname = 'images'\ndriver = 'rbd'\nconf = '/c'\n\
                    [[pools]]\nname = 'vms'\ndriver = 'local'\ntier = 'ssd'\n";
        let (config, unknown) = Config::parse(text).unwrap();
        assert_eq!(unknown, ["regoin"]);
        assert_eq!(config.pools[1].tier, "ssd");
        assert!(matches!(&config.pools[0].driver, PoolDriver::Rbd { user, .. } if user == "admin"));
        config.check().unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |text: &str, word: &str| {
            let error = Config::parse(text).unwrap().0.check().unwrap_err();
            assert!(error.message().contains(word), "{error}");
        };
        check("[image]\npool = 'x'\n[[pools]]\nname = 'vms'\ndriver = 'local'\n", "image.pool");
        check("[[pools]]\nname = 'a'\ndriver = 'local'\n[[pools]]\nname = 'a'\ndriver = 'simulated'\n", "twice");
        check("[listen.ports]\nbogus = 1\n", "bogus");
        check("[compute]\ncpu_ratio = 0.0\n", "cpu_ratio");
        check("[agent]\ncell = 'x'\n", "agent.cell");
        check("[bus]\ninsecure = true\nlisten = '0.0.0.0:5010'\n", "bus.insecure");
        check("[bus]\ninsecure = true\nconductors = ['control:5010']\n", "bus.insecure");
        assert!(Config::parse("[[pools]]\nname = 'a'\ndriver = 'gfs'\n").is_err());
    }
}
