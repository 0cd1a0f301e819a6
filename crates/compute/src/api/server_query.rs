//! What a list of servers is asked with: filters, order, page.

use umbel_auth::{Visible, visible};
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Value};
use umbel_http::Req;

use super::input::{need_admin, truth, unexpected};
use crate::model::Status;
use crate::service::listing::ListQuery;
use crate::service::pattern::Pattern;
use crate::store::server_list::{Deleted, Field, Order, ServerFilter, SortKey};

/// How a parameter is read.
#[derive(Clone, Copy)]
enum Kind {
    Text(Field),
    /// The last segment of a URL, or the id alone.
    Reference(Field),
    Truth(Field),
    Number(Field),
    Time(Field),
    /// Read elsewhere, or understood and without effect.
    Other,
}

struct Parameter {
    name: &'static str,
    kind: Kind,
    admin: bool,
    since: u16,
}

const fn all(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, admin: false, since: 1 }
}

const fn since(name: &'static str, kind: Kind, since: u16) -> Parameter {
    Parameter { name, kind, admin: false, since }
}

const fn admin(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, admin: true, since: 1 }
}

/// For everybody from 2.83, for administrators before.
const OPENED: u16 = 83;

const PARAMETERS: &[Parameter] = &[
    all("limit", Kind::Other),
    all("marker", Kind::Other),
    all("sort_key", Kind::Other),
    all("sort_dir", Kind::Other),
    all("all_tenants", Kind::Other),
    all("name", Kind::Other),
    all("status", Kind::Other),
    all("changes-since", Kind::Other),
    since("changes-before", Kind::Other, 66),
    since("tags", Kind::Other, 26),
    since("tags-any", Kind::Other, 26),
    since("not-tags", Kind::Other, 26),
    since("not-tags-any", Kind::Other, 26),
    since("locked", Kind::Truth(Field::Locked), 73),
    all("image", Kind::Reference(Field::ImageId)),
    all("flavor", Kind::Reference(Field::FlavorId)),
    all("reservation_id", Kind::Text(Field::ReservationId)),
    all("ip", Kind::Other),
    all("ip6", Kind::Other),
    all("metadata", Kind::Other),
    admin("host", Kind::Text(Field::Host)),
    admin("node", Kind::Text(Field::Host)),
    admin("uuid", Kind::Text(Field::Id)),
    admin("deleted", Kind::Other),
    admin("soft_deleted", Kind::Other),
    admin("tenant_id", Kind::Other),
    admin("project_id", Kind::Other),
    admin("vm_state", Kind::Other),
    admin("hostname", Kind::Text(Field::Hostname)),
    admin("description", Kind::Text(Field::Description)),
    admin("display_description", Kind::Text(Field::Description)),
    admin("launch_index", Kind::Number(Field::LaunchIndex)),
    admin("user_id", Kind::Text(Field::UserId)),
    admin("availability_zone", Kind::Text(Field::Zone)),
    admin("config_drive", Kind::Truth(Field::ConfigDrive)),
    admin("key_name", Kind::Text(Field::KeyName)),
    admin("power_state", Kind::Number(Field::PowerState)),
    admin("task_state", Kind::Text(Field::TaskState)),
    admin("created_at", Kind::Time(Field::CreatedAt)),
    admin("launched_at", Kind::Time(Field::LaunchedAt)),
    admin("terminated_at", Kind::Time(Field::TerminatedAt)),
    // Attributes that all our servers share; a filter by them selects none or all upstream too.
    admin("access_ip_v4", Kind::Other),
    admin("access_ip_v6", Kind::Other),
    admin("auto_disk_config", Kind::Other),
    admin("kernel_id", Kind::Other),
    admin("locked_by", Kind::Other),
    admin("progress", Kind::Other),
    admin("ramdisk_id", Kind::Other),
    admin("root_device_name", Kind::Other),
];

const OPENED_NAMES: &[&str] = &[
    "availability_zone",
    "config_drive",
    "created_at",
    "key_name",
    "launched_at",
    "power_state",
    "progress",
    "task_state",
    "terminated_at",
    "user_id",
    "vm_state",
];

