use super::{Life, Power, Server, State, Task};

/// What the API shows of a server's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    pub status: Status,
    pub vm_state: VmState,
    pub task_state: Option<&'static str>,
    /// 0 no state, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended.
    pub power_state: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmState {
    Building,
    Active,
    Stopped,
    Paused,
    Error,
    Deleted,
}

impl VmState {
    pub const ALL: [VmState; 6] =
        [VmState::Building, VmState::Active, VmState::Stopped, VmState::Paused, VmState::Error, VmState::Deleted];

    pub fn name(self) -> &'static str {
        match self {
            VmState::Building => "building",
            VmState::Active => "active",
            VmState::Stopped => "stopped",
            VmState::Paused => "paused",
            VmState::Error => "error",
            VmState::Deleted => "deleted",
        }
    }
}

/// The API's `status`, made of `vm_state` and `task_state` as the reference's table of server states has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Build,
    Active,
    Shutoff,
    Paused,
    Reboot,
    HardReboot,
    Error,
    Deleted,
}

impl Status {
    pub const ALL: [Status; 8] = [
        Status::Build,
        Status::Active,
        Status::Shutoff,
        Status::Paused,
        Status::Reboot,
        Status::HardReboot,
        Status::Error,
        Status::Deleted,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Status::Build => "BUILD",
            Status::Active => "ACTIVE",
            Status::Shutoff => "SHUTOFF",
            Status::Paused => "PAUSED",
            Status::Reboot => "REBOOT",
            Status::HardReboot => "HARD_REBOOT",
            Status::Error => "ERROR",
            Status::Deleted => "DELETED",
        }
    }

    /// The stored states that show as this status: what a filter by status selects. Task states of `None` mean any
    /// but those that make it another status.
    pub fn states(self) -> (VmState, Option<Task>) {
        match self {
            Status::Build => (VmState::Building, None),
            Status::Active => (VmState::Active, None),
            Status::Shutoff => (VmState::Stopped, None),
            Status::Paused => (VmState::Paused, None),
            Status::Reboot => (VmState::Active, Some(Task::Rebooting)),
            Status::HardReboot => (VmState::Active, Some(Task::RebootingHard)),
            Status::Error => (VmState::Error, None),
            Status::Deleted => (VmState::Deleted, None),
        }
    }
}

pub fn project(server: &Server) -> Projection {
    let vm_state = vm_state(&server.state);
    Projection {
        status: status(vm_state, server.state.task),
        vm_state,
        task_state: server.state.task.map(Task::name),
        power_state: power_state(server.state.power),
    }
}

pub(crate) fn vm_state(state: &State) -> VmState {
    match (state.life, state.power) {
        (Life::Building, _) => VmState::Building,
        (Life::Error, _) => VmState::Error,
        (Life::Deleted, _) => VmState::Deleted,
        (Life::Built, Some(Power::Running)) => VmState::Active,
        (Life::Built, Some(Power::Paused)) => VmState::Paused,
        (Life::Built, Some(Power::Shutdown | Power::Crashed) | None) => VmState::Stopped,
    }
}

fn status(vm_state: VmState, task: Option<Task>) -> Status {
    match (vm_state, task) {
        (VmState::Active, Some(Task::Rebooting)) => Status::Reboot,
        (VmState::Active, Some(Task::RebootingHard)) => Status::HardReboot,
        (VmState::Active, _) => Status::Active,
        (VmState::Building, _) => Status::Build,
        (VmState::Stopped, _) => Status::Shutoff,
        (VmState::Paused, _) => Status::Paused,
        (VmState::Error, _) => Status::Error,
        (VmState::Deleted, _) => Status::Deleted,
    }
}

fn power_state(power: Option<Power>) -> u8 {
    match power {
        None => 0,
        Some(Power::Running) => 1,
        Some(Power::Paused) => 3,
        Some(Power::Shutdown) => 4,
        Some(Power::Crashed) => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::server;
    use super::*;

    #[test]
    fn every_state_has_its_projection() {
        let check = |life, power, task: Option<Task>, status: &str, vm_state: &str, power_state| {
            let mut server = server();
            server.state.life = life;
            server.state.power = power;
            server.state.task = task;
            let got = project(&server);
            let want = (status, vm_state, task.map(Task::name), power_state);
            assert_eq!((got.status.name(), got.vm_state.name(), got.task_state, got.power_state), want);
        };
        let running = Some(Power::Running);
        check(Life::Building, None, Some(Task::Scheduling), "BUILD", "building", 0);
        check(Life::Building, None, Some(Task::Spawning), "BUILD", "building", 0);
        check(Life::Built, running, None, "ACTIVE", "active", 1);
        check(Life::Built, running, Some(Task::PoweringOff), "ACTIVE", "active", 1);
        check(Life::Built, running, Some(Task::Deleting), "ACTIVE", "active", 1);
        check(Life::Built, running, Some(Task::Rebooting), "REBOOT", "active", 1);
        check(Life::Built, running, Some(Task::RebootingHard), "HARD_REBOOT", "active", 1);
        check(Life::Built, Some(Power::Shutdown), None, "SHUTOFF", "stopped", 4);
        check(Life::Built, Some(Power::Shutdown), Some(Task::RebootingHard), "SHUTOFF", "stopped", 4);
        check(Life::Built, Some(Power::Crashed), None, "SHUTOFF", "stopped", 6);
        check(Life::Built, Some(Power::Paused), Some(Task::Unpausing), "PAUSED", "paused", 3);
        check(Life::Error, None, None, "ERROR", "error", 0);
        check(Life::Error, running, Some(Task::RebootingHard), "ERROR", "error", 1);
        check(Life::Deleted, None, None, "DELETED", "deleted", 0);
    }
}
