use std::fmt;
use std::str::FromStr;

use umbel_core::Error;

/// A version of an API, as in `OpenStack-API-Version: compute 2.100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion {
    pub major: u16,
    pub minor: u16,
}

impl Microversion {
    pub const fn new(major: u16, minor: u16) -> Self {
        Microversion { major, minor }
    }

    /// `const` comparison, for use in route tables.
    pub const fn at_least(self, major: u16, minor: u16) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Microversion {
    type Err = Error;

    /// `2.100`; no signs, no leading zeros.
    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |part: &str| match part.as_bytes() {
            [b'0'] | [b'1'..=b'9', ..] if part.bytes().all(|c| c.is_ascii_digit()) => part.parse::<u16>().ok(),
            _ => None,
        };
        text.split_once('.')
            .and_then(|(major, minor)| Some(Microversion::new(number(major)?, number(minor)?)))
            .ok_or_else(|| {
                Error::bad_request(format!(
                    "API Version String '{text}' is of invalid format. Must be of format MajorNum.MinorNum."
                ))
            })
    }
}

/// The versions, both ends included, at which something exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    pub min: Microversion,
    pub max: Microversion,
}

impl VersionRange {
    pub const ALL: VersionRange =
        VersionRange { min: Microversion::new(0, 0), max: Microversion::new(u16::MAX, u16::MAX) };

    pub const fn contains(&self, version: Microversion) -> bool {
        version.at_least(self.min.major, self.min.minor) && self.max.at_least(version.major, version.minor)
    }
}

/// A response body that knows which of its members a version has.
pub trait Versioned {
    /// Takes away, or turns back, what came after `version`.
    fn patch(&mut self, version: Microversion);
}

impl<T: Versioned> Versioned for Vec<T> {
    fn patch(&mut self, version: Microversion) {
        for item in self {
            item.patch(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_strictly() {
        assert_eq!("2.100".parse::<Microversion>().unwrap(), Microversion::new(2, 100));
        for bad in ["2", "2.", ".1", "2.01", "+2.1", "2.-1", "2.1.0", "latest", "2.70000", ""] {
            assert!(bad.parse::<Microversion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_holds_both_ends() {
        let range = VersionRange { min: Microversion::new(2, 10), max: Microversion::new(2, 35) };
        assert!(range.contains(Microversion::new(2, 10)) && range.contains(Microversion::new(2, 35)));
        assert!(!range.contains(Microversion::new(2, 9)) && !range.contains(Microversion::new(2, 36)));
    }
}
