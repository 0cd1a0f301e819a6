//! What a list request asks for, read from its query. Pure.

use umbel_api::Microversion;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Value};

use crate::store::pages::Page;
use crate::store::volumes::Condition;

/// Which columns a kind of thing is listed by.
pub(crate) struct Columns {
    /// `(name in the query, column)`: what clients filter by with texts.
    pub texts: &'static [(&'static str, &'static str)],
    /// `(name in the query, column or expression without nulls)`.
    pub sorts: &'static [(&'static str, &'static str)],
    pub maps: &'static [&'static str],
}

pub(crate) const VOLUMES: Columns = Columns {
    texts: &[
        ("id", "id"),
        ("name", "name"),
        ("display_name", "name"),
        ("description", "description"),
        ("status", "status"),
        ("migration_status", "migration_status"),
        ("availability_zone", "availability_zone"),
        ("project_id", "project_id"),
        ("user_id", "user_id"),
        ("group_id", "group_id"),
        ("volume_type_id", "volume_type_id"),
        ("snapshot_id", "snapshot_id"),
        ("source_volid", "source_volid"),
        ("host", "backend"),
    ],
    sorts: &[
        ("id", "id"),
        ("name", "COALESCE(name, '')"),
        ("display_name", "COALESCE(name, '')"),
        ("status", "status"),
        ("size", "size_gib"),
        ("availability_zone", "availability_zone"),
        ("bootable", "bootable"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("project_id", "project_id"),
        ("volume_type_id", "COALESCE(volume_type_id, '')"),
        ("host", "COALESCE(backend, '')"),
    ],
    maps: &["metadata", "glance_metadata"],
};

pub(crate) const SNAPSHOTS: Columns = Columns {
    texts: &[
        ("id", "id"),
        ("name", "name"),
        ("display_name", "name"),
        ("description", "description"),
        ("status", "status"),
        ("volume_id", "volume_id"),
        ("project_id", "project_id"),
        ("user_id", "user_id"),
        ("group_snapshot_id", "group_snapshot_id"),
        ("volume_type_id", "volume_type_id"),
    ],
    sorts: &[
        ("id", "id"),
        ("name", "COALESCE(name, '')"),
        ("display_name", "COALESCE(name, '')"),
        ("status", "status"),
        ("size", "size_gib"),
        ("volume_id", "volume_id"),
        ("created_at", "created_at"),
        ("updated_at", "updated_at"),
        ("project_id", "project_id"),
    ],
    maps: &["metadata"],
};

pub(crate) const BACKUPS: Columns = Columns {
    texts: &[
        ("id", "id"),
        ("name", "name"),
        ("status", "status"),
        ("volume_id", "volume_id"),
        ("snapshot_id", "snapshot_id"),
        ("parent_id", "parent_id"),
        ("container", "container"),
        ("project_id", "project_id"),
        ("user_id", "user_id"),
    ],
    sorts: &[
        ("id", "id"),
        ("name", "COALESCE(name, '')"),
        ("display_name", "COALESCE(name, '')"),
        ("status", "status"),
        ("size", "size_gib"),
        ("volume_id", "volume_id"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        ("project_id", "project_id"),
    ],
    maps: &[],
};

pub(crate) const GROUPS: Columns = Columns {
    texts: &[
        ("id", "id"),
        ("name", "name"),
        ("status", "status"),
        ("group_type_id", "group_type_id"),
        ("project_id", "project_id"),
        ("user_id", "user_id"),
    ],
    sorts: &[
        ("id", "id"),
        ("name", "COALESCE(name, '')"),
        ("status", "status"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        ("project_id", "project_id"),
    ],
    maps: &[],
};

pub(crate) const GROUP_SNAPSHOTS: Columns = Columns {
    texts: &[
        ("id", "id"),
        ("name", "name"),
        ("status", "status"),
        ("group_id", "group_id"),
        ("group_type_id", "group_type_id"),
        ("project_id", "project_id"),
        ("user_id", "user_id"),
    ],
    sorts: &[
        ("id", "id"),
        ("name", "COALESCE(name, '')"),
        ("status", "status"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        ("project_id", "project_id"),
    ],
    maps: &[],
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub conditions: Vec<Condition>,
    /// `(name of the map, item, value)`.
    pub items: Vec<(&'static str, String, String)>,
    pub order: Vec<(&'static str, Direction)>,
    pub marker: Option<String>,
    pub offset: usize,
    pub limit: usize,
    pub all_tenants: bool,
    pub with_count: bool,
}

impl Listing {
    /// For the stores that page by themselves.
    pub fn page(&self) -> Page {
        let Listing { conditions, order, marker, offset, limit, .. } = self.clone();
        Page { conditions, order, marker, offset, limit }
    }
}

/// `admin`: may ask for all projects', and by anything.
pub(crate) fn parse(
    query: &[(String, String)],
    columns: &Columns,
    version: Microversion,
    admin: bool,
    max_page: usize,
) -> Result<Listing> {
    let mut listing = Listing { limit: max_page, ..Listing::default() };
    let (mut keys, mut directions) = (Vec::new(), Vec::new());
    for (name, value) in query {
        match name.as_str() {
            "limit" => listing.limit = number("limit", value)?.min(max_page),
            "offset" => listing.offset = number("offset", value)?,
            "marker" if !value.is_empty() => listing.marker = Some(value.clone()),
            "all_tenants" => listing.all_tenants = admin && (value.is_empty() || truth(value)?),
            "with_count" if version.at_least(3, 45) => listing.with_count = truth(value)?,
            "sort" => {
                for part in value.split(',').filter(|part| !part.trim().is_empty()) {
                    let (key, direction) = part.split_once(':').unwrap_or((part, "desc"));
                    keys.push(key.trim().to_owned());
                    directions.push(direction.trim().to_owned());
                }
            }
            "sort_key" => keys.extend(value.split(',').map(str::to_owned)),
            "sort_dir" => directions.extend(value.split(',').map(str::to_owned)),
            _ => filter(&mut listing, columns, name, value, version, admin)?,
        }
    }
    listing.order = order(columns, &keys, &directions)?;
    Ok(listing)
}

fn filter(
    listing: &mut Listing,
    columns: &Columns,
    name: &str,
    value: &str,
    version: Microversion,
    admin: bool,
) -> Result<()> {
    let (bare, like) = match name.strip_suffix('~') {
        Some(bare) if version.at_least(3, 34) => (bare, true),
        _ => (name, false),
    };
    if let Some(map) = columns.maps.iter().find(|map| **map == bare) {
        listing.items.extend(dictionary(value)?.into_iter().map(|(name, value)| (*map, name, value)));
        return Ok(());
    }
    match bare {
        "bootable" if columns.maps.len() > 1 => {
            listing.conditions.push(Condition::Is("bootable", Value::from(truth(value)?)))
        }
        "multiattach" | "encrypted" if columns.maps.len() > 1 => {
            let column = if bare == "encrypted" { "encrypted" } else { "multiattach" };
            listing.conditions.push(Condition::Is(column, Value::from(truth(value)?)));
        }
        "size" | "volume_size" if columns.sorts.iter().any(|(name, _)| *name == "size") => {
            listing.conditions.push(Condition::Is("size_gib", Value::from(number("size", value)?)));
        }
        "consumes_quota" if version.at_least(3, 65) && !columns.maps.is_empty() => {
            listing.conditions.push(Condition::Is("use_quota", Value::from(truth(value)?)));
        }
        "created_at" | "updated_at" if version.at_least(3, 60) => {
            let column = if bare == "created_at" { "created_at" } else { "updated_at" };
            times(listing, column, value)?;
        }
        _ => {
            let Some((_, column)) = columns.texts.iter().find(|(known, _)| *known == bare) else {
                return unknown(name, version, admin);
            };
            if *column == "backend" {
                if admin {
                    let backend = value.split(['@', '#']).nth(1).unwrap_or(value);
                    listing.conditions.push(Condition::Is(column, Value::from(backend)));
                }
            } else if matches!(*column, "project_id" | "user_id") && !admin {
                // Whoever may not look elsewhere finds only their own anyway.
            } else if like {
                listing.conditions.push(Condition::Like(column, value.to_owned()));
            } else if value.is_empty() && !matches!(*column, "name" | "description") {
                listing.conditions.push(Condition::Null(column));
            } else {
                listing.conditions.push(Condition::Is(column, Value::from(value)));
            }
        }
    }
    Ok(())
}

/// Upstream refuses users' unknown filters since they can be configured; administrators' find nothing there, and are
/// passed over here.
fn unknown(name: &str, version: Microversion, admin: bool) -> Result<()> {
    match !admin && version.at_least(3, 31) {
        true => Err(Error::bad_request(format!("Invalid filters {name} are found in query options."))),
        false => Ok(()),
    }
}

fn order(columns: &Columns, keys: &[String], directions: &[String]) -> Result<Vec<(&'static str, Direction)>> {
    let mut order: Vec<(&'static str, Direction)> = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let known = columns.sorts.iter().find(|(name, _)| name == key);
        let Some((_, column)) = known else {
            return Err(Error::bad_request(format!("Invalid input received: Invalid sort key '{key}'.")));
        };
        order.push((column, direction(directions.get(at).map_or("desc", String::as_str))?));
    }
    if order.is_empty() {
        order.push(("created_at", direction(directions.first().map_or("desc", String::as_str))?));
    }
    if !order.iter().any(|(column, _)| *column == "id") {
        order.push(("id", order[order.len() - 1].1));
    }
    Ok(order)
}

fn direction(text: &str) -> Result<Direction> {
    match text {
        "asc" => Ok(Direction::Asc),
        "desc" => Ok(Direction::Desc),
        _ => Err(Error::bad_request(format!(
            "Invalid input received: Unknown sort direction, must be 'desc' or 'asc': '{text}'."
        ))),
    }
}

fn number(name: &str, value: &str) -> Result<usize> {
    let most = i64::MAX as usize;
    let parsed: Option<usize> = value.parse().ok().filter(|number| *number <= most);
    parsed
        .ok_or_else(|| Error::bad_request(format!("Invalid input received: {name} must be an integer of at least 0.")))
}

fn truth(value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err(Error::bad_request(format!("Invalid input received: '{value}' is no boolean."))),
    }
}

/// `gt:2026-01-01,lt:2026-02-01`, or one moment.
fn times(listing: &mut Listing, column: &'static str, value: &str) -> Result<()> {
    for part in value.split(',').filter(|part| !part.is_empty()) {
        let (sign, moment) = ["gte", "gt", "lte", "lt", "eq", "neq"]
            .into_iter()
            .find_map(|sign| Some((sign, part.strip_prefix(sign)?.strip_prefix(':')?)))
            .unwrap_or(("eq", part));
        let from = Timestamp::parse(moment)?;
        let until = Timestamp::from_secs(from.as_secs().saturating_add(1));
        let second = Timestamp::from_secs(from.as_secs());
        let mut add = |sign, at: Timestamp| listing.conditions.push(Condition::Compare(column, sign, at.into()));
        match sign {
            "gt" => add(">", from),
            "gte" => add(">=", from),
            "lt" => add("<", from),
            "lte" => add("<=", from),
            "neq" => add("<>", from),
            _ => {
                add(">=", second);
                add("<", until);
            }
        }
    }
    Ok(())
}

/// A dictionary as Python writes it (`{'k': 'v', "l": u'w'}`), or as JSON.
pub(crate) fn dictionary(text: &str) -> Result<Vec<(String, String)>> {
    let bad = || Error::bad_request(format!("Invalid input received: '{text}' is no dictionary."));
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(bad)?;
    let mut items = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (name, after) = scalar(rest).ok_or_else(bad)?;
        let after = after.trim_start().strip_prefix(':').ok_or_else(bad)?;
        let (value, after) = scalar(after.trim_start()).ok_or_else(bad)?;
        items.push((name, value));
        rest = match after.trim_start() {
            "" => "",
            more => more.strip_prefix(',').ok_or_else(bad)?.trim_start(),
        };
    }
    Ok(items)
}

/// A quoted text, or a bare word or number; and what follows it.
fn scalar(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('u').filter(|rest| rest.starts_with(['\'', '"'])).unwrap_or(text);
    let quote = text.chars().next()?;
    if quote != '\'' && quote != '"' {
        let end = text.find([',', ':', '}']).unwrap_or(text.len());
        let word = text[..end].trim();
        return (!word.is_empty()).then(|| (word.to_owned(), &text[end..]));
    }
    let mut value = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            c if c == quote => return Some((value, &text[at + 2..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Microversion = Microversion::new(3, 71);

    fn parsed(query: &[(&str, &str)]) -> Result<Listing> {
        let query: Vec<_> = query.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        parse(&query, &VOLUMES, NEW, false, 1000)
    }

    #[test]
    fn dictionaries_are_read_as_python_and_json_write_them() {
        let check = |text: &str, want: &[(&str, &str)]| {
            let got = dictionary(text).unwrap();
            let got: Vec<(&str, &str)> = got.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(got, want, "{text}");
        };
        check("{}", &[]);
        check("{'a':'b'}", &[("a", "b")]);
        check("{u'a': u'b', \"c\": 'd:e, f'}", &[("a", "b"), ("c", "d:e, f")]);
        check("{'it\\'s': 1}", &[("it's", "1")]);
        for bad in ["", "a", "{'a'}", "{'a': }", "{'a': 'b'", "{'a': 'b"] {
            assert!(dictionary(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_end_with_the_id() {
        let order = |query: &[(&str, &str)]| parsed(query).unwrap().order;
        assert_eq!(order(&[]), [("created_at", Direction::Desc), ("id", Direction::Desc)]);
        let both = [("sort", "size:asc,name")];
        let want = [("size_gib", Direction::Asc), ("COALESCE(name, '')", Direction::Desc), ("id", Direction::Desc)];
        assert_eq!(order(&both), want);
        assert_eq!(order(&[("sort_key", "id"), ("sort_dir", "asc")]), [("id", Direction::Asc)]);
        assert!(parsed(&[("sort", "nothing")]).is_err() && parsed(&[("sort", "name:up")]).is_err());
    }

    #[test]
    fn users_filters_are_checked() {
        assert!(parsed(&[("colour", "red")]).is_err());
        assert!(parsed(&[("limit", "-1")]).is_err());
        assert_eq!(parsed(&[("limit", "5000")]).unwrap().limit, 1000);
        assert!(!parsed(&[("all_tenants", "1")]).unwrap().all_tenants);
        assert_eq!(parsed(&[("name~", "a"), ("bootable", "True")]).unwrap().conditions.len(), 2);
    }
}
