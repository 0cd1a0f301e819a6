//! Disks as QEMU is told of them: the node that opens one, and the device that shows it to the guest.
//!
//! # Names
//! A device's name says all that is needed to know the disk again, so that what QEMU lists is the truth about what is
//! plugged in and needs no table beside it: `disk<number>.<serial>` for virtio disks, where the number is its place on
//! the bus, `cd<number>` for CD drives. A disk whose serial cannot be part of a name, or that has none, is
//! `disk<number>`: it cannot be plugged in or out.
//!
//! A node is `node-<serial>`, else `node<number>`. The disk's later overlays ([`umbel_driver::LiveDisks::switch`]) are
//! `node-<serial>.1` and so on; the highest is the one that the guest writes. Below each is the node of its file, with
//! `file` for `node` in its name.

use serde::Deserialize;
use serde_json::{Value, json};
use umbel_core::{Error, Result};
use umbel_driver::{Attachment, DiskFormat, DomainDisk};

/// QEMU's name of the bridge that every guest has.
pub(crate) const BRIDGE: &str = "bridge";

/// Virtio carries no more (VIRTIO_BLK_ID_BYTES).
const SERIAL_LENGTH: usize = 20;

/// `pc` has two IDE channels with two drives each.
const CDROMS: usize = 4;

/// The first of the slots of disks, and how many there are of them on the first bus.
const FIRST_SLOT: usize = 16;
const ON_FIRST_BUS: usize = 16;

/// Virtio disks that a guest can have: those on the first bus, and the bridge's 32 slots.
pub(crate) const DISKS: usize = ON_FIRST_BUS + 32;

/// What QEMU needs for one disk.
pub(crate) struct Planned {
    pub(crate) node: Value,
    pub(crate) device: Value,
}

/// The disks a guest is started with, numbered in their order.
pub(crate) fn plan(disks: &[DomainDisk]) -> Result<Vec<Planned>> {
    let (mut virtio, mut cdroms) = (0, 0);
    let mut planned = Vec::with_capacity(disks.len());
    for (index, disk) in disks.iter().enumerate() {
        let counter = if disk.cdrom { &mut cdroms } else { &mut virtio };
        let number = *counter;
        *counter += 1;
        // Names of nodes must differ, serials need not.
        let named = is_name(&disk.serial) && disks[..index].iter().all(|other| other.serial != disk.serial);
        let node = match (disk.cdrom, named) {
            (true, _) => format!("cdnode{number}"),
            (false, true) => node_name(&disk.serial),
            (false, false) => format!("node{number}"),
        };
        planned.push(Planned { node: block_node(disk, &node)?, device: device(disk, number, &node)? });
    }
    Ok(planned)
}

/// The node of a disk with a serial.
pub(crate) fn node_name(serial: &str) -> String {
    format!("node-{serial}")
}

/// The node of the file, or image, of a node.
pub(crate) fn file_node(node: &str) -> String {
    node.replacen("node", "file", 1)
}

/// Which overlay of the disk this is: 0 for the node that it was plugged in with. `None`: it belongs to another disk.
pub(crate) fn overlay_number(node: &str, first: &str) -> Option<u32> {
    match node.strip_prefix(first)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    }
}

/// The node of the disk's next overlay, or of its next place.
pub(crate) fn next_overlay(node: &str) -> String {
    let first = first_node(node);
    let number = overlay_number(node, first).unwrap_or_default();
    format!("{first}.{}", number + 1)
}

/// The node without its overlay's number.
pub(crate) fn first_node(node: &str) -> &str {
    match node.rsplit_once('.') {
        Some((first, number)) if number.parse::<u32>().is_ok() => first,
        _ => node,
    }
}

/// Whether a disk of this serial can be plugged in: the serial is part of QEMU's names, and what the guest finds it by.
pub(crate) fn must_be_name(serial: &str) -> Result<()> {
    if is_name(serial) {
        return Ok(());
    }
    let text = format!(
        "A disk that is attached needs a serial number of 1 to {SERIAL_LENGTH} letters, digits, '-' and '_', not '{serial}'."
    );
    Err(Error::bad_request(text))
}

