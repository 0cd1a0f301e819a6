//! What an upload really is, found out while it passes.
//!
//! A disk image is a program for whoever opens it: a qcow2 or VMDK header can name other files, which a hypervisor
//! then reads as if they were the guest's. So nothing here is opened by a tool that probes formats: the bytes are
//! looked at as they stream by, the format must be the one the user claims, and whatever refers to anything outside
//! itself is refused. Bounded memory: at most [`MAX_WINDOW`] bytes are kept, usually 35 KiB.
//!
//! Rules, of which QEMU's own block drivers are the source where they are stricter than the formats' documents:
//! * claimed `raw` but with the header of another disk format: refused, since some later reader may probe. Partition
//!   tables, ISO 9660 and LUKS are content of raw disks (an encrypted volume's image is LUKS claimed raw);
//! * claimed as a format and not it: refused; two formats at once (a polyglot): refused;
//! * qcow2: version 2 or 3; no backing file, no external data file, no encryption, not corrupt, no unknown incompatible
//!   features, tables and snapshots within QEMU's limits. Internal snapshots are allowed and never looked at;
//! * VMDK: `monolithicSparse` and `streamOptimized` only, one extent, no parent, and never a bare descriptor;
//! * VDI, VHD, VHDX: no differencing images, and no VHDX with a log: replaying it would write over what was looked at;
//! * QED, Bochs, cloop: never;
//! * a virtual size above the configured one: refused before anyone allocates by it.
//!
//! Refused alternative: `qemu-img info` on the finished upload. It would parse hostile bytes with the full block layer,
//! after they were stored, and needs the package on the image host.

mod qcow2;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::fmt;

use umbel_api::image::DiskFormat;
use umbel_core::Error;

/// Bytes before anything is said: the last signature (ISO 9660, sector 16) ends within them.
const FIRST: usize = 35 * 1024;

/// Most bytes kept of one upload: a VMDK descriptor or a VHDX metadata region.
const MAX_WINDOW: usize = 1 << 20;

/// Bytes kept of the end: the footer and end marker of a stream-optimized VMDK are the longest trailer.
const TAIL: usize = 1536;

/// What the bytes are, whatever they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// No known header. With a partition table or without.
    Raw,
    Gpt,
    Mbr,
    Iso,
    Luks,
    Qcow2,
    Qed,
    Vmdk,
    /// The text file beside a VMDK's extents, which names them.
    VmdkDescriptor,
    Vdi,
    Vhd,
    Vhdx,
    Ploop,
    Bochs,
    Cloop,
}

/// What is known of an upload at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub content: Content,
    /// Bytes of the disk that a guest sees.
    pub virtual_size: u64,
}

/// Why an upload is refused, in words for the user.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(String);

type Outcome<T> = Result<T, Refusal>;

/// Looks at one upload, from its first byte to its last.
pub struct Inspector {
    claimed: DiskFormat,
    max_virtual_size: u64,
    /// Bytes seen so far.
    seen: u64,
    window: Window,
    tail: Vec<u8>,
    stage: Stage,
}

/// A part of the stream that is kept until it is whole.
struct Window {
    start: u64,
    wanted: usize,
    bytes: Vec<u8>,
}

enum Stage {
    /// The first bytes are not together yet.
    Unknown,
    /// The format is known and its reader asked for more.
    Reading(Content, Reader),
    /// All that the header tells is known.
    Known { content: Content, header: Header },
}

#[derive(Clone, Copy)]
enum Reader {
    Qcow2,
    Vmdk,
    VhdxRegions,
    VhdxMetadata,
}

/// What a header promised, to be compared with the stream's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    /// None where the disk is as long as the data.
    virtual_size: Option<u64>,
    /// The data must be at least this long.
    least_length: u64,
    /// Sizes and places that a VMDK's footer must repeat.
    footer: Option<vmdk::Footer>,
}

/// What a reader says of the bytes in the window.
enum Step {
    /// It needs the window to be this long.
    Longer(usize),
    /// It needs another window, which begins behind the present one.
    Elsewhere(Reader, u64, usize),
    Done(Header),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Content::Raw => "raw",
            Content::Gpt => "raw (GPT)",
            Content::Mbr => "raw (MBR)",
            Content::Iso => "iso",
            Content::Luks => "luks",
            Content::Qcow2 => "qcow2",
            Content::Qed => "qed",
            Content::Vmdk => "vmdk",
            Content::VmdkDescriptor => "vmdk (descriptor)",
            Content::Vdi => "vdi",
            Content::Vhd => "vhd",
            Content::Vhdx => "vhdx",
            Content::Ploop => "ploop",
            Content::Bochs => "bochs",
            Content::Cloop => "cloop",
        })
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::bad_request(refusal.0)
    }
}

