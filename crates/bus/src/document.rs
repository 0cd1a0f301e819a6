use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use umbel_core::{Generation, Timestamp};
use uuid::Uuid;

/// What should be of one server on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    pub server_id: Uuid,
    /// Grows with every change of `want`, on whatever host. An agent ignores a document older than one it has seen.
    pub generation: Generation,
    /// The newest generation that the control plane knows to be reached. At or above `generation` the agent does
    /// nothing but report: a guest that shut itself down stays off, a restart is not done again.
    pub reached: Generation,
    /// Of the request that led to this, for the agent's log.
    pub request_id: String,
    pub want: Want,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "lowercase")]
pub enum Want {
    /// No guest, and none of these disks. The list is whole: an agent that knows nothing of the server can clean up.
    Absent {
        disks: Vec<DiskRef>,
    },
    Present(Box<Domain>),
}

/// A server as it should be on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub power: Target,
    /// The server has never run: a disk that bears one of its names and cannot be told to be whole is what an attempt
    /// left behind, and is made anew.
    pub first_start: bool,
    /// Restarts the guest once on the way to this generation.
    pub restart: Option<Restart>,
    pub name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disks: Vec<Disk>,
    /// From the volume service; the agent neither makes nor removes them. Others than these are detached.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    pub config_drive: Option<ConfigDrive>,
    /// Bounds on the guest's use of its disks and volumes; those that are not here have none.
    #[serde(default)]
    pub limits: Vec<Limited>,
}

/// Bounds by the names that QoS specs and flavors have for them: `total_iops_sec`, `read_bytes_sec_max`, …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    #[serde(flatten)]
    pub at: DiskRef,
    pub limits: BTreeMap<String, u64>,
}

/// A volume that a guest has. Its serial is the first 20 characters of its id, or of that of the volume whose place it
/// took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub volume_id: Uuid,
    /// The volume by whose id the guest knows the disk, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<Uuid>,
    #[serde(flatten)]
    pub at: DiskRef,
    /// The disk is on its way there ([`Task::Move`]), or there already: where the guest has it is what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DiskRef>,
    pub size_bytes: u64,
    /// `Some(0)` is booted from first.
    pub boot_index: Option<u32>,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    On,
    Off,
    Paused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// The guest is asked to shut down, and started again.
    Soft,
    /// Power off, power on.
    Hard,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiskRef {
    /// Name of the pool, as the host's report gives it.
    pub pool: String,
    /// Name of the disk in its pool: `<server>_disk`.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    #[serde(flatten)]
    pub at: DiskRef,
    pub size_bytes: u64,
    pub source: DiskSource,
    /// `Some(0)` is booted from first.
    pub boot_index: Option<u32>,
    /// At most 20 characters, all that a virtio disk can show.
    pub serial: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum DiskSource {
    Blank,
    Image(ImageSource),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    pub image_id: String,
    /// Where the image's bytes lie, as the image service gave them; the first one that a pool can clone is cloned.
    pub locations: Vec<String>,
    pub disk_format: String,
    pub container_format: String,
    /// Bytes of the image as stored.
    pub size: Option<u64>,
    /// Bytes of the disk in it.
    pub virtual_size: Option<u64>,
}

/// A read-only ISO 9660 disk with the label `config-2`, attached as a CD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDrive {
    #[serde(flatten)]
    pub at: DiskRef,
    pub files: Vec<ConfigFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// From the drive's root: `openstack/latest/meta_data.json`.
    pub path: String,
    pub content: Blob,
}

/// Bytes, base64 where they are written down.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

/// What is of one server on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub server_id: Uuid,
    /// The newest generation that is reached, or given up with `fault`; 0 if the agent has seen none.
    pub generation: Generation,
    /// Whether the hypervisor knows the guest.
    pub present: bool,
    /// `None` if it is not present, or the hypervisor did not answer.
    pub power: Option<Power>,
    /// Volumes that the guest has, plugged in or, while it is off, defined.
    #[serde(default)]
    pub volumes: Vec<Uuid>,
    /// Why the generation could not be reached. Fit for the server's owner to read.
    pub fault: Option<String>,
    /// What was done on the way to the generation, in order.
    pub steps: Vec<StepReport>,
}

