//! Arithmetic of ranges, for those who say how disks differ ([`crate::Pool::diff`]).

use crate::Extent;

/// Adds a range that begins where the last one ends or later; joined to it if they touch and are alike.
pub fn push(extents: &mut Vec<Extent>, next: Extent) {
    if next.length == 0 {
        return;
    }
    match extents.last_mut() {
        Some(last) if last.zero == next.zero && last.offset + last.length == next.offset => last.length += next.length,
        _ => extents.push(next),
    }
}

/// The ranges cut to a disk of `size` bytes that had `before`: what it has gained and is not among them is zeros.
pub fn with_growth(extents: Vec<Extent>, before: u64, size: u64) -> Vec<Extent> {
    let mut all = Vec::with_capacity(extents.len() + 1);
    let mut done = before.min(size);
    let gap = |all: &mut Vec<Extent>, from: u64, to: u64| {
        push(all, Extent { offset: from, length: to.saturating_sub(from), zero: true });
    };
    for extent in extents {
        if extent.offset >= size {
            break;
        }
        let end = (extent.offset + extent.length).min(size);
        gap(&mut all, done, extent.offset);
        push(&mut all, Extent { length: end - extent.offset, ..extent });
        done = done.max(end);
    }
    gap(&mut all, done, size);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gained_differs() {
        let extents = |list: &[(u64, u64, bool)]| -> Vec<Extent> {
            list.iter().map(|&(offset, length, zero)| Extent { offset, length, zero }).collect()
        };
        let check = |have: &[(u64, u64, bool)], before, size, want: &[(u64, u64, bool)]| {
            assert_eq!(with_growth(extents(have), before, size), extents(want), "{have:?}, {before} to {size}");
        };
        check(&[], 10, 10, &[]);
        check(&[], 10, 5, &[]);
        check(&[], 10, 30, &[(10, 20, true)]);
        check(&[(2, 3, false)], 10, 30, &[(2, 3, false), (10, 20, true)]);
        check(&[(8, 4, false)], 10, 30, &[(8, 4, false), (12, 18, true)]);
        check(&[(15, 5, false)], 10, 30, &[(10, 5, true), (15, 5, false), (20, 10, true)]);
        check(&[(28, 9, false)], 10, 30, &[(10, 18, true), (28, 2, false)]);
        check(&[(1, 2, false), (3, 4, false), (7, 1, true)], 30, 30, &[(1, 6, false), (7, 1, true)]);
        check(&[(8, 9, false), (40, 2, false)], 10, 12, &[(8, 4, false)]);
    }
}
