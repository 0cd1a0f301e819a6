//! Pages of lists that are short enough to be read whole: types, QoS specs, group types.

use std::cmp::Ordering;

use umbel_api::Link;
use umbel_core::{Error, Result};
use umbel_http::{Req, next_link};

/// By what a thing is sorted: its texts and numbers in one form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(i64),
    Text(String),
}

/// The page that the query asks for, and the link to the next.
///
/// `key` reads a member by its name, none for one that cannot be sorted by; every thing has an `id`. Without a word of
/// the client the newest come first.
pub(super) fn page<T>(
    req: &Req,
    path: &str,
    max: usize,
    mut all: Vec<T>,
    key: impl Fn(&T, &str) -> Option<Key>,
) -> Result<(Vec<T>, Vec<Link>)> {
    let query = req.query_pairs();
    let get = |name: &str| query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let number = |name: &str, default: usize| match get(name) {
        Some(text) => text.parse().map_err(|_| Error::bad_request(format!("{name} param must be an integer"))),
        None => Ok(default),
    };
    let (limit, offset) = (number("limit", max)?.min(max), number("offset", 0)?);
    let sorts = sorts(get("sort"), get("sort_key"), get("sort_dir"))?;
    if let Some(first) = all.first()
        && let Some((bad, _)) = sorts.iter().find(|(name, _)| key(first, name).is_none())
    {
        return Err(Error::bad_request(format!("Invalid input received: Sort key '{bad}' is not known.")));
    }
    all.sort_by(|one, other| {
        sorts.iter().fold(Ordering::Equal, |so_far, (name, descending)| {
            let order = key(one, name).cmp(&key(other, name));
            so_far.then(if *descending { order.reverse() } else { order })
        })
    });
    let start = match get("marker").filter(|marker| !marker.is_empty()) {
        None => 0,
        Some(marker) => {
            let wanted = Some(Key::Text(marker.to_owned()));
            let at = all.iter().position(|one| key(one, "id") == wanted);
            at.map(|at| at + 1).ok_or_else(|| Error::not_found(format!("Marker {marker} could not be found.")))?
        }
    };
    let page: Vec<T> = all.into_iter().skip(start + offset).take(limit).collect();
    // As upstream has it: behind a full page, whether anything comes there or not.
    let links = match (page.last().and_then(|last| key(last, "id")), page.len() >= limit) {
        (Some(Key::Text(id)), true) => vec![Link::new("next", next_link(req, &req.url(path), &id))],
        _ => Vec::new(),
    };
    Ok((page, links))
}

/// Names of members, and whether they descend.
fn sorts(sort: Option<&str>, keys: Option<&str>, directions: Option<&str>) -> Result<Vec<(String, bool)>> {
    let descends = |word: &str| match word {
        "" | "desc" => Ok(true),
        "asc" => Ok(false),
        other => Err(Error::bad_request(format!(
            "Invalid input received: Unknown sort direction {other}, must be 'desc' or 'asc'"
        ))),
    };
    let mut sorts = Vec::new();
    match (sort, keys) {
        (Some(sort), _) => {
            for part in sort.split(',').filter(|part| !part.trim().is_empty()) {
                let (name, direction) = part.split_once(':').unwrap_or((part, ""));
                sorts.push((name.trim().to_owned(), descends(direction.trim())?));
            }
        }
        (None, Some(name)) => sorts.push((name.to_owned(), descends(directions.unwrap_or_default())?)),
        (None, None) => sorts.push(("created_at".to_owned(), descends(directions.unwrap_or_default())?)),
    }
    let last = sorts.last().is_none_or(|(_, descending)| *descending);
    sorts.push(("id".to_owned(), last));
    Ok(sorts)
}

/// `is_public` of a list: none for both kinds. Who is no administrator has no choice.
pub(super) fn is_public(req: &Req, admin: bool) -> Result<Option<bool>> {
    let asked = req.query_pairs().into_iter().rev().find(|(name, _)| name == "is_public").map(|(_, value)| value);
    match asked.filter(|_| admin) {
        None => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("none") => Ok(None),
        Some(text) => super::input::flag("is_public", &text.into()).map(Some),
    }
}

/// A name of 1 to 255 characters.
pub(super) fn name(text: String) -> Result<String> {
    if text.trim().is_empty() {
        return Err(Error::bad_request("Invalid input received: The 'name' can not be empty."));
    }
    if text.chars().count() > 255 {
        return Err(Error::bad_request("Invalid input received: name has more than 255 characters."));
    }
    Ok(text)
}

/// Keys of letters, digits and `-_:.`, with `spaces` also blanks and slashes; values of at most 255 characters.
pub(super) fn specs<'a>(items: impl IntoIterator<Item = (&'a String, Option<&'a String>)>, spaces: bool) -> Result<()> {
    for (name, value) in items {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c) || (spaces && " /".contains(c));
        if name.is_empty() || name.len() > 255 || !name.chars().all(good) {
            return Err(Error::bad_request(format!(
                "Invalid input for field/attribute extra_specs. '{name}' is not a valid key."
            )));
        }
        if value.is_some_and(|value| value.chars().count() > 255) {
            return Err(Error::bad_request(format!(
                "Invalid input for field/attribute {name}. Its value has more than 255 characters."
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_has_three_spellings() {
        let check = |sort, key, direction, want: &[(&str, bool)]| {
            let got = sorts(sort, key, direction).unwrap();
            let got: Vec<(&str, bool)> = got.iter().map(|(name, descending)| (name.as_str(), *descending)).collect();
            assert_eq!(got, want);
        };
        check(None, None, None, &[("created_at", true), ("id", true)]);
        check(Some("name:asc"), None, None, &[("name", false), ("id", false)]);
        check(Some("name,id:asc"), None, None, &[("name", true), ("id", false), ("id", false)]);
        check(None, Some("name"), Some("asc"), &[("name", false), ("id", false)]);
        assert!(sorts(Some("name:up"), None, None).is_err());
    }

    #[test]
    fn keys_of_specs_are_narrow() {
        let value = "v".to_owned();
        let check = |name: &str, spaces| specs([(&name.to_owned(), Some(&value))], spaces).is_ok();
        assert!(check("capabilities:x-y_z.1", false));
        assert!(check("a b/c", true));
        for bad in ["", "a b", "ä"] {
            assert!(!check(bad, false), "{bad}");
        }
    }
}
