use umbel_bus::Observed;
use umbel_core::Timestamp;

use super::transition::deleted;
use super::volumes::settle;
use super::{Fault, Life, Power, Server, State, Task, Want};

/// What an agent's report makes of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub state: State,
    /// The action that ended with it.
    pub closed: Option<Closed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub request_id: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Takes in what an agent reports of a server, or `None` if that says nothing new: an old generation, a host that the
/// server is not on, a repeated report. Reports may come twice, late and in any order.
///
/// * The generation is reached: the task ends; a server that was being built is built, one to be deleted is deleted
///   (the caller gives back its claim and forgets its disks in the same transaction).
/// * The generation was given up with a fault: a server that was being built keeps its task and gets the fault, for the
///   create flow to try another host; any other is in error.
/// * Only volumes were asked for or taken away: what came of it is written at the volumes, and whoever waits for them
///   ends the action; see [`super::volumes`].
/// * Nothing was asked: the guest was switched off or on from inside or outside. What is wanted follows what is, so
///   that nobody undoes it (as upstream's power synchronisation has it for a guest that shut itself down).
pub fn observe(server: &Server, host: &str, observed: &Observed, now: Timestamp) -> Option<Change> {
    let state = &server.state;
    let here = state.host.as_ref().is_some_and(|on| on.name == host);
    if !here || state.life == Life::Deleted || observed.generation < state.generation {
        return None;
    }
    let mut change = match &observed.fault {
        // Only the report that gives up: a later one about a server that meanwhile is in error says nothing new.
        Some(fault) if state.observed_generation < state.generation => given_up(server, fault, now),
        Some(_) => Change { state: state.clone(), closed: None },
        None if state.want == Want::Absent => match observed.present {
            true => Change { state: state.clone(), closed: None },
            false => Change { state: deleted(server, now), closed: closed(state, None) },
        },
        None if state.observed_generation < state.generation => reached(server, now),
        None => Change { state: state.clone(), closed: None },
    };
    if change.state.life != Life::Deleted {
        let gave_up = observed.fault.as_deref().filter(|_| state.observed_generation < state.generation);
        settle(&mut change.state, observed, gave_up);
        see(&mut change.state, observed);
        change.state.observed_generation = state.generation;
    }
    if change.state == *state {
        return None;
    }
    change.state.updated_at = now;
    Some(change)
}

fn given_up(server: &Server, message: &str, now: Timestamp) -> Change {
    let mut state = server.state.clone();
    if only_volumes(&state) {
        state.volume_action = None;
        return Change { state, closed: None };
    }
    state.volume_action = None;
    state.fault = Some(Fault { code: 500, message: message.to_owned(), details: None, created: now });
    if state.life == Life::Building && state.want != Want::Absent {
        return Change { state, closed: None };
    }
    let closed = closed(&state, Some(message));
    state.life = Life::Error;
    state.task = None;
    state.action = None;
    state.restart = None;
    Change { state, closed }
}

fn reached(server: &Server, now: Timestamp) -> Change {
    let mut state = server.state.clone();
    if only_volumes(&state) {
        state.volume_action = None;
        return Change { state, closed: None };
    }
    let closed = closed(&state, None);
    state.volume_action = None;
    state.life = Life::Built;
    state.launched_at = state.launched_at.or(Some(now));
    state.task = None;
    state.action = None;
    state.restart = None;
    state.fault = None;
    state.admin_pass = None;
    Change { state, closed }
}

/// Whether the generation differs from one that was reached in volumes only.
fn only_volumes(state: &State) -> bool {
    state.volume_action.is_some() && state.task.is_none_or(Task::is_image) && state.want != Want::Absent
}

fn see(state: &mut State, observed: &Observed) {
    let power = match observed.present {
        true => observed.power,
        false => None,
    };
    // A hypervisor that does not answer has not switched anything off.
    if observed.present && power.is_none() {
        return;
    }
    state.power = power;
    let acted_on = state.task.is_some_and(|task| !task.is_image());
    if state.life != Life::Built || acted_on || state.want == Want::Absent {
        return;
    }
    state.want = match power {
        Some(Power::Running) => Want::On,
        Some(Power::Paused) => Want::Paused,
        Some(Power::Shutdown | Power::Crashed) | None => Want::Off,
    };
}

