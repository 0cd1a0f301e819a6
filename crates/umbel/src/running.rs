//! A cloud that runs, or some roles of one: services on their ports, what works behind them, and the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use umbel_client::{Auth, CloudConfig, Transport};
use umbel_core::{Clock, Result, Rng, SystemClock, SystemRng};
use umbel_http::{App, Server, Tls, serve, serve_tls};

use crate::cli::Role;
use crate::compose::{self, Behind, Built, Parts};
use crate::config::Config;
use crate::roles::Roles;
use crate::services::{ImageService, Places, ServiceLogin, Ways};
use crate::state::StateDir;
use crate::volumes::VolumeService;

/// Name of the services' own user.
const SERVICE_USER: &str = "service";
const SERVICE_PROJECT: &str = "service";

/// A cloud, or some roles of one, in this process.
pub struct Running {
    /// Root of the shared port, `http://127.0.0.1:5000`; empty where no API is served.
    pub url: String,
    /// Of the metrics' own port, where it is configured.
    pub metrics: Option<SocketAddr>,
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
        let roles = Roles::new(roles, &config)?;
        let state = StateDir::open(&config.dir)?;
        config.dir = state.path().to_owned();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        let inside = Arc::new(Ways::new(config.services.ca_cert.clone()));
        let ways: Arc<dyn Transport> = inside.clone();
        let login = Arc::new(ServiceLogin::new(
            service_user(&config, &state, &roles, &*rng)?,
            Places::new(&roles, &config),
            ways.clone(),
            clock.clone(),
        ));
        let parts = Parts {
            config: &config,
            state: &state,
            clock,
            rng: rng.clone(),
            ways,
            images: Arc::new(ImageService::new(login.clone())),
            volumes: Arc::new(VolumeService::new(login.clone())),
            login,
            bus: OnceLock::new(),
        };
        let tls = tls(&config)?;
        let built = compose::build(&parts, &roles).await?;
        let (url, servers) = listen(&config, &built, &inside, tls.as_ref()).await?;
        let mut running = Running {
            admin: account(&config, "admin", String::new(), "admin", format!("{url}/identity")),
            url,
            metrics: None,
            hypervisor: built.hypervisor,
            storage: built.storage,
            clouds_yaml: state.join("clouds.yaml"),
            state,
            servers,
            stop: watch::Sender::new(false),
            behind: JoinSet::new(),
        };
        if let Some(address) = config.listen.metrics {
            let server = serve(address, App::metrics_router_with(built.metrics.clone())).await?;
            running.metrics = Some(server.address);
            running.servers.push(server);
        }
        if let Some(identity) = &built.identity {
            running.bootstrap(&config, &roles, identity, &*rng).await?;
        }
        if let Some(tls) = tls {
            running.behind.spawn(renewed(tls, running.stop.subscribe()));
        }
        for Behind(work) in built.behind {
            running.behind.spawn(work(running.stop.subscribe()));
        }
        Ok(running)
    }

    async fn bootstrap(
        &mut self,
        config: &Config,
        roles: &Roles,
        identity: &umbel_identity::Identity,
        rng: &dyn Rng,
    ) -> Result<()> {
        let (admin, service) = (self.state.admin_password(rng)?, self.state.service_password(rng)?);
        compose::bootstrap_identity(identity, config, roles, &self.url, &admin, &service).await?;
        self.state.write_clouds_yaml(
            &format!("{}/identity", self.url),
            &admin,
            &config.region,
            config.services.ca_cert.as_deref(),
        )?;
        self.admin.auth.password = Some(admin);
        Ok(())
    }

    /// How the administrator logs in. Only the process with identity knows the password.
    pub fn admin(&self) -> CloudConfig {
        self.admin.clone()
    }

    /// Written by the process with identity.
    pub fn clouds_yaml(&self) -> &Path {
        &self.clouds_yaml
    }

    pub fn dir(&self) -> &Path {
        self.state.path()
    }

    /// Where services stand, the shared port first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
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

/// Opens the ports of the services that are here; the shared one's URL.
async fn listen(
    config: &Config,
    built: &Built,
    inside: &Ways,
    tls: Option<&Arc<Tls>>,
) -> Result<(String, Vec<Server>)> {
    let Some(app) = &built.app else {
        return Ok((String::new(), Vec::new()));
    };
    let shared = app.router((built.services)());
    inside.set(shared.clone());
    let at = |port| SocketAddr::new(config.listen.address, port);
    let server = serve_tls(at(config.listen.port), shared, tls.cloned()).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = config.listen.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", server.address));
    let mut servers = vec![server];
    for service in (built.services)() {
        let name = service.prefix.trim_start_matches('/');
        if let Some(port) = config.listen.ports.get(name) {
            servers.push(serve_tls(at(*port), app.alone(service), tls.cloned()).await?);
        }
    }
    Ok((url, servers))
}

/// The certificate of our ports, if there is one.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>> {
    match (&config.listen.tls_cert, &config.listen.tls_key) {
        (Some(certificate), Some(key)) => Tls::read(certificate, key).map(Some),
        _ => Ok(None),
    }
}

/// Between two looks whether the certificate was renewed.
const LOOK: Duration = Duration::from_secs(60);

/// Follows the certificate's files: now and then, and when a SIGHUP says that they have changed.
async fn renewed(tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP is not heard");
            None
        }
    };
    loop {
        let told = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = told => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        match tls.reload() {
            Ok(true) => tracing::info!("the certificate of the services' ports was read again"),
            Ok(false) => {}
            Err(error) => tracing::warn!(cause = error.cause(), "the certificate stays as it was: {error}"),
        }
    }
}

/// How the services of this process log in, if any does.
fn service_user(config: &Config, state: &StateDir, roles: &Roles, rng: &dyn Rng) -> Result<Option<CloudConfig>> {
    if !roles.calls_services() {
        return Ok(None);
    }
    // Identity here takes whatever password is here, and makes one where there is none; elsewhere it is identity's.
    let password = match (&config.services.password_file, roles.has(Role::Identity)) {
        (None, true) => state.service_password(rng)?,
        (Some(file), _) => StateDir::read_password(file)?,
        (None, false) => StateDir::read_password(&state.service_password_file())?,
    };
    let url = Places::new(roles, config).identity().unwrap_or_default().to_owned();
    let mut user = account(config, SERVICE_USER, password, SERVICE_PROJECT, url);
    config.services.interface.name().clone_into(&mut user.interface);
    Ok(Some(user))
}

fn account(config: &Config, user: &str, password: String, project: &str, auth_url: String) -> CloudConfig {
    let default = || Some("Default".to_owned());
    CloudConfig {
        auth: Auth {
            auth_url,
            username: Some(user.to_owned()),
            password: Some(password),
            user_domain_name: default(),
            project_name: Some(project.to_owned()),
            project_domain_name: default(),
            ..Auth::default()
        },
        region_name: Some(config.region.clone()),
        interface: "public".to_owned(),
        verify: true,
        cacert: config.services.ca_cert.clone(),
    }
}
