//! Microsoft's newer format; the layout as MS-VHDX gives it. All numbers are little-endian.

use umbel_driver::convert::crc32c;

use super::{Header, MAX_WINDOW, Outcome, Reader, Step, le16, le32, le64, refuse};

/// Both copies of the header, of which the valid one with the higher number counts.
const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
const HEADER: usize = 4096;
const LOG_ID: std::ops::Range<usize> = 48..64;

/// Both copies of the table that says where the block table and the metadata are.
const REGIONS: usize = 192 << 10;
const REGIONS_LENGTH: usize = 64 << 10;
const REGIONS_END: usize = REGIONS + 2 * REGIONS_LENGTH;
/// Bytes that a block may have.
const BLOCKS: std::ops::RangeInclusive<u32> = 1 << 20..=256 << 20;

const ENTRY: usize = 32;
const MAX_ENTRIES: usize = 2047;

/// Regions and items stand at least this far into their file or region.
const LEAST_REGION: u64 = 1 << 20;
const LEAST_ITEM: usize = 64 << 10;

/// Identifiers as they stand in the file: the first three groups are little-endian.
type Guid = [u8; 16];

const METADATA: Guid = guid(0x8b7c_a206, 0x4790, 0x4b9a, [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
const BLOCK_TABLE: Guid = guid(0x2dc2_7766, 0xf623, 0x4200, [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08]);
const FILE_PARAMETERS: Guid = guid(0xcaa1_6737, 0xfa36, 0x4d43, [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
const VIRTUAL_SIZE: Guid = guid(0x2fa5_4224, 0xcd1b, 0x4876, [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
const PARENT: Guid = guid(0xa8d3_5f2d, 0xb30b, 0x454d, [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c]);

const fn guid(a: u32, b: u16, c: u16, rest: [u8; 8]) -> Guid {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let r = rest;
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]]
}

/// Finds the metadata region.
pub(super) fn regions(bytes: &[u8]) -> Outcome<Step> {
    let Some(table) = bytes.get(REGIONS..REGIONS_END) else {
        return Ok(Step::Longer(REGIONS_END));
    };
    check_log(bytes)?;
    let (table, copy) = table.split_at(REGIONS_LENGTH);
    if !table.starts_with(b"regi") {
        return refuse("The vhdx image has no region table.");
    }
    if table != copy {
        return refuse("The vhdx image has two region tables that differ.");
    }
    for entry in entries(table, 16, le32(table, 8).unwrap_or(0) as usize)? {
        if !entry.starts_with(&METADATA) {
            if !entry.starts_with(&BLOCK_TABLE) && le32(entry, 28).is_none_or(|flags| flags & 1 != 0) {
                return refuse("The vhdx image has a region that is required and not known.");
            }
            continue;
        }
        let (Some(start), Some(length)) = (le64(entry, 16), le32(entry, 24)) else {
            break;
        };
        if !(LEAST_REGION..1 << 56).contains(&start) || (length as usize) < LEAST_ITEM {
            break;
        }
        return Ok(Step::Elsewhere(Reader::VhdxMetadata, start, (length as usize).min(MAX_WINDOW)));
    }
    refuse("The vhdx image has no valid metadata region.")
}

/// Entries in the log would be written over whatever is here before anybody reads it.
fn check_log(bytes: &[u8]) -> Outcome<()> {
    let mut newest = None;
    for at in HEADERS {
        let Some(header) = bytes.get(at..at + HEADER) else {
            continue;
        };
        let mut blank = header.to_vec();
        blank[4..8].fill(0);
        let valid = header.starts_with(b"head") && le32(header, 4) == Some(crc32c(&blank));
        let number = le64(header, 8).filter(|_| valid);
        if number > newest.map(|(number, _)| number) {
            newest = number.map(|number| (number, header[LOG_ID].iter().all(|byte| *byte == 0)));
        }
    }
    match newest {
        Some((_, true)) => Ok(()),
        Some((_, false)) => refuse("The vhdx image was not closed: its log has to be replayed."),
        None => refuse("The vhdx image has no valid header."),
    }
}

pub(super) fn metadata(region: &[u8]) -> Outcome<Step> {
    if !region.starts_with(b"metadata") {
        return refuse("The vhdx image has no metadata table.");
    }
    let (mut size, mut block, mut parameters) = (None, None, None);
    for entry in entries(region, ENTRY, le16(region, 10).unwrap_or(0).into())? {
        let (Some(offset), Some(id)) = (le32(entry, 16), entry.get(..16)) else {
            break;
        };
        let offset = offset as usize;
        if id == PARENT {
            return refuse("The vhdx image depends on a parent image.");
        }
        if offset < LEAST_ITEM {
            continue;
        }
        if id == VIRTUAL_SIZE {
            size = le64(region, offset);
        } else if id == FILE_PARAMETERS {
            (block, parameters) = (le32(region, offset), le32(region, offset + 4));
        }
    }
    let (Some(size), Some(parameters)) = (size, parameters) else {
        return refuse("The vhdx image does not tell its virtual size.");
    };
    if !block.is_some_and(|block| block.is_power_of_two() && BLOCKS.contains(&block)) {
        return refuse("The vhdx image has blocks of an unknown size.");
    }
    if parameters & 2 != 0 {
        return refuse("The vhdx image depends on a parent image.");
    }
    Ok(Step::Done(Header { virtual_size: Some(size), ..Header::default() }))
}

fn entries(table: &[u8], first: usize, count: usize) -> Outcome<impl Iterator<Item = &[u8]>> {
    match table.get(first..first + count * ENTRY) {
        Some(entries) if count <= MAX_ENTRIES => Ok(entries.chunks_exact(ENTRY)),
        _ => refuse("The vhdx image has a table that is too long."),
    }
}
