//! QEMU processes: spawned by us, or found because an earlier umbel spawned them.
//!
//! A process is held by a pidfd, which means this process and no later one with the same number. Waiting for its end is
//! the same whether it is our child or was adopted; a child is reaped as well.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use tokio::io::unix::AsyncFd;
use uuid::Uuid;

use crate::home::Home;
use crate::{command, ffi};

pub(crate) struct Process {
    pub(crate) pid: i32,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Starts QEMU in the guest's directory. Its standard input is the listening QMP socket; see the crate's documentation.
    pub(crate) fn spawn(binary: &Path, arguments: &[OsString], listener: OwnedFd, home: &Home) -> io::Result<Process> {
        let child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::from(home.open_log()?))
            .current_dir(home.dir())
            .process_group(0)
            .spawn()?;
        // Nobody reaps our child but us, so its number is surely still its own.
        Process::open(i32::try_from(child.id()).map_err(io::Error::other)?)
    }

    fn open(pid: i32) -> io::Result<Process> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        Ok(Process { pid, fd: ffi::watch(fd)? })
    }

    /// Returns when the process is gone, and its files are closed.
    pub(crate) async fn ended(&self) {
        // An error means that waiting is impossible, which pidfds of living processes do not know.
        let _ = self.fd.readable().await;
        // Fails for a process that is not our child: then somebody else reaps it.
        let _ = waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }

    pub(crate) fn kill(&self) {
        // Fails only if it is gone.
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }
}

/// The QEMU processes whose guest lives below `root`.
pub(crate) fn running(root: &Path) -> io::Result<HashMap<Uuid, Process>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if guest_of(pid, root).is_none() {
            continue;
        }
        // The number may have passed to another process meanwhile: once it is held, look again.
        let Ok(process) = Process::open(pid) else { continue };
        if let Some(id) = guest_of(pid, root) {
            found.insert(id, process);
        }
    }
    Ok(found)
}

/// Zombies and kernel threads have an empty command line and are none of ours.
fn guest_of(pid: i32, root: &Path) -> Option<Uuid> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = bytes.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec()));
    command::guest_of(arguments, root)
}
