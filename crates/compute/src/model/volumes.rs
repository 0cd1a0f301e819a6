//! The volumes of a server: which ones, how far each is, and the pure functions by which that changes.
//!
//! They are part of the server's state, and so of the one row by which a server changes: what the agent is told, what
//! it reports and what the owner sees cannot disagree. A table beside it (`store::block_devices`) is derived from them,
//! for those who come from the volume. The refused alternative, rows of their own as the truth, needs a second read for
//! every document and list, and a lock to hold the two together.
//!
//! A change of volumes is a new generation of what is wanted, as every other; but its failure is the volume's and not
//! the server's: `State::volume_action` tells the two apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use umbel_bus::Observed;
use umbel_core::{Error, Generation, Id, Result, Timestamp};
use uuid::Uuid;

use super::project::vm_state;
use super::{Life, Server, ServerId, State, VmState, Want};

pub type BlockDeviceId = Id<BlockDevice>;

/// A volume that a server has, gets or loses: upstream's block device mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    pub id: BlockDeviceId,
    /// `None` until it is made.
    pub volume_id: Option<Uuid>,
    /// What the create flow makes the volume of; `None` for one that existed before.
    pub make: Option<VolumeToMake>,
    /// Of the volume service; `None` until the volume is reserved.
    pub attachment_id: Option<String>,
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    /// The generation of the server from which on the volume is there, or not.
    pub generation: Generation,
    /// The agent has said that it is so.
    pub reported: bool,
    /// Why the agent could not make it so.
    pub fault: Option<String>,
    /// Where a host finds it.
    pub connection: Option<Connection>,
    /// Where its bytes are on their way to, with the guest. Until that is over it is at one place or the other, and the
    /// host alone knows at which.
    #[serde(default)]
    pub moving: Option<Moving>,
    /// The volume by whose id the guest knows the disk, if another one has taken its place since.
    #[serde(default)]
    pub seen_as: Option<Uuid>,
    pub size_bytes: u64,
    /// `Some(0)` is booted from first.
    pub boot_index: Option<u32>,
    pub delete_on_termination: bool,
    /// As the API shows it: `/dev/vdb`. The guest may see it otherwise; the serial is what it can rely on.
    pub device_name: String,
    pub tag: Option<String>,
}

/// How far a volume is on its way to the guest, or from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not made, or not reserved yet.
    Planned,
    /// The volume is reserved for this server.
    Reserved,
    /// Part of what should be; the agent has not reported it.
    Attaching,
    Attached,
    /// No part of what should be; the guest may have it still.
    Detaching,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Name of the pool, as hosts know it.
    pub pool: String,
    /// Name of the disk in it.
    pub disk: String,
    pub read_only: bool,
    /// Bounds on its use, by the names of QoS specs: those that are for the hypervisor.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    pub to: Connection,
    /// The generation of the server from which on its host knows.
    pub generation: Generation,
}

/// A volume that is made with its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeToMake {
    pub of: VolumeOrigin,
    pub size_gib: u64,
    pub volume_type: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeOrigin {
    Blank,
    Image(String),
    Snapshot(String),
}

impl BlockDevice {
    /// A volume that exists, before it is reserved.
    pub fn planned(id: BlockDeviceId, volume_id: Option<Uuid>, size_bytes: u64, now: Timestamp) -> Self {
        BlockDevice {
            id,
            volume_id,
            make: None,
            attachment_id: None,
            phase: Phase::Planned,
            since: now,
            generation: Generation(0),
            reported: false,
            fault: None,
            connection: None,
            moving: None,
            seen_as: None,
            size_bytes,
            boot_index: None,
            delete_on_termination: false,
            device_name: String::new(),
            tag: None,
        }
    }

    pub fn is_root(&self) -> bool {
        self.boot_index == Some(0)
    }

    /// Whether a flow is about to bring it to the guest, or has yet to note that it did.
    pub fn is_arriving(&self) -> bool {
        matches!(self.phase, Phase::Planned | Phase::Reserved | Phase::Attaching)
    }

    /// Whether it is part of what should be on the host.
    pub fn is_wanted(&self) -> bool {
        matches!(self.phase, Phase::Attaching | Phase::Attached)
    }

    fn enter(&mut self, phase: Phase, generation: Generation, now: Timestamp) {
        self.phase = phase;
        self.since = now;
        self.generation = generation;
        self.reported = false;
        self.fault = None;
    }
}

impl Server {
    pub fn volume(&self, id: Uuid) -> Option<&BlockDevice> {
        self.state.volumes.iter().find(|device| device.volume_id == Some(id))
    }

