//! What a killed process left in the cluster: watches and locks in the name of a client that is no more.
//!
//! The cluster forgets a silent client's watches after 30 s. Not always: a watch that was on its way when the connection
//! broke was seen to stay for as long as the cluster ran (Ceph 16), and an image with a watch cannot be removed. So each
//! process notes its clients' addresses, and the next one on the same directory has the cluster refuse them, which drops
//! what they hold at once. Guests are not concerned: their disks have clients of their own.

use std::fs;
use std::path::Path;

use parking_lot::Mutex;
use umbel_core::{Error, Result};

use crate::ffi::Connection;

/// Addresses of this process's clients, which are left alone: several clusters may share a directory.
static OWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes this connection's client, and shuts out those of earlier processes, which it answers. Blocks.
pub fn succeed(connection: &Connection, dir: &Path) -> Result<Vec<String>> {
    let about = |what: &str| format!("{what} in {}", dir.display());
    let failed = |failed: crate::errno::Failed| failed.about("A client of the storage cluster");
    let address = connection.address().map_err(failed)?;
    fs::create_dir_all(dir).map_err(|error| Error::internal(error).because(about("making a folder for clients")))?;
    let path = dir.join(format!("{}.clients", connection.fsid()));
    let noted = fs::read_to_string(&path).unwrap_or_default();
    let mut own = OWN.lock();
    own.push(address);
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for line in noted.lines().filter(|line| !line.is_empty() && !own.iter().any(|known| known == line)) {
        match connection.shut_out(&[line.to_owned()]) {
            Ok(()) => gone.push(line.to_owned()),
            Err(error) => {
                tracing::warn!(client = line, %error, "an earlier client could not be shut out; it is tried at the next start");
                left.push(line);
            }
        }
    }
    left.extend(own.iter().map(String::as_str));
    // Before the first use: a client that is not noted cannot be shut out.
    let draft = path.with_extension("new");
    fs::write(&draft, left.join("\n"))
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(|error| Error::internal(error).because(about("noting a client")))?;
    Ok(gone)
}
