//! What a client may write into an image, and in which shape: one place for creation and for patches.

use serde_json::Value;
use umbel_api::image::Visibility;
use umbel_core::{Error, Kind, Result};

use crate::Config;
use crate::model::{Meta, TWIN_PROPERTY};

/// Longest name, tag or property name, in characters.
const MAX_TEXT: usize = 255;

/// As upstream's column: a signed 32-bit number.
const MAX_NUMBER: u64 = i32::MAX as u64;

/// Written by the service alone.
const READ_ONLY: [&str; 15] = [
    "id",
    "status",
    "created_at",
    "updated_at",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "size",
    "virtual_size",
    "direct_url",
    "self",
    "file",
    "schema",
    "stores",
    TWIN_PROPERTY,
];

/// Had a meaning once, or has one inside.
const RESERVED: [&str; 4] = ["location", "locations", "deleted", "deleted_at"];
const RESERVED_PREFIX: &str = "os_glance_";

/// Attributes that an image always has, as opposed to custom properties.
const BASE: [&str; 10] = [
    "name",
    "owner",
    "visibility",
    "protected",
    "os_hidden",
    "container_format",
    "disk_format",
    "min_disk",
    "min_ram",
    "tags",
];

pub fn is_base(name: &str) -> bool {
    BASE.contains(&name)
}

/// 403 for what no client writes, 400 for what is no name.
pub fn check_writable(name: &str) -> Result<()> {
    if READ_ONLY.contains(&name) {
        return Err(Error::forbidden(format!("Attribute '{name}' is read-only.")));
    }
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err(Error::forbidden(format!("Attribute '{name}' is reserved.")));
    }
    if name.is_empty() || name.chars().count() > MAX_TEXT {
        return Err(Error::bad_request("Custom property should not be greater than 255 characters."));
    }
    Ok(())
}

/// Sets an attribute or a custom property; 400 for a value of the wrong shape. Whether the caller may is not asked here.
pub fn set(meta: &mut Meta, name: &str, value: Value) -> Result<()> {
    match name {
        "name" => meta.name = opt_text(name, value)?,
        "owner" => meta.owner = opt_text(name, value)?,
        "visibility" => meta.visibility = text(name, value)?.parse::<Visibility>()?,
        "protected" => meta.protected = flag(name, value)?,
        "os_hidden" => meta.hidden = flag(name, value)?,
        "container_format" => meta.container_format = opt_text(name, value)?.map(|text| text.parse()).transpose()?,
        "disk_format" => meta.disk_format = opt_text(name, value)?.map(|text| text.parse()).transpose()?,
        "min_disk" => meta.min_disk = number(name, value)?,
        "min_ram" => meta.min_ram = number(name, value)?,
        "tags" => meta.tags = tags(value)?.into_iter().collect(),
        _ => {
            let value = property(name, value)?;
            meta.properties.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

pub fn check_tag(tag: &str) -> Result<()> {
    match tag.chars().count() <= MAX_TEXT {
        true => Ok(()),
        false => Err(Error::bad_request(format!("Invalid image object: '{tag}' is too long for a tag."))),
    }
}

/// 413 where an image has more of something than the configuration allows.
pub fn check_quotas(meta: &Meta, config: &Config) -> Result<()> {
    let check = |what: &str, have: usize, most: usize| match have <= most {
        true => Ok(()),
        false => {
            let message = format!(
                "The limit has been exceeded on the number of allowed image {what}. \
                                   Attempted: {have}, Maximum: {most}."
            );
            Err(Error::new(Kind::TooLarge, message))
        }
    };
    // The service's own do not count.
    let custom = meta.properties.keys().filter(|name| !name.starts_with(RESERVED_PREFIX)).count();
    check("properties", custom, config.max_properties)?;
    check("tags", meta.tags.len(), config.max_tags)
}

fn tags(value: Value) -> Result<Vec<String>> {
    let Value::Array(values) = value else {
        return Err(shape("tags", "a list of strings"));
    };
    values
        .into_iter()
        .map(|value| {
            let tag = text("tags", value)?;
            check_tag(&tag)?;
            Ok(tag)
        })
        .collect()
}

/// Upstream's schema says text for all but these: images that name their kernel and ramdisk, and key clean-up.
fn property(name: &str, value: Value) -> Result<Option<String>> {
    match (name, value) {
        ("kernel_id" | "ramdisk_id", Value::Null) => Ok(None),
        ("kernel_id" | "ramdisk_id", Value::String(text)) if is_uuid(&text) => Ok(Some(text)),
        ("kernel_id" | "ramdisk_id", _) => Err(shape(name, "the id of an image, or null")),
        ("cinder_encryption_key_deletion_policy", Value::String(text))
            if !matches!(text.as_str(), "on_image_deletion" | "do_not_delete") =>
        {
            Err(shape(name, "'on_image_deletion' or 'do_not_delete'"))
        }
        (_, Value::String(text)) => Ok(Some(text)),
        _ => Err(shape(name, "a string")),
    }
}

fn text(name: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(shape(name, "a string")),
    }
}

fn opt_text(name: &str, value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= MAX_TEXT => Ok(Some(text)),
        Value::String(_) => Err(shape(name, "at most 255 characters long")),
        _ => Err(shape(name, "a string or null")),
    }
}

fn flag(name: &str, value: Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| shape(name, "true or false"))
}