fn refuse<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Refusal(reason.into()))
}

impl Inspector {
    pub fn new(claimed: DiskFormat, max_virtual_size: u64) -> Self {
        Inspector {
            claimed,
            max_virtual_size,
            seen: 0,
            window: Window { start: 0, wanted: FIRST, bytes: Vec::new() },
            tail: Vec::new(),
            stage: Stage::Unknown,
        }
    }

    /// The next bytes. An error comes as soon as it can be known.
    pub fn feed(&mut self, chunk: &[u8]) -> Outcome<()> {
        self.keep_tail(chunk);
        let mut rest = chunk;
        while !rest.is_empty() {
            if matches!(self.stage, Stage::Known { .. }) {
                self.seen += rest.len() as u64;
                break;
            }
            let taken = self.window.take(self.seen, rest);
            self.seen += taken as u64;
            rest = &rest[taken..];
            if self.window.is_whole() {
                self.advance()?;
            }
        }
        Ok(())
    }

    /// The data are complete.
    pub fn finish(mut self) -> Outcome<Facts> {
        if matches!(self.stage, Stage::Unknown) {
            self.advance()?;
        }
        let (mut content, mut header) = match self.stage {
            Stage::Known { content, header } => (content, header),
            _ => return refuse(format!("The {} image ends within its header.", self.claimed)),
        };
        if let Some(size) = vhd::fixed(&self.tail, self.seen)? {
            // Its footer is all it has: the rest is a raw disk, and passed for one until now.
            if !content.is_raw_disk() {
                return refuse(format!("The image is {content} and vhd at once."));
            }
            (content, header.virtual_size) = (Content::Vhd, Some(size));
        }
        self.accept(content, true)?;
        if self.seen < header.least_length {
            return refuse(format!("The {content} image is cut short: parts that its header names are missing."));
        }
        if let Some(footer) = header.footer {
            footer.check(&self.tail)?;
        }
        let virtual_size = header.virtual_size.unwrap_or(self.seen);
        self.check_size(virtual_size)?;
        Ok(Facts { content, virtual_size })
    }

    /// The window is whole, or the data are: goes on as far as that allows.
    fn advance(&mut self) -> Outcome<()> {
        let (content, step) = match self.stage {
            Stage::Known { .. } => return Ok(()),
            Stage::Unknown => {
                let content = identify(&self.window.bytes)?;
                self.accept(content, false)?;
                match content {
                    Content::Qcow2 => return self.read(content, Reader::Qcow2),
                    Content::Vmdk => return self.read(content, Reader::Vmdk),
                    Content::Vhdx => return self.read(content, Reader::VhdxRegions),
                    Content::Vdi => (content, Step::Done(vdi::read(&self.window.bytes)?)),
                    Content::Vhd => (content, Step::Done(vhd::dynamic(&self.window.bytes)?)),
                    _ => (content, Step::Done(Header::default())),
                }
            }
            Stage::Reading(content, reader) => return self.read(content, reader),
        };
        self.follow(content, step)
    }

    fn read(&mut self, content: Content, reader: Reader) -> Outcome<()> {
        let bytes = &self.window.bytes;
        let step = match reader {
            Reader::Qcow2 => qcow2::read(bytes)?,
            Reader::Vmdk => vmdk::read(bytes)?,
            Reader::VhdxRegions => vhdx::regions(bytes)?,
            Reader::VhdxMetadata => vhdx::metadata(bytes)?,
        };
        if let Step::Longer(_) = step {
            self.stage = Stage::Reading(content, reader);
        }
        self.follow(content, step)
    }

    fn follow(&mut self, content: Content, step: Step) -> Outcome<()> {
        match step {
            Step::Longer(wanted) => self.window.wanted = wanted,
            Step::Elsewhere(reader, start, wanted) => {
                self.window = Window { start, wanted, bytes: Vec::new() };
                self.stage = Stage::Reading(content, reader);
            }
            Step::Done(header) => {
                if let Some(size) = header.virtual_size {
                    self.check_size(size)?;
                }
                self.window.bytes = Vec::new();
                self.stage = Stage::Known { content, header };
            }
        }
        Ok(())
    }

