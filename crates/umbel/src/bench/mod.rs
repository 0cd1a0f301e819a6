//! `umbel bench`: what a user waits for, measured by public APIs only, so that the same command measures any OpenStack
//! cloud in `clouds.yaml`, ours or upstream's.

mod boot;
mod list;
mod report;
mod storage;
mod token;
mod volume;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use umbel_client::{Cloud, CloudConfig, HttpTransport, Transport, find_cloud};
use umbel_core::{Error, Result};

#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Name of the cloud in clouds.yaml.
    #[arg(long, global = true, default_value = "umbel")]
    cloud: String,
    /// Also write the figures to this file, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// One server after the other, from a 64 MiB and a 2 GiB image: POST to ACTIVE, and DELETE to gone.
    Boot {
        #[arg(long, default_value_t = 10)]
        runs: usize,
    },
    /// Many servers in one request, until the last is ACTIVE, and until the last is gone.
    Batch {
        #[arg(long, default_value_t = 20)]
        count: u32,
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// GET /servers/detail with as many servers, by 1 and by 8 clients.
    List {
        #[arg(long, value_delimiter = ',', default_values_t = [0, 100, 1000])]
        counts: Vec<u32>,
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Images up and down, beside plain copies of the same bytes; volumes made, snapshotted and deleted, 1, 4 and 16 at a
    /// time.
    Storage {
        /// Size of the image.
        #[arg(long, default_value_t = 256)]
        mib: usize,
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Volumes at each width.
        #[arg(long, default_value_t = 32)]
        volumes: usize,
        /// Compare with `rbd import` and `rbd export` in the cluster of this ceph.conf.
        #[arg(long, value_name = "CONF")]
        ceph: Option<PathBuf>,
        #[arg(long, default_value = "images")]
        ceph_pool: String,
    },
    /// One volume after the other: made, cloned, snapshotted, attached to a running server and detached, booted from.
    Volume {
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Bootable image of the cloud, for the running server.
        #[arg(long, value_name = "NAME|ID", conflicts_with = "guest")]
        image: Option<String>,
        /// Or a bootable raw disk, which is uploaded as one [default: .umbel/guest.img, if it is there].
        #[arg(long, value_name = "FILE")]
        guest: Option<PathBuf>,
    },
    /// Tokens by password and their validation, by 1 and by 8 clients.
    Token {
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

/// Looks for a new status this often, on every cloud alike.
const POLL: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(900);

/// MiB of a server's memory: where the guest need not come up, and where it must.
const SMALL: u32 = 64;
const BOOTS: u32 = 128;

pub async fn run(args: BenchArgs) -> Result<()> {
    let config = find_cloud(&args.cloud)?;
    let transport: Arc<dyn Transport> = Arc::new(HttpTransport::of(&config)?);
    let figures = match args.what {
        What::Boot { runs } => boot::one_by_one(&Bench::open(&config, &transport, SMALL).await?, runs).await?,
        What::Batch { count, runs } => {
            boot::batch(&Bench::open(&config, &transport, SMALL).await?, count, runs).await?
        }
        What::List { counts, runs } => {
            list::run(&Bench::open(&config, &transport, SMALL).await?, &counts, runs).await?
        }
        What::Storage { mib, runs, volumes, ceph, ceph_pool } => {
            let cloud = Cloud::connect(&config, transport.clone()).await?;
            let asked = storage::Asked { mib, runs, volumes, ceph, ceph_pool };
            storage::run(&cloud, &mark(), &asked).await?
        }
        What::Volume { runs, image, guest } => {
            let guest = volume::Guest::of(image, guest)?;
            volume::run(&Bench::open(&config, &transport, BOOTS).await?, &transport, &guest, runs).await?
        }
        What::Token { seconds } => token::run(&config, &transport, Duration::from_secs(seconds)).await?,
    };
    print!("{}", report::table(&figures));
    if let Some(path) = args.json {
        let text =
            serde_json::to_vec_pretty(&json!({"cloud": args.cloud, "figures": figures})).map_err(Error::internal)?;
        std::fs::write(&path, text)
            .map_err(|error| Error::bad_request(format!("{} cannot be written: {error}.", path.display())))?;
    }
    Ok(())
}

/// In the names of everything made, so that what another run left is not counted.
fn mark() -> String {
    format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

/// A session on the cloud under test, and the flavor all its servers have.
struct Bench {
    cloud: Cloud,
    flavor: String,
    /// In the names of everything made, so that what another run left is not counted.
    mark: String,
}

impl Bench {
    async fn open(config: &CloudConfig, transport: &Arc<dyn Transport>, ram_mib: u32) -> Result<Bench> {
        let cloud = Cloud::connect(config, transport.clone()).await?;
        let mark = mark();
        let flavor = json!({"flavor": {"name": mark, "ram": ram_mib, "vcpus": 1, "disk": 2, "id": "auto"}});
        let made: serde_json::Value = cloud.post("compute", "/flavors", None, &flavor).await?;
        let flavor = made["flavor"]["id"].as_str().unwrap_or_default().to_owned();
        let bench = Bench { cloud, flavor, mark };
        bench.lift_quota().await?;
        Ok(bench)
    }

    /// The default quota of ten servers would measure the quota.
    async fn lift_quota(&self) -> Result<()> {
        lift_quota(&self.cloud, "compute", &["instances", "cores", "ram"]).await
    }

    async fn close(&self) -> Result<()> {
        self.cloud.delete("compute", &format!("/flavors/{}", self.flavor)).await
    }
}

/// Nothing of these is counted for the project any more.
async fn lift_quota(cloud: &Cloud, service: &str, resources: &[&str]) -> Result<()> {
    let Some(project) = &cloud.project_id else {
        return Err(Error::bad_request("The cloud's entry in clouds.yaml names no project."));
    };
    let limits: serde_json::Map<String, serde_json::Value> =
        resources.iter().map(|resource| ((*resource).to_owned(), json!(-1))).collect();
    let body = serde_json::to_vec(&json!({"quota_set": limits})).map_err(Error::internal)?;
    let path = format!("/os-quota-sets/{project}");
    let call = umbel_client::Call::new(service, http::Method::PUT, &path)
        .headers(&[("content-type", "application/json")])
        .body(umbel_client::Body::Bytes(body.into()));
    cloud.bytes(call).await.map(drop)
}