/// Statuses of states that servers here cannot be in yet: a filter by one is good, and selects none.
const OTHER_STATUSES: &[&str] = &[
    "MIGRATING",
    "PASSWORD",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

pub(super) fn list_query(req: &Req, max_limit: usize) -> Result<ListQuery> {
    let minor = req.version.minor;
    let is_admin = req.ctx.is_admin();
    let mut pairs = Vec::new();
    for (name, value) in req.query_pairs() {
        let known = PARAMETERS.iter().find(|parameter| parameter.name == name && parameter.since <= minor);
        match known {
            // An older version takes no notice of what it does not know.
            None if minor >= 75 => return Err(unexpected(&name)),
            None => {}
            Some(parameter) => {
                let opened = minor >= OPENED && OPENED_NAMES.contains(&parameter.name);
                // What only administrators may filter by does nothing for others.
                if !parameter.admin || is_admin || opened {
                    pairs.push((parameter, value));
                }
            }
        }
    }
    let get = |name: &str| pairs.iter().rev().find(|(known, _)| known.name == name).map(|(_, value)| value.as_str());

    let mut filter = ServerFilter::new(whose(req, get)?);
    for (parameter, value) in &pairs {
        if let Some(condition) = condition(parameter, value)? {
            filter.equal.push(condition);
        }
    }
    if let (Visible::All, Some(project)) = (&filter.visible, get("project_id").or(get("tenant_id"))) {
        filter.equal.push((Field::ProjectId, Value::from(project)));
    }
    states(&mut filter, &pairs, minor, is_admin)?;
    filter.changes_since = get("changes-since").map(Timestamp::parse).transpose()?;
    filter.changes_before = get("changes-before").map(Timestamp::parse).transpose()?;
    if let (Some(since), Some(before)) = (filter.changes_since, filter.changes_before)
        && since > before
    {
        return Err(Error::bad_request("The value of changes-since must be less than or equal to changes-before."));
    }
    deleted(&mut filter, get("deleted"))?;
    let list = |name: &str| -> Vec<String> {
        let text = get(name).unwrap_or("");
        text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
    };
    filter.tags = list("tags");
    filter.tags_any = list("tags-any");
    filter.not_tags = list("not-tags");
    filter.not_tags_any = list("not-tags-any");
    if let Some(text) = get("metadata") {
        filter.metadata = metadata(text)?;
    }
    // No server has an address while there is no network service.
    if ["ip", "ip6"].iter().any(|name| get(name).is_some_and(|value| !value.is_empty())) {
        filter.statuses = Some(Vec::new());
    }
    let name = get("name").filter(|name| !name.is_empty()).map(Pattern::parse).transpose()?;
    filter.name_like = name.as_ref().map(|name| name.like().to_owned());

    let marker = get("marker").filter(|marker| !marker.is_empty());
    let marker = marker.map(|text| text.parse().map_err(|_| no_marker(text))).transpose()?;
    Ok(ListQuery { filter, name, order: order(req)?, marker, limit: limit(get("limit"), max_limit)? })
}

fn no_marker(text: &str) -> Error {
    Error::bad_request(format!("marker [{text}] not found"))
}

/// Of all projects for an administrator who asks so, by `all_tenants` or by naming one; else of the token's.
fn whose<'p>(req: &Req, get: impl Fn(&str) -> Option<&'p str>) -> Result<Visible> {
    let everyone = match get("all_tenants") {
        None => get("project_id").or(get("tenant_id")).is_some(),
        Some("") => true,
        Some(text) => {
            truth(text).ok_or_else(|| Error::bad_request(format!("Invalid value '{text}' for all_tenants.")))?
        }
    };
    if everyone {
        need_admin(&req.ctx, "os_compute_api:servers:index:get_all_tenants")?;
        return Ok(Visible::All);
    }
    match (visible(&req.ctx)?, req.ctx.project_id()) {
        (Visible::Project(project), _) => Ok(Visible::Project(project)),
        // Without a project of one's own there is nothing of one's own.
        (Visible::All, project) => Ok(Visible::Project(project.unwrap_or_default().to_owned())),
    }
}

fn condition(parameter: &Parameter, value: &str) -> Result<Option<(Field, Value)>> {
    let bad = || {
        let name = parameter.name;
        Error::bad_request(format!("Invalid input for query parameters {name}. Value: {value}."))
    };
    Ok(Some(match parameter.kind {
        Kind::Other => return Ok(None),
        Kind::Text(field) => (field, Value::from(value)),
        Kind::Reference(field) => (field, Value::from(value.rsplit('/').next().unwrap_or(value))),
        Kind::Truth(field) => (field, Value::from(truth(value).ok_or_else(bad)?)),
        Kind::Number(field) => (field, Value::from(value.parse::<i64>().map_err(|_| bad())?)),
        Kind::Time(field) => (field, Value::from(Timestamp::parse(value)?)),
    }))
}

fn states(filter: &mut ServerFilter, pairs: &[(&Parameter, String)], minor: u16, is_admin: bool) -> Result<()> {
    let all = |name: &str| -> Vec<&str> {
        pairs.iter().filter(|(known, _)| known.name == name).map(|(_, value)| value.as_str()).collect()
    };
    let (asked, vm_states) = (all("status"), all("vm_state"));
    if !vm_states.is_empty() {
        filter.vm_states = Some(vm_states.into_iter().map(str::to_ascii_lowercase).collect());
    }
    if asked.is_empty() {
        return Ok(());
    }
    let mut statuses = Vec::new();
    for text in asked {
        let upper = text.to_ascii_uppercase();
        match Status::ALL.into_iter().find(|status| status.name() == upper) {
            Some(Status::Deleted) if !is_admin => {
                return Err(Error::forbidden("Only administrators may list deleted instances"));
            }
            Some(status) => statuses.push(status),
            None if minor >= 38 && !OTHER_STATUSES.contains(&upper.as_str()) => {
                return Err(Error::bad_request("Invalid status value"));
            }
            None => {}
        }
    }
    if statuses.contains(&Status::Deleted) {
        filter.deleted = Deleted::Any;
    }
    filter.statuses = Some(statuses);
    Ok(())
}

