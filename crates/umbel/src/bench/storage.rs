//! Images up and down, against the plainest way to move as many bytes on the same machine; and volumes: clones,
//! snapshots and deletions per second, with as many under way at a time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use umbel_client::{Body, Call, Cloud};
use umbel_core::{Error, Kind, Result};

use super::report::Figure;
use super::{LIMIT, POLL};

/// How many at a time.
const WIDTHS: [usize; 3] = [1, 4, 16];

pub struct Asked {
    pub mib: usize,
    pub runs: usize,
    pub volumes: usize,
    /// Compares with `rbd import` and `rbd export` into this cluster, instead of with copying a file.
    pub ceph: Option<PathBuf>,
    pub ceph_pool: String,
}

pub async fn run(cloud: &Cloud, mark: &str, asked: &Asked) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    super::lift_quota(cloud, "block-storage", &["volumes", "gigabytes", "snapshots"]).await?;
    let image = transfers(cloud, mark, asked, &mut figures).await?;
    for width in WIDTHS {
        volumes(cloud, &format!("{mark}-{width}"), &image, asked.volumes, width, &mut figures).await?;
    }
    cloud.delete("image", &format!("/v2/images/{image}")).await?;
    Ok(figures)
}

/// The last image stays, to be cloned.
async fn transfers(cloud: &Cloud, mark: &str, asked: &Asked, figures: &mut Vec<Figure>) -> Result<String> {
    let size = asked.mib << 20;
    let data = noise(size);
    let scratch = std::env::temp_dir().join(mark);
    std::fs::create_dir_all(&scratch).map_err(Error::internal)?;
    let file = scratch.join("data");
    std::fs::write(&file, &data).map_err(Error::internal)?;
    let rate = |time: Duration| asked.mib as f64 / time.as_secs_f64();
    let (mut up, mut down, mut plain_up, mut plain_down) = (vec![], vec![], vec![], vec![]);
    let mut image = None;
    for run in 0..asked.runs.max(1) {
        if let Some(old) = image.take() {
            cloud.delete("image", &format!("/v2/images/{old}")).await?;
        }
        let begun = Instant::now();
        let id = upload(cloud, mark, data.clone()).await?;
        up.push(rate(begun.elapsed()));
        let begun = Instant::now();
        download(cloud, &id, size).await?;
        down.push(rate(begun.elapsed()));
        image = Some(id);
        let plain =
            Plain { asked, file: &file, to: scratch.join(format!("copy-{run}")), name: format!("{mark}-{run}") };
        let (there, back) = plain.both_ways().await?;
        plain_up.push(rate(there));
        plain_down.push(rate(back));
    }
    std::fs::remove_dir_all(&scratch).map_err(Error::internal)?;
    let (import, export) = match asked.ceph {
        Some(_) => ("rbd import", "rbd export"),
        None => ("file copy", "file copy back"),
    };
    for (name, rates) in [("image upload", &up), (import, &plain_up), ("image download", &down), (export, &plain_down)]
    {
        figures.push(Figure::of(name, "MiB/s", rates));
    }
    let ratios = |ours: &[f64], plain: &[f64]| ours.iter().zip(plain).map(|(a, b)| a / b).collect::<Vec<f64>>();
    figures.push(Figure::of(format!("upload / {import}"), "ratio", &ratios(&up, &plain_up)));
    figures.push(Figure::of(format!("download / {export}"), "ratio", &ratios(&down, &plain_down)));
    image.ok_or_else(|| Error::internal("no image was made"))
}

/// Bytes that neither compress nor are zero, the same each time.
fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(size + 8);
    while data.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(size);
    data.into()
}

async fn upload(cloud: &Cloud, name: &str, data: Bytes) -> Result<String> {
    let body = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
    let image: Value = cloud.post("image", "/v2/images", None, &body).await?;
    let id = image["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v2/images/{id}/file");
    let put = Call::new("image", Method::PUT, &path).headers(&[("content-type", "application/octet-stream")]);
    cloud.bytes(put.body(Body::Bytes(data))).await?;
    Ok(id)
}

async fn download(cloud: &Cloud, id: &str, size: usize) -> Result<()> {
    let path = format!("/v2/images/{id}/file");
    let response = cloud.send(Call::new("image", Method::GET, &path)).await?;
    let mut stream = response.into_body().into_stream();
    let mut received = 0;
    while let Some(chunk) = stream.next().await {
        received += chunk?.len();
    }
    match received == size {
        true => Ok(()),
        false => Err(Error::internal(format!("{received} bytes came of {size}"))),
    }
}

/// The same bytes without a cloud.
struct Plain<'a> {
    asked: &'a Asked,
    file: &'a Path,
    to: PathBuf,
    name: String,
}

