use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use umbel_core::Error;

/// What may not stand bare in a part of a location: the separators, and what a URL reserves.
const PART: &AsciiSet =
    &CONTROLS.add(b' ').add(b'/').add(b'%').add(b'?').add(b'#').add(b'@').add(b'"').add(b'<').add(b'>');

/// A snapshot of a disk, anywhere: `rbd://<fsid>/<pool>/<image>/<snap>`, or the same shape with the scheme `local` and
/// the local store's id for the fsid.
///
/// The form for RBD is the one that image services write and compute services read, so that existing clusters and
/// tools can be mixed with ours: exactly four non-empty, URL-quoted parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub scheme: String,
    /// Ceph's fsid, or a local store's id.
    pub cluster: String,
    pub pool: String,
    pub disk: String,
    pub snapshot: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:/", self.scheme)?;
        for part in [&self.cluster, &self.pool, &self.disk, &self.snapshot] {
            write!(f, "/{}", utf8_percent_encode(part, PART))?;
        }
        Ok(())
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::bad_request(format!("'{text}' is not a location of a disk's snapshot."));
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let parts = rest
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8().map(|part| part.into_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad())?;
        let [cluster, pool, disk, snapshot] = <[String; 4]>::try_from(parts).map_err(|_| bad())?;
        if scheme.is_empty() || [&cluster, &pool, &disk, &snapshot].iter().any(|part| part.is_empty()) {
            return Err(bad());
        }
        Ok(Location { scheme: scheme.to_owned(), cluster, pool, disk, snapshot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let location = Location {
            scheme: "rbd".into(),
            cluster: "0f".into(),
            pool: "a pool/with".into(),
            disk: "50%@x".into(),
            snapshot: "snap".into(),
        };
        assert_eq!(location.to_string(), "rbd://0f/a%20pool%2Fwith/50%25%40x/snap");
        assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
    }

    #[test]
    fn other_shapes_are_refused() {
        for bad in ["rbd://image", "rbd://a/b/c", "rbd://a/b//d", "rbd://a/b/c/d/e", "://a/b/c/d", "a/b/c/d"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
