use std::time::{Duration, Instant};

use http::Method;
use umbel_client::{Call, Cloud, NewServer};
use umbel_core::{Error, MIB, Result};

use super::Bench;
use super::boot::{all_active, all_gone, upload};
use super::report::Figure;

/// Asked for in one request at most: upstream refuses more by its own limits.
const CHUNK: u32 = 100;
const WINDOW: Duration = Duration::from_secs(3);

pub async fn run(bench: &Bench, counts: &[u32], runs: usize) -> Result<Vec<Figure>> {
    let image = upload(bench, 16 * MIB).await?;
    let mut figures = Vec::new();
    let mut have = 0;
    let mut servers = Vec::new();
    for &count in counts {
        while have < count {
            let now = CHUNK.min(count - have);
            let new = NewServer { name: &bench.mark, image_id: &image, flavor_id: &bench.flavor, count: now };
            bench.cloud.create_server(&new).await?;
            have += now;
            servers = all_active(bench, &bench.mark, have as usize).await?;
        }
        let mut times = Vec::new();
        for _ in 0..runs {
            let begun = Instant::now();
            page(&bench.cloud).await?;
            times.push(begun.elapsed());
        }
        figures.push(Figure::of_times(format!("GET /servers/detail, {count} servers, 1 client"), &times));
        let rate = rate(8, WINDOW, || page(&bench.cloud)).await?;
        figures.push(Figure::of(format!("GET /servers/detail, {count} servers, 8 clients"), "1/s", &[rate]));
    }
    for id in servers {
        bench.cloud.delete_server(&id).await?;
    }
    all_gone(bench, &bench.mark).await?;
    bench.cloud.delete("image", &format!("/v2/images/{image}")).await?;
    bench.close().await?;
    Ok(figures)
}

async fn page(cloud: &Cloud) -> Result<()> {
    cloud.bytes(Call::new("compute", Method::GET, "/servers/detail?limit=1000").version("2.60")).await.map(drop)
}

/// How many calls a second `clients` get through, each asking again as soon as it is answered.
pub async fn rate<F, Fut>(clients: usize, window: Duration, call: F) -> Result<f64>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let begun = Instant::now();
    let client = async || {
        let mut done = 0_u32;
        while begun.elapsed() < window {
            call().await?;
            done += 1;
        }
        Ok::<u32, Error>(done)
    };
    let done = futures_util::future::try_join_all((0..clients).map(|_| client())).await?;
    Ok(f64::from(done.iter().sum::<u32>()) / begun.elapsed().as_secs_f64())
}
