//! The command line of a guest's QEMU: pure, from the definition to the arguments.
//!
//! # What sits where on the guest's PCI bus
//! `pc` can plug devices in and out while it runs, by ACPI, in every slot that was empty and in those of a bridge. Slots
//! are given rather than left to QEMU, so that a guest that is started again finds its disks where they were, and so
//! that disks do not take those of network cards.
//!
//! | Slot | What |
//! |---|---|
//! | 0, 1 | the host bridge; ISA and IDE |
//! | 2 | random numbers |
//! | 3 | a bridge: slots for the 17th disk and those after it |
//! | 4 | serial channels: the guest agent's |
//! | 5 to 15 | network cards |
//! | 16 to 31 | disks, see [`crate::drive`] |
//!
//! Disks and devices are given as JSON, where no name can end an option and begin another; in the few old-style options
//! commas are doubled, which is QEMU's quoting. Formats are always named: QEMU guessing the format of a disk would let a
//! guest that writes a qcow2 header into its raw disk read any file of the host.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use serde_json::{Value, json};
use umbel_core::Result;
use umbel_driver::DomainSpec;
use uuid::Uuid;

use crate::drive;
use crate::host::Accelerator;

/// Size of the translated code that the emulator keeps, in MiB. It would take up to 1 GiB of a host's memory for each
/// guest; a small Linux boots as fast with this.
const TRANSLATION_MIB: u32 = 64;

/// QEMU's name of the guest agent's channel, and its socket in the guest's directory.
pub(crate) const AGENT: &str = "agent";
pub(crate) const AGENT_SOCKET: &str = "agent.sock";

/// The option that tells where the guest's files are. By it its process is known again.
const CONSOLE: &str = "file,id=console,append=on,path=";

pub(crate) fn arguments(spec: &DomainSpec, console: &Path, accelerator: Accelerator) -> Result<Vec<OsString>> {
    let mut line = Line::default();
    line.flags(&["-nodefaults", "-no-user-config"]);
    line.pair("-name", format!("guest={},debug-threads=on", quoted(&spec.name)));
    line.pair("-uuid", spec.id.to_string());
    // By these names cloud-init knows that the metadata service is OpenStack's.
    line.pair(
        "-smbios",
        format!("type=1,manufacturer=OpenStack Foundation,product=OpenStack Compute,uuid={}", spec.id),
    );
    machine(&mut line, spec, accelerator);
    line.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned());
    // QEMU waits to be told to go once the guest is off; see the crate's documentation.
    line.pair("-action", "shutdown=pause,panic=pause".to_owned());
    line.pair("-chardev", "socket,id=qmp,fd=0,server=on,wait=off".to_owned());
    line.pair("-mon", "chardev=qmp,mode=control".to_owned());
    let mut path = OsString::from(CONSOLE);
    path.push(OsString::from_vec(doubled(console.as_os_str())));
    line.0.extend(["-chardev".into(), path]);
    line.json("-device", json!({"driver": "isa-serial", "chardev": "console"}));
    line.json("-object", json!({"qom-type": "rng-random", "id": "rng", "filename": "/dev/urandom"}));
    line.json("-device", json!({"driver": "virtio-rng-pci", "rng": "rng", "addr": "2"}));
    line.json(
        "-device",
        json!({"driver": "pci-bridge", "id": drive::BRIDGE, "addr": "3", "chassis_nr": 1, "shpc": false}),
    );
    channel(&mut line);
    for planned in drive::plan(&spec.disks)? {
        line.json("-blockdev", planned.node);
        line.json("-device", planned.device);
    }
    Ok(line.0)
}

/// The guest agent's, as guests know it by its name. The socket's path is one in QEMU's working directory, the guest's
/// own: a whole path may be longer than an address of a socket can be.
fn channel(line: &mut Line) {
    line.pair("-chardev", format!("socket,id={AGENT},path={AGENT_SOCKET},server=on,wait=off"));
    line.json("-device", json!({"driver": "virtio-serial-pci", "id": "channels", "addr": "4"}));
    line.json(
        "-device",
        json!({"driver": "virtserialport", "bus": "channels.0", "chardev": AGENT, "name": "org.qemu.guest_agent.0"}),
    );
}

fn machine(line: &mut Line, spec: &DomainSpec, accelerator: Accelerator) {
    // `pc` rather than `q35`: its CD drives need no AHCI, which small guests lack, and it starts no slower.
    line.pair("-machine", "pc,usb=off,vmport=off,dump-guest-core=off".to_owned());
    match accelerator {
        Accelerator::Kvm => {
            line.pair("-accel", "kvm".to_owned());
            line.pair("-cpu", "host".to_owned());
        }
        Accelerator::Tcg => {
            line.pair("-accel", format!("tcg,thread=multi,tb-size={TRANSLATION_MIB}"));
            line.pair("-cpu", "max".to_owned());
        }
    }
    line.pair("-smp", format!("{0},sockets=1,cores={0},threads=1", spec.vcpus));
    line.pair("-m", format!("{}M", spec.memory_mib));
    line.pair("-rtc", "base=utc".to_owned());
    line.pair("-display", "none".to_owned());
    line.pair("-boot", "strict=on,menu=off".to_owned());
}

