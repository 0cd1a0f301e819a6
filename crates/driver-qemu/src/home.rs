//! The files of one guest: `<dir>/<uuid>/`.
//!
//! | File | What |
//! |---|---|
//! | `domain.json` | its definition |
//! | `power` | what it was last known to be; `running` without a process means that it crashed |
//! | `held` | there while its processors stand still for a moment that nobody is to see |
//! | `frozen` | there while its agent holds its file systems |
//! | `qmp.sock` | where its QEMU listens |
//! | `agent.sock` | where its QEMU listens for those who want to speak to the agent in the guest |
//! | `console.log`, `console.log.0` | what it wrote on its serial port, and what came before that |
//! | `qemu.log` | what QEMU said on its standard error, of the last start |

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use umbel_driver::{DomainSpec, Power};
use uuid::Uuid;

use crate::command::AGENT_SOCKET;

const QMP_SOCKET: &str = "qmp.sock";

/// As much of QEMU's messages as is worth a log line.
const COMPLAINT: u64 = 2_000;

/// What a guest must not stay in when its driver dies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Passing {
    Held,
    Frozen,
}

impl Passing {
    fn file(self) -> &'static str {
        match self {
            Passing::Held => "held",
            Passing::Frozen => "frozen",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) id: Uuid,
    dir: PathBuf,
}

impl Home {
    pub(crate) fn new(root: &Path, id: Uuid) -> Home {
        Home { id, dir: root.join(id.to_string()) }
    }

    /// All guests that have a directory below `root`.
    pub(crate) fn all(root: &Path) -> io::Result<Vec<Home>> {
        let mut homes = Vec::new();
        for entry in fs::read_dir(root)? {
            let name = entry?.file_name();
            if let Some(id) = name.to_str().and_then(|name| Uuid::parse_str(name).ok()) {
                homes.push(Home::new(root, id));
            }
        }
        Ok(homes)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Makes the directory if need be. Only its owner may enter: the QMP socket obeys whoever connects.
    pub(crate) fn define(&self, spec: &DomainSpec) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        fs::set_permissions(&self.dir, Permissions::from_mode(0o700))?;
        self.replace("domain.json", &serde_json::to_vec_pretty(spec)?)
    }

    /// `None` if it was never defined.
    pub(crate) fn definition(&self) -> io::Result<Option<DomainSpec>> {
        match fs::read(self.dir.join("domain.json")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a driver before this one did not come to undo it.
    pub(crate) fn is(&self, state: Passing) -> bool {
        self.dir.join(state.file()).exists()
    }

    /// For a driver that comes after this one.
    pub(crate) fn note(&self, state: Passing, so: bool) -> io::Result<()> {
        let path = self.dir.join(state.file());
        if so {
            return File::create(path).map(drop);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Not synced to the disk: after a power failure of the host an older word here is as good, because the guest that
    /// runs is found by its process, and what should run is decided elsewhere.
    pub(crate) fn set_power(&self, power: Power) -> io::Result<()> {
        self.replace("power", &serde_json::to_vec(&power)?)
    }

    /// `None` if it was never written or cannot be read.
    pub(crate) fn power(&self) -> Option<Power> {
        serde_json::from_slice(&fs::read(self.dir.join("power")).ok()?).ok()
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.dir)?;
        file.write_all(content)?;
        file.persist(self.dir.join(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// A socket that listens, for QEMU to inherit.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        match fs::remove_file(self.dir.join(QMP_SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.short(QMP_SOCKET, |path| UnixListener::bind(path))
    }

    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        self.short(QMP_SOCKET, |path| UnixStream::connect(path))
    }

    /// The way to the agent in the guest.
    pub(crate) fn connect_agent(&self) -> io::Result<UnixStream> {
        self.short(AGENT_SOCKET, |path| UnixStream::connect(path))
    }

    /// Calls with a path of the socket that is surely short: the kernel takes no more than 107 bytes, and the directory
    /// may be deep.
    fn short<T>(&self, socket: &str, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let dir = File::open(&self.dir)?;
        call(Path::new(&format!("/proc/self/fd/{}/{socket}", dir.as_raw_fd())))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }

    /// An empty file for QEMU's messages. Opened for appending, so that it may be cut while QEMU writes.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        let file = File::options().create(true).append(true).open(self.log())?;
        file.set_len(0)?;
        Ok(file)
    }

    /// The last of what QEMU said, on one line.
    pub(crate) fn complaint(&self) -> String {
        let read = || {
            let mut file = File::open(self.log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(COMPLAINT)))?;
            let mut bytes = Vec::new();
            file.take(COMPLAINT).read_to_end(&mut bytes)?;
            io::Result::Ok(String::from_utf8_lossy(&bytes).trim().replace('\n', "; "))
        };
        read().unwrap_or_default()
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Gone already is as good.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
