//! What attributes may look like. 400 with the attribute's name, as clients know the text.

use umbel_api::identity::Extra;
use umbel_core::{Error, Kind, Result};

pub(crate) fn not_found(what: &str, id: &str) -> Error {
    Error::not_found(format!("Could not find {what}: {id}."))
}

pub(crate) fn missing(attribute: &str, target: &str) -> Error {
    Error::bad_request(format!("Invalid input for field/attribute {target}. '{attribute}' is a required property"))
}

pub(crate) fn invalid(attribute: &str, why: &str) -> Error {
    Error::bad_request(format!("Invalid input for field/attribute {attribute}. {why}"))
}

/// Required, not blank, and at most `max` characters.
pub(crate) fn name(value: Option<String>, target: &str, max: usize) -> Result<String> {
    let value = value.ok_or_else(|| missing("name", target))?;
    checked_name(value, "name", max)
}

/// Not blank, and at most `max` characters.
pub(crate) fn checked_name(value: String, attribute: &str, max: usize) -> Result<String> {
    match value.chars().count() {
        _ if value.trim().is_empty() => Err(invalid(attribute, "The value should be non-empty")),
        length if length > max => Err(invalid(attribute, &format!("The value is longer than {max} characters"))),
        _ => Ok(value),
    }
}

/// An id that a client chose for an object of ours.
pub(crate) fn id(value: &str, attribute: &str, max: usize) -> Result<()> {
    let fits = !value.is_empty() && value.chars().count() <= max && !value.contains(['/', '\0']);
    match fits {
        true => Ok(()),
        false => Err(invalid(attribute, &format!("An id has 1 to {max} characters, none of them a slash"))),
    }
}

/// An update may repeat the id, not change it.
pub(crate) fn same_id(given: Option<&str>, id: &str) -> Result<()> {
    match given {
        Some(given) if given != id => Err(Error::bad_request("Cannot change ID")),
        _ => Ok(()),
    }
}

/// Nor the domain.
pub(crate) fn same_domain(given: Option<&str>, domain_id: &str) -> Result<()> {
    match given {
        Some(given) if given != domain_id => Err(Error::bad_request("Cannot change Domain ID")),
        _ => Ok(()),
    }
}

/// Attributes of the reply itself cannot be made up by a client.
pub(crate) fn extra(mut given: Extra, reserved: &[&str]) -> Extra {
    given.retain(|name, _| name != "links" && !reserved.contains(&name.as_str()));
    given
}

/// An update's further attributes over those that stand.
pub(crate) fn merge(into: &mut Extra, changes: Extra) {
    into.extend(changes);
}

/// An option set to null is taken away.
pub(crate) fn merge_options(into: &mut Extra, changes: Extra) {
    for (name, value) in changes {
        match value.is_null() {
            true => into.remove(&name),
            false => into.insert(name, value),
        };
    }
}

/// Options whose value is of no use are refused where they are set, rather than ignored where they should protect.
pub(crate) fn options(given: &Extra) -> Result<()> {
    match given.get("immutable") {
        None | Some(serde_json::Value::Null | serde_json::Value::Bool(_)) => Ok(()),
        Some(_) => Err(invalid("immutable", "The value is not of type 'boolean'")),
    }
}

pub(crate) fn is_immutable(options: &Extra) -> bool {
    options.get("immutable") == Some(&serde_json::Value::Bool(true))
}

/// What is immutable changes only by an update that says it no longer is, and does nothing else.
pub(crate) fn mutable(what: &str, id: &str, options: &Extra) -> Result<()> {
    match is_immutable(options) {
        true => Err(Error::forbidden(format!(
            "Unable to modify immutable {what} resource: `{id}`. Set resource option 'immutable' to false first."
        ))),
        false => Ok(()),
    }
}

/// A taken name, told with the name.
pub(crate) fn taken(error: Error, what: &str, name: &str) -> Error {
    if !error.is(Kind::Conflict) {
        return error;
    }
    let cause = error.for_log();
    Error::conflict(format!("Conflict occurred attempting to store {what} - Duplicate entry found with name {name}."))
        .because(cause)
}

pub(crate) fn tags(tags: &[String]) -> Result<()> {
    const MAX: usize = 80;
    if tags.len() > MAX {
        return Err(invalid("tags", &format!("There are more than {MAX} tags")));
    }
    for tag in tags {
        let length = tag.chars().count();
        if !(1..=255).contains(&length) || tag.contains(['/', ',']) {
            return Err(invalid("tags", "A tag has 1 to 255 characters, none of them a slash or comma"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let check = |value: &str, fits: bool| {
            assert_eq!(checked_name(value.to_owned(), "name", 5).is_ok(), fits, "{value:?}");
        };
        check("abc", true);
        check("äöüßé", true);
        check("abcdef", false);
        check("", false);
        check("  ", false);
        check(" a ", true);
    }

    #[test]
    fn tags_are_checked() {
        let check = |tag: &str, fits: bool| assert_eq!(tags(&[tag.to_owned()]).is_ok(), fits, "{tag}");
        check("blue", true);
        check("two words", true);
        check("", false);
        check("a/b", false);
        check("a,b", false);
        check(&"x".repeat(256), false);
    }
}
