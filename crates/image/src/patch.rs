//! Changes to an image as JSON patches. Two drafts are in use: 2.1 (`{"op": "add", "path": "/name", "value": …}`),
//! and 2.0 (`{"add": "/name", "value": …}`), which some clients still send. Only whole attributes change.

use serde_json::{Map, Value};
use umbel_api::image::Visibility;
use umbel_core::{Error, Result};

use crate::fields;
use crate::model::Meta;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    V20,
    V21,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    /// `add` in draft 2.0, where the attribute must not be there yet.
    AddNew,
    Replace,
    Remove,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Attribute(Attribute),
    Locations(LocationsChange),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    operation: Operation,
    name: String,
    value: Value,
}

/// A change to the list of an image's locations, the one attribute whose parts can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationsChange {
    /// Before the one at this place, or behind all.
    Add(Option<usize>, Value),
    Replace(Value),
    Remove(usize),
}

/// What the one who patches may do.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    pub admin: bool,
    /// The formats change only until there are data.
    pub formats: bool,
}

impl Draft {
    pub const MEDIA_TYPES: [(&'static str, Draft); 2] = [
        ("application/openstack-images-v2.0-json-patch", Draft::V20),
        ("application/openstack-images-v2.1-json-patch", Draft::V21),
    ];

    pub fn of(media_type: &str) -> Option<Draft> {
        Self::MEDIA_TYPES.into_iter().find(|(name, _)| *name == media_type).map(|(_, draft)| draft)
    }
}

pub fn parse(draft: Draft, body: &[u8]) -> Result<Vec<Change>> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Error::bad_request(format!("Malformed request body: {error}.")))?;
    let Value::Array(items) = body else {
        return Err(Error::bad_request("Request body must be a JSON array of operation objects."));
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::Object(members) => change(draft, members),
            _ => Err(Error::bad_request("Operations must be JSON objects.")),
        })
        .collect()
}

fn change(draft: Draft, mut members: Map<String, Value>) -> Result<Change> {
    let (operation, path) = match draft {
        Draft::V20 => old_head(&members)?,
        Draft::V21 => new_head(&members)?,
    };
    let part = path.strip_prefix("/locations").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let name = match part {
        Some(_) => "locations".to_owned(),
        None => attribute(&path)?,
    };
    if part.is_none() {
        fields::check_writable(&name)?;
    }
    let value = match operation {
        Operation::Remove => Value::Null,
        _ => members
            .remove("value")
            .ok_or_else(|| Error::bad_request("The operation requires a member named \"value\"."))?,
    };
    match part {
        Some(part) => locations_change(operation, part, value).map(Change::Locations),
        None => Ok(Change::Attribute(Attribute { operation, name, value })),
    }
}

fn locations_change(operation: Operation, part: &str, value: Value) -> Result<LocationsChange> {
    let at = part.strip_prefix('/').map(|at| match at {
        "-" => Ok(None),
        at => at
            .parse()
            .map(Some)
            .map_err(|_| Error::bad_request(format!("Invalid JSON pointer for this resource: '/locations/{at}'."))),
    });
    match (operation, at.transpose()?) {
        (Operation::Add | Operation::AddNew, Some(at)) => Ok(LocationsChange::Add(at, value)),
        (Operation::Replace, None) => Ok(LocationsChange::Replace(value)),
        (Operation::Remove, Some(Some(at))) => Ok(LocationsChange::Remove(at)),
        _ => Err(Error::bad_request("Locations are added and removed one by one, and replaced all at once.")),
    }
}

fn new_head(members: &Map<String, Value>) -> Result<(Operation, String)> {
    let text = |name: &str| {
        members
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| Error::bad_request(format!("Unable to find '{name}' in JSON Schema change.")))
    };
    let operation = match text("op")? {
        "add" => Operation::Add,
        "replace" => Operation::Replace,
        "remove" => Operation::Remove,
        other => {
            let message =
                format!("Invalid operation: `{other}`. It must be one of the following: add, remove, replace.");
            return Err(Error::bad_request(message));
        }
    };
    Ok((operation, text("path")?.to_owned()))
}

