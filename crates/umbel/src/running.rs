//! A cloud that runs: its services on their ports, what works behind them, and its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use umbel_client::{Auth, CloudConfig, Images as ImageClient};
use umbel_core::{Clock, Result, Rng, SystemClock, SystemRng};
use umbel_http::{Server, serve};

use crate::cli::Role;
use crate::compose::{self, Behind, Parts};
use crate::config::Config;
use crate::inprocess::InProcess;
use crate::services::{ImageService, ServiceLogin};
use crate::state::StateDir;

/// Name of the services' own user.
const SERVICE_USER: &str = "service";
const SERVICE_PROJECT: &str = "service";

/// A cloud, or some roles of one, in this process.
pub struct Running {
    /// Root of the shared port: `http://127.0.0.1:5000`.
    pub url: String,
    /// A sentence about the hypervisor, and one about the pools.
    pub hypervisor: String,
    pub storage: String,
    admin: CloudConfig,
    clouds_yaml: PathBuf,
    state: StateDir,
    servers: Vec<Server>,
    stop: watch::Sender<bool>,
    behind: JoinSet<()>,
}

impl Running {
    pub async fn start(mut config: Config, roles: &[Role]) -> Result<Running> {
        let state = StateDir::open(&config.dir)?;
        config.dir = state.path().to_owned();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        let router = Arc::new(InProcess::default());
        let service_password = state.service_password(&*rng)?;
        let service = login(&config, SERVICE_USER, &service_password, SERVICE_PROJECT, "http://in-process");
        let login_of_services = Arc::new(ServiceLogin::new(service, router.clone()));
        let images = ImageClient::new(router.clone(), "http://in-process/image");
        let images = Arc::new(ImageService::new(images, login_of_services));
        let parts = Parts { config: &config, state: &state, clock: clock.clone(), rng: rng.clone(), images };
        let built = compose::build(&parts, roles).await?;

        let shared = built.app.router((built.services)());
        router.set(shared.clone());
        let address = SocketAddr::new(config.listen.address, config.listen.port);
        let server = serve(address, shared).await?;
        let url = config.listen.public_url.clone().unwrap_or_else(|| format!("http://{}", server.address));
        let mut servers = vec![server];
        for service in (built.services)() {
            let name = service.prefix.trim_start_matches('/');
            if let Some(port) = config.listen.ports.get(name) {
                let address = SocketAddr::new(config.listen.address, *port);
                servers.push(serve(address, built.app.alone(service)).await?);
            }
        }

        let admin_password = state.admin_password(&*rng)?;
        if let Some(identity) = &built.identity {
            compose::bootstrap_identity(identity, &config.region, &url, &admin_password, &service_password).await?;
        }
        let clouds_yaml = state.write_clouds_yaml(&format!("{url}/identity"), &admin_password, &config.region)?;
        let admin = login(&config, "admin", &admin_password, "admin", &url);
        let (stop, stopped) = watch::channel(false);
        let mut behind = JoinSet::new();
        for Behind(work) in built.behind {
            behind.spawn(work(stopped.clone()));
        }
        let (hypervisor, storage) = (built.hypervisor, built.storage);
        Ok(Running { url, hypervisor, storage, admin, clouds_yaml, state, servers, stop, behind })
    }

    /// How the administrator logs in.
    pub fn admin(&self) -> CloudConfig {
        self.admin.clone()
    }

    pub fn clouds_yaml(&self) -> &Path {
        &self.clouds_yaml
    }

    pub fn dir(&self) -> &Path {
        self.state.path()
    }

    /// Takes no more requests, finishes those that run, puts work in progress down where it can be taken up again.
    /// Guests run on.
    pub async fn stop(mut self, grace: Duration) {
        let drained = async {
            for server in self.servers {
                server.drain(grace).await;
            }
        };
        drained.await;
        let _ = self.stop.send(true);
        let ended = async { while self.behind.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!("work was still in progress at the end of the grace period; it goes on at the next start");
        }
    }
}

fn login(config: &Config, user: &str, password: &str, project: &str, url: &str) -> CloudConfig {
    let default = || Some("Default".to_owned());
    CloudConfig {
        auth: Auth {
            auth_url: format!("{url}/identity"),
            username: Some(user.to_owned()),
            password: Some(password.to_owned()),
            user_domain_name: default(),
            project_name: Some(project.to_owned()),
            project_domain_name: default(),
            ..Auth::default()
        },
        region_name: Some(config.region.clone()),
        interface: "public".to_owned(),
        verify: true,
    }
}