fn is_name(serial: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=SERIAL_LENGTH).contains(&serial.len()) && serial.bytes().all(letter)
}

/// A disk as QEMU opens it: the format over the place. Writes are cached by the host and reach the disk when the guest
/// flushes; what the guest discards is freed.
pub(crate) fn block_node(disk: &DomainDisk, name: &str) -> Result<Value> {
    let cache = json!({"direct": false, "no-flush": false});
    let (format, place) = match &disk.attachment {
        Attachment::File { path, format } => {
            let path = path.to_str().ok_or_else(|| Error::bad_request("A disk's path is not UTF-8."))?;
            let format = match format {
                DiskFormat::Raw => "raw",
                DiskFormat::Qcow2 => "qcow2",
            };
            let place = json!({"driver": "file", "filename": path, "aio": "threads"});
            (format, place)
        }
        Attachment::Rbd { pool, image, user, conf } => {
            let conf =
                conf.to_str().ok_or_else(|| Error::bad_request("The path of a Ceph configuration is not UTF-8."))?;
            ("raw", json!({"driver": "rbd", "pool": pool, "image": image, "user": user, "conf": conf}))
        }
        Attachment::Simulated { .. } => {
            return Err(Error::bad_request("A simulated disk cannot be given to a real guest."));
        }
    };
    let mut place = place;
    let mut node = json!({"driver": format, "node-name": name});
    for (key, value) in
        [("cache", cache), ("discard", json!("unmap")), ("read-only", json!(disk.read_only || disk.cdrom))]
    {
        place[key] = value.clone();
        node[key] = value;
    }
    place["node-name"] = json!(file_node(name));
    node["file"] = place;
    Ok(node)
}

/// The device in the disk's place on the bus.
pub(crate) fn device(disk: &DomainDisk, number: usize, node: &str) -> Result<Value> {
    if disk.serial.len() > SERIAL_LENGTH {
        return Err(Error::bad_request(format!(
            "A disk's serial number may have {SERIAL_LENGTH} characters, not more."
        )));
    }
    let mut device = json!({"drive": node, "serial": disk.serial});
    if let Some(order) = disk.boot_index {
        device["bootindex"] = json!(order);
    }
    if disk.cdrom {
        if number >= CDROMS {
            return Err(Error::bad_request(format!("A guest may have {CDROMS} CD drives, not more.")));
        }
        device["id"] = json!(format!("cd{number}"));
        device["driver"] = json!("ide-cd");
        device["bus"] = json!(format!("ide.{}", number / 2));
        device["unit"] = json!(number % 2);
        return Ok(device);
    }
    let (bus, slot) = match number {
        0..ON_FIRST_BUS => ("pci.0", FIRST_SLOT + number),
        ON_FIRST_BUS..DISKS => (BRIDGE, number - ON_FIRST_BUS),
        _ => return Err(too_many()),
    };
    device["id"] = match is_name(&disk.serial) {
        true => json!(format!("disk{number}.{}", disk.serial)),
        false => json!(format!("disk{number}")),
    };
    device["driver"] = json!("virtio-blk-pci");
    device["bus"] = json!(bus);
    device["addr"] = json!(format!("{slot:x}"));
    Ok(device)
}

pub(crate) fn too_many() -> Error {
    Error::bad_request(format!("A guest may have {DISKS} disks and volumes, not more."))
}

/// A disk that QEMU shows to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plug {
    pub(crate) device: String,
    /// `None`: a CD drive.
    pub(crate) number: Option<usize>,
    /// `None`: it was no part of the device's name.
    pub(crate) serial: Option<String>,
    /// The node that the guest writes.
    pub(crate) node: String,
    /// QEMU's name of the place: a path if it is a file. Of an overlay whose header names the file below otherwise than
    /// QEMU has it open, relatively for one, QEMU gives no path but `json:` with all that it could be opened with.
    pub(crate) place: String,
    pub(crate) qcow2: bool,
    pub(crate) read_only: bool,
    /// Bytes that the guest sees.
    pub(crate) size: u64,
}

