//! `umbel cert`: the certificates of the bus, from an authority that is kept in the state directory.
//!
//! The directory's lock is not taken: certificates are made while the cloud runs. An authority of the operator's own does
//! as well, if what it signs bears the names that [`umbel_bus::Authority`] gives.
//!
//! What was issued is written down beside the authority, so that a host can be revoked by its name; what was revoked goes
//! into a list that conductors and agents read from their own folders, whenever it changes there.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use umbel_bus::{Authority, Issued};
use umbel_core::{Clock, Error, Result, SystemClock};

use crate::cli::CommonArgs;
use crate::config::Config;
use crate::state::write_private;

#[derive(Subcommand)]
pub enum CertCommand {
    /// For a process with the role conductor, or with the role compute and no conductor.
    Control(ControlArgs),
    /// For the agent of a host. It lets the agent speak for that host alone.
    Agent(AgentArgs),
    /// Shuts out who shows one of these certificates.
    Revoke(RevokeArgs),
    /// What was issued, and whether it was revoked.
    List(CommonArgs),
}

#[derive(Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// A file with the certificate, its fingerprint (SHA-256), or who it was issued for: CELL/HOST, or `control`. Of a
    /// name all that were issued so far.
    #[arg(required = true, value_name = "FILE|FINGERPRINT|NAME")]
    what: Vec<String>,
}

#[derive(Args)]
pub struct ControlArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Gets ca.pem, cert.pem and key.pem; DIR/keys/bus if not given, where a process that runs in DIR looks.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct AgentArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// As the host's agent.host says, or the machine's name; several for one process with simulated hosts.
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// The host's cell; the first of database.cells if not given.
    #[arg(long)]
    cell: Option<String>,
    /// Gets ca.pem, cert.pem and key.pem, for DIR/keys/bus on the host.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl CertCommand {
    pub fn common(&self) -> &CommonArgs {
        match self {
            CertCommand::Control(args) => &args.common,
            CertCommand::Agent(args) => &args.common,
            CertCommand::Revoke(args) => &args.common,
            CertCommand::List(common) => common,
        }
    }

    pub fn run(&self, config: &Config) -> Result<()> {
        let keys = config.dir.join("keys");
        let now = SystemClock.now();
        match self {
            CertCommand::Control(args) => {
                let out = args.out.clone().unwrap_or_else(|| keys.join("bus"));
                hand_out(&keys, &authority(&keys)?.control(now)?, "control", &out)
            }
            CertCommand::Agent(args) => {
                let cell = args.cell.as_deref().unwrap_or_else(|| config.host_cell());
                let names: Vec<String> = args.hosts.iter().map(|host| format!("{cell}/{host}")).collect();
                hand_out(&keys, &authority(&keys)?.agent(now, cell, &args.hosts)?, &names.join(" "), &args.out)
            }
            CertCommand::Revoke(args) => revoke(&keys, &args.what),
            CertCommand::List(_) => {
                let revoked = read_or_empty(&keys.join(REVOKED))?;
                for line in read_or_empty(&keys.join(ISSUED))?.lines() {
                    let fingerprint = line.split(' ').next().unwrap_or_default();
                    println!("{line}{}", if revoked.contains(fingerprint) { "  revoked" } else { "" });
                }
                Ok(())
            }
        }
    }
}

/// Beside the authority: a line for each certificate, its fingerprint, the day, and whom it names.
const ISSUED: &str = "bus-issued";
/// Lines that begin with a fingerprint, as each process reads them from `revoked` in its folder.
const REVOKED: &str = "bus-revoked";

fn hand_out(keys: &Path, issued: &Issued, names: &str, out: &Path) -> Result<()> {
    let fingerprint = umbel_bus::fingerprint(&issued.certificate)?;
    let line = format!("{fingerprint} {} {names}\n", SystemClock.now().iso());
    // Before anybody has it: what is not written down cannot be revoked by its name.
    write_private(&keys.join(ISSUED), &(read_or_empty(&keys.join(ISSUED))? + &line))?;
    write(issued, out)?;
    let revoked = read_or_empty(&keys.join(REVOKED))?;
    if !revoked.is_empty() {
        write_private(&out.join("revoked"), &revoked)?;
    }
    println!("{} holds ca.pem, cert.pem and key.pem. They are good for 825 days.", out.display());
    Ok(())
}

