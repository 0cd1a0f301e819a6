//! Leaving zeros out.

/// A range is left out if it is zeros from one multiple of this to the next: the cluster of an overlay, and a size at
/// which a file's extents stay few.
pub(super) const BLOCK: usize = 64 << 10;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Hands the bytes, which lie at `offset`, to `write` in ranges as long as can be, without the blocks that are zeros.
pub(super) fn write<E>(bytes: &[u8], offset: u64, mut write: impl FnMut(&[u8], u64) -> Result<(), E>) -> Result<(), E> {
    // Data not yet handed over: from here to the block looked at.
    let mut begin = None;
    let mut at = 0;
    while at < bytes.len() {
        let to_border = BLOCK - ((offset + at as u64) % BLOCK as u64) as usize;
        let end = bytes.len().min(at + to_border);
        if bytes[at..end] == ZEROS[..end - at] {
            if let Some(from) = begin.take() {
                write(&bytes[from..at], offset + from as u64)?;
            }
        } else {
            begin.get_or_insert(at);
        }
        at = end;
    }
    match begin {
        Some(from) => write(&bytes[from..], offset + from as u64),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_of_zeros_are_left_out() {
        let check = |data: &[(usize, u8)], length: usize, offset: u64, want: &[(u64, usize)]| {
            let mut bytes = vec![0; length];
            data.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            let mut wrote = Vec::new();
            write(&bytes, offset, |bytes, offset| {
                wrote.push((offset, bytes.len()));
                Ok::<_, ()>(())
            })
            .unwrap();
            assert_eq!(wrote, want, "{data:?} of {length} at {offset}");
        };
        check(&[], 0, 0, &[]);
        check(&[], 3 * BLOCK, 5, &[]);
        check(&[(0, 1)], 10, 7, &[(7, 10)]);
        check(&[(BLOCK, 1)], 3 * BLOCK, 0, &[(BLOCK as u64, BLOCK)]);
        check(&[(0, 1), (BLOCK, 1), (3 * BLOCK, 1)], 4 * BLOCK, 0, &[(0, 2 * BLOCK), (3 * BLOCK as u64, BLOCK)]);
        // Blocks are those of the disk, not of the piece.
        check(&[(0, 1)], BLOCK, BLOCK as u64 - 1, &[(BLOCK as u64 - 1, 1)]);
        check(&[(1, 1)], BLOCK, BLOCK as u64 - 1, &[(BLOCK as u64, BLOCK - 1)]);
    }
}
