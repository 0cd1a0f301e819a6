use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Error, Rng};

/// The id of a `T`: a UUID that cannot be mistaken for the id of something else.
///
/// Written with hyphens, as compute, image and volume do; identity writes [`Id::simple`] (32 hex digits).
pub struct Id<T> {
    uuid: Uuid,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Id { uuid, of: PhantomData }
    }

    pub fn random(rng: &dyn Rng) -> Self {
        Self::from_uuid(rng.uuid())
    }

    pub fn uuid(self) -> Uuid {
        self.uuid
    }

    /// 32 hex digits without hyphens.
    pub fn simple(self) -> String {
        self.uuid.simple().to_string()
    }
}

/// Accepts both written forms, as upstream's services do.
impl<T> FromStr for Id<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 || text.len() == 32 => Ok(Self::from_uuid(uuid)),
            _ => Err(Error::bad_request(format!("'{text}' is not a UUID."))),
        }
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.uuid.hyphenated(), f)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.uuid.hyphenated().serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::from_uuid)
    }
}

/// A counter that grows with each change of a record. A write names the generation it read, and fails when another
/// write came first; an agent reports the generation it has reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl Generation {
    #[must_use]
    pub const fn next(self) -> Self {
        Generation(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_written_forms_parse() {
        let text = "6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d";
        let id: Id<()> = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.simple().parse::<Id<()>>().unwrap(), id);
        for bad in ["", "x", "{6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d}", "urn:uuid:6f1c3a52-9f0e-4b7e-8a53-0d8a1f2b3c4d"]
        {
            assert!(bad.parse::<Id<()>>().is_err(), "{bad}");
        }
    }
}