    pub fn block_device(&self, id: BlockDeviceId) -> Option<&BlockDevice> {
        self.state.volumes.iter().find(|device| device.id == id)
    }

    /// Whether a volume is between two places. Its host is not told to take the guest away before it has said at which.
    pub fn has_moving_volumes(&self) -> bool {
        self.state.volumes.iter().any(|device| device.moving.is_some())
    }

    /// Whether one of its guest's disks bears the serial of this volume.
    pub fn sees(&self, volume: Uuid) -> bool {
        self.state.volumes.iter().any(|device| device.seen_as.or(device.volume_id) == Some(volume))
    }

    /// Whether it boots from a volume.
    pub fn is_volume_backed(&self) -> bool {
        self.state.volumes.iter().any(BlockDevice::is_root)
    }

    /// The next name that a disk of this server can be called by.
    pub fn free_device_name(&self) -> String {
        device_name(&self.state.volumes, local_disks(self))
    }
}

/// Disks of a server that have letters and are no volumes. A config drive has none: it is a CD.
fn local_disks(server: &Server) -> usize {
    server.spec.disks.iter().filter(|disk| disk.source != super::DiskSource::ConfigDrive).count()
}

/// `/dev/vda`, `/dev/vdb`, …: the first that no volume has, behind those of `local` disks.
pub fn device_name(volumes: &[BlockDevice], local: usize) -> String {
    let name = |mut at: usize| {
        let mut letters = Vec::new();
        loop {
            letters.push(char::from(b'a' + u8::try_from(at % 26).unwrap_or(0)));
            match at / 26 {
                0 => break,
                rest => at = rest - 1,
            }
        }
        let letters: String = letters.into_iter().rev().collect();
        format!("/dev/vd{letters}")
    };
    let taken = |name: &String| volumes.iter().any(|device| device.device_name == *name);
    (local..).map(name).find(|name| !taken(name)).unwrap_or_default()
}