    /// Whether the content is what the user says. A fixed VHD shows only at its end.
    fn accept(&self, content: Content, at_end: bool) -> Outcome<()> {
        let fits = match self.claimed {
            DiskFormat::Raw => content.is_raw_disk(),
            DiskFormat::Qcow2 => content == Content::Qcow2,
            DiskFormat::Vmdk => content == Content::Vmdk,
            DiskFormat::Vdi => content == Content::Vdi,
            DiskFormat::Vhdx => content == Content::Vhdx,
            DiskFormat::Iso => content == Content::Iso,
            DiskFormat::Vhd => content == Content::Vhd || (!at_end && content.is_raw_disk()),
            DiskFormat::Ploop => content == Content::Ploop || content == Content::Raw,
            // Kernels, ramdisks and file systems, which have no header that all of them share.
            DiskFormat::Ami | DiskFormat::Ari | DiskFormat::Aki => content.is_raw_disk(),
        };
        match fits {
            true => Ok(()),
            false => {
                refuse(format!("The image claims the disk format {}, but its content is {content}.", self.claimed))
            }
        }
    }

    fn check_size(&self, size: u64) -> Outcome<()> {
        match size <= self.max_virtual_size {
            true => Ok(()),
            false => refuse(format!(
                "The image's virtual size of {size} bytes is above the limit of {} bytes.",
                self.max_virtual_size
            )),
        }
    }

    fn keep_tail(&mut self, chunk: &[u8]) {
        let new = &chunk[chunk.len().saturating_sub(TAIL)..];
        let keep = TAIL - new.len();
        let surplus = self.tail.len().saturating_sub(keep);
        self.tail.drain(..surplus);
        self.tail.extend_from_slice(new);
    }
}

impl Window {
    /// Takes what it wants of bytes that stand at `position`; how many of them are dealt with.
    fn take(&mut self, position: u64, bytes: &[u8]) -> usize {
        let next = self.start + self.bytes.len() as u64;
        if position < next {
            return usize::try_from(next - position).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        }
        let taken = bytes.len().min(self.wanted - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() >= self.wanted
    }
}

impl Content {
    fn is_raw_disk(self) -> bool {
        matches!(self, Content::Raw | Content::Gpt | Content::Mbr | Content::Iso | Content::Luks)
    }
}

/// The format whose signature the first bytes have.
fn identify(head: &[u8]) -> Outcome<Content> {
    let at = |offset: usize, signature: &[u8]| head.get(offset..offset + signature.len()) == Some(signature);
    let iso = [b"CD001", b"NSR02", b"NSR03", b"BEA01"].into_iter().any(|signature| at(32_769, signature));
    let signatures = [
        (Content::Qcow2, at(0, b"QFI\xfb")),
        (Content::Qed, at(0, b"QED\0")),
        (Content::Vmdk, at(0, b"KDMV") || at(0, b"COWD")),
        (Content::VmdkDescriptor, vmdk::is_descriptor(head)),
        (Content::Vdi, at(0x40, &[0x7f, 0x10, 0xda, 0xbe])),
        (Content::Vhd, at(0, b"conectix")),
        (Content::Vhdx, at(0, b"vhdxfile")),
        (Content::Ploop, at(0, b"WithoutFreeSpace") || at(0, b"WithouFreSpacExt")),
        (Content::Bochs, at(0, b"Bochs Virtual HD Image")),
        (Content::Cloop, at(0, b"#!/bin/sh\n#V2.0 Format\n")),
        (Content::Luks, at(0, b"LUKS\xba\xbe")),
        (Content::Iso, iso),
    ];
    let mut found = signatures.into_iter().filter(|(_, there)| *there).map(|(content, _)| content);
    match (found.next(), found.next()) {
        (Some(one), Some(two)) => refuse(format!("The image is {one} and {two} at once.")),
        (Some(one), None) => Ok(one),
        _ if at(512, b"EFI PART") || at(4096, b"EFI PART") => Ok(Content::Gpt),
        _ if at(510, &[0x55, 0xaa]) => Ok(Content::Mbr),
        _ => Ok(Content::Raw),
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
