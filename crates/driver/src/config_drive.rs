//! Config drives: the small read-only disk by which a server learns its name, keys and addresses without a network.
//!
//! Written as ISO 9660 with Joliet names, volume `config-2`, which is what cloud-init, cloudbase-init and the like look for.
//! Joliet rather than Rock Ridge, because Windows reads it too and Linux reads both. Written here rather than by
//! genisoimage, because a host would need that tool for nothing else, and a process for each server; FAT, the other form,
//! would be larger and no simpler.
//!
//! The format: ECMA-119 (ISO 9660) with the Joliet specification of 1995. Sectors have 2048 bytes; numbers are
//! stored twice, little-endian and big-endian. Two directory trees, one with plain names and one with Joliet's, name the
//! same file contents.

use std::collections::BTreeMap;

/// What clients find the drive by.
pub const VOLUME: &str = "config-2";

const SECTOR: usize = 2048;

/// The first sectors are free for boot code; descriptors follow.
const DESCRIPTORS: usize = 16;

/// A whole disk with these files, for the hypervisor as a raw, read-only disk or CD. The first part of a pair is a path
/// such as `openstack/latest/meta_data.json`. Equal input gives equal bytes. Dates are left at 1970.
pub fn iso9660(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let trees = [Tree::new(files, Naming::Plain), Tree::new(files, Naming::Joliet)];
    // Both descriptors and the one that ends their list; then per tree its path table twice and its directories.
    let mut sector = DESCRIPTORS + 3;
    let layouts = trees.each_ref().map(|tree| tree.place(&mut sector));
    let contents: Vec<Extent> = files.iter().map(|(_, data)| take(&mut sector, data.len())).collect();

    let mut disk = vec![0; sector * SECTOR];
    for (at, (tree, layout)) in trees.iter().zip(&layouts).enumerate() {
        put(&mut disk, DESCRIPTORS + at, &tree.descriptor(layout, sector));
        put(&mut disk, layout.little.sector, &tree.path_table(layout, u32::to_le_bytes, u16::to_le_bytes));
        put(&mut disk, layout.big.sector, &tree.path_table(layout, u32::to_be_bytes, u16::to_be_bytes));
        for (directory, extent) in tree.directories.keys().zip(&layout.directories) {
            put(&mut disk, extent.sector, &tree.directory(directory, layout, &contents));
        }
    }
    put(&mut disk, DESCRIPTORS + 2, b"\xffCD001\x01");
    for ((_, data), extent) in files.iter().zip(&contents) {
        put(&mut disk, extent.sector, data);
    }
    disk
}

/// A run of sectors.
#[derive(Clone, Copy, Default)]
struct Extent {
    sector: usize,
    bytes: usize,
}

fn take(next: &mut usize, bytes: usize) -> Extent {
    let extent = Extent { sector: *next, bytes };
    *next += bytes.div_ceil(SECTOR);
    extent
}

fn put(disk: &mut [u8], sector: usize, bytes: &[u8]) {
    disk[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Capitals, digits and `_`, at most 30 characters.
    Plain,
    /// UCS-2, big-endian, at most 64 characters.
    Joliet,
}

impl Naming {
    fn encode(self, name: &str) -> Vec<u8> {
        match self {
            Naming::Joliet => name.encode_utf16().take(64).flat_map(u16::to_be_bytes).collect(),
            Naming::Plain => name
                .bytes()
                .map(|byte| match byte.to_ascii_uppercase() {
                    letter @ (b'A'..=b'Z' | b'0'..=b'9' | b'.') => letter,
                    _ => b'_',
                })
                .take(28)
                .collect(),
        }
    }

    /// A file's name ends in its version.
    fn file(self, name: &str) -> Vec<u8> {
        let mut encoded = self.encode(name);
        match self {
            Naming::Joliet => encoded.extend(b"\0;\x001"),
            Naming::Plain => encoded.extend(b";1"),
        }
        encoded
    }
}

/// A directory by the encoded names on the way to it. Sorted by depth first, as the path table must be.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    depth: usize,
    names: Vec<Vec<u8>>,
}

impl Path {
    fn child(&self, name: Vec<u8>) -> Path {
        let mut names = self.names.clone();
        names.push(name);
        Path { depth: names.len(), names }
    }

    fn parent(&self) -> Path {
        let names = self.names[..self.depth.saturating_sub(1)].to_vec();
        Path { depth: names.len(), names }
    }

