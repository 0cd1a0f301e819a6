//! Images through a conductor: what an agent may read, and what it may fill.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use umbel_bus::{ByteStream, DiskRef, Task, ToAgents};
use umbel_core::{Error, Kind};
use uuid::Uuid;

use crate::world::{Outpost, Papers, Post, eventually};

async fn world() -> (Post, Outpost, Papers) {
    let papers = Papers::new();
    let post = Post::start(papers.control()).await;
    let outpost = Outpost::start("h1", papers.agent(&["h1"]), &[post.address]);
    outpost.up(1).await;
    eventually("the host is there", || post.hub.connected("h1")).await;
    (post, outpost, papers)
}

async fn collect(mut data: ByteStream) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(piece) = data.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

#[tokio::test]
async fn an_agent_reads_the_images_of_its_servers() {
    let (_post, outpost, _papers) = world().await;
    let mine = outpost.uplinks.read_image("mine").await.unwrap();
    assert_eq!(mine.disk_format.as_deref(), Some("vdi"));
    let bytes = collect(mine.bytes).await.unwrap();
    assert_eq!(bytes.len(), 5_000_000);
    assert_eq!((bytes[0], bytes[4_999_999]), (0, 49));
    assert_eq!(outpost.uplinks.read_image("other").await.err().unwrap().kind(), Kind::Forbidden);
    let broken = collect(outpost.uplinks.read_image("short").await.unwrap().bytes).await.unwrap_err();
    assert_eq!(broken.kind(), Kind::Unavailable, "an image that breaks off is not whole");
}

#[tokio::test]
async fn an_agent_fills_an_image_while_a_task_tells_it_to() {
    let (post, outpost, _papers) = world().await;
    let data = || -> ByteStream { Box::pin(stream::iter((0..20).map(|_| Ok(vec![7; 100_000].into())))) };
    assert_eq!(outpost.uplinks.write_image("snap", 2_000_000, data()).await.unwrap_err().kind(), Kind::Forbidden);

    let hub = post.hub.clone();
    let disk = DiskRef { pool: "vms".into(), name: "d".into() };
    let task = Task::Export { server_id: Uuid::nil(), disk, snapshot: "s".into(), image_id: "snap".into() };
    let export = tokio::spawn(async move { hub.task("h1", task, Duration::from_secs(600)).await });
    let uplinks = outpost.uplinks.clone();
    // Until the task is on its way.
    loop {
        match uplinks.write_image("snap", 2_000_000, data()).await {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), Kind::Forbidden),
        }
    }
    assert_eq!(post.conductor.written.lock().concat().len(), 2_000_000);
    let other = uplinks.write_image("other", 2_000_000, data()).await.unwrap_err();
    assert_eq!(other.kind(), Kind::Forbidden);

    let half: ByteStream = Box::pin(stream::iter([Ok(vec![1; 10].into()), Err(Error::internal("the disk is broken"))]));
    assert!(uplinks.write_image("snap", 20, half).await.is_err());
    assert_eq!(post.conductor.written.lock().len(), 1, "half an image is not taken for one");

    export.abort();
    let gone = Arc::new(export);
    eventually("the task is over", || gone.is_finished()).await;
    assert_eq!(uplinks.write_image("snap", 2_000_000, data()).await.unwrap_err().kind(), Kind::Forbidden);
}
