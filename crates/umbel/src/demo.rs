//! The main job as a story: upload an image, boot a server whose disk is a clone of it, see it run, delete it; by the
//! public API alone, as any client would.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use umbel_client::{Body, ByteStream, Call, Cloud, NewServer};
use umbel_core::{Error, Kind, Result, Timestamp};

use crate::progress::{Transfer, Waiting};

/// The line that the guest image prints when it is up.
pub const READY: &str = "umbel-guest: ready";
/// Under emulation on a busy machine a boot takes its time.
pub const BOOT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);

/// The server of the demo, left running.
pub struct Demo {
    cloud: Cloud,
    server: String,
}

/// Where the guest image is: the given path, or where `make guest-image` puts it; built now if the tree's script is at hand.
pub async fn guest_image(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return match path.is_file() {
            true => Ok(path.to_owned()),
            false => Err(Error::not_found(format!("There is no guest image at {}.", path.display()))),
        };
    }
    let path = PathBuf::from(".umbel/guest.img");
    let script = Path::new("scripts/guest-image.sh");
    if path.is_file() || !script.is_file() {
        return match path.is_file() {
            true => Ok(path),
            false => {
                Err(Error::not_found("There is no guest image: run `make guest-image`, or give --guest-image FILE."))
            }
        };
    }
    let waiting = Waiting::start("building the guest image (make guest-image)");
    let output = tokio::process::Command::new("bash").arg(script).arg(&path).output().await.map_err(Error::internal)?;
    waiting.finish();
    match output.status.success() {
        true => Ok(path),
        false => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::unavailable(format!("The guest image was not built: {reason}")))
        }
    }
}

/// Runs the story up to the guest's first line.
pub async fn run(cloud: Cloud, guest: &Path) -> Result<Demo> {
    let image = image(&cloud, guest).await?;
    let flavor = flavor(&cloud).await?;
    println!("\nBooting a server from it:");
    let new = NewServer { name: "demo", image_id: &image, flavor_id: &flavor, count: 1 };
    let begun = Instant::now();
    let server = cloud.create_server(&new).await?;
    println!("  {:>8.1} ms  POST /servers answered: {server}", millis(begun.elapsed()));
    let demo = Demo { cloud, server };
    demo.cloud.wait_active(&demo.server, POLL, BOOT).await?;
    let active = begun.elapsed();
    demo.print_steps().await?;
    println!("  {:>8.1} ms  POST to ACTIVE, as a client sees it", millis(active));
    let waiting = Waiting::start("waiting for the guest's first line on its console");
    let line = console_line(&demo.cloud, &demo.server, &[READY], Instant::now() + BOOT).await;
    waiting.finish();
    println!("  {:>8.1} ms  the guest says: {}", millis(begun.elapsed()), line?);
    Ok(demo)
}

