//! Servers as the API shows them. Made in two steps, so that the page borrows: first what has to be computed, then views
//! on it and on the servers.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha224};
use umbel_api::compute::Links;
use umbel_api::compute::servers::{
    AttachedVolume, Fault, Flavor, Image, Listed, SecurityGroup, Server as Shown, UnknownServer, View,
};
use umbel_core::Timestamp;

use crate::model::{DiskConfig, Server, Status, project};
use crate::store::server_map::Mapped;

/// What a page of servers is shown with.
pub(super) struct Page<'a> {
    /// URL of the service's root.
    pub root: &'a str,
    pub view: View,
    pub admin: bool,
    /// `host_status` by host, for administrators.
    pub host_status: HashMap<String, &'static str>,
}

/// What of a server is computed for its view.
pub(super) struct Prepared {
    id: String,
    host_id: Arc<str>,
    /// Those that it has or has reserved, and whether they go with it.
    volumes: Vec<(String, bool)>,
}

pub(super) fn prepare<'s>(servers: impl Iterator<Item = &'s Server>) -> Vec<Prepared> {
    let mut host_ids: HashMap<(&str, &str), Arc<str>> = HashMap::new();
    let none: Arc<str> = "".into();
    servers
        .map(|server| {
            let host_id = match &server.state.host {
                None => none.clone(),
                Some(host) => host_ids
                    .entry((&server.spec.project_id, &host.name))
                    .or_insert_with(|| host_id(&server.spec.project_id, &host.name).into())
                    .clone(),
            };
            let volumes = volumes(server);
            Prepared { id: server.id.to_string(), host_id, volumes }
        })
        .collect()
}

/// Tells a project's servers on one host from those on another without naming the host.
pub(super) fn host_id(project_id: &str, host: &str) -> String {
    let digest = Sha224::digest(format!("{project_id}{host}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> Page<'a> {
    pub(super) fn server(&'a self, server: &'a Server, prepared: &'a Prepared) -> Listed<'a> {
        let (spec, state, shown) = (&*server.spec, &server.state, project(server));
        let admin = self.admin;
        let host = state.host.as_ref().map(|host| host.name.as_str());
        let zone = state.zone.as_deref().or(spec.availability_zone.as_deref()).unwrap_or("");
        let launched = state.launched_at.is_some();
        Listed::Known(Box::new(Shown {
            view: self.view,
            admin,
            id: &prepared.id,
            name: &state.name,
            status: shown.status.name(),
            tenant_id: &spec.project_id,
            user_id: &spec.user_id,
            created: spec.created_at.iso(),
            updated: state.updated_at.iso(),
            host_id: &prepared.host_id,
            image: self.image(server),
            flavor: self.flavor(server),
            metadata: &state.metadata,
            addresses: Default::default(),
            links: Links::pair(self.root, "servers", &prepared.id),
            access_ip_v4: "",
            access_ip_v6: "",
            disk_config: disk_config(spec.disk_config),
            progress: matches!(shown.status, Status::Active | Status::Build).then_some(0),
            fault: fault(server, shown.status, admin),
            key_name: Some(spec.key.as_ref().map(|key| key.name.as_str())),
            config_drive: Some(if spec.config_drive { "True" } else { "" }),
            security_groups: security_groups(&spec.security_groups),
            launched_at: Some(state.launched_at.map(Timestamp::iso_naive)),
            terminated_at: Some(state.terminated_at.map(Timestamp::iso_naive)),
            availability_zone: Some(zone),
            task_state: Some(shown.task_state),
            vm_state: Some(shown.vm_state.name()),
            power_state: Some(shown.power_state),
            volumes_attached: Some(attached(&prepared.volumes)),
            host: admin.then_some(host),
            hypervisor_hostname: admin.then_some(host),
            instance_name: admin.then(|| server.instance_name()),
            hostname: Some(&state.hostname),
            reservation_id: admin.then_some(spec.reservation_id.as_str()),
            launch_index: admin.then_some(spec.launch_index),
            kernel_id: admin.then_some(""),
            ramdisk_id: admin.then_some(""),
            root_device_name: admin.then_some(launched.then_some("/dev/vda")),
            user_data: admin.then_some(spec.user_data.as_deref()),
            host_status: admin.then(|| self.host_status(host)),
            locked: Some(state.locked.is_some()),
            description: Some(state.description.as_deref()),
            tags: Some(&state.tags),
            trusted_image_certificates: Some(None),
            server_groups: Some(&[]),
            locked_reason: Some(state.locked.as_ref().and_then(|lock| lock.reason.as_deref())),
            pinned_availability_zone: Some(spec.availability_zone.as_deref()),
            scheduler_hints: Some(&spec.scheduler_hints),
        }))
    }

    fn host_status(&self, host: Option<&str>) -> &'static str {
        host.map_or("", |host| self.host_status.get(host).copied().unwrap_or("UNKNOWN"))
    }

    fn image(&self, server: &'a Server) -> Image<'a> {
        match &server.spec.image {
            None => Image::None(""),
            Some(image) => Image::Of {
                id: &image.id,
                links: Links::bookmark(self.root, "images", &image.id),
                properties: Some(&image.properties),
            },
        }
    }

    fn flavor(&self, server: &'a Server) -> Flavor<'a> {
        let flavor = &server.spec.flavor;
        Flavor {
            id: Some(&flavor.id),
            links: Some(Links::bookmark(self.root, "flavors", &flavor.id)),
            original_name: Some(&flavor.name),
            vcpus: Some(flavor.vcpus),
            ram: Some(flavor.memory_mib),
            disk: Some(flavor.root_gib),
            ephemeral: Some(flavor.ephemeral_gib),
            swap: Some(flavor.swap_mib),
            extra_specs: Some(&flavor.extra_specs),
        }
    }
}

/// A server of a cell that does not answer.
pub(super) fn unknown<'a>(root: &'a str, id: &'a str, mapped: &'a Mapped, detail: bool) -> UnknownServer<'a> {
    UnknownServer {
        id,
        status: "UNKNOWN",
        links: Links::pair(root, "servers", id),
        tenant_id: detail.then_some(mapped.project_id.as_str()),
        created: detail.then(|| mapped.created_at.iso()),
    }
}

pub(super) fn disk_config(config: DiskConfig) -> &'static str {
    match config {
        DiskConfig::Auto => "AUTO",
        DiskConfig::Manual => "MANUAL",
    }
}

fn security_groups(names: &[String]) -> Option<Vec<SecurityGroup<'_>>> {
    let groups = names.iter().map(|name| SecurityGroup { name });
    (!names.is_empty()).then(|| groups.collect())
}

fn volumes(server: &Server) -> Vec<(String, bool)> {
    let shown = server.state.volumes.iter().filter(|device| device.attachment_id.is_some());
    shown.filter_map(|device| Some((device.volume_id?.to_string(), device.delete_on_termination))).collect()
}

fn attached(volumes: &[(String, bool)]) -> Vec<AttachedVolume<'_>> {
    volumes.iter().map(|(id, goes)| AttachedVolume { id, delete_on_termination: Some(*goes) }).collect()
}

/// Details only to administrators where the failure is ours: there may be more in them than the owner should know.
fn fault(server: &Server, status: Status, admin: bool) -> Option<Fault<'_>> {
    if !matches!(status, Status::Error | Status::Deleted) {
        return None;
    }
    let fault = server.state.fault.as_ref()?;
    let details = fault.details.as_deref().filter(|_| admin || fault.code != 500);
    Some(Fault { code: fault.code, message: &fault.message, created: fault.created.iso(), details })
}