/// Deleted servers are shown where they are asked for, and where changes are: being deleted is one.
fn deleted(filter: &mut ServerFilter, asked: Option<&str>) -> Result<()> {
    match asked.filter(|text| !text.is_empty()) {
        Some(text) => {
            let only = truth(text).ok_or_else(|| Error::bad_request(format!("Invalid value '{text}' for deleted.")))?;
            filter.deleted = if only { Deleted::Only } else { Deleted::No };
        }
        None if filter.changes_since.is_some() => filter.deleted = Deleted::Any,
        None => {}
    }
    Ok(())
}

/// A JSON object of texts, or Python's way to write one, as upstream's client does.
fn metadata(text: &str) -> Result<Vec<(String, String)>> {
    let parse = |text: &str| serde_json::from_str::<std::collections::BTreeMap<String, String>>(text);
    let items = parse(text)
        .or_else(|_| parse(&text.replace("u'", "\"").replace('\'', "\"")))
        .map_err(|_| Error::bad_request(format!("Invalid input for query parameters metadata. Value: {text}.")))?;
    Ok(items.into_iter().collect())
}

fn limit(text: Option<&str>, max: usize) -> Result<usize> {
    match text {
        None => Ok(max),
        Some(text) => match text.parse::<usize>() {
            // Upstream's meaning of 0: as many as there may be.
            Ok(0) => Ok(max),
            Ok(limit) => Ok(limit.min(max)),
            Err(_) => Err(Error::bad_request(format!("Invalid input for query parameters limit. Value: {text}."))),
        },
    }
}

fn order(req: &Req) -> Result<Order> {
    let (mut keys, mut directions) = (Vec::new(), Vec::new());
    for (name, value) in req.query_pairs() {
        let bad = || Error::bad_request(format!("Invalid input for query parameters {name}. Value: {value}."));
        match name.as_str() {
            "sort_key" => keys.push(sort_key(&value).ok_or_else(bad)?),
            "sort_dir" => directions.push(match value.to_ascii_lowercase().as_str() {
                "asc" => Direction::Asc,
                "desc" => Direction::Desc,
                _ => return Err(bad()),
            }),
            _ => {}
        }
    }
    if directions.len() > keys.len() && !keys.is_empty() {
        return Err(Error::bad_request("Sort direction size exceeds sort key size"));
    }
    if keys.is_empty() {
        keys.push(Some(SortKey::Field(Field::CreatedAt)));
    }
    let first = directions.first().copied().unwrap_or(Direction::Desc);
    let sorted = keys.into_iter().enumerate().filter_map(|(at, key)| {
        let direction = directions.get(at).copied().unwrap_or(first);
        key.map(|key| (key, direction))
    });
    Ok(Order::new(&sorted.collect::<Vec<_>>()))
}

/// The inner `None` is a key that is good and by which all servers are equal.
fn sort_key(name: &str) -> Option<Option<SortKey>> {
    Some(Some(match name {
        "created_at" => SortKey::Field(Field::CreatedAt),
        "updated_at" => SortKey::UpdatedAt,
        "display_name" => SortKey::Name,
        "display_description" => SortKey::Field(Field::Description),
        "uuid" => SortKey::Field(Field::Id),
        "host" | "node" => SortKey::Field(Field::Host),
        "hostname" => SortKey::Field(Field::Hostname),
        "image_ref" => SortKey::Field(Field::ImageId),
        "instance_type_id" => SortKey::Field(Field::FlavorId),
        "key_name" => SortKey::Field(Field::KeyName),
        "launch_index" => SortKey::Field(Field::LaunchIndex),
        "launched_at" => SortKey::Field(Field::LaunchedAt),
        "terminated_at" => SortKey::Field(Field::TerminatedAt),
        "availability_zone" => SortKey::Field(Field::Zone),
        "config_drive" => SortKey::Field(Field::ConfigDrive),
        "power_state" => SortKey::Field(Field::PowerState),
        "task_state" => SortKey::Field(Field::TaskState),
        "vm_state" => SortKey::VmState,
        "project_id" => SortKey::Field(Field::ProjectId),
        "user_id" => SortKey::Field(Field::UserId),
        "locked" => SortKey::Field(Field::Locked),
        "access_ip_v4" | "access_ip_v6" | "auto_disk_config" | "kernel_id" | "locked_by" | "progress"
        | "ramdisk_id" | "root_device_name" => return Some(None),
        _ => return None,
    }))
}
