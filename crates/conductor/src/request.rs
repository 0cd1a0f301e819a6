//! What a server asks of the scheduler.

use serde_json::Value;
use umbel_compute::model::{CONFIG_DRIVE_BYTES, DiskPlan, DiskSource, Server, ServerId};
use umbel_scheduler::{DiskRequest, Request};

use crate::ConfigDrives;

/// Everything but the hosts that hints refer to.
pub(crate) fn request(server: &Server, disks: &[DiskPlan]) -> Request {
    let spec = &server.spec;
    let extra = &spec.flavor.extra_specs;
    let traits = |wanted: &str| -> Vec<String> {
        let named = extra.iter().filter(|(_, value)| *value == wanted);
        named.filter_map(|(name, _)| name.strip_prefix("trait:")).map(str::to_owned).collect()
    };
    Request {
        vcpus: spec.flavor.vcpus.into(),
        memory_mib: spec.flavor.memory_mib,
        disks: disks.iter().map(|disk| disk_request(server, disk)).collect(),
        availability_zone: spec.availability_zone.clone(),
        only: spec.requested_host.iter().cloned().collect(),
        different: Vec::new(),
        tried: Vec::new(),
        required_traits: traits("required"),
        forbidden_traits: traits("forbidden"),
    }
}

fn disk_request(server: &Server, disk: &DiskPlan) -> DiskRequest {
    let image = server.spec.image.as_ref().filter(|image| {
        // Only raw images are ever cloned, so only for them a pool is near or far.
        disk.source == DiskSource::Image && image.disk_format == "raw"
    });
    let near = image.map(|image| image.locations.iter().filter_map(|location| cluster(location)).collect());
    DiskRequest { bytes: disk.size_bytes, pool: None, tier: disk.tier.clone(), near: near.unwrap_or_default() }
}

/// `scheme://cluster` of a location.
fn cluster(location: &str) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    let (cluster, _) = rest.split_once('/')?;
    Some(format!("{scheme}://{cluster}"))
}

/// The disks that are to be made, with a config drive where the cloud gives one to every server.
pub(crate) fn disks(server: &Server, drives: ConfigDrives) -> Vec<DiskPlan> {
    let mut disks = server.spec.disks.clone();
    let planned = disks.iter().any(|disk| disk.source == DiskSource::ConfigDrive);
    if !planned && (drives == ConfigDrives::Always || server.spec.config_drive) {
        disks.push(DiskPlan {
            name: format!("{}_disk.config", server.id),
            size_bytes: CONFIG_DRIVE_BYTES,
            source: DiskSource::ConfigDrive,
            boot_index: None,
            tier: None,
        });
    }
    disks
}

/// Servers that a hint names: `same_host`, `different_host`. A single id or a list, as clients send either.
pub(crate) fn hinted(server: &Server, hint: &str) -> Vec<ServerId> {
    let ids = match server.spec.scheduler_hints.get(hint) {
        Some(Value::String(id)) => vec![id.as_str()],
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    ids.into_iter().filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_of_a_location() {
        let check = |location: &str, want: Option<&str>| assert_eq!(cluster(location).as_deref(), want, "{location}");
        check("rbd://fsid/images/i/snap", Some("rbd://fsid"));
        check("local://store/images/i/snap", Some("local://store"));
        check("https://example.org", None);
        check("rbd", None);
    }
}