impl Plug {
    pub(crate) fn overlay(&self) -> u32 {
        overlay_number(&self.node, first_node(&self.node)).unwrap_or_default()
    }

    pub(crate) fn is_at(&self, place: &Attachment) -> bool {
        self.attachment().is_some_and(|here| is_same(&here, place))
    }

    /// Where it is, as far as QEMU's name of the place tells.
    pub(crate) fn attachment(&self) -> Option<Attachment> {
        place_of(&self.place, if self.qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw })
    }
}

/// Whether both are one place; whoever opens it.
pub(crate) fn is_same(one: &Attachment, other: &Attachment) -> bool {
    match (one, other) {
        (Attachment::File { path, .. }, Attachment::File { path: other, .. }) => path == other,
        (
            Attachment::Rbd { pool, image, conf, .. },
            Attachment::Rbd { pool: other_pool, image: other_image, conf: other_conf, .. },
        ) => (pool, image, conf) == (other_pool, other_image, other_conf),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Opened {
    driver: String,
    file: Option<Box<Opened>>,
    filename: Option<String>,
    pool: Option<String>,
    image: Option<String>,
    user: Option<String>,
    conf: Option<String>,
}

/// What QEMU's name of a place stands for: a path, or `json:` with what it was opened with.
pub(crate) fn place_of(name: &str, format: DiskFormat) -> Option<Attachment> {
    if name.starts_with('/') {
        return Some(Attachment::File { path: name.into(), format });
    }
    let mut opened: Opened = serde_json::from_str(name.strip_prefix("json:")?).ok()?;
    while let Some(below) = opened.file {
        opened = *below;
    }
    match opened.driver.as_str() {
        "file" => Some(Attachment::File { path: opened.filename?.into(), format }),
        "rbd" => Some(Attachment::Rbd {
            pool: opened.pool?,
            image: opened.image?,
            user: opened.user?,
            conf: opened.conf?.into(),
        }),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    qdev: String,
    inserted: Option<Inserted>,
}

#[derive(Deserialize)]
struct Inserted {
    #[serde(rename = "node-name")]
    node: String,
    file: String,
    drv: String,
    ro: bool,
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "virtual-size")]
    virtual_size: u64,
}

/// The disks in QEMU's answer to `query-block`.
pub(crate) fn plugs(answer: &str) -> serde_json::Result<Vec<Plug>> {
    let blocks: Vec<Block> = serde_json::from_str(answer)?;
    Ok(blocks.into_iter().filter_map(plug).collect())
}

fn plug(block: Block) -> Option<Plug> {
    let device = block.qdev.strip_prefix("/machine/peripheral/")?.split('/').next()?.to_owned();
    let inserted = block.inserted?;
    let (number, serial) = match device.strip_prefix("disk") {
        Some(rest) => match rest.split_once('.') {
            Some((number, serial)) => (number.parse().ok(), Some(serial.to_owned())),
            None => (rest.parse().ok(), None),
        },
        None => (None, None),
    };
    Some(Plug {
        device,
        number,
        serial,
        node: inserted.node,
        place: inserted.file,
        qcow2: inserted.drv == "qcow2",
        read_only: inserted.ro,
        size: inserted.image.virtual_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(serial: &str) -> DomainDisk {
        let attachment = Attachment::File { path: "/d".into(), format: DiskFormat::Raw };
        DomainDisk { attachment, serial: serial.into(), boot_index: None, read_only: false, cdrom: false }
    }

    #[test]
    fn places_on_the_bus() {
        let check = |number: usize, bus: &str, addr: &str| {
            let device = device(&disk("s"), number, "node-s").unwrap();
            assert_eq!((&device["bus"], &device["addr"]), (&json!(bus), &json!(addr)), "{number}");
        };
        check(0, "pci.0", "10");
        check(15, "pci.0", "1f");
        check(16, "bridge", "0");
        check(47, "bridge", "1f");
        let error = device(&disk("s"), 48, "node-s").unwrap_err();
        assert_eq!(error.message(), "A guest may have 48 disks and volumes, not more.");
    }

    #[test]
    fn names_differ_where_serials_do_not() {
        let planned = plan(&[disk("a"), disk("a"), disk(""), disk("b c")]).unwrap();
        let names: Vec<_> = planned
            .iter()
            .map(|one| (one.device["id"].as_str().unwrap(), one.node["node-name"].as_str().unwrap()))
            .collect();
        assert_eq!(names, [("disk0.a", "node-a"), ("disk1.a", "node1"), ("disk2", "node2"), ("disk3", "node3")]);
    }

    #[test]
    fn overlays_are_counted() {
        let check =
            |node: &str, first: &str, want: Option<u32>| assert_eq!(overlay_number(node, first), want, "{node}");
        check("node-a", "node-a", Some(0));
        check("node-a.12", "node-a", Some(12));
        check("node-ab", "node-a", None);
        check("node-ab.1", "node-a", None);
        check("#block12", "node-a", None);
        assert_eq!((first_node("node-a.12"), first_node("node-a"), first_node("node7")), ("node-a", "node-a", "node7"));
    }

    #[test]
    fn overlays_are_numbered_upwards() {
        let check = |node: &str, want: &str| assert_eq!(next_overlay(node), want);
        check("node-a", "node-a.1");
        check("node-a.1", "node-a.2");
        check("node3", "node3.1");
        check("node3.9", "node3.10");
    }

    #[test]
    fn places_are_known_by_qemus_names() {
        let check = |name: &str, want: Option<Attachment>| assert_eq!(place_of(name, DiskFormat::Raw), want, "{name}");
        let file = Attachment::File { path: "/d".into(), format: DiskFormat::Raw };
        check("/d", Some(file.clone()));
        check(r#"json:{"driver": "raw", "file": {"driver": "file", "filename": "/d", "aio": "threads"}}"#, Some(file));
        let rbd = |image: &str| Attachment::Rbd {
            pool: "vms".into(),
            image: image.into(),
            user: "u".into(),
            conf: "/c".into(),
        };
        let name = r#"json:{"driver": "raw", "file": {"pool": "vms", "image": "i", "conf": "/c", "driver": "rbd", "user": "u"}}"#;
        check(name, Some(rbd("i")));
        check("nbd://host", None);
        assert!(is_same(&rbd("i"), &rbd("i")) && !is_same(&rbd("i"), &rbd("j")));
    }

    #[test]
    fn what_qemu_lists_is_understood() {
        let block = |qdev: &str, drv: &str| {
            format!(
                r#"{{"qdev": "{qdev}", "type": "unknown", "inserted": {{"node-name": "node-a.1", "file": "/f", "drv": "{drv}",
                "ro": false, "image": {{"virtual-size": 512, "filename": "/f"}}}}}}"#
            )
        };
        let answer = format!(
            r#"[{}, {}, {}, {{"device": "x"}}]"#,
            block("/machine/peripheral/disk12.a/virtio-backend", "qcow2"),
            block("/machine/peripheral/cd0", "raw"),
            block("/machine/peripheral/disk3/virtio-backend", "raw"),
        );
        let plugs = plugs(&answer).unwrap();
        let seen: Vec<_> = plugs.iter().map(|plug| (plug.number, plug.serial.as_deref(), plug.qcow2)).collect();
        assert_eq!(seen, [(Some(12), Some("a"), true), (None, None, false), (Some(3), None, false)]);
        assert_eq!((plugs[0].node.as_str(), plugs[0].place.as_str(), plugs[0].size), ("node-a.1", "/f", 512));
    }

    #[test]
    fn serials_that_can_be_plugged() {
        let check = |serial: &str, good: bool| assert_eq!(must_be_name(serial).is_ok(), good, "{serial}");
        check("0f3b8c1e-aaaa-4bbb-8", true);
        check("a_1", true);
        check("", false);
        check("a.b", false);
        check("0f3b8c1e-aaaa-4bbb-8c", false);
    }
}
