//! The directory that holds a cloud: its lock, its keys, the passwords it made, its `clouds.yaml`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use umbel_auth::SigningKey;
use umbel_core::{Error, Kind, Result, Rng};

/// A data directory that this process alone works in, for as long as it holds this.
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes what is missing and takes the lock.
    pub fn open(path: &Path) -> Result<StateDir> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Unavailable, format!("{} cannot be used: {error}.", path.display()))
        };
        fs::create_dir_all(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        for folder in ["db", "keys", "guests", "pools", "tmp"] {
            fs::create_dir_all(path.join(folder)).map_err(failed)?;
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::new(
                Kind::Conflict,
                format!("Another umbel runs in {}. Stop it, or choose another --dir.", path.display()),
            )
        })?;
        Ok(StateDir { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The key that signs tokens; made at the first start.
    pub fn signing_key(&self, rng: &dyn Rng) -> Result<SigningKey> {
        let seed = self.secret("keys/identity.seed", || hex(&SigningKey::generate(rng)))?;
        SigningKey::from_seed(&unhex(&seed)?)
    }

    /// The administrator's password; made at the first start.
    pub fn admin_password(&self, rng: &dyn Rng) -> Result<String> {
        self.secret("keys/admin.password", || random_hex(rng))
    }

    /// The password of the services' own user; made at the first start.
    pub fn service_password(&self, rng: &dyn Rng) -> Result<String> {
        self.secret("keys/service.password", || random_hex(rng))
    }

    pub fn service_password_file(&self) -> PathBuf {
        self.join("keys/service.password")
    }

    /// A password that another process made, or the operator.
    pub fn read_password(file: &Path) -> Result<String> {
        let text = fs::read_to_string(file).map_err(|error| {
            let hint = "It is keys/service.password below the directory of the process with identity; name a copy in \
                        services.password_file.";
            Error::bad_request(format!(
                "The services' password cannot be read from {}: {error}. {hint}",
                file.display()
            ))
        })?;
        Ok(text.trim().to_owned())
    }

    /// `clouds.yaml` for the administrator, under the name `umbel`.
    pub fn write_clouds_yaml(
        &self,
        auth_url: &str,
        password: &str,
        region: &str,
        authorities: Option<&Path>,
    ) -> Result<PathBuf> {
        let believed = match authorities {
            Some(path) => {
                // Clients run in other directories.
                let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
                format!("    cacert: {}\n", path.display())
            }
            None => String::new(),
        };
        let text = format!(
            "# Written by umbel at each start.\nclouds:\n  umbel:\n    auth:\n      auth_url: {auth_url}\n      \
             username: admin\n      password: {password}\n      project_name: admin\n      user_domain_name: Default\n      \
             project_domain_name: Default\n    region_name: {region}\n    interface: public\n    identity_api_version: 3\n{believed}"
        );
        let path = self.join("clouds.yaml");
        write_private(&path, &text)?;
        Ok(path)
    }

    fn secret(&self, name: &str, make: impl FnOnce() -> String) -> Result<String> {
        let path = self.path.join(name);
        let mut text = String::new();
        match File::open(&path) {
            Ok(mut file) => {
                file.read_to_string(&mut text).map_err(Error::internal)?;
                Ok(text.trim().to_owned())
            }
            Err(_) => {
                text = make();
                write_private(&path, &text)?;
                Ok(text)
            }
        }
    }
}

/// Whole or not at all, and for the owner's eyes only.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| Error::internal(error).because(format!("writing {}", path.display())))
}

fn random_hex(rng: &dyn Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len())
        .step_by(2)
        .map(|at| digits(at).ok_or_else(|| Error::internal("the signing key's file is damaged")))
        .collect()
}
