use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use umbel_core::Error;

/// Where an image is between being named and being gone.
///
/// `killed` and `deleted` are never an image's state here: an upload that failed can be tried again (`queued`), and a
/// deleted image has no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageStatus {
    /// Named, without data.
    Queued,
    /// Data are on their way in.
    Saving,
    Active,
    Killed,
    Deleted,
    Uploading,
    Importing,
    /// Gone for its owner; its data are being taken away.
    PendingDelete,
    /// Data are kept but only an administrator may read them.
    Deactivated,
}

/// Who sees an image, beside its owner and administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Everyone, in their lists too.
    Public,
    /// Everyone who asks for it.
    Community,
    /// The projects that are its members.
    Shared,
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    Ami,
    Ari,
    Aki,
    Vhd,
    Vhdx,
    Vmdk,
    Raw,
    Qcow2,
    Vdi,
    Iso,
    Ploop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerFormat {
    Ami,
    Ari,
    Aki,
    /// The data are the disk, with nothing around them.
    Bare,
    Ovf,
    Ova,
    Docker,
    Compressed,
}

impl ImageStatus {
    pub const ALL: [ImageStatus; 9] = [
        ImageStatus::Queued,
        ImageStatus::Saving,
        ImageStatus::Active,
        ImageStatus::Killed,
        ImageStatus::Deleted,
        ImageStatus::Uploading,
        ImageStatus::Importing,
        ImageStatus::PendingDelete,
        ImageStatus::Deactivated,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ImageStatus::Queued => "queued",
            ImageStatus::Saving => "saving",
            ImageStatus::Active => "active",
            ImageStatus::Killed => "killed",
            ImageStatus::Deleted => "deleted",
            ImageStatus::Uploading => "uploading",
            ImageStatus::Importing => "importing",
            ImageStatus::PendingDelete => "pending_delete",
            ImageStatus::Deactivated => "deactivated",
        }
    }
}

impl Visibility {
    pub const ALL: [Visibility; 4] =
        [Visibility::Public, Visibility::Community, Visibility::Shared, Visibility::Private];

    pub const fn name(self) -> &'static str {
        match self {
            Visibility::Public => "public",
            Visibility::Community => "community",
            Visibility::Shared => "shared",
            Visibility::Private => "private",
        }
    }
}

impl DiskFormat {
    pub const ALL: [DiskFormat; 11] = [
        DiskFormat::Ami,
        DiskFormat::Ari,
        DiskFormat::Aki,
        DiskFormat::Vhd,
        DiskFormat::Vhdx,
        DiskFormat::Vmdk,
        DiskFormat::Raw,
        DiskFormat::Qcow2,
        DiskFormat::Vdi,
        DiskFormat::Iso,
        DiskFormat::Ploop,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            DiskFormat::Ami => "ami",
            DiskFormat::Ari => "ari",
            DiskFormat::Aki => "aki",
            DiskFormat::Vhd => "vhd",
            DiskFormat::Vhdx => "vhdx",
            DiskFormat::Vmdk => "vmdk",
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Vdi => "vdi",
            DiskFormat::Iso => "iso",
            DiskFormat::Ploop => "ploop",
        }
    }
}

impl ContainerFormat {
    pub const ALL: [ContainerFormat; 8] = [
        ContainerFormat::Ami,
        ContainerFormat::Ari,
        ContainerFormat::Aki,
        ContainerFormat::Bare,
        ContainerFormat::Ovf,
        ContainerFormat::Ova,
        ContainerFormat::Docker,
        ContainerFormat::Compressed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            ContainerFormat::Ami => "ami",
            ContainerFormat::Ari => "ari",
            ContainerFormat::Aki => "aki",
            ContainerFormat::Bare => "bare",
            ContainerFormat::Ovf => "ovf",
            ContainerFormat::Ova => "ova",
            ContainerFormat::Docker => "docker",
            ContainerFormat::Compressed => "compressed",
        }
    }
}

impl fmt::Display for ImageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ContainerFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|status| status.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("'{text}' is not a status of an image.")))
    }
}

impl FromStr for Visibility {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|visibility| visibility.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("Invalid visibility value: {text}")))
    }
}

impl FromStr for DiskFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|format| format.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("Invalid disk format '{text}' for image.")))
    }
}

impl FromStr for ContainerFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|format| format.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("Invalid container format '{text}' for image.")))
    }
}
