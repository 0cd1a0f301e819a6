use std::time::Duration;

use umbel_placement::Ratio;
use umbel_scheduler::Scheduler;
use umbel_workflow::RunnerConfig;

#[derive(Clone)]
pub struct ConductorConfig {
    pub scheduler: Scheduler,
    /// For hosts and pools that are new; later they are the operator's.
    pub ratios: Ratios,
    /// Memory of each host that is not given to servers.
    pub reserved_memory_mib: u64,
    pub config_drives: ConfigDrives,
    /// Hosts that are tried for one server.
    pub tries: usize,
    /// A host that was not heard of for so long gets no new servers.
    pub down_after: Duration,
    /// After its start a conductor gives hosts that it has not heard of yet so long before it takes them for down: all of
    /// them connect anew, and servers whose making was interrupted are not to fail for that.
    pub settle: Duration,
    /// How old the scheduler's view of a cell may be. What this conductor itself places is in it at once.
    pub view_age: Duration,
    /// Between two looks for servers that are not as they should be.
    pub sweep: Duration,
    /// A server that changed more recently is left to the messages under way.
    pub quiet: Duration,
    /// Between two comparisons of the global map with the cells.
    pub reconcile: Duration,
    /// How long a deleted server can still be asked for.
    pub keep_deleted: Duration,
    /// How long a failed attempt waits for its host to clean up before the server is left there in error.
    pub clean_up: Duration,
    pub runner: RunnerConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratios {
    pub cpu: Ratio,
    pub memory: Ratio,
    pub disk: Ratio,
}

/// Which servers get a config drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigDrives {
    /// All. While no network brings the metadata, it is the only way for a guest to learn who it is.
    #[default]
    Always,
    /// Those whose owner asks for it.
    Asked,
}

impl Default for ConductorConfig {
    fn default() -> Self {
        ConductorConfig {
            scheduler: Scheduler::default(),
            ratios: Ratios { cpu: Ratio::CPU, memory: Ratio::MEMORY, disk: Ratio::THIN_DISK },
            reserved_memory_mib: 512,
            config_drives: ConfigDrives::default(),
            tries: 3,
            down_after: Duration::from_secs(30),
            settle: Duration::from_secs(15),
            view_age: Duration::from_secs(2),
            sweep: Duration::from_secs(2),
            quiet: Duration::from_secs(3),
            reconcile: Duration::from_secs(300),
            keep_deleted: Duration::from_secs(30 * 86_400),
            clean_up: Duration::from_secs(60),
            runner: RunnerConfig::default(),
        }
    }
}
