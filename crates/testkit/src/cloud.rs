use std::sync::Arc;
use std::time::Duration;

use umbel::cli::Role;
use umbel::config::{Config, HypervisorKind};
use umbel::running::Running;
use umbel_client::{Cloud, HttpTransport};

/// A cloud in this process: all roles, a free port, a directory of its own that goes with it.
pub struct TestCloud {
    pub running: Running,
    pub admin: Cloud,
    _dir: tempfile::TempDir,
}

impl TestCloud {
    /// On simulated hosts and the embedded pools, changed as the test likes.
    pub async fn start(change: impl FnOnce(&mut Config)) -> TestCloud {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config { dir: dir.path().to_owned(), ..Config::default() };
        config.listen.port = 0;
        config.agent.hypervisor = HypervisorKind::Simulated;
        change(&mut config);
        let running = Running::start(config, &Role::ALL).await.unwrap_or_else(|error| panic!("{}", error.for_log()));
        let transport = Arc::new(HttpTransport::new(false).expect("an HTTP client"));
        let admin =
            Cloud::connect(&running.admin(), transport).await.unwrap_or_else(|error| panic!("{}", error.for_log()));
        TestCloud { running, admin, _dir: dir }
    }

    pub async fn stop(self) {
        self.running.stop(Duration::from_secs(10)).await;
    }
}
