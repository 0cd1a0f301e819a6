//! Who writes into a file, from the kernel's table of locks (`/proc/locks`).
//!
//! QEMU marks a file that it has open for writing with a lock on byte 101: `RAW_LOCK_PERM_BASE` and the number of the
//! permission to write (block/file-posix.c of QEMU). Refused: asking with `F_GETLK`. The answer for the kind of lock
//! that QEMU takes has no process in it, and the safe binding of the call takes that for an impossible process id.

const WRITTEN: u64 = 101;

/// Whether the table has a writer's lock on the file with this inode number.
///
/// Inode numbers are of one file system, and the table's name for that is not always what `stat` gives. `ours` is the
/// inode number of a file in the same one that the caller holds locked, so its line tells; without such a line any file
/// of that number counts, which can only refuse too much.
pub(super) fn is_written(table: &str, inode: u64, ours: u64) -> bool {
    let device = table.lines().filter_map(parse).find(|lock| lock.kind == "FLOCK" && lock.inode == ours);
    let device = device.map(|lock| lock.device);
    table.lines().filter_map(parse).any(|lock| {
        lock.kind != "FLOCK"
            && lock.inode == inode
            && device.is_none_or(|device| device == lock.device)
            && (lock.start..=lock.end).contains(&WRITTEN)
    })
}

struct Lock<'a> {
    kind: &'a str,
    /// Major and minor number.
    device: &'a str,
    inode: u64,
    start: u64,
    end: u64,
}

/// Number, kind, mode, access, process, file, first and last byte; with an arrow after the number, one that waits.
fn parse(line: &str) -> Option<Lock<'_>> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let &[_, kind, _, _, _, file, start, end] = &fields[..] else {
        return None;
    };
    let (device, inode) = file.rsplit_once(':')?;
    let end = if end == "EOF" { u64::MAX } else { end.parse().ok()? };
    Some(Lock { kind, device, inode: inode.parse().ok()?, start: start.parse().ok()?, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_writers_lock_on_the_file_counts() {
        let ours = "1: FLOCK  ADVISORY  READ 10 fe:00:7 0 EOF\n";
        let check = |line: &str, want| assert_eq!(is_written(&format!("{ours}{line}\n"), 9, 7), want, "{line}");
        check("2: OFDLCK ADVISORY  READ -1 fe:00:9 100 101", true);
        check("2: OFDLCK ADVISORY  READ -1 fe:00:9 101 101", true);
        check("2: POSIX  ADVISORY  READ 55 fe:00:9 100 103", true);
        check("2: OFDLCK ADVISORY  READ -1 fe:00:9 100 100", false);
        check("2: OFDLCK ADVISORY  READ -1 fe:00:9 201 201", false);
        check("2: OFDLCK ADVISORY  READ -1 fe:00:8 101 101", false);
        check("2: OFDLCK ADVISORY  READ -1 fe:01:9 101 101", false);
        check("2: FLOCK  ADVISORY  WRITE 55 fe:00:9 0 EOF", false);
        check("2: -> POSIX  ADVISORY  WRITE 55 fe:00:9 101 101", false);
        check("nonsense", false);
        assert!(is_written("2: OFDLCK ADVISORY  READ -1 fe:01:9 101 101", 9, 7), "without our line, all devices count");
    }
}