fn closed(state: &State, error: Option<&str>) -> Option<Closed> {
    let request_id = state.action.clone()?;
    Some(Closed { request_id, error: error.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use umbel_core::Generation;

    use super::super::testing::{active, server};
    use super::super::{Action, HostRef, Restart, place, project, transition};
    use super::*;

    const NOW: Timestamp = Timestamp(9);

    fn report(server: &Server, power: Option<Power>, fault: Option<&str>) -> Observed {
        Observed {
            server_id: server.id.uuid(),
            generation: server.state.generation,
            present: power.is_some(),
            volumes: Vec::new(),
            power,
            fault: fault.map(str::to_owned),
            steps: vec![],
        }
    }

    fn after(server: &Server, action: Action) -> Server {
        let state = transition(server, action, "req-1", Timestamp(8)).unwrap();
        Server { state, ..server.clone() }
    }

    fn placed() -> Server {
        let server = server();
        let host = HostRef { id: umbel_placement::HostId::from_uuid(uuid::Uuid::nil()), name: "h1".into() };
        let state = place(&server, host, "nova".into(), Timestamp(8));
        Server { state, ..server }
    }

    #[test]
    fn a_reached_generation_ends_its_task() {
        let check = |server: Server, power, want: (&str, &str)| {
            let change = observe(&server, "h1", &report(&server, power, None), NOW).unwrap();
            assert_eq!(change.closed.as_ref().map(|closed| closed.error.clone()), Some(None));
            let after = Server { state: change.state, ..server };
            let got = project(&after);
            assert_eq!((got.status.name(), got.vm_state.name(), got.task_state), (want.0, want.1, None));
            assert!(!after.is_behind());
        };
        check(placed(), Some(Power::Running), ("ACTIVE", "active"));
        check(after(&active(), Action::Stop), Some(Power::Shutdown), ("SHUTOFF", "stopped"));
        check(after(&active(), Action::Reboot(Restart::Hard)), Some(Power::Running), ("ACTIVE", "active"));
        check(after(&active(), Action::Pause), Some(Power::Paused), ("PAUSED", "paused"));
        check(after(&active(), Action::Delete), None, ("DELETED", "deleted"));
        check(after(&placed(), Action::Delete), None, ("DELETED", "deleted"));
    }

    #[test]
    fn a_fault_while_building_is_left_to_the_flow() {
        let server = placed();
        let change = observe(&server, "h1", &report(&server, None, Some("no room")), NOW).unwrap();
        assert_eq!((change.state.life, change.state.task), (Life::Building, Some(Task::Spawning)));
        assert_eq!(change.state.fault.as_ref().unwrap().message, "no room");
        assert_eq!(change.closed, None);
        assert_eq!(change.state.observed_generation, server.state.generation);
    }

    #[test]
    fn a_fault_of_an_action_is_an_error() {
        let server = after(&active(), Action::Stop);
        let change = observe(&server, "h1", &report(&server, Some(Power::Running), Some("it hangs")), NOW).unwrap();
        assert_eq!((change.state.life, change.state.task), (Life::Error, None));
        assert_eq!(change.closed.unwrap().error.as_deref(), Some("it hangs"));
        // Told again, it changes nothing.
        let server = Server { state: change.state, ..server };
        let again = observe(&server, "h1", &report(&server, Some(Power::Running), Some("it hangs")), Timestamp(10));
        assert_eq!(again, None);
    }

    #[test]
    fn a_guest_that_switched_itself_off_stays_off() {
        let server = active();
        let change = observe(&server, "h1", &report(&server, Some(Power::Shutdown), None), NOW).unwrap();
        assert_eq!((change.state.want, change.state.power), (Want::Off, Some(Power::Shutdown)));
        assert_eq!(change.state.generation, server.state.generation);
        assert_eq!(change.closed, None);
    }

    #[test]
    fn a_guest_goes_on_as_it_likes_while_an_image_is_made_of_it() {
        let mut server = active();
        server.state.task = Some(Task::ImageUploading);
        let change = observe(&server, "h1", &report(&server, Some(Power::Shutdown), None), NOW).unwrap();
        assert_eq!((change.state.want, change.state.task), (Want::Off, Some(Task::ImageUploading)));
    }

    #[test]
    fn old_foreign_and_repeated_reports_say_nothing() {
        let server = after(&active(), Action::Stop);
        let mut old = report(&server, Some(Power::Shutdown), None);
        old.generation = Generation(server.state.generation.0 - 1);
        assert_eq!(observe(&server, "h1", &old, NOW), None);
        assert_eq!(observe(&server, "h2", &report(&server, Some(Power::Shutdown), None), NOW), None);
        assert_eq!(observe(&active(), "h1", &report(&active(), Some(Power::Running), None), NOW), None);
        let mut gone = active();
        gone.state.life = Life::Deleted;
        assert_eq!(observe(&gone, "h1", &report(&gone, Some(Power::Running), None), NOW), None);
    }

    #[test]
    fn a_silent_hypervisor_changes_no_power() {
        let server = active();
        let mut silent = report(&server, None, None);
        silent.present = true;
        assert_eq!(observe(&server, "h1", &silent, NOW), None);
    }
}
