//! What a user of volumes waits for, one volume after the other: made in each way, snapshotted, plugged into a running
//! server and out of it, booted from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use umbel_client::NewServer;
use umbel_core::{GIB, Result};

use super::report::Figure;
use super::storage::{gone, made, reaches};
use super::{Bench, LIMIT, POLL, boot};

/// Times by what was done, in the order in which it is done.
#[derive(Default)]
struct Times(BTreeMap<(usize, &'static str), Vec<Duration>>);

impl Times {
    fn add(&mut self, place: usize, what: &'static str, begun: Instant) {
        self.0.entry((place, what)).or_default().push(begun.elapsed());
    }
}

pub async fn run(bench: &Bench, runs: usize) -> Result<Vec<Figure>> {
    super::lift_quota(&bench.cloud, "block-storage", &["volumes", "gigabytes", "snapshots"]).await?;
    let image = boot::upload(bench, 2 * GIB).await?;
    let new = NewServer { name: &bench.mark, image_id: &image, flavor_id: &bench.flavor, count: 1 };
    let server = bench.cloud.create_server(&new).await?;
    bench.cloud.wait_active(&server, POLL, LIMIT).await?;
    let mut times = Times::default();
    for _ in 0..runs {
        once(bench, &image, &server, &mut times).await?;
    }
    bench.cloud.delete_server(&server).await?;
    bench.cloud.wait_gone(&server, POLL, LIMIT).await?;
    bench.cloud.delete("image", &format!("/v2/images/{image}")).await?;
    bench.close().await?;
    Ok(times.0.iter().map(|((_, what), times)| Figure::of_times(*what, times)).collect())
}

async fn once(bench: &Bench, image: &str, server: &str, times: &mut Times) -> Result<()> {
    let cloud = &bench.cloud;
    let volume = async |source: Value| {
        let mut body = json!({"name": bench.mark, "size": 2});
        if let (Some(body), Value::Object(source)) = (body.as_object_mut(), source) {
            body.extend(source);
        }
        made(cloud, "volume", "/volumes", &json!({"volume": body})).await
    };
    let begun = Instant::now();
    let blank = volume(json!({})).await?;
    times.add(0, "volume, empty", begun);

    let begun = Instant::now();
    let system = volume(json!({"imageRef": image})).await?;
    times.add(1, "volume from an image of 2 GiB", begun);

    let begun = Instant::now();
    let new = json!({"snapshot": {"name": bench.mark, "volume_id": system}});
    let snapshot = made(cloud, "snapshot", "/snapshots", &new).await?;
    times.add(2, "snapshot", begun);

    let begun = Instant::now();
    let copy = volume(json!({"snapshot_id": snapshot})).await?;
    times.add(3, "volume from a snapshot", begun);

    let attachments = format!("/servers/{server}/os-volume_attachments");
    let begun = Instant::now();
    let body = json!({"volumeAttachment": {"volumeId": blank}});
    let _: Value = cloud.post("compute", &attachments, None, &body).await?;
    reaches(cloud, "volume", &format!("/volumes/{blank}"), "in-use").await?;
    times.add(4, "attached to a running server", begun);

    let begun = Instant::now();
    cloud.delete("compute", &format!("{attachments}/{blank}")).await?;
    reaches(cloud, "volume", &format!("/volumes/{blank}"), "available").await?;
    times.add(5, "detached", begun);

    let begun = Instant::now();
    let booted = boot_from(bench, image).await?;
    times.add(6, "server with a new volume from an image of 2 GiB", begun);
    cloud.delete_server(&booted).await?;
    cloud.wait_gone(&booted, POLL, LIMIT).await?;

    gone(cloud, "/snapshots", &snapshot).await?;
    for volume in [&copy, &system, &blank] {
        let begun = Instant::now();
        gone(cloud, "/volumes", volume).await?;
        times.add(7, "volume deleted", begun);
    }
    Ok(())
}

async fn boot_from(bench: &Bench, image: &str) -> Result<String> {
    let disk = json!({"boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "volume",
        "volume_size": 2, "delete_on_termination": true});
    let server = json!({"name": bench.mark, "flavorRef": bench.flavor, "networks": "none",
        "block_device_mapping_v2": [disk]});
    let made: Value = bench.cloud.post("compute", "/servers", Some("2.37"), &json!({"server": server})).await?;
    let id = made["server"]["id"].as_str().unwrap_or_default().to_owned();
    bench.cloud.wait_active(&id, POLL, LIMIT).await?;
    Ok(id)
}
