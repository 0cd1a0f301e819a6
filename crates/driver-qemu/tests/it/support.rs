use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use umbel_driver::conformance::SPARE;
use umbel_driver::{Attachment, DiskFormat, DomainDisk, DomainEvent, DomainSpec, Hypervisor, Power, config_drive};
use umbel_driver_qemu::{Options, QemuHypervisor};
use uuid::Uuid;

/// An emulated guest on a busy machine of two cores boots within this.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A directory of guests that are killed when the test is over, however it ends.
pub struct Host {
    pub dir: TempDir,
}

impl Host {
    pub fn new() -> Host {
        Host { dir: tempfile::tempdir().unwrap() }
    }

    pub fn guests(&self) -> PathBuf {
        self.dir.path().join("guests")
    }

    pub async fn open(&self) -> Arc<QemuHypervisor> {
        let opened = QemuHypervisor::open(&self.guests(), Options::default()).await;
        opened.unwrap_or_else(|error| panic!("{}", error.for_log()))
    }

    /// A copy of the guest image, as a disk to boot from.
    pub fn boot_disk(&self) -> DomainDisk {
        let path = self.dir.path().join(format!("{}.img", Uuid::new_v4()));
        std::fs::copy(image(), &path).unwrap();
        disk(&path, Some(0))
    }

    /// A blank disk with a serial.
    pub fn blank(&self, serial: &str, size: u64) -> DomainDisk {
        let path = self.dir.path().join(format!("{serial}.raw"));
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        DomainDisk { serial: serial.to_owned(), ..disk(&path, None) }
    }

    pub fn spare(&self) -> [DomainDisk; 2] {
        [self.blank("spare-1", SPARE), self.blank("spare-2", SPARE)]
    }

    /// A CD with a script that the guest runs.
    pub fn script(&self, script: &str) -> DomainDisk {
        let documents = [
            ("openstack/latest/meta_data.json", br#"{"uuid": "u", "hostname": "scripted"}"#.to_vec()),
            ("openstack/latest/user_data", script.as_bytes().to_vec()),
        ];
        let path = self.dir.path().join(format!("{}.iso", Uuid::new_v4()));
        std::fs::write(&path, config_drive::iso9660(&documents)).unwrap();
        DomainDisk { cdrom: true, read_only: true, ..disk(&path, None) }
    }

    /// The numbers of the processes of our guests.
    pub fn pids(&self) -> Vec<i32> {
        pids(self.dir.path())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for pid in self.pids() {
            kill(pid);
        }
    }
}

/// Processes, zombies not counted, whose command line names the directory.
fn pids(dir: &Path) -> Vec<i32> {
    let entries =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"qemu") && String::from_utf8_lossy(&line).contains(dir.to_str().unwrap())
    };
    entries.filter(ours).collect()
}

pub fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

pub fn image() -> PathBuf {
    let path = std::env::var_os("UMBEL_TEST_GUEST_IMAGE").map(PathBuf::from);
    path.unwrap_or_else(|| panic!("UMBEL_TEST_GUEST_IMAGE does not name the guest image; run: make guest-image"))
}

pub fn disk(path: &Path, boot_index: Option<u32>) -> DomainDisk {
    DomainDisk {
        attachment: Attachment::File { path: path.to_owned(), format: DiskFormat::Raw },
        serial: String::new(),
        boot_index,
        read_only: false,
        cdrom: false,
    }
}

pub fn spec(disks: Vec<DomainDisk>) -> DomainSpec {
    DomainSpec { id: Uuid::new_v4(), name: "a guest, with a comma".to_owned(), vcpus: 1, memory_mib: 128, disks }
}

/// Looks again until it is so.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let looks = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looks).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// Waits until the console holds the text.
pub async fn says(host: &QemuHypervisor, id: Uuid, text: &str) {
    eventually(&format!("the console says '{text}'"), async || {
        let console = host.console(id, 1 << 20).await.unwrap();
        String::from_utf8_lossy(&console).contains(text)
    })
    .await;
}

pub async fn told(events: &mut Receiver<DomainEvent>, id: Uuid, power: Power) {
    let heard = async { while events.recv().await.unwrap() != (DomainEvent { id, power }) {} };
    assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok(), "no event {power:?} came");
}
