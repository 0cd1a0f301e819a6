//! What guests write on their serial port, and QEMU on its standard error.
//!
//! QEMU appends to a file and knows no limit, so a guest could fill the host's disk. A file that grew past [`LIMIT`] is
//! cut: its tail becomes the older part, and it begins anew. That works under a writing QEMU because it opened the file
//! for appending; what it writes between the copy and the cut, within microseconds, is lost. A guest holds at most twice
//! the limit plus what it writes between two visits.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Compute's console output API gives far less.
pub(crate) const LIMIT: u64 = 1 << 20;

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".0");
    name.into()
}

/// Cuts the file if it is too long.
pub(crate) fn trim(path: &Path) -> io::Result<()> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if length <= LIMIT {
        return Ok(());
    }
    fs::write(older(path), last(path, LIMIT)?)?;
    File::options().write(true).open(path)?.set_len(0)
}

/// The last `limit` bytes of both parts together; nothing yet is no bytes.
pub(crate) fn tail(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let newer = last(path, limit)?;
    let mut bytes = last(&older(path), limit - newer.len() as u64)?;
    bytes.extend(newer);
    Ok(bytes)
}

fn last(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_long_console_is_cut_and_its_tail_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert_eq!(tail(&path, 10).unwrap(), b"", "nothing was written yet");

        let mut guest = File::options().append(true).create(true).open(&path).unwrap();
        let line = [b'a'; 1000];
        for _ in 0..=LIMIT / 1000 {
            guest.write_all(&line).unwrap();
        }
        trim(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        guest.write_all(b"end").unwrap();
        trim(&path).unwrap();
        assert_eq!(tail(&path, 5).unwrap(), b"aaend");
        assert_eq!(tail(&path, 2).unwrap(), b"nd");
        assert_eq!(tail(&path, u64::MAX).unwrap().len() as u64, LIMIT + 3);
    }
}
