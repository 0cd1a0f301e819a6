use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use serde_json::json;
use umbel_client::{Body, ByteStream, Call, NewServer};
use umbel_core::{Error, GIB, Kind, MIB, Result};

use super::report::Figure;
use super::{Bench, LIMIT, POLL};

/// The sizes whose ratio says whether the start-up time depends on the image.
const SIZES: [(&str, u64); 2] = [("64 MiB", 64 * MIB), ("2 GiB", 2 * GIB)];

pub async fn one_by_one(bench: &Bench, runs: usize) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut medians = Vec::new();
    for (label, size) in SIZES {
        let image = upload(bench, size).await?;
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for run in 0..runs {
            let name = format!("{}-{run}", bench.mark);
            let new = NewServer { name: &name, image_id: &image, flavor_id: &bench.flavor, count: 1 };
            let begun = Instant::now();
            let id = bench.cloud.create_server(&new).await?;
            bench.cloud.wait_active(&id, POLL, LIMIT).await?;
            starts.push(begun.elapsed());
            let begun = Instant::now();
            bench.cloud.delete_server(&id).await?;
            bench.cloud.wait_gone(&id, POLL, LIMIT).await?;
            ends.push(begun.elapsed());
        }
        let start = Figure::of_times(format!("POST to ACTIVE, raw {label}"), &starts);
        medians.push(start.median);
        figures.push(start);
        figures.push(Figure::of_times(format!("DELETE to gone, raw {label}"), &ends));
        bench.cloud.delete("image", &format!("/v2/images/{image}")).await?;
    }
    figures.push(Figure::of("POST to ACTIVE, 2 GiB / 64 MiB", "ratio", &[medians[1] / medians[0]]));
    bench.close().await?;
    Ok(figures)
}

pub async fn batch(bench: &Bench, count: u32, runs: usize) -> Result<Vec<Figure>> {
    let image = upload(bench, 64 * MIB).await?;
    let (mut posts, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let name = format!("{}-{run}", bench.mark);
        let new = NewServer { name: &name, image_id: &image, flavor_id: &bench.flavor, count };
        let begun = Instant::now();
        bench.cloud.create_server(&new).await?;
        posts.push(begun.elapsed());
        let servers = all_active(bench, &name, count as usize).await?;
        starts.push(begun.elapsed());
        let begun = Instant::now();
        for id in servers {
            bench.cloud.delete_server(&id).await?;
        }
        all_gone(bench, &name).await?;
        ends.push(begun.elapsed());
    }
    bench.cloud.delete("image", &format!("/v2/images/{image}")).await?;
    bench.close().await?;
    let rates: Vec<f64> = starts.iter().map(|time| f64::from(count) / time.as_secs_f64()).collect();
    Ok(vec![
        Figure::of_times(format!("POST of {count} servers"), &posts),
        Figure::of_times(format!("{count} servers, all ACTIVE"), &starts),
        Figure::of(format!("{count} servers, ACTIVE per second"), "1/s", &rates),
        Figure::of_times(format!("{count} servers, all deleted"), &ends),
    ])
}

/// Waits until as many servers of this name are ACTIVE; their ids.
pub async fn all_active(bench: &Bench, name: &str, count: usize) -> Result<Vec<String>> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let servers = bench.cloud.servers(name).await?;
        if let Some(failed) = servers.iter().find(|server| server.status == "ERROR") {
            let reason = failed.fault.as_ref().map_or("no reason given", |fault| fault.message.as_str());
            return Err(Error::conflict(format!("Server {} is in ERROR: {reason}", failed.id)));
        }
        if servers.iter().filter(|server| server.status == "ACTIVE").count() >= count {
            return Ok(servers.into_iter().map(|server| server.id).collect());
        }
        wait(deadline, servers.len()).await?;
    }
}

pub async fn all_gone(bench: &Bench, name: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let servers = bench.cloud.servers(name).await?;
        if servers.is_empty() {
            return Ok(());
        }
        wait(deadline, servers.len()).await?;
    }
}

async fn wait(deadline: Instant, left: usize) -> Result<()> {
    if Instant::now() > deadline {
        return Err(Error::new(Kind::Timeout, format!("{left} servers did not get there in time.")));
    }
    // A list costs more than a look at one server, on upstream by far: looking more often would slow what is measured.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// A raw image of this size with data all over, as an installed system has: every tenth MiB is not zero. It does not
/// boot.
pub async fn upload(bench: &Bench, size: u64) -> Result<String> {
    let zero = Bytes::from(vec![0; MIB as usize]);
    let data = Bytes::from((0..MIB).map(|at| (at * 31 % 251) as u8).collect::<Vec<u8>>());
    let chunks = (0..size / MIB).map(move |at| Ok(if at % 10 == 1 { data.clone() } else { zero.clone() }));
    upload_bytes(bench, Box::pin(stream::iter(chunks))).await
}

/// A raw image of these bytes.
pub async fn upload_bytes(bench: &Bench, bytes: ByteStream) -> Result<String> {
    let body = json!({"name": bench.mark, "disk_format": "raw", "container_format": "bare"});
    let made: serde_json::Value = bench.cloud.post("image", "/v2/images", None, &body).await?;
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v2/images/{id}/file");
    let call = Call::new("image", Method::PUT, &path)
        .headers(&[("content-type", "application/octet-stream")])
        .body(Body::Stream(bytes));
    bench.cloud.bytes(call).await?;
    Ok(id)
}
