//! Servers: routes and answers. What a request may say stands in [`super::server_fields`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Links, NextLink};
use crate::{Method, Microversion, Route, Rule, Versioned};

const ALL: &str = "/v2.1/servers";
const ONE: &str = "/v2.1/servers/{server_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "os_compute_api:servers:index", Rule::Reader);
pub static DETAIL: Route =
    Route::new(Method::Get, "/v2.1/servers/detail", "os_compute_api:servers:detail", Rule::Reader);
pub static CREATE: Route = Route::new(Method::Post, ALL, "os_compute_api:servers:create", Rule::Member);
pub static SHOW: Route = Route::new(Method::Get, ONE, "os_compute_api:servers:show", Rule::Reader);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "os_compute_api:servers:update", Rule::Member);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "os_compute_api:servers:delete", Rule::Member);

/// Which answer a server stands in; they differ by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Show,
    Detail,
    /// The answer to `PUT`; with 2.75 it became the same as [`View::Show`].
    Update,
}

/// A server, with everything any version shows.
///
/// An attribute that may be null is an `Option<Option<_>>`: the outer one says whether it is shown at all.
#[derive(Debug, Serialize)]
pub struct Server<'a> {
    #[serde(skip)]
    pub view: View,
    #[serde(skip)]
    pub admin: bool,

    pub id: &'a str,
    pub name: &'a str,
    pub status: &'static str,
    pub tenant_id: &'a str,
    pub user_id: &'a str,
    pub created: String,
    pub updated: String,
    #[serde(rename = "hostId")]
    pub host_id: &'a str,
    pub image: Image<'a>,
    pub flavor: Flavor<'a>,
    pub metadata: &'a BTreeMap<String, String>,
    pub addresses: BTreeMap<&'a str, Vec<Address<'a>>>,
    pub links: Links<'a>,
    #[serde(rename = "accessIPv4")]
    pub access_ip_v4: &'static str,
    #[serde(rename = "accessIPv6")]
    pub access_ip_v6: &'static str,
    #[serde(rename = "OS-DCF:diskConfig")]
    pub disk_config: &'static str,
    /// Only while it can change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// Only of a server in error, or deleted after an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault<'a>>,

    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_drive: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<SecurityGroup<'a>>>,
    #[serde(rename = "OS-SRV-USG:launched_at", skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<Option<String>>,
    #[serde(rename = "OS-SRV-USG:terminated_at", skip_serializing_if = "Option::is_none")]
    pub terminated_at: Option<Option<String>>,
    #[serde(rename = "OS-EXT-AZ:availability_zone", skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<&'a str>,
    #[serde(rename = "OS-EXT-STS:task_state", skip_serializing_if = "Option::is_none")]
    pub task_state: Option<Option<&'static str>>,
    #[serde(rename = "OS-EXT-STS:vm_state", skip_serializing_if = "Option::is_none")]
    pub vm_state: Option<&'static str>,
    #[serde(rename = "OS-EXT-STS:power_state", skip_serializing_if = "Option::is_none")]
    pub power_state: Option<u8>,
    #[serde(rename = "os-extended-volumes:volumes_attached", skip_serializing_if = "Option::is_none")]
    pub volumes_attached: Option<Vec<AttachedVolume<'a>>>,

    // For administrators.
    #[serde(rename = "OS-EXT-SRV-ATTR:host", skip_serializing_if = "Option::is_none")]
    pub host: Option<Option<&'a str>>,
    #[serde(rename = "OS-EXT-SRV-ATTR:hypervisor_hostname", skip_serializing_if = "Option::is_none")]
    pub hypervisor_hostname: Option<Option<&'a str>>,
    #[serde(rename = "OS-EXT-SRV-ATTR:instance_name", skip_serializing_if = "Option::is_none")]
    pub instance_name: Option<String>,
    /// 2.3; all users from 2.90.
    #[serde(rename = "OS-EXT-SRV-ATTR:hostname", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<&'a str>,
    /// 2.3, as the six after it.
    #[serde(rename = "OS-EXT-SRV-ATTR:reservation_id", skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<&'a str>,
    #[serde(rename = "OS-EXT-SRV-ATTR:launch_index", skip_serializing_if = "Option::is_none")]
    pub launch_index: Option<u32>,
    #[serde(rename = "OS-EXT-SRV-ATTR:kernel_id", skip_serializing_if = "Option::is_none")]
    pub kernel_id: Option<&'static str>,
    #[serde(rename = "OS-EXT-SRV-ATTR:ramdisk_id", skip_serializing_if = "Option::is_none")]
    pub ramdisk_id: Option<&'static str>,
    #[serde(rename = "OS-EXT-SRV-ATTR:root_device_name", skip_serializing_if = "Option::is_none")]
    pub root_device_name: Option<Option<&'static str>>,
    #[serde(rename = "OS-EXT-SRV-ATTR:user_data", skip_serializing_if = "Option::is_none")]
    pub user_data: Option<Option<&'a str>>,
    /// 2.16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_status: Option<&'static str>,

    /// 2.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// 2.19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<&'a str>>,
    /// 2.26.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<&'a [String]>,
    /// 2.63.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_image_certificates: Option<Option<&'a [String]>>,
    /// 2.71, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_groups: Option<&'a [String]>,
    /// 2.73.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_reason: Option<Option<&'a str>>,
    /// 2.96.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_availability_zone: Option<Option<&'a str>>,
    /// 2.100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_hints: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

/// The image a server was made from; an empty text for one booted from a volume.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Image<'a> {
    None(&'static str),
    Of {
        id: &'a str,
        links: Links<'a>,
        /// 2.98.
        #[serde(skip_serializing_if = "Option::is_none")]
        properties: Option<&'a BTreeMap<String, String>>,
    },
}

