//! What lists of definitions ask for.

use umbel_api::image::metadefs::Visibility;
use umbel_core::{Error, Result};
use umbel_db::Direction;

use super::drafts::findable;
use crate::Config;
use crate::store::metadefs::{Column, Filter, Sort};

/// As upstream's, a parameter of no known name is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceListing {
    pub filter: Filter,
    pub limit: usize,
    /// Name of the last namespace of the page before.
    pub marker: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ItemListing {
    pub order: (Sort, Direction),
    /// All, if nothing is said.
    pub limit: Option<usize>,
    pub marker: Option<String>,
}

impl NamespaceListing {
    pub fn parse(pairs: &[(String, String)], config: &Config) -> Result<NamespaceListing> {
        let filter =
            Filter { visibility: None, resource_types: None, sort: Column::CreatedAt, direction: Direction::Desc };
        let mut listing = NamespaceListing { filter, limit: config.default_page.min(config.max_page), marker: None };
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => listing.limit = limit(value)?.min(config.max_page),
                "marker" if !value.is_empty() => listing.marker = Some(marker(value)?),
                "visibility" if !value.is_empty() => listing.filter.visibility = Some(value.parse::<Visibility>()?),
                "resource_types" => {
                    let types = value.split(',').filter(|name| !name.is_empty() && findable(name).is_ok());
                    listing.filter.resource_types = Some(types.map(str::to_owned).collect());
                }
                "sort_key" => listing.filter.sort = column(value)?,
                "sort_dir" => listing.filter.direction = direction(value)?,
                _ => {}
            }
        }
        Ok(listing)
    }
}

impl ItemListing {
    pub fn parse(pairs: &[(String, String)], config: &Config) -> Result<ItemListing> {
        let mut listing = ItemListing { order: (Sort::CreatedAt, Direction::Desc), limit: None, marker: None };
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => listing.limit = Some(limit(value)?.min(config.max_page)),
                "marker" if !value.is_empty() => listing.marker = Some(marker(value)?),
                "sort_key" => listing.order.0 = sort(value)?,
                "sort_dir" => listing.order.1 = direction(value)?,
                _ => {}
            }
        }
        Ok(listing)
    }
}

fn marker(value: &str) -> Result<String> {
    match findable(value) {
        Ok(()) => Ok(value.to_owned()),
        Err(()) => Err(Error::bad_request("Invalid marker: it holds a null character.")),
    }
}

fn limit(value: &str) -> Result<usize> {
    let number: i64 = value.trim().parse().map_err(|_| Error::bad_request("limit param must be an integer"))?;
    usize::try_from(number).map_err(|_| Error::bad_request("limit param must be positive"))
}

fn column(value: &str) -> Result<Column> {
    match value {
        "namespace" => Ok(Column::Name),
        "display_name" => Ok(Column::DisplayName),
        "owner" => Ok(Column::Owner),
        "visibility" => Ok(Column::Visibility),
        "created_at" => Ok(Column::CreatedAt),
        "updated_at" => Ok(Column::UpdatedAt),
        _ => Err(bad_key(value)),
    }
}

fn sort(value: &str) -> Result<Sort> {
    match value {
        "name" => Ok(Sort::Name),
        "created_at" => Ok(Sort::CreatedAt),
        "updated_at" => Ok(Sort::UpdatedAt),
        _ => Err(bad_key(value)),
    }
}

fn bad_key(value: &str) -> Error {
    Error::bad_request(format!("Invalid sort key: {value}"))
}

fn direction(value: &str) -> Result<Direction> {
    match value {
        "asc" => Ok(Direction::Asc),
        "desc" => Ok(Direction::Desc),
        _ => Err(Error::bad_request(format!("Invalid sort direction: {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn a_list_asks_for_what_can_be_understood() {
        let config = Config::default();
        for (name, value, good) in [
            ("limit", "5", true),
            ("limit", "-1", false),
            ("limit", "x", false),
            ("sort_dir", "asc", true),
            ("sort_dir", "up", false),
            ("sort_key", "created_at", true),
            ("sort_key", "password", false),
            ("whatever", "x", true),
        ] {
            assert_eq!(NamespaceListing::parse(&pairs(name, value), &config).is_ok(), good, "{name}={value}");
            assert_eq!(ItemListing::parse(&pairs(name, value), &config).is_ok(), good, "{name}={value}");
        }
        assert!(NamespaceListing::parse(&pairs("visibility", "shared"), &config).is_err());
    }

    #[test]
    fn a_page_has_a_default_and_a_bound() {
        let config = Config::default();
        assert_eq!(NamespaceListing::parse(&[], &config).unwrap().limit, 25);
        assert_eq!(NamespaceListing::parse(&pairs("limit", "999999"), &config).unwrap().limit, 1000);
        assert_eq!(ItemListing::parse(&[], &config).unwrap().limit, None);
    }
}