/// The guest whose process has these arguments, if it lives below `root`.
pub(crate) fn guest_of(arguments: impl Iterator<Item = OsString>, root: &Path) -> Option<Uuid> {
    let mut prefix = CONSOLE.as_bytes().to_vec();
    prefix.extend(doubled(root.as_os_str()));
    prefix.push(b'/');
    for argument in arguments {
        if let Some(rest) = argument.as_bytes().strip_prefix(prefix.as_slice()) {
            let name = rest.split(|byte| *byte == b'/').next()?;
            return Uuid::try_parse_ascii(name).ok();
        }
    }
    None
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: String) {
        self.0.extend([option.into(), value.into()]);
    }

    fn json(&mut self, option: &str, value: Value) {
        self.pair(option, value.to_string());
    }
}

/// QEMU's quoting of a comma. Control characters of a name are of no use to anybody who reads a process list.
fn quoted(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect::<String>().replace(',', ",,")
}

fn doubled(text: &OsStr) -> Vec<u8> {
    let once = |byte: &u8| if *byte == b',' { vec![b',', b','] } else { vec![*byte] };
    text.as_bytes().iter().flat_map(once).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use umbel_driver::{Attachment, DiskFormat, DomainDisk};

    use super::*;

    fn disk(attachment: Attachment) -> DomainDisk {
        DomainDisk { attachment, serial: "s".into(), boot_index: None, read_only: false, cdrom: false }
    }

    fn file(path: &str) -> DomainDisk {
        disk(Attachment::File { path: path.into(), format: DiskFormat::Qcow2 })
    }

    fn spec(disks: Vec<DomainDisk>) -> DomainSpec {
        DomainSpec { id: Uuid::nil(), name: "a,b\n".into(), vcpus: 2, memory_mib: 128, disks }
    }

    fn values(line: &[OsString], option: &str) -> Vec<String> {
        let pairs = line.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn names_cannot_end_an_option() {
        let line = arguments(&spec(vec![file("/x,readonly=on/\"d")]), Path::new("/r,s/c"), Accelerator::Tcg).unwrap();
        assert_eq!(values(&line, "-name"), ["guest=a,,b,debug-threads=on"]);
        assert_eq!(values(&line, "-chardev")[1], "file,id=console,append=on,path=/r,,s/c");
        let block: Value = serde_json::from_str(&values(&line, "-blockdev")[0]).unwrap();
        assert_eq!(block["file"]["filename"], "/x,readonly=on/\"d");
        assert_eq!((&block["driver"], &block["read-only"]), (&json!("qcow2"), &json!(false)));
    }

    #[test]
    fn every_kind_of_disk() {
        let rbd = Attachment::Rbd { pool: "vms".into(), image: "i".into(), user: "u".into(), conf: "/c".into() };
        let mut cd = file("/cd");
        cd.cdrom = true;
        let mut first = disk(rbd);
        first.boot_index = Some(0);
        let line =
            arguments(&spec(vec![first, cd.clone(), cd.clone(), cd]), Path::new("/c"), Accelerator::Kvm).unwrap();
        let blocks: Vec<Value> =
            values(&line, "-blockdev").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(blocks[0]["driver"], "raw");
        assert_eq!(blocks[0]["file"]["user"], "u");
        assert_eq!(blocks[0]["file"]["discard"], "unmap");
        assert_eq!(blocks[1]["file"]["read-only"], true);
        let devices: Vec<Value> =
            values(&line, "-device").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let drives: Vec<&Value> = devices.iter().filter(|device| device.get("drive").is_some()).collect();
        assert_eq!((&drives[0]["driver"], &drives[0]["bootindex"]), (&json!("virtio-blk-pci"), &json!(0)));
        assert_eq!((&drives[3]["bus"], &drives[3]["unit"]), (&json!("ide.1"), &json!(0)));
        assert_eq!(values(&line, "-accel"), ["kvm"]);
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let mut cd = file("/cd");
        cd.cdrom = true;
        let mut long = file("/d");
        long.serial = "x".repeat(21);
        let simulated = Attachment::Simulated { pool: "p".into(), disk: "d".into() };
        for disks in [vec![disk(simulated)], vec![long], vec![cd; 5]] {
            assert!(arguments(&spec(disks), Path::new("/c"), Accelerator::Tcg).is_err());
        }
    }

    #[test]
    fn a_process_is_known_by_its_arguments() {
        let id = Uuid::from_u128(7);
        let root = PathBuf::from("/var/lib/a,b");
        let console = root.join(id.to_string()).join("console.log");
        let line = arguments(&spec(vec![]), &console, Accelerator::Tcg).unwrap();
        assert_eq!(guest_of(line.clone().into_iter(), &root), Some(id));
        assert_eq!(guest_of(line.into_iter(), Path::new("/var/lib/a")), None);
        assert_eq!(guest_of([OsString::from("vim"), OsString::from(root)].into_iter(), Path::new("/var")), None);
    }
}
