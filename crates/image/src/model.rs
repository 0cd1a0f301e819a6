//! An image as the service knows it.

use std::collections::{BTreeMap, BTreeSet};

use umbel_api::image::{ContainerFormat, DiskFormat, Image, ImageStatus, Visibility};
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
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: ImageId,
    pub generation: Generation,
    pub status: ImageStatus,
    pub meta: Meta,
    pub data: Data,
    pub places: Vec<Place>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub claim: Option<Claim>,
    /// Bytes that the upload under way has received, as last noted.
    pub uploaded: u64,
}