fn number(name: &str, value: Value) -> Result<u64> {
    match value.as_u64() {
        Some(number) if number <= MAX_NUMBER => Ok(number),
        _ => Err(shape(name, "a whole number from 0 to 2147483647")),
    }
}

fn shape(name: &str, wanted: &str) -> Error {
    Error::bad_request(format!("Invalid image object: '{name}' must be {wanted}."))
}

/// Five groups of hexadecimal digits, 8-4-4-4-12, with hyphens between them.
pub fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == 5
        && groups
            .iter()
            .zip([8, 4, 4, 4, 12])
            .all(|(group, length)| group.len() == length && group.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_the_wrong_shape_are_refused() {
        let check = |name: &str, value: Value, good: bool| {
            let result = set(&mut Meta::new(None), name, value.clone());
            assert_eq!(result.is_ok(), good, "{name}: {value}: {result:?}");
        };
        check("name", json!("n"), true);
        check("name", json!(null), true);
        check("name", json!("é".repeat(255)), true);
        check("name", json!("n".repeat(256)), false);
        check("name", json!(1), false);
        check("visibility", json!("community"), true);
        check("visibility", json!("secret"), false);
        check("visibility", json!(null), false);
        check("protected", json!(true), true);
        check("protected", json!("true"), false);
        check("disk_format", json!("vhdx"), true);
        check("disk_format", json!(null), true);
        check("disk_format", json!("wrong"), false);
        check("container_format", json!("wrong"), false);
        check("min_disk", json!(i32::MAX), true);
        check("min_disk", json!(-1), false);
        check("min_disk", json!(1.5), false);
        check("min_ram", json!(1_u64 << 31), false);
        check("min_ram", json!("1"), false);
        check("tags", json!(["a", "b", "a"]), true);
        check("tags", json!("a"), false);
        check("tags", json!([1]), false);
        check("tags", json!(["t".repeat(256)]), false);
        check("hw_disk_bus", json!("scsi"), true);
        check("hw_cpu_cores", json!(2), false);
        check("os_distro", json!(null), false);
        check("kernel_id", json!(null), true);
        check("kernel_id", json!("00000000-1111-2222-3333-444455556666"), true);
        check("ramdisk_id", json!("x"), false);
        check("cinder_encryption_key_deletion_policy", json!("never"), false);
    }

    #[test]
    fn what_the_service_writes_no_client_may() {
        let check = |name: &str, want: Option<Kind>| {
            assert_eq!(check_writable(name).err().map(|error| error.kind()), want, "{name}");
        };
        check("name", None);
        check("hw_disk_bus", None);
        for name in READ_ONLY.iter().chain(&RESERVED).chain(&["os_glance_anything"]) {
            check(name, Some(Kind::Forbidden));
        }
        check("", Some(Kind::BadRequest));
        check(&"x".repeat(256), Some(Kind::BadRequest));
    }
}
