//! VMware's format; the layout as VMware's "Virtual Disk Format 5.0" gives it. All numbers are little-endian.
//!
//! Two of its many kinds are one file that holds everything. All others are lists of files to open, and so is a sparse
//! header with no capacity, which QEMU takes for a descriptor: both are refused.

use super::{Header, MAX_WINDOW, Outcome, Step, le32, le64, refuse};

const SECTOR: u64 = 512;

/// The grain directory's place is told by a footer: the writer did not know it when it wrote the header.
const AT_END: u64 = u64::MAX;

const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// Sectors of a grain: 4 KiB to 2 MiB. Everybody writes 64 KiB.
const GRAINS: std::ops::RangeInclusive<u64> = 8..=4096;

/// Kinds of marker in a stream.
const END_OF_STREAM: u32 = 0;
const FOOTER: u32 = 3;

/// Fields of the header that the footer repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    version: u32,
    capacity: u64,
    descriptor: (u64, u64),
}

struct Fields {
    version: u32,
    flags: u32,
    capacity: u64,
    /// Sectors.
    grain: u64,
    /// Grains of a table.
    entries: u32,
    descriptor_offset: u64,
    descriptor_size: u64,
    directory: u64,
}

impl Fields {
    fn of(bytes: &[u8]) -> Option<Fields> {
        Some(Fields {
            version: le32(bytes, 4)?,
            flags: le32(bytes, 8)?,
            capacity: le64(bytes, 12)?,
            grain: le64(bytes, 20)?,
            entries: le32(bytes, 44)?,
            descriptor_offset: le64(bytes, 28)?,
            descriptor_size: le64(bytes, 36)?,
            directory: le64(bytes, 56)?,
        })
    }

    fn repeated(&self) -> Footer {
        Footer {
            version: self.version,
            capacity: self.capacity,
            descriptor: (self.descriptor_offset, self.descriptor_size),
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> Outcome<Step> {
    if !bytes.starts_with(b"KDMV") {
        return refuse("The vmdk image is of a kind (COWD) that is not accepted.");
    }
    let Some(header) = Fields::of(bytes) else {
        return refuse("The vmdk image ends within its header.");
    };
    if !(1..=3).contains(&header.version) {
        return refuse(format!("The vmdk image has the unknown version {}.", header.version));
    }
    let size = header.capacity.checked_mul(SECTOR).filter(|size| *size > 0);
    let Some(virtual_size) = size else {
        return refuse("The vmdk image has no valid capacity.");
    };
    if !header.grain.is_power_of_two() || !GRAINS.contains(&header.grain) || !(1..=512).contains(&header.entries) {
        return refuse("The vmdk image has grains or tables of a size out of range.");
    }
    if header.flags & COMPRESSED != 0 && header.flags & MARKERS == 0 {
        return refuse("The vmdk image is compressed by a method that is not known.");
    }
    let most = MAX_WINDOW as u64 / SECTOR - 1;
    if header.descriptor_offset != 1 || header.descriptor_size == 0 || header.descriptor_size > most {
        return refuse("The vmdk image has no descriptor of its own.");
    }
    let wanted = ((1 + header.descriptor_size) * SECTOR) as usize;
    let Some(text) = bytes.get(SECTOR as usize..wanted) else {
        return Ok(Step::Longer(wanted));
    };
    descriptor(text)?;
    let footer = (header.directory == AT_END).then(|| header.repeated());
    Ok(Step::Done(Header { virtual_size: Some(virtual_size), least_length: wanted as u64, footer }))
}

/// A text file that QEMU would take for a descriptor: after comments and blank lines, a line `version=1`, `2` or `3`.
/// A file that begins as VMware's own does is taken for one too.
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    const OWN: &[u8] = b"# disk descriptorfile";
    if head.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN)) {
        return true;
    }
    for line in head.split(|byte| *byte == b'\n').take(1_000) {
        let line = line.trim_ascii();
        match line {
            [] | [b'#', ..] => {}
            _ => return matches!(line, b"version=1" | b"version=2" | b"version=3"),
        }
    }
    false
}

fn descriptor(padded: &[u8]) -> Outcome<()> {
    let text = padded.split(|byte| *byte == 0).next().unwrap_or_default();
    let Ok(text) = std::str::from_utf8(text) else {
        return refuse("The vmdk image has a descriptor that is no text.");
    };
    let (mut kind, mut extents) = (None, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, value)) = setting(line) {
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "createtype" if kind.is_some() => return refuse("The vmdk image has two create types."),
                "createtype" => kind = Some(value.to_ascii_lowercase()),
                "parentcid" if !value.eq_ignore_ascii_case("ffffffff") => {
                    return refuse("The vmdk image depends on a parent image.");
                }
                "parentfilenamehint" => return refuse("The vmdk image depends on a parent image."),
                _ => {}
            }
        } else {
            extent(line)?;
            extents += 1;
        }
    }
    match kind.as_deref() {
        Some("monolithicsparse" | "streamoptimized") => {}
        Some(_) => return refuse("The vmdk image is neither monolithicSparse nor streamOptimized."),
        None => return refuse("The vmdk image has a descriptor without a create type."),
    }
    match extents {
        1 => Ok(()),
        _ => refuse(format!("The vmdk image names {extents} extents instead of itself.")),
    }
}

/// `name = value`; a name has no blanks.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some((name, value.trim()))
}

/// `RW 4192256 SPARSE "name.vmdk"`: the name is this file's own, wherever it was when it was written.
fn extent(line: &str) -> Outcome<()> {
    let mut parts = line.splitn(4, ' ');
    let (access, sectors, kind, name) = (parts.next(), parts.next(), parts.next(), parts.next());
    let known = access
        .is_some_and(|access| ["rw", "rdonly", "noaccess"].into_iter().any(|known| access.eq_ignore_ascii_case(known)));
    if !known || sectors.is_none_or(|sectors| sectors.parse::<u64>().is_err()) {
        return refuse("The vmdk image has an invalid line in its descriptor.");
    }
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("sparse")) {
        return refuse("The vmdk image has an extent that is not sparse.");
    }
    match name.map(str::trim) {
        Some(name) if name.starts_with('"') && !name.contains(['/', '\\']) => Ok(()),
        _ => refuse("The vmdk image names an extent outside itself."),
    }
}

impl Footer {
    /// The last three sectors: a footer marker, the header again, an end marker.
    pub(super) fn check(&self, tail: &[u8]) -> Outcome<()> {
        let sectors = (tail.get(..512), tail.get(512..1024), tail.get(1024..1536));
        let (Some(marker), Some(footer), Some(end)) = sectors else {
            return refuse("The vmdk image has no footer.");
        };
        let marked = le32(marker, 8) == Some(0) && le32(marker, 12) == Some(FOOTER) && blank(&marker[16..]);
        let ended = le64(end, 0) == Some(0)
            && le32(end, 8) == Some(0)
            && le32(end, 12) == Some(END_OF_STREAM)
            && blank(&end[16..]);
        let same = footer.starts_with(b"KDMV")
            && Fields::of(footer).is_some_and(|fields| fields.repeated() == *self && fields.directory != AT_END);
        match marked && ended && same {
            true => Ok(()),
            false => refuse("The vmdk image has a footer that contradicts its header."),
        }
    }
}

fn blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