    /// The root's name is one zero byte.
    fn name(&self) -> &[u8] {
        self.names.last().map_or(&[0], Vec::as_slice)
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Directory(Path),
    /// Index of the file.
    File(usize),
}

/// The names of all files in one of the two namings.
struct Tree {
    naming: Naming,
    /// What each directory holds, sorted by encoded name.
    directories: BTreeMap<Path, BTreeMap<Vec<u8>, Target>>,
}

/// Where a tree's parts are; directories in the tree's order.
struct Layout {
    little: Extent,
    big: Extent,
    directories: Vec<Extent>,
}

impl Tree {
    fn new(files: &[(&str, Vec<u8>)], naming: Naming) -> Tree {
        let mut directories = BTreeMap::from([(Path::default(), BTreeMap::new())]);
        for (index, (path, _)) in files.iter().enumerate() {
            let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            let Some(file) = parts.pop() else { continue };
            let mut at = Path::default();
            for part in parts {
                let child = at.child(naming.encode(part));
                directories.entry(at).or_default().insert(naming.encode(part), Target::Directory(child.clone()));
                at = child;
            }
            let entries = directories.entry(at).or_default();
            let mut name = naming.file(file);
            // `meta-data` and `meta_data` are one plain name. Nobody reads these, but they must differ.
            if entries.contains_key(&name) {
                name = naming.file(&format!("{index}_{file}"));
            }
            entries.insert(name, Target::File(index));
        }
        Tree { naming, directories }
    }

    fn place(&self, sector: &mut usize) -> Layout {
        let table: usize = self.directories.keys().map(|path| path_record_length(path.name())).sum();
        let little = take(sector, table);
        let big = take(sector, table);
        let directories =
            self.directories.values().map(|entries| take(sector, directory_length(entries.keys()))).collect();
        Layout { little, big, directories }
    }

    fn number(&self, path: &Path) -> usize {
        self.directories.keys().position(|other| other == path).unwrap_or_default()
    }

    fn directory(&self, path: &Path, layout: &Layout, contents: &[Extent]) -> Vec<u8> {
        let own = layout.directories[self.number(path)];
        let parent = layout.directories[self.number(&path.parent())];
        let mut bytes = record(&[0], own, true);
        bytes.extend(record(&[1], parent, true));
        for (name, target) in &self.directories[path] {
            let record = match target {
                Target::Directory(path) => record(name, layout.directories[self.number(path)], true),
                Target::File(index) => record(name, contents[*index], false),
            };
            bytes.resize(fitting(bytes.len(), record.len()), 0);
            bytes.extend(record);
        }
        bytes
    }

    fn path_table(&self, layout: &Layout, long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, extent) in self.directories.keys().zip(&layout.directories) {
            bytes.extend([byte(path.name().len()), 0]);
            bytes.extend(long(number(extent.sector)));
            bytes.extend(short(u16::try_from(self.number(&path.parent()) + 1).unwrap_or(u16::MAX)));
            bytes.extend(path.name());
            bytes.resize(bytes.len().next_multiple_of(2), 0);
        }
        bytes
    }

