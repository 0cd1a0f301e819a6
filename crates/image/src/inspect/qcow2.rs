//! QEMU's copy-on-write format; the layout as QEMU's docs/interop/qcow2.txt gives it. All numbers are big-endian.

use super::{Header, Outcome, Step, be32, be64, refuse};

/// Incompatible features, by bit.
const EXTERNAL_DATA: u64 = 1 << 2;
/// Dirty, corrupt, external data, compression type, extended L2 entries.
const KNOWN: u64 = 0b1_1111;

/// Its tables contradict each other.
const CORRUPT: u64 = 1 << 1;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_ENTRIES: u64 = 1 << 4;

/// Header extensions.
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION_HEADER: u32 = 0x0537_be77;

/// The one method that the compression type can name; deflate has no type.
const ZSTD: u8 = 1;

/// As QEMU: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// As QEMU: more entries than that would take 32 MiB of memory.
const MAX_L1_ENTRIES: u64 = (32 << 20) / 8;

/// As QEMU.
const MAX_SNAPSHOTS: u32 = 65_536;
const MAX_COUNT_TABLE: u64 = 8 << 20;
const MAX_COUNT_ORDER: u32 = 6;
const MIN_EXTENDED_BITS: u32 = 14;

pub(super) fn read(bytes: &[u8]) -> Outcome<Step> {
    let Some(header) = Fields::of(bytes) else {
        return refuse("The qcow2 image ends within its header.");
    };
    header.check()?;
    match extensions(bytes, header.length, header.cluster())? {
        Some(wanted) => Ok(Step::Longer(wanted)),
        None => Ok(Step::Done(Header {
            virtual_size: Some(header.size),
            least_length: header.l1_offset + header.l1_entries * 8,
            footer: None,
        })),
    }
}

struct Fields {
    version: u32,
    backing_offset: u64,
    cluster_bits: u32,
    size: u64,
    encryption: u32,
    l1_entries: u64,
    l1_offset: u64,
    /// Clusters of the table of reference counts, and the size of its entries.
    count_clusters: u64,
    count_order: u32,
    snapshots: u32,
    incompatible: u64,
    /// If the incompatible features say that there is one.
    compression_type: Option<u8>,
    /// Of the header itself, behind which the extensions stand.
    length: usize,
}

impl Fields {
    fn of(bytes: &[u8]) -> Option<Fields> {
        let version = be32(bytes, 4)?;
        let new = version >= 3;
        Some(Fields {
            version,
            backing_offset: be64(bytes, 8)?,
            cluster_bits: be32(bytes, 20)?,
            size: be64(bytes, 24)?,
            encryption: be32(bytes, 32)?,
            l1_entries: be32(bytes, 36)?.into(),
            l1_offset: be64(bytes, 40)?,
            count_clusters: be32(bytes, 56)?.into(),
            count_order: if new { be32(bytes, 96)? } else { 4 },
            snapshots: be32(bytes, 60)?,
            compression_type: if new { bytes.get(104).copied() } else { None },
            incompatible: if new { be64(bytes, 72)? } else { 0 },
            length: if new { be32(bytes, 100)? as usize } else { 72 },
        })
    }

    fn check(&self) -> Outcome<()> {
        if !matches!(self.version, 2 | 3) {
            return refuse(format!("The qcow2 image has version {}; 2 and 3 are accepted.", self.version));
        }
        if self.backing_offset != 0 {
            return refuse("The qcow2 image has a backing file.");
        }
        if self.incompatible & EXTERNAL_DATA != 0 {
            return refuse("The qcow2 image has an external data file.");
        }
        if self.incompatible & !KNOWN != 0 {
            return refuse("The qcow2 image has incompatible features that are not known.");
        }
        if self.encryption != 0 {
            return refuse("The qcow2 image is encrypted.");
        }
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return refuse("The qcow2 image has a cluster size out of range.");
        }
        if self.incompatible & CORRUPT != 0 {
            return refuse("The qcow2 image is marked as corrupt.");
        }
        if self.incompatible & EXTENDED_ENTRIES != 0 && self.cluster_bits < MIN_EXTENDED_BITS {
            return refuse("The qcow2 image has a cluster size out of range.");
        }
        if self.version == 3 && (self.length < 104 || self.length as u64 > self.cluster()) {
            return refuse("The qcow2 image has a header length out of range.");
        }
        let typed = self.length > 104 && self.compression_type == Some(ZSTD);
        if self.incompatible & COMPRESSION_TYPE != 0 && !typed {
            return refuse("The qcow2 image is compressed by a method that is not known.");
        }
        self.check_tables()
    }

    /// Its tables must be able to map the size it tells.
    fn check_tables(&self) -> Outcome<()> {
        // An entry of the first table maps a cluster full of entries of 8 bytes (16 with extended ones), each of which
        // maps a cluster; the smaller number is asked for, so that both kinds pass.
        let per_entry = self.cluster() * self.cluster() / 8;
        if self.snapshots > MAX_SNAPSHOTS {
            return refuse("The qcow2 image has too many snapshots.");
        }
        if self.count_clusters * self.cluster() > MAX_COUNT_TABLE.max(self.cluster())
            || self.count_order > MAX_COUNT_ORDER
        {
            return refuse("The qcow2 image has a table of reference counts out of range.");
        }
        let inside = self.l1_offset.checked_add(self.l1_entries * 8).is_some_and(|end| end < 1 << 56);
        if self.l1_entries > MAX_L1_ENTRIES || self.l1_entries < self.size.div_ceil(per_entry) || !inside {
            return refuse("The qcow2 image has tables that do not fit its virtual size.");
        }
        Ok(())
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }
}

/// Looks through the header extensions, which end within the first cluster; how many bytes it needs if these do not do.
fn extensions(bytes: &[u8], start: usize, cluster: u64) -> Outcome<Option<usize>> {
    let mut at = start;
    loop {
        if at as u64 + 8 > cluster {
            return Ok(None);
        }
        let (Some(kind), Some(length)) = (be32(bytes, at), be32(bytes, at + 4)) else {
            return Ok(Some(at + 8));
        };
        match kind {
            0 => return Ok(None),
            ENCRYPTION_HEADER => return refuse("The qcow2 image is encrypted."),
            DATA_FILE_NAME => return refuse("The qcow2 image has an external data file."),
            _ => {}
        }
        at += 8 + (length as usize).next_multiple_of(8);
        if at as u64 > cluster {
            return refuse("The qcow2 image has a header extension that is too long.");
        }
        if at > super::MAX_WINDOW {
            return refuse("The qcow2 image has too many header extensions.");
        }
    }
}