/// As the compute API's `power_state` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    Running,
    Paused,
    Shutdown,
    Crashed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: Step,
    pub started: Timestamp,
    pub finished: Timestamp,
    pub ok: bool,
    /// One sentence for the server's owner: which pool, and for an import why it is not a clone.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    DiskCreate,
    DiskClone,
    DiskImport,
    ConfigDrive,
    DomainStart,
    DomainStop,
    DomainRestart,
    DomainPause,
    DomainResume,
    DomainRemove,
    DiskRemove,
    VolumeAttach,
    VolumeDetach,
    VolumeExtend,
}

impl Step {
    /// As the server's action events show it.
    pub fn name(self) -> &'static str {
        match self {
            Step::DiskCreate => "disk_create",
            Step::DiskClone => "disk_clone",
            Step::DiskImport => "disk_import",
            Step::ConfigDrive => "config_drive",
            Step::DomainStart => "domain_start",
            Step::DomainStop => "domain_stop",
            Step::DomainRestart => "domain_restart",
            Step::DomainPause => "domain_pause",
            Step::DomainResume => "domain_resume",
            Step::DomainRemove => "domain_remove",
            Step::DiskRemove => "disk_remove",
            Step::VolumeAttach => "volume_attach",
            Step::VolumeDetach => "volume_detach",
            Step::VolumeExtend => "volume_extend",
        }
    }
}

/// A host and all that is on it. Sent when an agent connects, and as its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The host's name, unique in its cell.
    pub host: String,
    pub availability_zone: String,
    pub facts: Facts,
    pub pools: Vec<PoolReport>,
    /// Every guest that the hypervisor knows, and every server whose desired document the agent holds.
    pub guests: Vec<Observed>,
}

/// See the driver's facts of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub hypervisor_type: String,
    /// Major * 1,000,000 + minor * 1,000 + micro.
    pub hypervisor_version: u64,
    pub accelerator: String,
    pub accelerator_reason: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub cpu_arch: String,
    pub cpu_model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    pub name: String,
    /// `hdd`, `ssd`, `pcie_ssd`, or what the operator calls it.
    pub tier: String,
    /// `local`, `rbd`, `simulated`.
    pub driver: String,
    /// `scheme://cluster` of its locations: an image that lies there can be cloned into this pool.
    pub cluster: String,
    /// Whether other hosts reach the same pool, so that its room counts once for all of them.
    pub shared: bool,
    /// Bytes.
    pub total: u64,
    pub free: u64,
}

/// A question to an agent, or a piece of work that may be repeated. Lost with its answer if the connection breaks: the
/// caller asks again, and finds the work under way or done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub enum Task {
    /// The last `limit` bytes of the guest's first serial port.
    Console { server_id: Uuid, limit: usize },
    /// One point in time over these disks, under this name.
    Snapshot {
        server_id: Uuid,
        disks: Vec<DiskRef>,
        snapshot: String,
        /// The guest's agent must hold its file systems meanwhile; without it, it is asked to where it answers.
        quiesce: bool,
    },
    /// The guest's agent holds its file systems until [`Task::Thaw`], and no longer than `limit_ms`: for snapshots that
    /// others make than the host. Answered by [`TaskReply::Held`]. Without `required`, a guest whose agent does not
    /// answer goes on as it is.
    Freeze { server_id: Uuid, limit_ms: u64, required: bool },
    /// Ends [`Task::Freeze`], whether it was ever done or not; whether the guest was held until now.
    Thaw { server_id: Uuid },
    /// Clones of the snapshots live on.
    RemoveSnapshot { server_id: Uuid, disks: Vec<DiskRef>, snapshot: String },
    /// Brings the bytes of a guest's volume to another disk that is at least as large, and the guest with them, running
    /// or not. Begins that, or joins it, and says within seconds how far it is.
    Move(Move),
    /// Ends that wherever it is, and says where the guest has its volume from now on.
    StopMove(Move),
    /// Sends the snapshot's bytes to the image service, as the data of an image that is queued.
    Export { server_id: Uuid, disk: DiskRef, snapshot: String, image_id: String },
}

