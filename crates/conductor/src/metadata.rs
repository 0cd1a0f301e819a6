//! What a config drive says, in the layout that cloud-init and its like read: `openstack/<version>/...`, where every
//! version directory a client may look for holds the same documents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use umbel_bus::{Blob, ConfigFile};
use umbel_compute::model::{BlockDevice, Server};
use umbel_core::{Error, Result};

/// The newest, and the oldest with a network document; clients fall back between them.
const VERSIONS: [&str; 2] = ["latest", "2012-08-10"];

/// `openstack/*/meta_data.json`.
#[derive(Serialize)]
struct MetaData<'a> {
    uuid: String,
    name: &'a str,
    hostname: &'a str,
    availability_zone: &'a str,
    launch_index: u32,
    project_id: &'a str,
    meta: &'a std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_keys: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Key<'a>>>,
    /// Until the server is built: who can read it then was told it by the answer to the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_pass: Option<&'a str>,
    devices: Vec<Device<'a>>,
    dedicated_cpus: [(); 0],
}

/// A volume whose owner gave it a tag, by what the guest can find it.
#[derive(Serialize)]
struct Device<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    bus: &'static str,
    address: &'static str,
    serial: String,
    tags: [&'a str; 1],
}

#[derive(Serialize)]
struct Key<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a str,
}

pub(crate) fn files(server: &Server) -> Result<Vec<ConfigFile>> {
    let documents = [
        ("meta_data.json", Some(json_bytes(&meta_data(server))?)),
        // No network service yet: the guest is told that there is nothing to set up, which beats waiting for a lease.
        ("network_data.json", Some(json_bytes(&json!({"links": [], "networks": [], "services": []}))?)),
        ("vendor_data.json", Some(b"{}".to_vec())),
        ("user_data", user_data(server)?),
    ];
    let mut files = Vec::new();
    for version in VERSIONS {
        for (name, content) in &documents {
            if let Some(content) = content {
                let path = format!("openstack/{version}/{name}");
                files.push(ConfigFile { path, content: Blob(content.clone()) });
            }
        }
    }
    Ok(files)
}

fn meta_data(server: &Server) -> MetaData<'_> {
    let (spec, state) = (&server.spec, &server.state);
    let key = spec.key.as_ref();
    MetaData {
        uuid: server.id.to_string(),
        name: &state.name,
        hostname: &state.hostname,
        availability_zone: state.zone.as_deref().unwrap_or_default(),
        launch_index: spec.launch_index,
        project_id: &spec.project_id,
        meta: &state.metadata,
        public_keys: key.map(|key| [(key.name.clone(), key.public_key.as_str().into())].into_iter().collect()),
        keys: key.map(|key| vec![Key { name: &key.name, kind: &key.kind, data: &key.public_key }]),
        admin_pass: state.admin_pass.as_deref(),
        devices: state.volumes.iter().filter_map(device).collect(),
        dedicated_cpus: [],
    }
}

fn device(volume: &BlockDevice) -> Option<Device<'_>> {
    let tag = volume.tag.as_deref()?;
    let serial = volume.volume_id?.to_string().chars().take(20).collect();
    Some(Device { kind: "disk", bus: "virtio", address: "", serial, tags: [tag] })
}

fn user_data(server: &Server) -> Result<Option<Vec<u8>>> {
    let decode = |text: &String| STANDARD.decode(text).map_err(|error| Error::internal(error).because("user data"));
    server.spec.user_data.as_ref().map(decode).transpose()
}

fn json_bytes(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(Error::internal)
}