fn old_head(members: &Map<String, Value>) -> Result<(Operation, String)> {
    let known = [("add", Operation::AddNew), ("replace", Operation::Replace), ("remove", Operation::Remove)];
    let mut found = known.into_iter().filter_map(|(name, operation)| Some((operation, members.get(name)?)));
    match (found.next(), found.next()) {
        (Some((operation, Value::String(path))), None) => Ok((operation, path.clone())),
        _ => Err(Error::bad_request(
            "Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\".",
        )),
    }
}

/// The attribute that a JSON pointer (RFC 6901) names; deeper pointers are refused.
fn attribute(path: &str) -> Result<String> {
    let bad = || Error::bad_request(format!("Invalid JSON pointer for this resource: '{path}'."));
    let name = path.strip_prefix('/').ok_or_else(bad)?;
    if name.contains('/') || name.trim().is_empty() {
        return Err(bad());
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '~' => match rest.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(bad()),
            },
            _ => c,
        });
    }
    Ok(out)
}

/// All changes in order, or the first that cannot be made; then `meta` is of no more use.
pub fn apply(meta: &mut Meta, changes: Vec<Change>, rights: Rights) -> Result<()> {
    changes.into_iter().try_for_each(|change| apply_one(meta, change, rights))
}

fn apply_one(meta: &mut Meta, change: Change, rights: Rights) -> Result<()> {
    let Change::Attribute(Attribute { operation, name, value }) = change else {
        return Err(Error::forbidden("It's not allowed to change locations if locations are invisible."));
    };
    let base = fields::is_base(&name);
    let there = base || meta.properties.contains_key(&name);
    match operation {
        Operation::Remove if base => {
            return Err(Error::forbidden(format!("Property {name} may not be removed.")));
        }
        Operation::Remove | Operation::Replace if !there => {
            return Err(Error::conflict(format!("Property {name} does not exist.")));
        }
        Operation::Remove => {
            meta.properties.remove(&name);
            return Ok(());
        }
        Operation::AddNew if there => {
            return Err(Error::conflict(format!("Property {name} already present.")));
        }
        _ => {}
    }
    let before = meta.clone();
    fields::set(meta, &name, value)?;
    check_rights(&before, meta, rights)
}

/// What only some may change, and some things only at some times. Writing what is there already is no change.
fn check_rights(before: &Meta, after: &Meta, rights: Rights) -> Result<()> {
    if before.owner != after.owner && !rights.admin {
        return Err(Error::forbidden("Owner can't be updated by non admin."));
    }
    check_visibility(before.visibility, after, rights.admin)?;
    if rights.formats {
        return Ok(());
    }
    if before.container_format != after.container_format {
        return Err(Error::forbidden("Attribute container_format can be only replaced for a queued image."));
    }
    if before.disk_format != after.disk_format {
        return Err(Error::forbidden("Attribute disk_format can be only replaced for a queued image."));
    }
    Ok(())
}

