use std::collections::BTreeMap;

use umbel_core::{Error, Result, Timestamp};

use super::project::vm_state;
use super::volumes::disconnect_all;
use super::{Fault, HostRef, Life, Restart, Server, State, Task, VmState, Want};

/// What a user asks of a server that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Start,
    Stop,
    Reboot(Restart),
    Pause,
    Unpause,
    Delete,
}

impl Action {
    /// As the list of the server's actions names it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Reboot(_) => "reboot",
            Action::Pause => "pause",
            Action::Unpause => "unpause",
            Action::Delete => "delete",
        }
    }

    fn task(self) -> Task {
        match self {
            Action::Start => Task::PoweringOn,
            Action::Stop => Task::PoweringOff,
            Action::Reboot(Restart::Soft) => Task::Rebooting,
            Action::Reboot(Restart::Hard) => Task::RebootingHard,
            Action::Pause => Task::Pausing,
            Action::Unpause => Task::Unpausing,
            Action::Delete => Task::Deleting,
        }
    }

    fn want(self) -> Want {
        match self {
            Action::Start | Action::Reboot(_) | Action::Unpause => Want::On,
            Action::Stop => Want::Off,
            Action::Pause => Want::Paused,
            Action::Delete => Want::Absent,
        }
    }

    /// As the reference says of each action in which states the server may be.
    fn allowed_in(self, vm_state: VmState) -> bool {
        match self {
            Action::Start => vm_state == VmState::Stopped,
            Action::Stop => matches!(vm_state, VmState::Active | VmState::Error),
            Action::Reboot(Restart::Soft) | Action::Pause => vm_state == VmState::Active,
            Action::Reboot(Restart::Hard) => {
                matches!(vm_state, VmState::Active | VmState::Stopped | VmState::Paused | VmState::Error)
            }
            Action::Unpause => vm_state == VmState::Paused,
            Action::Delete => vm_state != VmState::Deleted,
        }
    }

    fn allowed_during(self, task: Option<Task>) -> bool {
        match (self, task) {
            (_, None) | (Action::Delete, _) => true,
            // The way out of a soft reboot that the guest does not heed.
            (Action::Reboot(Restart::Hard), Some(task)) => {
                matches!(task, Task::Rebooting | Task::RebootingHard | Task::Pausing | Task::Unpausing)
            }
            _ => false,
        }
    }
}

/// The server's state once the action is under way: what is wanted has a new generation, which the agent then reaches.
/// 409 with the state that forbids it. `request_id` names the action's record.
pub fn transition(server: &Server, action: Action, request_id: &str, now: Timestamp) -> Result<State> {
    let vm_state = vm_state(&server.state);
    if !action.allowed_in(vm_state) {
        return Err(conflict(server, action, "vm_state", vm_state.name()));
    }
    if !action.allowed_during(server.state.task) {
        return Err(conflict(server, action, "task_state", server.state.task.map_or("None", Task::name)));
    }
    // A server that never ran has no guest to act on.
    if server.state.host.is_none() && action != Action::Delete {
        return Err(Error::conflict(format!("Instance {} is in an invalid state for '{}'", server.id, action.name())));
    }
    let mut state = server.state.clone();
    state.want = action.want();
    state.restart = match action {
        Action::Reboot(restart) => Some(restart),
        _ => None,
    };
    state.generation = state.generation.next();
    state.task = Some(action.task());
    state.action = Some(request_id.to_owned());
    state.updated_at = now;
    if action == Action::Delete {
        state.terminated_at = Some(now);
    }
    Ok(state)
}

/// A host was chosen and the room on it claimed: the first generation for that host. A server with volumes gets it when
/// they are connected ([`super::connect_all`]); until then the host has nothing to do for it.
pub fn place(server: &Server, host: HostRef, zone: String, now: Timestamp) -> State {
    let mut state = server.state.clone();
    state.host = Some(host);
    state.zone = Some(zone);
    if state.volumes.is_empty() {
        state.generation = state.generation.next();
    }
    state.task = Some(Task::Spawning);
    state.fault = None;
    state.power = None;
    state.updated_at = now;
    state
}

/// The host did not make it: the server is on none, and waits for another.
pub fn leave(server: &Server, now: Timestamp) -> State {
    let mut state = server.state.clone();
    (state.host, state.task) = (None, Some(Task::Scheduling));
    state.generation = state.generation.next();
    state.observed_generation = state.generation;
    state.updated_at = now;
    disconnect_all(&mut state, now);
    state
}

