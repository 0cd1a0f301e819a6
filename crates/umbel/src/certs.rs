//! `umbel cert`: the certificates of the bus, from an authority that is kept in the state directory.
//!
//! The directory's lock is not taken: certificates are made while the cloud runs. An authority of the operator's own does
//! as well, if what it signs bears the names that [`umbel_bus::Authority`] gives.

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
        }
    }

    pub fn run(&self, config: &Config) -> Result<()> {
        let authority = authority(&config.dir)?;
        let now = SystemClock.now();
        let (issued, out) = match self {
            CertCommand::Control(args) => {
                let out = args.out.clone().unwrap_or_else(|| config.dir.join("keys/bus"));
                (authority.control(now)?, out)
            }
            CertCommand::Agent(args) => {
                let cell = args.cell.as_deref().unwrap_or_else(|| config.host_cell());
                (authority.agent(now, cell, &args.hosts)?, args.out.clone())
            }
        };
        write(&issued, &out)?;
        println!("{} holds ca.pem, cert.pem and key.pem. They are good for 825 days.", out.display());
        Ok(())
    }
}

/// The one that is there, or a new one.
fn authority(dir: &Path) -> Result<Authority> {
    let keys = dir.join("keys");
    let (key, certificate) = (keys.join("bus-authority.key"), keys.join("bus-authority.pem"));
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Error::bad_request(format!("{} cannot be read: {error}.", path.display())))
    };
    if certificate.exists() {
        return Authority::from_pem(&read(&key)?, &read(&certificate)?);
    }
    make(&keys)?;
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