fn revoke(keys: &Path, what: &[String]) -> Result<()> {
    let issued = read_or_empty(&keys.join(ISSUED))?;
    let mut list = read_or_empty(&keys.join(REVOKED))?;
    for word in what {
        let found = meant(&issued, word)?;
        for (fingerprint, names) in found {
            if list.contains(&fingerprint) {
                println!("{names} was revoked before: {fingerprint}");
                continue;
            }
            list.push_str(&format!("{fingerprint} {names}, {}\n", SystemClock.now().iso()));
            println!("{names} is revoked: {fingerprint}");
        }
    }
    let path = keys.join(REVOKED);
    write_private(&path, &list)?;
    let here = keys.join("bus");
    if here.is_dir() {
        write_private(&here.join("revoked"), &list)?;
        println!("The processes that run in this directory read it within seconds.");
    }
    println!("Copy {} to the folders of the other conductors' and agents' certificates, as `revoked`.", path.display());
    Ok(())
}

/// Fingerprints, with the names they were issued for.
fn meant(issued: &str, word: &str) -> Result<Vec<(String, String)>> {
    let entries = issued.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ' ');
        let (fingerprint, _, names) = (parts.next()?, parts.next()?, parts.next()?);
        Some((fingerprint.to_owned(), names.to_owned()))
    });
    let digits: String = word.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let fingerprint = if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Some(digits)
    } else if Path::new(word).is_file() {
        let text = std::fs::read_to_string(word)
            .map_err(|error| Error::bad_request(format!("{word} cannot be read: {error}.")))?;
        Some(umbel_bus::fingerprint(&text)?)
    } else {
        None
    };
    if let Some(fingerprint) = fingerprint {
        let names = entries.into_iter().find(|(known, _)| *known == fingerprint).map(|(_, names)| names);
        return Ok(vec![(fingerprint, names.unwrap_or_else(|| "a certificate of elsewhere".to_owned()))]);
    }
    let found: Vec<_> = entries.filter(|(_, names)| names.split(' ').any(|name| name == word)).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::not_found(format!(
            "'{word}' is no file, no fingerprint, and nothing was issued for it; `umbel cert list` says what was."
        ))),
    }
}

/// A file's text, or none where there is no file.
fn read_or_empty(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::bad_request(format!("{} cannot be read: {error}.", path.display()))),
    }
}

/// The one that is there, or a new one.
fn authority(keys: &Path) -> Result<Authority> {
    let (key, certificate) = (keys.join("bus-authority.key"), keys.join("bus-authority.pem"));
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Error::bad_request(format!("{} cannot be read: {error}.", path.display())))
    };
    if certificate.exists() {
        return Authority::from_pem(&read(&key)?, &read(&certificate)?);
    }
    make(keys)?;
    let made = Authority::create(SystemClock.now())?;
    let (key_pem, certificate_pem) = made.to_pem();
    // The certificate last: where it is, the key is.
    write_private(&key, &key_pem)?;
    write_private(&certificate, &certificate_pem)?;
    println!("{} is the bus's new authority; keep its key safe.", certificate.display());
    Ok(made)
}

fn write(issued: &Issued, out: &Path) -> Result<()> {
    make(out)?;
    write_private(&out.join("ca.pem"), &issued.ca)?;
    write_private(&out.join("cert.pem"), &issued.certificate)?;
    write_private(&out.join("key.pem"), &issued.key)
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::bad_request(format!("{} cannot be made: {error}.", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_meant_by_name_or_fingerprint() {
        let (one, two) = ("ab".repeat(32), "cd".repeat(32));
        let issued = format!("{one} 2026-11-21T10:00:00Z cell1/h1 cell1/h2\n{two} 2026-11-22T10:00:00Z cell1/h1\n");
        let meant = |word: &str| meant(&issued, word).map(|all| all.into_iter().map(|(it, _)| it).collect::<Vec<_>>());
        assert_eq!(meant("cell1/h1").unwrap(), [one.clone(), two.clone()]);
        assert_eq!(meant("cell1/h2").unwrap(), std::slice::from_ref(&one));
        assert_eq!(meant(&two.to_uppercase()).unwrap(), [two]);
        assert_eq!(meant(&["EF"; 32].join(":")).unwrap(), ["ef".repeat(32)]);
        assert!(meant("cell1/h3").is_err());
    }
}
