//! Servers of which an image is made: pure functions, as the others.
//!
//! What should be on the host stays as it is, so there is no new generation: only the task tells of it, and keeps other
//! actions away. A delete takes precedence, and so does an administrator who resets the state; the flow that makes the
//! image knows its own task by the action's request id.

use umbel_core::{Error, Result, Timestamp};

use super::project::vm_state;
use super::{Server, State, Task, VmState};

/// 409 with the state that forbids it, as upstream has it for `createImage` and `createBackup`.
pub fn may_image(server: &Server, action: &str) -> Result<()> {
    let refused = |attribute: &str, value: &str| {
        Error::conflict(format!("Cannot '{action}' instance {} while it is in {attribute} {value}", server.id))
    };
    let vm_state = vm_state(&server.state);
    if !matches!(vm_state, VmState::Active | VmState::Paused | VmState::Stopped) {
        return Err(refused("vm_state", vm_state.name()));
    }
    match server.state.task {
        Some(task) => Err(refused("task_state", task.name())),
        None => Ok(()),
    }
}

/// The image is on its way, so far.
pub fn imaging(server: &Server, task: Task, request_id: &str, now: Timestamp) -> State {
    let mut state = server.state.clone();
    state.task = Some(task);
    state.action = Some(request_id.to_owned());
    state.updated_at = now;
    state
}

/// The image is made, or given up. `None` where another task has taken over.
pub fn imaged(server: &Server, request_id: &str, now: Timestamp) -> Option<State> {
    if !is_making(server, request_id) {
        return None;
    }
    let mut state = server.state.clone();
    (state.task, state.action) = (None, None);
    state.updated_at = now;
    Some(state)
}

fn is_making(server: &Server, request_id: &str) -> bool {
    server.state.task.is_some_and(Task::is_image) && server.state.action.as_deref() == Some(request_id)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{active, server};
    use super::super::{Action, Life, Power, transition};
    use super::*;

    const NOW: Timestamp = Timestamp(9);

    #[test]
    fn images_are_made_of_servers_at_rest() {
        assert!(may_image(&active(), "createImage").is_ok());
        for power in [Power::Paused, Power::Shutdown] {
            let mut quiet = active();
            quiet.state.power = Some(power);
            assert!(may_image(&quiet, "createImage").is_ok(), "{power:?}");
        }
        let check = |server: &Server, want: &str| {
            let error = may_image(server, "createImage").unwrap_err();
            assert_eq!(error.kind().status(), 409);
            assert!(error.message().ends_with(want), "{}", error.message());
        };
        check(&server(), "while it is in vm_state building");
        let mut error = active();
        error.state.life = Life::Error;
        check(&error, "while it is in vm_state error");
        let busy = Server { state: imaging(&active(), Task::ImageBackup, "req-1", NOW), ..active() };
        check(&busy, "while it is in task_state image_backup");
    }

    #[test]
    fn only_its_own_task_ends_with_an_image() {
        let busy = Server { state: imaging(&active(), Task::ImageSnapshot, "req-1", NOW), ..active() };
        assert_eq!(busy.state.generation, active().state.generation);
        assert_eq!(imaged(&busy, "req-2", NOW), None);
        assert_eq!(imaged(&busy, "req-1", NOW).unwrap().task, None);
        let going = Server { state: transition(&busy, Action::Delete, "req-3", NOW).unwrap(), ..busy };
        assert_eq!(imaged(&going, "req-1", NOW), None);
    }
}