impl Plain<'_> {
    async fn both_ways(&self) -> Result<(Duration, Duration)> {
        let Some(conf) = &self.asked.ceph else {
            return Ok((self.copy(self.file, &self.to)?, self.copy(&self.to, &self.to.with_extension("back"))?));
        };
        let image = format!("{}/{}", self.asked.ceph_pool, self.name);
        let there = rbd(conf, &["import", &self.file.to_string_lossy(), &image]).await?;
        let back = rbd(conf, &["export", &image, &self.to.to_string_lossy()]).await?;
        rbd(conf, &["rm", &image]).await?;
        Ok((there, back))
    }

    /// To the disk, as an image's bytes are when its upload is answered.
    fn copy(&self, from: &Path, to: &Path) -> Result<Duration> {
        let begun = Instant::now();
        std::fs::copy(from, to).map_err(Error::internal)?;
        std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(Error::internal)?;
        Ok(begun.elapsed())
    }
}

async fn rbd(conf: &Path, args: &[&str]) -> Result<Duration> {
    let begun = Instant::now();
    let output = Command::new("rbd").arg("-c").arg(conf).arg("--no-progress").args(args).output().await;
    let output = output.map_err(|error| Error::bad_request(format!("rbd cannot be run: {error}.")))?;
    match output.status.success() {
        true => Ok(begun.elapsed()),
        false => Err(Error::bad_request(format!("rbd: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}

/// Makes them, snapshots them, takes both away; each phase's rate is over all of its operations.
async fn volumes(
    cloud: &Cloud,
    mark: &str,
    image: &str,
    count: usize,
    width: usize,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let numbers: Vec<usize> = (0..count).collect();
    let (volumes, rate) = at_a_time(width, &numbers, |number| async move {
        let body = json!({"volume": {"name": format!("{mark}-{number}"), "size": 1, "imageRef": image}});
        made(cloud, "volume", "/volumes", &body).await
    })
    .await?;
    figures.push(Figure::of(format!("volumes from an image, {width} at a time"), "1/s", &[rate]));
    let (snapshots, rate) = at_a_time(width, &volumes, |volume| async move {
        made(cloud, "snapshot", "/snapshots", &json!({"snapshot": {"name": mark, "volume_id": volume}})).await
    })
    .await?;
    figures.push(Figure::of(format!("snapshots, {width} at a time"), "1/s", &[rate]));
    let (_, rate) = at_a_time(width, &snapshots, |id| gone(cloud, "/snapshots", id)).await?;
    figures.push(Figure::of(format!("snapshots deleted, {width} at a time"), "1/s", &[rate]));
    let (_, rate) = at_a_time(width, &volumes, |id| gone(cloud, "/volumes", id)).await?;
    figures.push(Figure::of(format!("volumes deleted, {width} at a time"), "1/s", &[rate]));
    Ok(())
}

/// What each gave, and how many were done in a second.
async fn at_a_time<'a, T, R, F, Fut>(width: usize, things: &'a [T], work: F) -> Result<(Vec<R>, f64)>
where
    F: Fn(&'a T) -> Fut,
    Fut: Future<Output = Result<R>>,
{
    let begun = Instant::now();
    let results: Vec<Result<R>> = futures_util::stream::iter(things).map(work).buffered(width).collect().await;
    let rate = things.len() as f64 / begun.elapsed().as_secs_f64();
    Ok((results.into_iter().collect::<Result<_>>()?, rate))
}

/// Its id, once it is available.
pub(super) async fn made(cloud: &Cloud, kind: &str, path: &str, body: &Value) -> Result<String> {
    let answer: Value = cloud.post("block-storage", path, None, body).await?;
    let id = answer[kind]["id"].as_str().unwrap_or_default().to_owned();
    reaches(cloud, kind, &format!("{path}/{id}"), "available").await?;
    Ok(id)
}

/// Waits until the volume or snapshot has this status.
pub(super) async fn reaches(cloud: &Cloud, kind: &str, one: &str, wanted: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let shown: Value = cloud.get("block-storage", one, None).await?;
        match shown[kind]["status"].as_str().unwrap_or_default() {
            status if status == wanted => return Ok(()),
            status if status.starts_with("error") || Instant::now() > deadline => {
                return Err(Error::conflict(format!("{one} is {status}, and not {wanted}.")));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

pub(super) async fn gone(cloud: &Cloud, path: &str, id: &str) -> Result<()> {
    let one = format!("{path}/{id}");
    cloud.delete("block-storage", &one).await?;
    let deadline = Instant::now() + LIMIT;
    loop {
        match cloud.get::<Value>("block-storage", &one, None).await {
            Err(error) if error.is(Kind::NotFound) => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) if Instant::now() > deadline => {
                return Err(Error::new(Kind::Timeout, format!("{id} is still there.")));
            }
            Ok(_) => tokio::time::sleep(POLL).await,
        }
    }
}
