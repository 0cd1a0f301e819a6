//! `umbel up` and `umbel serve`: the same functions, with all roles or some.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use umbel_client::{Cloud, HttpTransport};
use umbel_core::{Error, Result};

use crate::cli::{Role, UpArgs};
use crate::config::Config;
use crate::demo;
use crate::running::Running;

/// How long running requests may take once we are told to stop.
const GRACE: Duration = Duration::from_secs(20);

pub async fn up(config: Config, args: UpArgs) -> Result<()> {
    // Before anything starts: a demo without its image would fail only after the cloud is up.
    let guest = match args.demo {
        true => Some(demo::guest_image(args.guest_image.as_deref()).await?),
        false => None,
    };
    let begun = Instant::now();
    let running = Running::start(config, &Role::ALL).await?;
    println!("umbel is up at {} ({:.0} ms)", running.url, begun.elapsed().as_secs_f64() * 1e3);
    println!("  {}", running.hypervisor);
    println!("  {}", running.storage);
    let story = match guest {
        Some(guest) => tell(&running, &guest, args.once).await,
        None => Ok(()),
    };
    if args.once || story.is_err() {
        running.stop(GRACE).await;
        return story;
    }
    let clouds = running.clouds_yaml();
    println!("\nPoint the client at it:\n  export OS_CLIENT_CONFIG_FILE={} OS_CLOUD=umbel", clouds.display());
    println!("  openstack server list\n\nCtrl-C stops umbel; servers run on and are found again at the next start.");
    stopped().await?;
    println!("stopping");
    running.stop(GRACE).await;
    Ok(())
}

pub async fn serve(config: Config, roles: &[Role]) -> Result<()> {
    let running = Running::start(config, roles).await?;
    let names: Vec<String> = roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
    match running.url.as_str() {
        "" => println!("umbel serves {}", names.join(", ")),
        url => println!("umbel serves {} at {url}", names.join(", ")),
    }
    println!("  {}", running.hypervisor);
    println!("  {}", running.storage);
    stopped().await?;
    running.stop(GRACE).await;
    Ok(())
}

async fn tell(running: &Running, guest: &std::path::Path, once: bool) -> Result<()> {
    let admin = running.admin();
    let cloud = Cloud::connect(&admin, std::sync::Arc::new(HttpTransport::of(&admin)?)).await?;
    let told = demo::run(cloud, guest).await?;
    match once {
        true => told.end().await,
        false => {
            println!("\nThe server runs: {}", told.server());
            Ok(())
        }
    }
}

/// Until Ctrl-C or a service manager's word.
async fn stopped() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
