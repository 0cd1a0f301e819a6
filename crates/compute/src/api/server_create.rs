use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use umbel_api::compute::Links;
use umbel_api::compute::server_fields::{CreateRequest, NewServer};
use umbel_api::compute::servers::{Created, CreatedServer, Reserved, SecurityGroup};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};
use uuid::Uuid;

use super::block_devices;
use super::input::{self, boolean, invalid, need_admin, unexpected, unsigned};
use super::server_view::disk_config;
use super::tags::check_tags;
use crate::Compute;
use crate::model::{DiskConfig, Networks};
use crate::service::create::NewServers;

/// Characters of base64 that user data may have: upstream's column of 64 KiB.
const USER_DATA: usize = 65_535;

pub(super) async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let request: CreateRequest = req.json().await?;
    let by_reservation = match &request.server.return_reservation_id {
        Some(value) => boolean("return_reservation_id", value)?,
        None => false,
    };
    let new = read(&req, request)?;
    let created = state.create_servers(&req.ctx, new).await?;
    if by_reservation {
        return Ok(Reply::json(202, &Reserved { reservation_id: &created.reservation_id }));
    }
    let id = created.first.to_string();
    let server = CreatedServer {
        id: &id,
        links: Links::pair(&req.root, "servers", &id),
        disk_config: disk_config(created.disk_config),
        security_groups: created.security_groups.iter().map(|name| SecurityGroup { name }).collect(),
        admin_pass: &created.admin_pass,
    };
    let location = req.url(&format!("/v2.1/servers/{id}"));
    Ok(Reply::json(202, &Created { server }).header("location", location))
}

fn read(req: &Req, request: CreateRequest) -> Result<NewServers> {
    let CreateRequest { server: new, scheduler_hints } = request;
    let minor = req.version.minor;
    if let Some(member) = new.newest(req.version) {
        return Err(unexpected(member));
    }
    input::name("name", &new.name)?;
    check_addresses(new.access_ip_v4.as_deref(), new.access_ip_v6.as_deref())?;
    if new.personality.as_ref().is_some_and(|files| !files.is_empty()) {
        return Err(Error::bad_request("Injected files are not supported; use user data."));
    }
    if new.trusted_image_certificates.is_some() {
        return Err(Error::bad_request("Trusted image certificates are not supported."));
    }
    let devices = block_devices::read(&new, minor)?;
    let (min_count, max_count) = counts(&new)?;
    let (zone, zone_host) = place(req, new.availability_zone.as_deref())?;
    let host = requested_host(req, &new)?.or(zone_host);
    if let Some(text) = &new.description {
        input::description(text)?;
    }
    if let Some(name) = &new.hostname {
        check_hostname(name, minor)?;
    }
    for (name, value) in new.metadata.iter().flatten() {
        input::metadata_item(name, value)?;
    }
    check_tags(new.tags.as_deref().unwrap_or_default())?;
    if let Some(name) = &new.key_name {
        input::name("key_name", name)?;
    }
    check_user_data(new.user_data.as_deref())?;
    Ok(NewServers {
        devices,
        multiattach: minor >= 60,
        flavor_id: flavor(&new.flavor_ref)?,
        networks: networks(new.networks.as_ref(), minor)?,
        security_groups: security_groups(&new)?,
        disk_config: disk_config_of(new.disk_config.as_deref())?,
        config_drive: config_drive(new.config_drive.as_ref())?,
        name: new.name,
        key_name: new.key_name,
        metadata: new.metadata.unwrap_or_default(),
        tags: new.tags.unwrap_or_default(),
        description: new.description.filter(|text| !text.is_empty()),
        hostname: new.hostname.filter(|text| !text.is_empty()),
        user_data: new.user_data,
        zone,
        host,
        scheduler_hints,
        admin_pass: new.admin_pass,
        min_count,
        max_count,
    })
}

fn flavor(value: &Value) -> Result<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    match text.rsplit('/').next() {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(Error::bad_request("Invalid flavorRef provided.")),
    }
}

fn networks(value: Option<&Value>, minor: u16) -> Result<Networks> {
    match value {
        // Before there were the two words, nothing meant what a project has.
        None | Some(Value::Null) if minor < 37 => Ok(Networks::Auto),
        None | Some(Value::Null) => Err(Error::bad_request("'networks' is a required property")),
        Some(Value::Array(list)) if list.is_empty() => Ok(Networks::Auto),
        Some(Value::Array(list)) => {
            for network in list {
                check_network(network)?;
            }
            default_row(list)
                .ok_or_else(|| Error::bad_request("The network service is not available: use 'none' or 'auto'."))
        }
        Some(other) => other
            .as_str()
            .filter(|_| minor >= 37)
            .and_then(Networks::by_label)
            .ok_or_else(|| invalid("networks", other, "It is none of 'auto', 'none' and a list")),
    }
}

