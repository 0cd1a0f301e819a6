//! An image as the service knows it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use umbel_api::image::{ContainerFormat, DiskFormat, Image, ImageStatus, TaskStatus, TaskType, Visibility};
use umbel_core::{Generation, Id, Timestamp};

pub type ImageId = Id<Image>;

/// Name of the snapshot that is an image's content; what clones are made of. Upstream's name for it.
pub const SNAPSHOT: &str = "snap";

/// The one algorithm of `os_hash_value`, upstream's default.
pub const HASH_ALGORITHM: &str = "sha512";

/// What its owner says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub name: Option<String>,
    pub owner: Option<String>,
    pub visibility: Visibility,
    pub protected: bool,
    pub hidden: bool,
    pub container_format: Option<ContainerFormat>,
    pub disk_format: Option<DiskFormat>,
    /// GiB.
    pub min_disk: u64,
    /// MiB.
    pub min_ram: u64,
    pub tags: BTreeSet<String>,
    pub properties: BTreeMap<String, Option<String>>,
}

impl Meta {
    /// A new image's, before its creator says anything.
    pub fn new(owner: Option<String>) -> Self {
        Meta {
            name: None,
            owner,
            visibility: Visibility::Shared,
            protected: false,
            hidden: false,
            container_format: None,
            disk_format: None,
            min_disk: 0,
            min_ram: 0,
            tags: BTreeSet::new(),
            properties: BTreeMap::new(),
        }
    }
}

/// What is known of an image's data once they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// Bytes as they were uploaded.
    pub size: Option<u64>,
    pub virtual_size: Option<u64>,
    /// MD5, hexadecimal.
    pub checksum: Option<String>,
    pub hash_algorithm: Option<String>,
    pub hash: Option<String>,
}

/// One place where an image's data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store of ours, and the disk in its pool.
    pub store: String,
    pub disk: String,
    pub url: String,
    /// Format of the bytes at this place.
    pub format: Option<DiskFormat>,
}

/// Data that stay on the web: they are no disk of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebPlace {
    pub url: String,
    /// As its owner has it.
    pub metadata: Map<String, Value>,
}

/// The right to write an image's data, held by one upload at a time and lost when it is not renewed.
///
/// Whoever holds it owns the disk's name in the store: a disk of that name which it did not make is left over from
/// one that lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub image: ImageId,
    /// Random; a claim that was taken over is told apart by it.
    pub token: String,
    pub store: String,
    /// What is written: the image's own disk, or the staged one.
    pub disk: String,
    pub expires_at: Timestamp,
}

/// Bytes that wait for their import, whole and looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub store: String,
    pub disk: String,
    pub size: u64,
    pub virtual_size: Option<u64>,
    /// MD5 and [`HASH_ALGORITHM`], hexadecimal.
    pub checksum: String,
    pub hash: String,
    /// Why the content cannot become the image: what is staged is judged when it is imported.
    pub refusal: Option<String>,
}

impl Stage {
    pub fn data(&self) -> Data {
        Data {
            size: Some(self.size),
            virtual_size: self.virtual_size,
            checksum: Some(self.checksum.clone()),
            hash_algorithm: Some(HASH_ALGORITHM.to_owned()),
            hash: Some(self.hash.clone()),
        }
    }
}

/// Work behind a request, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Also that of the workflow that does it.
    pub id: String,
    pub kind: TaskType,
    pub status: TaskStatus,
    pub owner: Option<String>,
    pub user: Option<String>,
    pub request: Option<String>,
    pub image: Option<ImageId>,
    pub input: Value,
    pub result: Option<Value>,
    /// How far it is, or why it failed.
    pub message: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Set when it has ended.
    pub expires_at: Option<Timestamp>,
}

/// Properties in which an image says what an import does with it. Clients read and never write them.
pub const IMPORT_TASK: &str = "os_glance_import_task";
pub const IMPORTING_STORES: &str = "os_glance_importing_to_stores";
pub const FAILED_STORES: &str = "os_glance_failed_import";

/// The disk that holds an image's staged bytes.
pub fn staged_disk(image: ImageId) -> String {
    format!("staging-{image}")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: ImageId,
    pub generation: Generation,
    pub status: ImageStatus,
    pub meta: Meta,
    pub data: Data,
    pub places: Vec<Place>,
    /// Of an image whose data are in no store, in its owner's order.
    pub web: Vec<WebPlace>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub claim: Option<Claim>,
    /// Bytes that the upload under way has received, as last noted.
    pub uploaded: u64,
}

/// The raw copy of an image's data that another format hides: what servers and volumes are cloned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    pub image: ImageId,
    pub store: String,
    /// Its disk; of one that is [`TwinState::Dropping`], the original's.
    pub disk: String,
    /// Set when it is ready.
    pub url: Option<String>,
    pub state: TwinState,
    /// Bytes of the disk that are dealt with, of so many; the total is 0 until the header was read.
    pub done: u64,
    pub total: u64,
    pub attempts: u64,
    /// Why the last attempt failed, in words for the image's owner.
    pub reason: Option<String>,
    /// Of whoever makes it.
    pub token: Option<String>,
    pub due_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TwinState {
    Waiting,
    Running,
    Ready,
    /// Not to be tried again: the image cannot be converted.
    Failed,
    /// The twin has become the image, and the original's disk is still to be removed.
    Dropping,
}

/// The property in which an image shows how far its twin is. Clients read and never write it.
pub const TWIN_PROPERTY: &str = "umbel_twin";

impl Twin {
    /// Its disk's name: the image's id is taken by the original.
    pub fn disk_of(image: ImageId) -> String {
        format!("{image}.raw")
    }

    pub fn is_under_way(&self) -> bool {
        matches!(self.state, TwinState::Waiting | TwinState::Running)
    }

    /// In words for people.
    pub fn progress(&self) -> String {
        match self.state {
            TwinState::Ready | TwinState::Dropping => "ready".to_owned(),
            TwinState::Failed => format!("failed: {}", self.reason.as_deref().unwrap_or("no reason is known")),
            TwinState::Waiting => match &self.reason {
                Some(reason) => format!("waiting: {reason}"),
                None => "waiting".to_owned(),
            },
            TwinState::Running => {
                let percent = u128::from(self.done) * 100 / u128::from(self.total.max(1));
                format!("{percent}% ({} of {} bytes)", self.done, self.total)
            }
        }
    }
}

impl TwinState {
    const ALL: [TwinState; 5] =
        [TwinState::Waiting, TwinState::Running, TwinState::Ready, TwinState::Failed, TwinState::Dropping];

    pub fn name(self) -> &'static str {
        match self {
            TwinState::Waiting => "waiting",
            TwinState::Running => "running",
            TwinState::Ready => "ready",
            TwinState::Failed => "failed",
            TwinState::Dropping => "dropping",
        }
    }

    pub fn of(name: &str) -> Option<TwinState> {
        TwinState::ALL.into_iter().find(|state| state.name() == name)
    }
}
