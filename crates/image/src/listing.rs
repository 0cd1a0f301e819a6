//! What a list request asks for, taken from its query string.

use umbel_api::image::{MemberStatus, Visibility};
use umbel_core::{Error, Result, Timestamp};
use umbel_db::Direction;

use crate::Config;
use crate::model::ImageId;

/// A column by which lists are filtered or sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Id,
    Name,
    Owner,
    Status,
    ContainerFormat,
    DiskFormat,
    Checksum,
    Hash,
    Size,
    VirtualSize,
    MinDisk,
    MinRam,
    Protected,
    CreatedAt,
    UpdatedAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The column is one of these texts.
    Text(Column, Vec<String>),
    Number(Column, Compare, i64),
    Tag(String),
    Property(String, String),
}

/// Which visibilities are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All that the caller sees but other projects' community images.
    Usual,
    All,
    One(Visibility),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub filters: Vec<Filter>,
    pub visibility: Asked,
    /// Only images shared with the caller in this state; none is any.
    pub member_status: Option<MemberStatus>,
    pub hidden: bool,
    /// Ends with the id, so that the order is total.
    pub order: Vec<(Column, Direction)>,
    pub limit: usize,
    pub marker: Option<ImageId>,
}

const SORT_COLUMNS: [(&str, Column); 8] = [
    ("name", Column::Name),
    ("status", Column::Status),
    ("container_format", Column::ContainerFormat),
    ("disk_format", Column::DiskFormat),
    ("size", Column::Size),
    ("id", Column::Id),
    ("created_at", Column::CreatedAt),
    ("updated_at", Column::UpdatedAt),
];

impl Listing {
    /// 400 for what cannot be understood. A parameter of no known name is a custom property that must have this value.
    pub fn parse(pairs: &[(String, String)], config: &Config) -> Result<Listing> {
        let mut listing = Listing {
            filters: Vec::new(),
            visibility: Asked::Usual,
            member_status: Some(MemberStatus::Accepted),
            hidden: false,
            order: Vec::new(),
            limit: config.default_page.min(config.max_page),
            marker: None,
        };
        let mut sorting = Sorting::default();
        for (name, value) in pairs {
            let value = value.trim();
            match name.as_str() {
                "limit" => listing.limit = limit(value)?.min(config.max_page),
                "marker" => listing.marker = Some(value.parse().map_err(|_| bad_marker(value))?),
                "visibility" => listing.visibility = asked(value)?,
                "member_status" => {
                    listing.member_status = (value != "all").then(|| value.parse()).transpose()?;
                }
                "os_hidden" => listing.hidden = flag("os_hidden", value)?,
                "sort" => sorting.both = Some(value.to_owned()),
                "sort_key" => sorting.keys.push(value.to_owned()),
                "sort_dir" => sorting.directions.push(value.to_owned()),
                _ => listing.filters.push(filter(name, value)?),
            }
        }
        listing.order = sorting.order()?;
        Ok(listing)
    }
}

pub fn bad_marker(marker: &str) -> Error {
    Error::bad_request(format!("No image found with ID {marker}"))
}

fn filter(name: &str, value: &str) -> Result<Filter> {
    let text = |column| Ok(Filter::Text(column, vec![value.to_owned()]));
    let texts = |column| Ok(Filter::Text(column, one_of(value)?));
    let size = |column, compare| {
        let number = value.parse().map_err(|_| {
            Error::bad_request(format!("Unable to filter on '{name}' with the non-numeric value '{value}'."))
        })?;
        Ok(Filter::Number(column, compare, number))
    };
    match name {
        "id" => texts(Column::Id),
        "name" => texts(Column::Name),
        "status" => texts(Column::Status),
        "container_format" => texts(Column::ContainerFormat),
        "disk_format" => texts(Column::DiskFormat),
        "owner" => text(Column::Owner),
        "checksum" => text(Column::Checksum),
        "os_hash_value" => text(Column::Hash),
        "size" => size(Column::Size, Compare::Equal),
        "size_min" => size(Column::Size, Compare::GreaterOrEqual),
        "size_max" => size(Column::Size, Compare::LessOrEqual),
        "virtual_size" => size(Column::VirtualSize, Compare::Equal),
        "min_disk" => size(Column::MinDisk, Compare::Equal),
        "min_ram" => size(Column::MinRam, Compare::Equal),
        "protected" => Ok(Filter::Number(Column::Protected, Compare::Equal, flag(name, value)?.into())),
        "created_at" => moment(Column::CreatedAt, value),
        "updated_at" => moment(Column::UpdatedAt, value),
        "tag" => Ok(Filter::Tag(value.to_owned())),
        "changes-since" => Err(Error::bad_request("The \"changes-since\" filter is no longer available on v2.")),
        _ => Ok(Filter::Property(name.to_owned(), value.to_owned())),
    }
}