/// Wanted no more, and nothing of it is on a host; its volumes are still to be let go.
pub fn vacated(server: &Server, now: Timestamp) -> State {
    let mut state = server.state.clone();
    state.want = Want::Absent;
    state.observed_generation = state.generation;
    state.task = Some(Task::Deleting);
    state.power = None;
    state.volume_action = None;
    state.admin_pass = None;
    state.terminated_at = state.terminated_at.or(Some(now));
    state.updated_at = now;
    state
}

/// The server is in error, and why.
pub fn failed(server: &Server, fault: Fault, now: Timestamp) -> State {
    let mut state = server.state.clone();
    state.life = Life::Error;
    state.task = None;
    state.action = None;
    state.restart = None;
    state.fault = Some(fault);
    state.admin_pass = None;
    state.updated_at = now;
    state
}

/// Nothing of it is left on any host.
pub fn deleted(server: &Server, now: Timestamp) -> State {
    let mut state = server.state.clone();
    state.life = Life::Deleted;
    state.want = Want::Absent;
    state.task = None;
    state.action = None;
    state.power = None;
    state.admin_pass = None;
    state.volumes = Vec::new();
    state.volume_action = None;
    state.metadata = BTreeMap::new();
    state.tags = Vec::new();
    state.terminated_at = state.terminated_at.or(Some(now));
    state.deleted_at = Some(now);
    state.updated_at = now;
    state
}

/// An administrator declares the state to be error, or not. What the agent sees of the guest stays as it is.
pub fn reset(server: &Server, to_error: bool, now: Timestamp) -> State {
    let mut state = server.state.clone();
    state.life = if to_error { Life::Error } else { Life::Built };
    state.task = None;
    state.action = None;
    state.updated_at = now;
    state
}

fn conflict(server: &Server, action: Action, attribute: &str, value: &str) -> Error {
    let (name, id) = (action.name(), server.id);
    Error::conflict(format!("Cannot '{name}' instance {id} while it is in {attribute} {value}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{active, server};
    use super::super::{Power, project};
    use super::*;

    const NOW: Timestamp = Timestamp(7);

    #[test]
    fn actions_are_allowed_by_state() {
        let mut stopped = active();
        stopped.state.power = Some(Power::Shutdown);
        stopped.state.want = Want::Off;
        let mut paused = active();
        paused.state.power = Some(Power::Paused);
        let mut error = active();
        error.state.life = Life::Error;
        let mut stopping = active();
        stopping.state.task = Some(Task::PoweringOff);
        let mut rebooting = active();
        rebooting.state.task = Some(Task::Rebooting);
        let mut gone = active();
        gone.state.life = Life::Deleted;
        let building = server();

        let (soft, hard) = (Action::Reboot(Restart::Soft), Action::Reboot(Restart::Hard));
        let check = |server: &Server, allowed: &[Action]| {
            for action in [Action::Start, Action::Stop, soft, hard, Action::Pause, Action::Unpause, Action::Delete] {
                let got = transition(server, action, "req-1", NOW);
                assert_eq!(got.is_ok(), allowed.contains(&action), "{action:?} of {:?}", project(server));
            }
        };
        check(&active(), &[Action::Stop, soft, hard, Action::Pause, Action::Delete]);
        check(&stopped, &[Action::Start, hard, Action::Delete]);
        check(&paused, &[Action::Unpause, hard, Action::Delete]);
        check(&error, &[Action::Stop, hard, Action::Delete]);
        check(&stopping, &[Action::Delete]);
        check(&rebooting, &[hard, Action::Delete]);
        check(&building, &[Action::Delete]);
        check(&gone, &[]);
    }

    #[test]
    fn a_refusal_names_the_state() {
        let mut stopped = active();
        stopped.state.power = Some(Power::Shutdown);
        let error = transition(&stopped, Action::Stop, "req-1", NOW).unwrap_err();
        let want = format!("Cannot 'stop' instance {} while it is in vm_state stopped", stopped.id);
        assert_eq!((error.kind().status(), error.message()), (409, want.as_str()));
    }

    #[test]
    fn an_action_is_a_new_generation() {
        let before = active();
        let state = transition(&before, Action::Reboot(Restart::Soft), "req-9", NOW).unwrap();
        assert_eq!(state.generation, before.state.generation.next());
        assert_eq!(state.observed_generation, before.state.observed_generation);
        assert_eq!((state.want, state.restart, state.task), (Want::On, Some(Restart::Soft), Some(Task::Rebooting)));
        assert_eq!((state.action.as_deref(), state.updated_at), (Some("req-9"), NOW));
        let state = transition(&before, Action::Stop, "req-9", NOW).unwrap();
        assert_eq!((state.want, state.restart), (Want::Off, None));
    }
}
