use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use umbel_core::{Error, Result};

use crate::bench::BenchArgs;
use crate::certs::CertCommand;
use crate::config::Config;
use crate::storage::command::StorageArgs;
use crate::{bench, compose, doctor, logs, storage, up};

/// An OpenStack-compatible cloud in one binary.
#[derive(Parser)]
#[command(name = "umbel", version, disable_version_flag = true)]
pub struct Cli {
    /// What is logged, as RUST_LOG has it: `info`, `debug`, `umbel_agent=debug`.
    #[arg(long, global = true, env = "UMBEL_LOG", default_value = "warn,umbel=info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a whole cloud in this process, making what is missing.
    Up(UpArgs),
    /// Runs some roles of a cloud; others run elsewhere, with the same functions.
    Serve(ServeArgs),
    /// Makes the certificates with which conductors, agents and APIs of several processes know each other.
    #[command(subcommand)]
    Cert(CertCommand),
    /// Works on the databases.
    #[command(subcommand)]
    Db(DbCommand),
    /// Works on the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Says what this machine lacks, and the command that mends it.
    Doctor(CommonArgs),
    /// Measures a cloud, this one or any other, by public APIs.
    Bench(BenchArgs),
    /// Compares pools with databases, and draws who descends from whom.
    Storage(StorageArgs),
    /// Prints the version.
    Version,
}

#[derive(Args, Clone)]
pub struct CommonArgs {
    /// Configuration, TOML. Everything has a default.
    #[arg(long, env = "UMBEL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Holds all state; `DIR/clouds.yaml` names the cloud `umbel` for the administrator.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Use the pools images, vms and volumes of the Ceph cluster of this ceph.conf.
    #[arg(long, value_name = "CONF")]
    pub ceph: Option<PathBuf>,
    /// cephx user for --ceph, without `client.`.
    #[arg(long, default_value = "admin")]
    pub ceph_user: String,
}

#[derive(Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Port of all services; 0 takes a free one.
    #[arg(long)]
    pub port: Option<u16>,
    /// Boot a server and print how it went.
    #[arg(long)]
    pub demo: bool,
    /// End after the demo: 0 if it went well, else 1 with the reason.
    #[arg(long, requires = "demo")]
    pub once: bool,
    /// The demo's image; built by `make guest-image` if not given.
    #[arg(long, value_name = "FILE")]
    pub guest_image: Option<PathBuf>,
}

#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[arg(long)]
    pub port: Option<u16>,
    /// Roles of this process.
    #[arg(long, value_enum, required = true, value_delimiter = ',')]
    pub role: Vec<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Identity,
    Image,
    Volume,
    /// The compute API.
    Compute,
    /// Compute's workflows and reconcilers, and what agents report to.
    Conductor,
    /// Runs guests on this host.
    Agent,
}

impl Role {
    pub const ALL: [Role; 6] = [Role::Identity, Role::Image, Role::Volume, Role::Compute, Role::Conductor, Role::Agent];
}

#[derive(Subcommand)]
enum DbCommand {
    /// Brings all databases to the newest version.
    Migrate(CommonArgs),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Reads the configuration and says what is wrong with it.
    Check(CommonArgs),
}

pub fn main(cli: Cli) -> ExitCode {
    logs::begin(&cli.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Error::internal).and_then(|runtime| {
        let outcome = runtime.block_on(run(cli.command));
        // What still runs has been told to stop; a blocking call that hangs is not waited for.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("umbel: {}", error.for_log());
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => {
            let mut config = read_config(&args.common)?;
            config.listen.port = args.port.unwrap_or(config.listen.port);
            up::up(config, args).await
        }
        Command::Serve(args) => {
            let mut config = read_config(&args.common)?;
            config.listen.port = args.port.unwrap_or(config.listen.port);
            up::serve(config, &args.role).await
        }
        Command::Cert(command) => command.run(&read_config(command.common())?),
        Command::Db(DbCommand::Migrate(args)) => compose::migrate(&read_config(&args)?).await,
        Command::Config(ConfigCommand::Check(args)) => {
            read_config(&args)?;
            println!("The configuration is good.");
            Ok(())
        }
        Command::Doctor(args) => doctor::run(&read_config(&args)?).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Storage(args) => storage::command::run(args).await,
        Command::Version => {
            println!("umbel {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// The file if one is named, with the command line's words over it.
fn read_config(args: &CommonArgs) -> Result<Config> {
    let mut config = match &args.config {
        Some(path) => {
            let (config, unknown) = Config::read(path)?;
            for key in unknown {
                eprintln!("umbel: {}: the key '{key}' means nothing here", path.display());
            }
            config
        }
        None => Config::default(),
    };
    if let Some(dir) = &args.dir {
        config.dir.clone_from(dir);
    }
    if let Some(conf) = &args.ceph {
        config.use_ceph(&absolute(conf)?, &args.ceph_user);
    }
    Ok(config)
}

/// Guests are started with it, in another directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| Error::bad_request(format!("{} cannot be read: {error}.", path.display())))
}