/// Everyone's lists are an administrator's matter.
pub fn check_visibility(before: Visibility, after: &Meta, admin: bool) -> Result<()> {
    match after.visibility == Visibility::Public && before != Visibility::Public && !admin {
        true => Err(Error::forbidden("You are not authorized to publicize an image.")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use umbel_api::image::DiskFormat;
    use umbel_core::Kind;

    use super::*;

    const OWNER: Rights = Rights { admin: false, formats: true };

    fn run(draft: Draft, rights: Rights, body: Value) -> Result<Meta> {
        let mut meta = Meta::new(Some("p".into()));
        meta.name = Some("old".into());
        meta.properties.insert("os_distro".into(), Some("debian".into()));
        apply(&mut meta, parse(draft, body.to_string().as_bytes())?, rights)?;
        Ok(meta)
    }

    #[test]
    fn changes_are_made() {
        let body = json!([
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "add", "path": "/tags", "value": ["a", "b"]},
            {"op": "add", "path": "/a~1b~0c", "value": "x"},
            {"op": "add", "path": "/os_distro", "value": "fedora"},
            {"op": "add", "path": "/disk_format", "value": "qcow2"},
            {"op": "add", "path": "/gone", "value": "x"},
            {"op": "remove", "path": "/gone"},
        ]);
        let meta = run(Draft::V21, OWNER, body).unwrap();
        assert_eq!(meta.name.as_deref(), Some("new"));
        assert_eq!(meta.tags.len(), 2);
        assert_eq!(meta.properties.get("a/b~c"), Some(&Some("x".to_owned())));
        assert_eq!(meta.properties.get("os_distro"), Some(&Some("fedora".to_owned())));
        assert!(!meta.properties.contains_key("gone"));
        assert_eq!(meta.disk_format, Some(DiskFormat::Qcow2));
        let old = json!([{"replace": "/name", "value": "new"}, {"add": "/x", "value": "y"}, {"remove": "/os_distro"}]);
        let meta = run(Draft::V20, OWNER, old).unwrap();
        assert_eq!((meta.name.as_deref(), meta.properties.len()), (Some("new"), 1));
    }

    #[test]
    fn bad_changes_are_refused() {
        let check = |draft: Draft, rights: Rights, body: Value, want: Kind| {
            let got = run(draft, rights, body.clone()).map_err(|error| error.kind());
            assert_eq!(got.err(), Some(want), "{body}");
        };
        let new = |op: &str, path: &str, value: Value, want: Kind| {
            check(Draft::V21, OWNER, json!([{"op": op, "path": path, "value": value}]), want);
        };
        check(Draft::V21, OWNER, json!({"op": "add"}), Kind::BadRequest);
        check(Draft::V21, OWNER, json!(["add"]), Kind::BadRequest);
        check(Draft::V21, OWNER, json!([{"path": "/name"}]), Kind::BadRequest);
        check(Draft::V21, OWNER, json!([{"op": "add"}]), Kind::BadRequest);
        check(Draft::V21, OWNER, json!([{"op": "add", "path": "/name"}]), Kind::BadRequest);
        check(Draft::V21, OWNER, json!([{"replace": "/name", "value": "x"}]), Kind::BadRequest);
        check(Draft::V20, OWNER, json!([{"add": "/a", "remove": "/a", "value": "x"}]), Kind::BadRequest);
        check(Draft::V20, OWNER, json!([{"value": "x"}]), Kind::BadRequest);
        check(Draft::V20, OWNER, json!([{"add": "/name", "value": "x"}]), Kind::Conflict);
        check(Draft::V20, OWNER, json!([{"add": "/os_distro", "value": "x"}]), Kind::Conflict);
        new("move", "/name", json!("x"), Kind::BadRequest);
        for path in ["name", "", "/", "//", "/tags/0", "/name/", "/a~2", "/a~"] {
            new("add", path, json!("x"), Kind::BadRequest);
        }
        for path in ["/id", "/status", "/size", "/os_hash_value", "/locations", "/os_glance_x", "/deleted", "/stores"] {
            new("replace", path, json!("x"), Kind::Forbidden);
        }
        new("remove", "/name", json!(null), Kind::Forbidden);
        new("remove", "/missing", json!(null), Kind::Conflict);
        new("replace", "/missing", json!("x"), Kind::Conflict);
        new("add", "/min_disk", json!("x"), Kind::BadRequest);
        new("add", "/owner", json!("other"), Kind::Forbidden);
        new("add", "/visibility", json!("public"), Kind::Forbidden);
    }

    #[test]
    fn rights_are_asked_for_changes_only() {
        let set = |rights: Rights, name: &str, value: &str| {
            run(Draft::V21, rights, json!([{"op": "replace", "path": format!("/{name}"), "value": value}]))
        };
        let admin = Rights { admin: true, formats: false };
        let late = Rights { admin: false, formats: false };
        assert_eq!(set(admin, "visibility", "public").unwrap().visibility, Visibility::Public);
        assert_eq!(set(admin, "owner", "q").unwrap().owner.as_deref(), Some("q"));
        assert!(set(late, "owner", "p").is_ok());
        assert!(set(late, "visibility", "community").is_ok());
        assert_eq!(set(late, "disk_format", "raw").unwrap_err().kind(), Kind::Forbidden);
        assert_eq!(set(admin, "container_format", "bare").unwrap_err().kind(), Kind::Forbidden);
    }
}