/// A server's flavor: a reference up to 2.46, a copy from 2.47.
#[derive(Debug, Serialize)]
pub struct Flavor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<Links<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram: Option<u64>,
    /// GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<u64>,
    /// MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_specs: Option<&'a BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
pub struct Fault<'a> {
    pub code: u16,
    pub message: &'a str,
    pub created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub struct SecurityGroup<'a> {
    pub name: &'a str,
}

#[derive(Debug, Serialize)]
pub struct AttachedVolume<'a> {
    pub id: &'a str,
    /// 2.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct Address<'a> {
    pub version: u8,
    pub addr: &'a str,
    #[serde(rename = "OS-EXT-IPS:type")]
    pub kind: &'static str,
    #[serde(rename = "OS-EXT-IPS-MAC:mac_addr")]
    pub mac_addr: &'a str,
}

impl Versioned for Server<'_> {
    fn patch(&mut self, version: Microversion) {
        let from = |minor: u16| version.at_least(2, minor);
        if !from(3) {
            self.reservation_id = None;
            self.launch_index = None;
            self.kernel_id = None;
            self.ramdisk_id = None;
            self.root_device_name = None;
            self.user_data = None;
            for volume in self.volumes_attached.iter_mut().flatten() {
                volume.delete_on_termination = None;
            }
        }
        if !from(3) || (!from(90) && !self.admin) {
            self.hostname = None;
        }
        if !from(9) {
            self.locked = None;
        }
        if !from(16) {
            self.host_status = None;
        }
        if !from(19) {
            self.description = None;
        }
        if !from(26) {
            self.tags = None;
        }
        self.flavor.patch(version);
        if !from(63) {
            self.trusted_image_certificates = None;
        }
        if !from(71) || self.view == View::Detail {
            self.server_groups = None;
        }
        if !from(73) {
            self.locked_reason = None;
        }
        if !from(75) && self.view == View::Update {
            self.leave_what_update_answered();
        }
        if !from(96) {
            self.pinned_availability_zone = None;
        }
        if let (false, Image::Of { properties, .. }) = (from(98), &mut self.image) {
            *properties = None;
        }
        if !from(100) {
            self.scheduler_hints = None;
        }
    }
}

impl Server<'_> {
    fn leave_what_update_answered(&mut self) {
        self.key_name = None;
        self.config_drive = None;
        self.security_groups = None;
        self.launched_at = None;
        self.terminated_at = None;
        self.availability_zone = None;
        self.task_state = None;
        self.vm_state = None;
        self.power_state = None;
        self.volumes_attached = None;
        self.host = None;
        self.hypervisor_hostname = None;
        self.instance_name = None;
        self.hostname = None;
        self.reservation_id = None;
        self.launch_index = None;
        self.kernel_id = None;
        self.ramdisk_id = None;
        self.root_device_name = None;
        self.user_data = None;
        self.host_status = None;
    }
}

impl Versioned for Flavor<'_> {
    fn patch(&mut self, version: Microversion) {
        if version.at_least(2, 47) {
            self.id = None;
            self.links = None;
            return;
        }
        let reference = Flavor {
            id: self.id,
            links: self.links,
            original_name: None,
            vcpus: None,
            ram: None,
            disk: None,
            ephemeral: None,
            swap: None,
            extra_specs: None,
        };
        *self = reference;
    }
}

/// A server of a cell that does not answer: what the map knows of it. 2.69.
#[derive(Debug, Serialize)]
pub struct UnknownServer<'a> {
    pub id: &'a str,
    pub status: &'static str,
    pub links: Links<'a>,
    /// Not in the short list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Listed<'a> {
    Known(Box<Server<'a>>),
    Unknown(UnknownServer<'a>),
}

impl Versioned for Listed<'_> {
    fn patch(&mut self, version: Microversion) {
        match self {
            Listed::Known(server) => server.patch(version),
            Listed::Unknown(_) => {}
        }
    }
}

/// `GET /servers`.
#[derive(Debug, Serialize)]
pub struct ShortList<'a> {
    pub servers: Vec<ShortListed<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers_links: Vec<NextLink>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ShortListed<'a> {
    Known { id: &'a str, name: &'a str, links: Links<'a> },
    Unknown(UnknownServer<'a>),
}

/// `GET /servers/detail`.
#[derive(Debug, Serialize)]
pub struct DetailList<'a> {
    pub servers: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers_links: Vec<NextLink>,
}

impl Versioned for DetailList<'_> {
    fn patch(&mut self, version: Microversion) {
        self.servers.patch(version);
    }
}

/// `GET` and `PUT /servers/{id}`.
#[derive(Debug, Serialize)]
pub struct OneServer<'a> {
    pub server: Listed<'a>,
}

impl Versioned for OneServer<'_> {
    fn patch(&mut self, version: Microversion) {
        self.server.patch(version);
    }
}

/// `POST /servers`.
#[derive(Serialize)]
pub struct Created<'a> {
    pub server: CreatedServer<'a>,
}

/// Not `Debug`: it holds the password, this once.
#[derive(Serialize)]
pub struct CreatedServer<'a> {
    pub id: &'a str,
    pub links: Links<'a>,
    #[serde(rename = "OS-DCF:diskConfig")]
    pub disk_config: &'static str,
    pub security_groups: Vec<SecurityGroup<'a>>,
    #[serde(rename = "adminPass")]
    pub admin_pass: &'a str,
}

/// `POST /servers` with `return_reservation_id`.
#[derive(Debug, Serialize)]
pub struct Reserved<'a> {
    pub reservation_id: &'a str,
}