impl Demo {
    /// Deletes the server and sees it gone.
    pub async fn end(self) -> Result<()> {
        let begun = Instant::now();
        self.cloud.delete_server(&self.server).await?;
        self.cloud.wait_gone(&self.server, POLL, BOOT).await?;
        println!("  {:>8.1} ms  DELETE to gone", millis(begun.elapsed()));
        Ok(())
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// The create's events, as `openstack server event show` has them.
    async fn print_steps(&self) -> Result<()> {
        let path = format!("/servers/{}/os-instance-actions", self.server);
        let actions: Actions = self.cloud.get("compute", &path, Some("2.84")).await?;
        let Some(create) = actions.actions.iter().find(|action| action.action == "create") else {
            return Ok(());
        };
        let path = format!("{path}/{}", create.request_id);
        let shown: Shown = self.cloud.get("compute", &path, Some("2.84")).await?;
        let mut events = shown.action.events;
        events.sort_by(|a, b| a.start_time.cmp(&b.start_time));
        for event in events {
            let took = match (&event.finish_time, Timestamp::parse(&event.start_time)) {
                (Some(finish), Ok(start)) => Timestamp::parse(finish)?.since(start),
                _ => continue,
            };
            let details = event.details.map(|details| format!(": {details}")).unwrap_or_default();
            println!("  {:>8.1} ms  {}{details}", millis(took), event.event);
        }
        Ok(())
    }
}

/// The first line of the server's console that has one of these texts in it.
///
/// # Errors
/// `Timeout`, with the end of the console, if none has come by the deadline.
pub async fn console_line(cloud: &Cloud, server: &str, texts: &[&str], deadline: Instant) -> Result<String> {
    let path = format!("/servers/{server}/action");
    loop {
        let body = json!({"os-getConsoleOutput": {"length": null}});
        let console: Console = cloud.post("compute", &path, Some("2.60"), &body).await?;
        if let Some(line) = console.output.lines().find(|line| texts.iter().any(|text| line.contains(text))) {
            return Ok(line.trim().to_owned());
        }
        if Instant::now() > deadline {
            let tail: Vec<&str> = console.output.lines().rev().take(5).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            return Err(Error::new(Kind::Timeout, format!("The guest did not come up. Its console ends:\n{tail}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A file's bytes for an upload; `told` hears of each piece as it is read.
pub async fn bytes_of(file: &Path, told: impl Fn(u64) + Send + 'static) -> Result<ByteStream> {
    let file = tokio::fs::File::open(file).await.map_err(Error::internal)?;
    let chunks = stream::try_unfold((file, told), async |(mut file, told)| {
        let mut chunk = vec![0; 1 << 20];
        let read = file.read(&mut chunk).await.map_err(Error::internal)?;
        chunk.truncate(read);
        told(read as u64);
        Ok((read > 0).then(|| (Bytes::from(chunk), (file, told))))
    });
    Ok(Box::pin(chunks))
}

#[derive(Deserialize)]
struct Actions {
    #[serde(rename = "instanceActions")]
    actions: Vec<Action>,
}

#[derive(Deserialize)]
struct Action {
    action: String,
    request_id: String,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(rename = "instanceAction")]
    action: Events,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    event: String,
    start_time: String,
    finish_time: Option<String>,
    details: Option<String>,
}

#[derive(Deserialize)]
struct Console {
    output: String,
}

#[derive(Deserialize)]
struct Listed {
    images: Vec<Named>,
}

#[derive(Deserialize)]
struct Flavors {
    flavors: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    name: Option<String>,
}

/// The guest image in the cloud; uploaded if no active one of its name and size is there.
async fn image(cloud: &Cloud, guest: &Path) -> Result<String> {
    let size = std::fs::metadata(guest).map_err(Error::internal)?.len();
    let path = format!("/v2/images?name=umbel-guest&status=active&size_min={size}&size_max={size}");
    let listed: Listed = cloud.get("image", &path, None).await?;
    if let Some(image) = listed.images.into_iter().next() {
        println!("Image umbel-guest is there already: {}", image.id);
        return Ok(image.id);
    }
    println!("Uploading the image umbel-guest ({} MiB):", size >> 20);
    let begun = Instant::now();
    let body = json!({"name": "umbel-guest", "disk_format": "raw", "container_format": "bare", "visibility": "public"});
    let made: Named = cloud.post("image", "/v2/images", None, &body).await?;
    let transfer = std::sync::Arc::new(Transfer::start("upload", size));
    let counting = transfer.clone();
    let chunks = bytes_of(guest, move |read| counting.add(read)).await?;
    let path = format!("/v2/images/{}/file", made.id);
    let call = Call::new("image", Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Stream(chunks));
    let sent = cloud.bytes(call).await;
    transfer.finish();
    sent?;
    println!("  {:>8.1} ms  uploaded, hashed, snapshotted: {}", millis(begun.elapsed()), made.id);
    Ok(made.id)
}

async fn flavor(cloud: &Cloud) -> Result<String> {
    let flavors: Flavors = cloud.get("compute", "/flavors", None).await?;
    flavors
        .flavors
        .into_iter()
        .find(|flavor| flavor.name.as_deref() == Some("m1.nano"))
        .map(|flavor| flavor.id)
        .ok_or_else(|| Error::not_found("The flavor m1.nano is gone; the demo needs it."))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
