//! Reading what clients write in several ways.

use serde_json::Value;
use umbel_core::{Error, Id, Result};

/// An id in a body or a query; 400 for what is none.
pub(super) fn uuid<T>(name: &str, text: &str) -> Result<Id<T>> {
    text.parse().map_err(|_| Error::bad_request(format!("Invalid input for field/attribute {name}. Value: {text}.")))
}

/// A boolean in any of its spellings; 400 for what is none.
pub(super) fn flag(name: &str, value: &Value) -> Result<bool> {
    let bad = || Error::bad_request(format!("Invalid input for field/attribute {name}. Value: {value}."));
    umbel_api::volume::moves::flag(value).ok_or_else(bad)
}

/// As [`flag`], and false where nothing is said.
pub(super) fn flag_or_false(name: &str, value: Option<&Value>) -> Result<bool> {
    value.map_or(Ok(false), |value| flag(name, value))
}
