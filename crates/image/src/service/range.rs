//! `Range` of a download, RFC 9110 section 14.

use umbel_core::{Error, Kind, Result};

/// A part of the data, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u64,
    pub last: u64,
}

impl Range {
    /// None where everything is asked for: no header, or a unit that is not bytes. 416 for a range of bytes that is
    /// malformed, several, or beyond the end, as upstream answers.
    pub fn parse(header: Option<&str>, size: u64) -> Result<Option<Range>> {
        let Some((unit, ranges)) = header.and_then(|header| header.split_once('=')) else {
            return match header {
                Some(_) => Err(unsatisfiable()),
                None => Ok(None),
            };
        };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Ok(None);
        }
        let (first, last) = ranges.trim().split_once('-').ok_or_else(unsatisfiable)?;
        let number = |text: &str| match text.bytes().all(|digit| digit.is_ascii_digit()) {
            // Larger than any size is as good as infinite.
            true if !text.is_empty() => Ok(Some(text.parse::<u64>().unwrap_or(u64::MAX))),
            true => Ok(None),
            false => Err(unsatisfiable()),
        };
        let end = size.checked_sub(1).ok_or_else(unsatisfiable)?;
        let range = match (number(first)?, number(last)?) {
            (Some(first), last) => Range { first, last: last.unwrap_or(end).min(end) },
            (None, Some(length)) if length > 0 => Range { first: size.saturating_sub(length), last: end },
            _ => return Err(unsatisfiable()),
        };
        match range.first <= range.last {
            true => Ok(Some(range)),
            false => Err(unsatisfiable()),
        }
    }

    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

fn unsatisfiable() -> Error {
    Error::new(Kind::RangeNotSatisfiable, "The requested range cannot be satisfied.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood() {
        let check = |header: &str, want: Option<Option<(u64, u64)>>| {
            let got = Range::parse(Some(header), 10).ok().map(|range| range.map(|range| (range.first, range.last)));
            assert_eq!(got, want, "{header}");
        };
        check("bytes=0-4", Some(Some((0, 4))));
        check("bytes=5-", Some(Some((5, 9))));
        check("bytes=-3", Some(Some((7, 9))));
        check("bytes=-30", Some(Some((0, 9))));
        check("bytes=9-9", Some(Some((9, 9))));
        check("Bytes=3-99999999999999999999999", Some(Some((3, 9))));
        check("lines=1-2", Some(None));
        for bad in
            ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=-", "bytes=a-b", "bytes=1-2,4-5", "bytes", "bytes=+1-2"]
        {
            check(bad, None);
        }
        assert_eq!(Range::parse(None, 10).unwrap(), None);
        assert!(Range::parse(Some("bytes=0-0"), 0).is_err());
    }
}