/// 409 with the state that forbids it, as upstream has it for `attach_volume`, `detach_volume` and `swap_volume`.
pub fn may_change_volumes(server: &Server, action: &str) -> Result<()> {
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

fn device(state: &mut State, id: BlockDeviceId, server: ServerId) -> Result<&mut BlockDevice> {
    let found = state.volumes.iter_mut().find(|device| device.id == id);
    found.ok_or_else(|| Error::not_found(format!("Instance {server} has no block device {id}.")))
}

/// What is wanted of the volumes of a server that is built becomes a generation.
fn changed(state: &mut State, request_id: &str, now: Timestamp) -> Generation {
    state.generation = state.generation.next();
    state.volume_action = Some(request_id.to_owned());
    state.updated_at = now;
    state.generation
}

/// The volume becomes part of what should be. Repeated for one that is, it changes nothing.
pub fn plug(server: &Server, id: BlockDeviceId, at: Connection, request_id: &str, now: Timestamp) -> Result<State> {
    let mut state = server.state.clone();
    if device(&mut state, id, server.id)?.is_wanted() {
        return Ok(state);
    }
    let generation = changed(&mut state, request_id, now);
    let device = device(&mut state, id, server.id)?;
    device.connection = Some(at);
    device.enter(Phase::Attaching, generation, now);
    Ok(state)
}

/// The volume is no part any more of what should be.
pub fn unplug(server: &Server, id: BlockDeviceId, request_id: &str, now: Timestamp) -> Result<State> {
    let mut state = server.state.clone();
    let generation = changed(&mut state, request_id, now);
    device(&mut state, id, server.id)?.enter(Phase::Detaching, generation, now);
    Ok(state)
}

/// The volume that could not be taken away stays.
pub fn plug_again(server: &Server, id: BlockDeviceId, request_id: &str, now: Timestamp) -> Result<State> {
    let mut state = server.state.clone();
    let generation = changed(&mut state, request_id, now);
    device(&mut state, id, server.id)?.enter(Phase::Attached, generation, now);
    Ok(state)
}

/// The volume's bytes go there, and the guest with them. Repeated it changes nothing.
pub fn move_to(server: &Server, id: BlockDeviceId, to: Connection, request_id: &str, now: Timestamp) -> Result<State> {
    let mut state = server.state.clone();
    if device(&mut state, id, server.id)?.moving.as_ref().is_some_and(|moving| moving.to == to) {
        return Ok(state);
    }
    let generation = changed(&mut state, request_id, now);
    device(&mut state, id, server.id)?.moving = Some(Moving { to, generation });
    Ok(state)
}

/// The end of it: the volume is there, or where it was. A server that its owner wants no more is asked nothing new.
pub fn end_move(server: &Server, id: BlockDeviceId, there: bool, request_id: &str, now: Timestamp) -> Result<State> {
    let mut state = server.state.clone();
    let device = device(&mut state, id, server.id)?;
    let Some(moving) = device.moving.take() else {
        return Ok(state);
    };
    if there {
        device.connection = Some(moving.to);
    }
    if state.want != Want::Absent {
        changed(&mut state, request_id, now);
    }
    Ok(state)
}

/// Changes what is no matter of the host: nothing is asked of the agent.
pub fn edit(server: &Server, id: BlockDeviceId, change: impl FnOnce(&mut BlockDevice)) -> Result<State> {
    let mut state = server.state.clone();
    change(device(&mut state, id, server.id)?);
    Ok(state)
}

/// All volumes are there: the guest can be built with them. The first generation that says what should be on the host.
pub fn connect_all(server: &Server, connections: &[(BlockDeviceId, Connection)], now: Timestamp) -> Result<State> {
    let mut state = server.state.clone();
    state.generation = state.generation.next();
    state.updated_at = now;
    let generation = state.generation;
    for (id, at) in connections {
        let device = device(&mut state, *id, server.id)?;
        device.connection = Some(at.clone());
        device.enter(Phase::Attached, generation, now);
    }
    Ok(state)
}

/// Off its host, volumes have no way there any more; they stay reserved.
pub(crate) fn disconnect_all(state: &mut State, now: Timestamp) {
    for device in &mut state.volumes {
        (device.connection, device.moving) = (None, None);
        let phase = if device.attachment_id.is_some() { Phase::Reserved } else { Phase::Planned };
        device.enter(phase, Generation(0), now);
    }
}

/// A volume has grown. A guest that was built is told; nothing is asked of another.
pub fn extend(server: &Server, volume_id: Uuid, size_bytes: u64, request_id: &str, now: Timestamp) -> Option<State> {
    let mut state = server.state.clone();
    let built = state.life == Life::Built && state.want != Want::Absent;
    let device = state.volumes.iter_mut().find(|device| device.volume_id == Some(volume_id))?;
    device.size_bytes = size_bytes;
    let on_host = device.is_wanted();
    if built && on_host {
        changed(&mut state, request_id, now);
    }
    Some(state)
}

/// What a report at the server's own generation says of its volumes. `gave_up`: it is the report that ends the
/// generation with a fault.
pub(super) fn settle(state: &mut State, observed: &Observed, gave_up: Option<&str>) {
    for device in &mut state.volumes {
        if device.reported || !matches!(device.phase, Phase::Attaching | Phase::Detaching) {
            continue;
        }
        let has = device.volume_id.is_some_and(|id| observed.volumes.contains(&id));
        let as_wanted = has == (device.phase == Phase::Attaching);
        match gave_up {
            None => device.reported = as_wanted,
            // An agent that is new knows a volume by documents that name it: of one to be detached its silence says
            // nothing.
            Some(_) if as_wanted && has => device.reported = true,
            Some(fault) => device.fault = Some(fault.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::active;
    use super::super::{Power, observe};
    use super::*;

    const NOW: Timestamp = Timestamp(9);

    fn with_volume(phase: Phase) -> (Server, BlockDeviceId, Uuid) {
        let mut server = active();
        let (id, volume) = (BlockDeviceId::from_uuid(Uuid::from_u128(1)), Uuid::from_u128(2));
        let mut device = BlockDevice::planned(id, Some(volume), 1 << 30, Timestamp(1));
        device.phase = phase;
        server.state.volumes.push(device);
        (server, id, volume)
    }

    fn at() -> Connection {
        Connection { pool: "volumes".into(), disk: "volume-2".into(), read_only: false, limits: BTreeMap::new() }
    }

    fn report(server: &Server, volumes: Vec<Uuid>, fault: Option<&str>) -> Observed {
        Observed {
            server_id: server.id.uuid(),
            generation: server.state.generation,
            present: true,
            volumes,
            power: Some(Power::Running),
            fault: fault.map(str::to_owned),
            steps: vec![],
        }
    }

    #[test]
    fn names_go_on_behind_the_local_disks_and_around_those_taken() {
        let (mut server, ..) = with_volume(Phase::Attached);
        server.state.volumes[0].device_name = "/dev/vdb".into();
        let check = |local: usize, want: &str| assert_eq!(device_name(&server.state.volumes, local), want);
        check(0, "/dev/vda");
        check(1, "/dev/vdc");
        check(25, "/dev/vdz");
        check(26, "/dev/vdaa");
        check(52, "/dev/vdba");
    }

    #[test]
    fn an_attach_is_done_when_the_agent_has_the_volume_at_that_generation() {
        let (server, id, volume) = with_volume(Phase::Reserved);
        let state = plug(&server, id, at(), "req-1", NOW).unwrap();
        assert_eq!(state.generation, server.state.generation.next());
        let server = Server { state, ..server };
        assert!(server.is_behind());
        assert_eq!(plug(&server, id, at(), "req-1", NOW).unwrap(), server.state, "again");
        let old = Observed { generation: Generation(1), ..report(&server, vec![volume], None) };
        assert_eq!(observe(&server, "h1", &old, NOW), None);
        let change = observe(&server, "h1", &report(&server, vec![volume], None), NOW).unwrap();
        assert!(change.state.volumes[0].reported);
        assert_eq!((change.state.life, change.state.volume_action.as_deref()), (Life::Built, None));
        assert_eq!(change.closed, None, "the flow that attaches ends the action");
    }

    #[test]
    fn a_failed_attach_is_no_failure_of_the_server() {
        let (server, id, _) = with_volume(Phase::Reserved);
        let server = Server { state: plug(&server, id, at(), "req-1", NOW).unwrap(), ..server };
        let change = observe(&server, "h1", &report(&server, vec![], Some("no slot")), NOW).unwrap();
        assert_eq!((change.state.life, change.state.fault.as_ref()), (Life::Built, None));
        assert_eq!(change.state.volumes[0].fault.as_deref(), Some("no slot"));
        assert!(!Server { state: change.state, ..server }.is_behind());
    }

    #[test]
    fn a_detach_is_done_when_the_agent_has_the_volume_no_more() {
        let (server, id, volume) = with_volume(Phase::Attached);
        let server = Server { state: unplug(&server, id, "req-1", NOW).unwrap(), ..server };
        let change = observe(&server, "h1", &report(&server, vec![volume], None), NOW).unwrap();
        assert!(!change.state.volumes[0].reported, "the guest holds it still");
        let change = observe(&server, "h1", &report(&server, vec![], None), NOW).unwrap();
        assert!(change.state.volumes[0].reported);
    }

    #[test]
    fn a_volume_moves_and_is_there_or_where_it_was() {
        let (server, id, _) = with_volume(Phase::Attached);
        let to = Connection { pool: "other".into(), ..at() };
        let state = move_to(&server, id, to.clone(), "req-1", NOW).unwrap();
        assert_eq!(state.generation, server.state.generation.next());
        let mut moving = Server { state, ..server.clone() };
        assert!(moving.has_moving_volumes() && moving.is_behind());
        assert_eq!(move_to(&moving, id, to.clone(), "req-1", NOW).unwrap(), moving.state, "again");
        for there in [true, false] {
            let state = end_move(&moving, id, there, "req-1", NOW).unwrap();
            let want = if there { Some(&to) } else { server.state.volumes[0].connection.as_ref() };
            assert_eq!((state.volumes[0].connection.as_ref(), state.volumes[0].moving.as_ref()), (want, None));
            assert_eq!(state.generation, moving.state.generation.next());
        }
        moving.state.want = Want::Absent;
        assert_eq!(end_move(&moving, id, true, "req-1", NOW).unwrap().generation, moving.state.generation);
        assert_eq!(end_move(&server, id, true, "req-1", NOW).unwrap(), server.state, "again");
    }

    #[test]
    fn volumes_change_only_where_nothing_else_does() {
        let mut server = active();
        assert!(may_change_volumes(&server, "attach_volume").is_ok());
        server.state.task = Some(super::super::Task::PoweringOff);
        let error = may_change_volumes(&server, "attach_volume").unwrap_err();
        assert!(error.message().ends_with("while it is in task_state powering-off"), "{}", error.message());
        (server.state.task, server.state.life) = (None, Life::Error);
        let error = may_change_volumes(&server, "detach_volume").unwrap_err();
        assert!(error.message().ends_with("while it is in vm_state error"), "{}", error.message());
    }

    #[test]
    fn only_a_guest_that_was_built_is_told_of_a_larger_volume() {
        let (server, _, volume) = with_volume(Phase::Attached);
        let state = extend(&server, volume, 2 << 30, "req-1", NOW).unwrap();
        assert_eq!((state.volumes[0].size_bytes, state.generation), (2 << 30, server.state.generation.next()));
        let (mut server, _, volume) = with_volume(Phase::Attached);
        server.state.life = Life::Error;
        let state = extend(&server, volume, 2 << 30, "req-1", NOW).unwrap();
        assert_eq!((state.volumes[0].size_bytes, state.generation), (2 << 30, server.state.generation));
        assert_eq!(extend(&server, Uuid::nil(), 1, "req-1", NOW), None);
    }
}