/// A guest's volume on its way from one disk to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub server_id: Uuid,
    /// The volume by whose id the guest knows the disk.
    pub seen_as: Uuid,
    pub from: DiskRef,
    pub to: DiskRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// Bytes; `total` may grow.
    Copying { done: u64, total: u64 },
    /// The guest has the volume there.
    There,
    /// The guest has it where it was, and nothing is under way. The reason, if it was tried, is fit for the volume's
    /// owner to read.
    NotThere { reason: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "is", rename_all = "lowercase")]
pub enum TaskReply {
    Console(Blob),
    /// A location for each disk, in the order of the question.
    Snapshot(Vec<SnapshotAt>),
    Moved(Moved),
    /// Nothing in the guest writes. So it is with one that is off.
    Held(bool),
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAt {
    /// As the image service and pools understand it: `rbd://<fsid>/<pool>/<disk>/<snapshot>`.
    pub location: String,
    pub size_bytes: u64,
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        STANDARD.encode(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Blob).map_err(serde::de::Error::custom)
    }
}

/// The length only: a config drive holds passwords.
impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Desired {
    /// Whether nothing is left to do but to report.
    pub fn is_reached(&self) -> bool {
        self.reached >= self.generation
    }
}

impl Want {
    pub fn is_absent(&self) -> bool {
        matches!(self, Want::Absent { .. })
    }
}

impl Domain {
    /// All disks that make this server, its config drive included.
    pub fn disk_refs(&self) -> Vec<DiskRef> {
        let drive = self.config_drive.iter().map(|drive| &drive.at);
        self.disks.iter().map(|disk| &disk.at).chain(drive).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_survive_being_written_down() {
        let at = |name: &str| DiskRef { pool: "local".into(), name: name.into() };
        let image = ImageSource {
            image_id: "i".into(),
            locations: vec!["rbd://a/b/c/d".into()],
            disk_format: "raw".into(),
            container_format: "bare".into(),
            size: Some(1),
            virtual_size: None,
        };
        let disk = |source| Disk { at: at("d"), size_bytes: 5, source, boot_index: Some(0), serial: "s".into() };
        let domain = Domain {
            power: Target::On,
            first_start: true,
            restart: Some(Restart::Soft),
            name: "n".into(),
            vcpus: 1,
            memory_mib: 64,
            disks: vec![disk(DiskSource::Image(image)), disk(DiskSource::Blank)],
            volumes: Vec::new(),
            config_drive: Some(ConfigDrive {
                at: at("c"),
                files: vec![ConfigFile { path: "p".into(), content: Blob(vec![0, 255]) }],
            }),
            limits: vec![Limited { at: at("d"), limits: [("total_iops_sec".to_owned(), 5)].into() }],
        };
        assert_eq!(domain.disk_refs().len(), 3);
        for want in [Want::Present(Box::new(domain)), Want::Absent { disks: vec![at("d")] }] {
            let desired = Desired {
                server_id: Uuid::nil(),
                generation: Generation(2),
                reached: Generation(1),
                request_id: "req-1".into(),
                want,
            };
            let text = serde_json::to_string(&desired).unwrap();
            assert_eq!(serde_json::from_str::<Desired>(&text).unwrap(), desired, "{text}");
        }
        let copying = TaskReply::Moved(Moved::Copying { done: 1, total: 2 });
        for reply in [TaskReply::Console(Blob(b"login:".to_vec())), copying, TaskReply::Moved(Moved::There)] {
            let text = serde_json::to_string(&reply).unwrap();
            assert_eq!(serde_json::from_str::<TaskReply>(&text).unwrap(), reply, "{text}");
        }
        let volume = r#"{"volume_id": "0f3b8c1e-aaaa-4bbb-8ccc-dddddddddddd", "pool": "p", "name": "n", "size_bytes": 1,
            "boot_index": null, "read_only": false}"#;
        assert_eq!(serde_json::from_str::<Volume>(volume).unwrap().to, None, "as an older process writes it");
    }
}
