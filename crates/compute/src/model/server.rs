use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use umbel_core::{Error, Generation, Id, Result, Timestamp};
use umbel_placement::HostId;

use super::{BlockDevice, Power, Restart, ServerSpec};

pub type ServerId = Id<Server>;

/// A server: what it was made from, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub id: ServerId,
    /// Of the row: a write names the version it read.
    pub version: Generation,
    pub spec: Arc<ServerSpec>,
    pub state: State,
}

/// All of a server that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub name: String,
    pub description: Option<String>,
    /// As the guest calls itself.
    pub hostname: String,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub host: Option<HostRef>,
    /// The availability zone it is in, once it has a host.
    pub zone: Option<String>,
    pub life: Life,
    pub want: Want,
    /// Set while a reboot is what leads to `generation`.
    pub restart: Option<Restart>,
    /// Of `want` and `restart`. 0 until a host is chosen.
    pub generation: Generation,
    /// The newest one that the agent reached, or gave up with a fault.
    pub observed_generation: Generation,
    /// As last seen by the agent; `None` before.
    pub power: Option<Power>,
    pub task: Option<Task>,
    /// Request id of the action that the task belongs to.
    pub action: Option<String>,
    pub fault: Option<Fault>,
    pub locked: Option<Lock>,
    /// In the order in which they came to the server.
    #[serde(default)]
    pub volumes: Vec<BlockDevice>,
    /// Request id of the change of volumes that led to `generation`. While only that is under way, a fault of the agent
    /// is the volume's and not the server's.
    #[serde(default)]
    pub volume_action: Option<String>,
    /// For the config drive; forgotten once the server is built.
    #[serde(default)]
    pub admin_pass: Option<String>,
    pub updated_at: Timestamp,
    /// When it first was active.
    pub launched_at: Option<Timestamp>,
    pub terminated_at: Option<Timestamp>,
    pub deleted_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRef {
    pub id: HostId,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    Building,
    Built,
    Error,
    Deleted,
}

/// What should be. Owned by the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    On,
    Off,
    Paused,
    Absent,
}

impl Want {
    pub fn name(self) -> &'static str {
        match self {
            Want::On => "on",
            Want::Off => "off",
            Want::Paused => "paused",
            Want::Absent => "absent",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Scheduling,
    Spawning,
    PoweringOff,
    PoweringOn,
    Rebooting,
    RebootingHard,
    Pausing,
    Unpausing,
    Deleting,
    /// An image of the server is asked for; these four are no matter of what should be on the host.
    ImageSnapshotPending,
    ImageBackup,
    ImageSnapshot,
    ImageUploading,
}

impl Task {
    /// As the API shows it in `OS-EXT-STS:task_state`.
    pub fn name(self) -> &'static str {
        match self {
            Task::Scheduling => "scheduling",
            Task::Spawning => "spawning",
            Task::PoweringOff => "powering-off",
            Task::PoweringOn => "powering-on",
            Task::Rebooting => "rebooting",
            Task::RebootingHard => "rebooting_hard",
            Task::Pausing => "pausing",
            Task::Unpausing => "unpausing",
            Task::Deleting => "deleting",
            Task::ImageSnapshotPending => "image_snapshot_pending",
            Task::ImageBackup => "image_backup",
            Task::ImageSnapshot => "image_snapshot",
            Task::ImageUploading => "image_uploading",
        }
    }

    /// Whether it makes an image: the guest goes on as it is meanwhile.
    pub fn is_image(self) -> bool {
        matches!(self, Task::ImageSnapshotPending | Task::ImageBackup | Task::ImageSnapshot | Task::ImageUploading)
    }
}

/// Why a server is in error, for its owner to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// As an HTTP status: 500 for what is not the caller's.
    pub code: u16,
    pub message: String,
    /// For administrators.
    pub details: Option<String>,
    pub created: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// An administrator's lock is not for the owner to take away.
    pub by_admin: bool,
    pub reason: Option<String>,
}

impl Server {
    /// A new one, before a cell and a host are chosen.
    pub fn new(id: ServerId, spec: ServerSpec, name: String, hostname: String) -> Self {
        let state = State {
            name,
            description: None,
            hostname,
            metadata: BTreeMap::new(),
            tags: Vec::new(),
            host: None,
            zone: None,
            life: Life::Building,
            want: Want::On,
            restart: None,
            generation: Generation(0),
            observed_generation: Generation(0),
            power: None,
            task: Some(Task::Scheduling),
            action: Some(spec.request_id.clone()),
            fault: None,
            locked: None,
            volumes: Vec::new(),
            volume_action: None,
            admin_pass: None,
            updated_at: spec.created_at,
            launched_at: None,
            terminated_at: None,
            deleted_at: None,
        };
        Server { id, version: Generation(0), spec: Arc::new(spec), state }
    }

    /// As the hypervisor calls the guest.
    pub fn instance_name(&self) -> String {
        let hex = self.id.simple();
        format!("instance-{}", &hex[..8])
    }

    /// Whether the agent has still to act.
    pub fn is_behind(&self) -> bool {
        self.state.life != Life::Deleted && self.state.observed_generation < self.state.generation
    }

    pub(crate) fn from_documents(id: ServerId, version: Generation, spec: &str, state: &str) -> Result<Self> {
        let bad = |error: serde_json::Error| Error::internal(error).because(format!("document of server {id}"));
        let spec = Arc::new(serde_json::from_str(spec).map_err(bad)?);
        Ok(Server { id, version, spec, state: serde_json::from_str(state).map_err(bad)? })
    }
}