/// `in:a,"b,c",d`, or one value as it is.
fn one_of(value: &str) -> Result<Vec<String>> {
    let Some(list) = value.strip_prefix("in:") else {
        return Ok(vec![value.to_owned()]);
    };
    let bad = || Error::bad_request(format!("Invalid filter value {list}. The quote is not closed."));
    let (mut values, mut rest) = (Vec::new(), list);
    loop {
        rest = rest.trim_start();
        match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').ok_or_else(bad)?;
                values.push(quoted[..end].to_owned());
                rest = quoted[end + 1..].trim_start();
                match rest.strip_prefix(',') {
                    Some(next) => rest = next,
                    None if rest.is_empty() => return Ok(values),
                    None => return Err(bad()),
                }
            }
            None => {
                let (one, next) = rest.split_once(',').map_or((rest, None), |(one, next)| (one, Some(next)));
                if one.contains('"') {
                    return Err(bad());
                }
                values.push(one.trim_end().to_owned());
                match next {
                    Some(next) => rest = next,
                    None => return Ok(values),
                }
            }
        }
    }
}

/// `gt:2026-11-21T00:00:00Z`; without an operator it is equality.
///
/// Answers show whole seconds, so "equal" is "within that second", and the others are meant likewise.
fn moment(column: Column, value: &str) -> Result<Filter> {
    let operators = [
        ("gte:", Compare::GreaterOrEqual),
        ("gt:", Compare::Greater),
        ("lte:", Compare::LessOrEqual),
        ("lt:", Compare::Less),
        ("neq:", Compare::Unequal),
        ("eq:", Compare::Equal),
    ];
    let found = operators.iter().find_map(|(prefix, compare)| Some((*compare, value.strip_prefix(prefix)?)));
    let (compare, text) = found.unwrap_or((Compare::Equal, value));
    let moment = Timestamp::parse(text)?;
    Ok(Filter::Number(column, compare, moment.as_secs()))
}

fn asked(value: &str) -> Result<Asked> {
    match value {
        "all" => Ok(Asked::All),
        _ => Ok(Asked::One(value.parse()?)),
    }
}

/// Some clients write Python's `True`.
fn flag(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::bad_request(format!(
            "Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'."
        ))),
    }
}

fn limit(value: &str) -> Result<usize> {
    match value.parse::<i64>() {
        Ok(limit) => usize::try_from(limit).map_err(|_| Error::bad_request("limit param must be positive")),
        Err(_) => Err(Error::bad_request("limit param must be an integer")),
    }
}

/// Two ways to say the same: `sort=name:asc,size`, or `sort_key` and `sort_dir` as often as wanted.
#[derive(Default)]
struct Sorting {
    both: Option<String>,
    keys: Vec<String>,
    directions: Vec<String>,
}

impl Sorting {
    fn order(self) -> Result<Vec<(Column, Direction)>> {
        let mut order = match self.both {
            Some(_) if !self.keys.is_empty() || !self.directions.is_empty() => {
                return Err(Error::bad_request("Old and new sorting syntax cannot be combined"));
            }
            Some(both) => both
                .split(',')
                .map(|term| {
                    let (key, direction) = term.split_once(':').unwrap_or((term, "desc"));
                    Ok((column(key.trim())?, direction_of(direction.trim())?))
                })
                .collect::<Result<Vec<_>>>()?,
            None => self.classic()?,
        };
        let last = match order.as_slice() {
            [] => Direction::Desc,
            [.., (_, direction)] => *direction,
        };
        for column in [Column::CreatedAt, Column::Id] {
            if !order.iter().any(|(known, _)| *known == column) {
                order.push((column, last));
            }
        }
        // What stands behind the id orders nothing.
        let end = order.iter().position(|(column, _)| *column == Column::Id).map_or(order.len(), |at| at + 1);
        order.truncate(end);
        Ok(order)
    }

    fn classic(&self) -> Result<Vec<(Column, Direction)>> {
        let keys = match self.keys.is_empty() {
            true => vec![Column::CreatedAt],
            false => self.keys.iter().map(|key| column(key)).collect::<Result<Vec<_>>>()?,
        };
        let directions = self.directions.iter().map(|text| direction_of(text)).collect::<Result<Vec<_>>>()?;
        let directions = match directions.as_slice() {
            [] => vec![Direction::Desc; keys.len()],
            [one] => vec![*one; keys.len()],
            _ if directions.len() == keys.len() => directions,
            _ => return Err(Error::bad_request("Number of sort dirs does not match the number of sort keys")),
        };
        Ok(keys.into_iter().zip(directions).collect())
    }
}

