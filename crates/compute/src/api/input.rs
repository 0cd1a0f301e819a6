//! Values as clients have always sent them: numbers as texts, truth in eight spellings. The messages are shaped like
//! upstream's, which name the field and the value.

use serde_json::Value;
use umbel_auth::authorize;
use umbel_core::{Ctx, Error, Result};
use umbel_http::Req;

pub(super) fn invalid(field: &str, value: impl std::fmt::Display, why: &str) -> Error {
    Error::bad_request(format!("Invalid input for field/attribute {field}. Value: {value}. {why}"))
}

/// A member that this version does not have.
pub(super) fn unexpected(field: &str) -> Error {
    Error::bad_request(format!("Additional properties are not allowed ('{field}' was unexpected)"))
}

/// A whole number of at least `min`, as a number or as its text.
pub(super) fn integer(field: &str, value: &Value, min: i64) -> Result<i64> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if number < min => {
            Err(invalid(field, value, &format!("{number} is less than the minimum of {min}")))
        }
        // What databases of 32 bits take, upstream's limit.
        Some(number) if number > i64::from(i32::MAX) => {
            Err(invalid(field, value, &format!("{number} is greater than the maximum of {}", i32::MAX)))
        }
        Some(number) => Ok(number),
        None => Err(invalid(field, value, &format!("{value} is not of type 'integer'"))),
    }
}

pub(super) fn unsigned(field: &str, value: &Value, min: i64) -> Result<u64> {
    integer(field, value, min.max(0)).map(i64::unsigned_abs)
}

pub(super) fn boolean(field: &str, value: &Value) -> Result<bool> {
    let known = match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) => truth(text),
        _ => None,
    };
    known.ok_or_else(|| invalid(field, value, &format!("{value} is not a boolean")))
}

pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// A name: printable, not empty, without blanks at its ends, at most 255 characters.
pub(super) fn name(field: &str, text: &str) -> Result<()> {
    let length = text.chars().count();
    match length {
        0 => return Err(invalid(field, text, "'' is too short")),
        256.. => return Err(invalid(field, text, "It is too long")),
        _ => {}
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(invalid(field, text, "Leading or trailing whitespace and unprintable characters are not allowed"));
    }
    Ok(())
}

/// A text of a server or flavor that anybody may read.
pub(super) fn description(text: &str) -> Result<()> {
    if text.chars().count() > 255 || text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)) {
        return Err(invalid("description", text, "It is too long or has unprintable characters"));
    }
    Ok(())
}

/// A policy beyond that of the route.
pub(super) fn need_admin(ctx: &Ctx, policy: &str) -> Result<()> {
    authorize(umbel_api::Rule::Admin, policy, ctx)
}

/// The last value of a parameter of the query.
pub(super) fn parameter(pairs: &[(String, String)], name: &str) -> Option<String> {
    pairs.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// The id of the server in the path.
pub(super) fn server_id(req: &Req) -> Result<crate::model::ServerId> {
    req.id("server_id", "Instance")
}

/// Metadata as servers have it.
pub(super) fn metadata_item(name: &str, value: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:. ".contains(c);
    if name.is_empty() || name.len() > 255 || !name.chars().all(allowed) {
        return Err(Error::bad_request(format!(
            "Invalid input for field/attribute metadata. '{name}' does not match '^[a-zA-Z0-9-_:. ]{{1,255}}$'"
        )));
    }
    if value.chars().count() > 255 {
        return Err(invalid(name, value, "It is too long"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_come_as_texts_too() {
        let check = |value: Value, min: i64, want: Option<i64>| {
            assert_eq!(integer("ram", &value, min).ok(), want, "{value}");
        };
        check(json!(5), 1, Some(5));
        check(json!("5"), 1, Some(5));
        check(json!(0), 1, None);
        check(json!(-1), -1, Some(-1));
        check(json!(1.5), 0, None);
        check(json!("x"), 0, None);
        check(json!(3_000_000_000_i64), 0, None);
        check(json!(null), 0, None);
    }

    #[test]
    fn truth_has_many_spellings() {
        for good in [json!(true), json!("True"), json!("1"), json!(1), json!("yes")] {
            assert!(boolean("x", &good).unwrap(), "{good}");
        }
        for bad in [json!(2), json!("maybe"), json!(null), json!([])] {
            assert!(boolean("x", &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_have_limits() {
        for good in ["a", "a b", "名前", &"x".repeat(255)] {
            assert!(name("name", good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "\u{7}", &"x".repeat(256)] {
            assert!(name("name", bad).is_err(), "{bad}");
        }
    }
}