/// The default row that is all of a list. An address, port or tag wished for beside its id is more than it can give.
fn default_row(list: &[Value]) -> Option<Networks> {
    let [Value::Object(members)] = list else {
        return None;
    };
    let id = members.get("uuid").filter(|_| members.len() == 1)?;
    Networks::by_id(id.as_str()?)
}

fn check_network(network: &Value) -> Result<()> {
    let Some(members) = network.as_object() else {
        return Err(invalid("networks", network, "It is not of type 'object'"));
    };
    for name in ["uuid", "port"] {
        if let Some(value) = members.get(name)
            && value.as_str().is_none_or(|text| Uuid::try_parse(text).is_err())
        {
            return Err(invalid(name, value, "It is not a 'uuid'"));
        }
    }
    Ok(())
}

/// Only `default` is there without a network service, and it is what a server has anyway.
fn security_groups(new: &NewServer) -> Result<Vec<String>> {
    let names: Vec<String> = new.security_groups.iter().flatten().map(|group| group.name.clone()).collect();
    match names.iter().find(|name| *name != "default") {
        Some(name) => Err(Error::bad_request(format!("Unable to find security_group with name or id '{name}'"))),
        None => Ok(vec!["default".to_owned()]),
    }
}

fn counts(new: &NewServer) -> Result<(u64, u64)> {
    let count = |name: &str, value: &Option<Value>| value.as_ref().map(|value| unsigned(name, value, 1)).transpose();
    let min = count("min_count", &new.min_count)?;
    let max = count("max_count", &new.max_count)?;
    let least = min.unwrap_or(1);
    let most = max.unwrap_or(least);
    match least <= most {
        true => Ok((least, most)),
        false => Err(Error::bad_request("min_count must be <= max_count")),
    }
}

/// `zone`, or for administrators `zone:host` and `zone:host:node`, as they wrote it before 2.74.
fn place(req: &Req, zone: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(text) = zone.filter(|zone| !zone.is_empty()) else {
        return Ok((None, None));
    };
    let mut parts = text.split(':');
    let (zone, host, node) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(Error::bad_request("Unable to parse availability_zone"));
    }
    let given = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
    let host = given(host).or(given(node));
    if host.is_some() {
        need_admin(&req.ctx, "os_compute_api:servers:create:forced_host")?;
    }
    Ok((given(zone), host))
}

fn requested_host(req: &Req, new: &NewServer) -> Result<Option<String>> {
    let (host, node) = (new.host.as_ref(), new.hypervisor_hostname.as_ref());
    if host.is_none() && node.is_none() {
        return Ok(None);
    }
    need_admin(&req.ctx, "os_compute_api:servers:create:requested_destination")?;
    match (host, node) {
        // A host of ours has one hypervisor, of the same name.
        (Some(host), Some(node)) if host != node => {
            Err(Error::bad_request(format!("Compute host {node} could not be found.")))
        }
        (host, node) => Ok(host.or(node).cloned()),
    }
}

fn disk_config_of(text: Option<&str>) -> Result<Option<DiskConfig>> {
    match text {
        None => Ok(None),
        Some("AUTO") => Ok(Some(DiskConfig::Auto)),
        Some("MANUAL") => Ok(Some(DiskConfig::Manual)),
        Some(other) => Err(invalid("OS-DCF:diskConfig", other, "It is none of ['AUTO', 'MANUAL']")),
    }
}

fn config_drive(value: Option<&Value>) -> Result<bool> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(text)) if text.is_empty() => Ok(false),
        Some(value) => boolean("config_drive", value),
    }
}

fn check_user_data(text: Option<&str>) -> Result<()> {
    let Some(text) = text else {
        return Ok(());
    };
    if text.len() > USER_DATA {
        return Err(Error::bad_request(
            "User data too large. User data must be no larger than 65535 bytes once base64 encoded.",
        ));
    }
    let packed: String = text.split_ascii_whitespace().collect();
    match STANDARD.decode(packed) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::bad_request("User data needs to be valid base 64.").because(error)),
    }
}

/// A name of RFC 1123, or from 2.94 a whole domain name.
pub(super) fn check_hostname(name: &str, minor: u16) -> Result<()> {
    let label = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
    };
    let good = match minor >= 94 {
        true => name.len() <= 255 && name.split('.').all(label),
        false => label(name),
    };
    match good || name.is_empty() {
        true => Ok(()),
        false => Err(invalid("hostname", name, "It is not a host name")),
    }
}

pub(super) fn check_addresses(v4: Option<&str>, v6: Option<&str>) -> Result<()> {
    if let Some(text) = v4.filter(|text| !text.is_empty())
        && text.parse::<Ipv4Addr>().is_err()
    {
        return Err(invalid("accessIPv4", text, "It is not a 'ipv4'"));
    }
    if let Some(text) = v6.filter(|text| !text.is_empty())
        && text.parse::<Ipv6Addr>().is_err()
    {
        return Err(invalid("accessIPv6", text, "It is not a 'ipv6'"));
    }
    Ok(())
}
