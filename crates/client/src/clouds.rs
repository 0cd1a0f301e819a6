//! `clouds.yaml`, found where the OpenStack clients find it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use umbel_core::{Error, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Auth {
    pub auth_url: String,
    pub username: Option<String>,
    pub user_id: Option<String>,
    pub password: Option<String>,
    pub user_domain_name: Option<String>,
    pub user_domain_id: Option<String>,
    pub project_name: Option<String>,
    pub project_id: Option<String>,
    pub project_domain_name: Option<String>,
    pub project_domain_id: Option<String>,
    pub system_scope: Option<String>,
    pub application_credential_id: Option<String>,
    pub application_credential_secret: Option<String>,
}

/// One cloud of a `clouds.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CloudConfig {
    pub auth: Auth,
    pub region_name: Option<String>,
    #[serde(default = "public")]
    pub interface: String,
    #[serde(default = "yes")]
    pub verify: bool,
    /// PEM of authorities that are believed beside the system's.
    #[serde(default)]
    pub cacert: Option<PathBuf>,
}

fn public() -> String {
    "public".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct File {
    clouds: BTreeMap<String, CloudConfig>,
}

/// The cloud of this name: from the file that `OS_CLIENT_CONFIG_FILE` names, else `./clouds.yaml`,
/// `~/.config/openstack/clouds.yaml`, `/etc/openstack/clouds.yaml`; the first file there is.
pub fn find(name: &str) -> Result<CloudConfig> {
    let path = places().into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::not_found("There is no clouds.yaml: name one in OS_CLIENT_CONFIG_FILE, or put one in this folder.")
    })?;
    find_in(&path, name)
}

/// The cloud of this name in this file.
pub fn find_in(path: &Path, name: &str) -> Result<CloudConfig> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::not_found(format!("{} cannot be read: {error}.", path.display())))?;
    parse(&text, name).map_err(|error| error.because(path.display()))
}

fn parse(text: &str, name: &str) -> Result<CloudConfig> {
    let mut file: File = serde_norway::from_str(text)
        .map_err(|error| Error::bad_request(format!("clouds.yaml is not well formed: {error}.")))?;
    let known: Vec<String> = file.clouds.keys().cloned().collect();
    file.clouds.remove(name).ok_or_else(|| {
        Error::not_found(format!("clouds.yaml names no cloud '{name}'; it names: {}.", known.join(", ")))
    })
}

fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(file) = std::env::var_os("OS_CLIENT_CONFIG_FILE") {
        places.push(file.into());
    }
    places.push("clouds.yaml".into());
    if let Some(home) = std::env::var_os("HOME") {
        places.push(PathBuf::from(home).join(".config/openstack/clouds.yaml"));
    }
    places.push("/etc/openstack/clouds.yaml".into());
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_read() {
        let text = "clouds:\n  umbel:\n    auth: {auth_url: 'http://h/identity', username: admin, password: p, \
                    project_name: admin, user_domain_name: Default, project_domain_name: Default}\n    \
                    region_name: RegionOne\n    identity_api_version: 3\n";
        let cloud = parse(text, "umbel").unwrap();
        assert_eq!(cloud.auth.username.as_deref(), Some("admin"));
        assert_eq!(cloud.interface, "public");
        assert!(parse(text, "other").unwrap_err().message().contains("umbel"));
    }
}