fn column(key: &str) -> Result<Column> {
    SORT_COLUMNS.into_iter().find(|(name, _)| *name == key).map(|(_, column)| column).ok_or_else(|| {
        let names = SORT_COLUMNS.map(|(name, _)| name).join(", ");
        Error::bad_request(format!("Invalid sort key: {key}. It must be one of the following: {names}."))
    })
}

fn direction_of(text: &str) -> Result<Direction> {
    match text {
        "asc" => Ok(Direction::Asc),
        "desc" => Ok(Direction::Desc),
        _ => Err(Error::bad_request(format!("Invalid sort direction: {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use umbel_db::Direction::{Asc, Desc};

    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Listing> {
        let pairs: Vec<_> = query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Listing::parse(&pairs, &Config::default())
    }

    #[test]
    fn filters_are_understood() {
        let check = |name: &str, value: &str, want: Filter| {
            assert_eq!(parse(&[(name, value)]).unwrap().filters, [want], "{name}={value}");
        };
        let texts = |column, values: &[&str]| Filter::Text(column, values.iter().map(|v| v.to_string()).collect());
        check("name", "a", texts(Column::Name, &["a"]));
        check("name", "in:a,b", texts(Column::Name, &["a", "b"]));
        check("name", r#"in:"a, b",c , "d""#, texts(Column::Name, &["a, b", "c", "d"]));
        check("id", "in:x", texts(Column::Id, &["x"]));
        check("owner", "in:x", texts(Column::Owner, &["in:x"]));
        check("size_min", "5", Filter::Number(Column::Size, Compare::GreaterOrEqual, 5));
        check("protected", "True", Filter::Number(Column::Protected, Compare::Equal, 1));
        check("created_at", "lt:1970-01-01T00:01:00Z", Filter::Number(Column::CreatedAt, Compare::Less, 60));
        check("updated_at", "1970-01-01T00:01:00Z", Filter::Number(Column::UpdatedAt, Compare::Equal, 60));
        check("tag", "t", Filter::Tag("t".into()));
        check("hw_disk_bus", "scsi", Filter::Property("hw_disk_bus".into(), "scsi".into()));
    }

    #[test]
    fn orders_end_with_the_id() {
        let check = |query: &[(&str, &str)], want: &[(Column, Direction)]| {
            assert_eq!(parse(query).unwrap().order, want, "{query:?}");
        };
        let (id, created, name, size) = (Column::Id, Column::CreatedAt, Column::Name, Column::Size);
        check(&[], &[(created, Desc), (id, Desc)]);
        check(&[("sort_dir", "asc")], &[(created, Asc), (id, Asc)]);
        check(&[("sort", "name:asc,size")], &[(name, Asc), (size, Desc), (created, Desc), (id, Desc)]);
        check(&[("sort", "id:asc,size")], &[(id, Asc)]);
        let classic = [("sort_key", "name"), ("sort_dir", "asc"), ("sort_key", "size"), ("sort_dir", "desc")];
        check(&classic, &[(name, Asc), (size, Desc), (created, Desc), (id, Desc)]);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (name, value) in [
            ("limit", "x"),
            ("limit", "-1"),
            ("marker", "x"),
            ("visibility", "x"),
            ("member_status", "x"),
            ("os_hidden", "x"),
            ("protected", "maybe"),
            ("size_max", "x"),
            ("created_at", "gt:never"),
            ("changes-since", "2026-01-01"),
            ("sort", "owner"),
            ("sort", "name:up"),
            ("sort_key", "owner"),
            ("sort_dir", "up"),
            ("name", "in:\"a"),
            ("name", "in:\"a\"b"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert_eq!(error.kind(), umbel_core::Kind::BadRequest, "{name}={value}");
        }
        assert!(parse(&[("sort", "name"), ("sort_key", "name")]).is_err());
        assert!(parse(&[("sort_key", "name"), ("sort_dir", "asc"), ("sort_dir", "asc")]).is_err());
        assert_eq!(parse(&[("limit", "5000")]).unwrap().limit, 1000);
        assert_eq!(parse(&[("limit", "0")]).unwrap().limit, 0);
        assert_eq!(parse(&[]).unwrap().limit, 25);
    }
}