    /// The volume descriptor that leads to this tree (ECMA-119, 8.4 and 8.5).
    fn descriptor(&self, layout: &Layout, sectors: usize) -> Vec<u8> {
        let mut bytes = vec![if self.naming == Naming::Plain { 1 } else { 2 }];
        bytes.extend(b"CD001\x01\0");
        bytes.extend(self.text("", 32));
        bytes.extend(self.text(VOLUME, 32));
        bytes.extend([0; 8]);
        bytes.extend(both(sectors));
        // UCS-2 level 3, the escape sequence by which Joliet is known.
        let escape: &[u8] = if self.naming == Naming::Joliet { b"%/E" } else { b"" };
        bytes.extend(escape);
        bytes.resize(120, 0);
        bytes.extend(both_short(1));
        bytes.extend(both_short(1));
        bytes.extend(both_short(SECTOR));
        bytes.extend(both(layout.little.bytes));
        bytes.extend(number(layout.little.sector).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(number(layout.big.sector).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(record(&[0], layout.directories[0], true));
        for length in [128, 128, 128, 128, 37, 37, 37] {
            bytes.extend(self.text("", length));
        }
        // Four dates that are not given: created, modified, expires, effective.
        for _ in 0..4 {
            bytes.extend(b"0000000000000000\0");
        }
        bytes.push(1);
        bytes
    }

    /// Text padded with spaces; an odd last byte of UCS-2 is zero.
    fn text(&self, text: &str, length: usize) -> Vec<u8> {
        let (mut bytes, space): (Vec<u8>, &[u8]) = match self.naming {
            Naming::Plain => (text.as_bytes().to_vec(), b" "),
            Naming::Joliet => (text.encode_utf16().flat_map(u16::to_be_bytes).collect(), b"\0 "),
        };
        while bytes.len() + space.len() <= length {
            bytes.extend(space);
        }
        bytes.resize(length, 0);
        bytes
    }
}

/// A directory record (ECMA-119, 9.1).
fn record(name: &[u8], extent: Extent, directory: bool) -> Vec<u8> {
    // A directory counts in whole sectors.
    let bytes = if directory { extent.bytes.next_multiple_of(SECTOR) } else { extent.bytes };
    let mut record = vec![byte(record_length(name)), 0];
    record.extend(both(extent.sector));
    record.extend(both(bytes));
    // 1970-01-01, UTC.
    record.extend([70, 1, 1, 0, 0, 0, 0]);
    record.extend([if directory { 2 } else { 0 }, 0, 0]);
    record.extend(both_short(1));
    record.push(byte(name.len()));
    record.extend(name);
    record.resize(record_length(name), 0);
    record
}

fn record_length(name: &[u8]) -> usize {
    (33 + name.len()).next_multiple_of(2)
}

fn path_record_length(name: &[u8]) -> usize {
    (8 + name.len()).next_multiple_of(2)
}

/// Itself and its parent come first, in 34 bytes each.
fn directory_length<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> usize {
    names.fold(68, |at, name| fitting(at, record_length(name)) + record_length(name))
}

/// No record crosses the end of a sector.
fn fitting(at: usize, length: usize) -> usize {
    if at % SECTOR + length > SECTOR { at.next_multiple_of(SECTOR) } else { at }
}

fn both(value: usize) -> [u8; 8] {
    let value = number(value);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn both_short(value: usize) -> [u8; 4] {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

/// Sectors and sizes of a drive that was built in memory: 32 bits hold them.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn long(bytes: &[u8], at: usize) -> usize {
        let little = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let big = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        assert_eq!(little, big, "both halves of a number agree");
        little as usize
    }

    /// Reads the tree below a directory record, as a client would: path and content of each file.
    fn read(disk: &[u8], record: &[u8], path: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        let data = &disk[long(record, 2) * SECTOR..][..long(record, 10)];
        let mut at = 0;
        for index in 0.. {
            if at >= data.len() {
                return;
            }
            let length = usize::from(data[at]);
            if length == 0 {
                at = (at + 1).next_multiple_of(SECTOR);
                continue;
            }
            let record = &data[at..at + length];
            at += length;
            if index < 2 {
                continue;
            }
            let name = &record[33..33 + usize::from(record[32])];
            let units: Vec<u16> = name.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            let name = String::from_utf16(&units).unwrap();
            if record[25] & 2 != 0 {
                read(disk, record, &format!("{path}{name}/"), found);
                continue;
            }
            let content = disk[long(record, 2) * SECTOR..][..long(record, 10)].to_vec();
            found.insert(format!("{path}{}", name.strip_suffix(";1").unwrap()), content);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let many: Vec<String> = (0..100).map(|at| format!("openstack/content/{at:04}")).collect();
        let mut files = vec![
            ("openstack/latest/meta_data.json", b"{}".to_vec()),
            ("openstack/latest/user_data", vec![7; 5000]),
            ("ec2/latest/meta-data.json", Vec::new()),
            ("ec2/latest/meta_data.json", b"x".to_vec()),
            ("openstack/2012-08-10/meta_data.json", b"old".to_vec()),
        ];
        files.extend(many.iter().map(|path| (path.as_str(), path.clone().into_bytes())));
        let disk = iso9660(&files);
        assert_eq!(disk, iso9660(&files), "equal input gives equal bytes");

        assert_eq!(&disk[16 * SECTOR..][..6], b"\x01CD001");
        assert_eq!(&disk[16 * SECTOR + 40..][..8], VOLUME.as_bytes());
        let joliet = &disk[17 * SECTOR..18 * SECTOR];
        assert_eq!((&joliet[..6], &joliet[88..91]), (&b"\x02CD001"[..], &b"%/E"[..]));
        assert_eq!(long(joliet, 80) * SECTOR, disk.len());
        assert_eq!(&disk[18 * SECTOR..][..6], b"\xffCD001");

        let mut found = BTreeMap::new();
        read(&disk, &joliet[156..190], "", &mut found);
        let wanted: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, data)| ((*path).to_owned(), data.clone())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn plain_names_differ() {
        let tree = Tree::new(&[("a/meta-data", Vec::new()), ("a/meta_data", Vec::new())], Naming::Plain);
        let names: BTreeSet<_> = tree.directories.values().flat_map(BTreeMap::keys).cloned().collect();
        assert_eq!(names, BTreeSet::from([b"A".to_vec(), b"META_DATA;1".to_vec(), b"1_META_DATA;1".to_vec()]));
    }
}
