//! What is left when a process dies, or loses touch, at any step of an upload or a deletion.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use umbel_core::{Error, Result};
use umbel_db::Engine;
use umbel_driver::{Mode, Operation};
use umbel_http::{Body, Router};
use umbel_image::{Images, Swept};
use umbel_workflow::{Fence, Process};

use crate::cloud::{Cloud, eventually, file, image, noise, send};

fn killed_at(cloud: &Cloud, at: Operation, method: &str, path: &str, body: Vec<u8>) {
    killed_in(cloud, cloud.another(), at, method, path, body);
}

/// Runs `request` against this process, on a runtime of its own that is torn down when the pool is about to do `at`:
/// nothing of that process runs on, not even its clean-up.
fn killed_in(
    cloud: &Cloud,
    process: impl Future<Output = (Arc<Images>, Router)>,
    at: Operation,
    method: &str,
    path: &str,
    body: Vec<u8>,
) {
    let token = cloud.member("p");
    cloud.world.set_mode(Mode::Stepped);
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (method, path) = (method.to_owned(), path.to_owned());
    let (_, router) = doomed.block_on(process);
    doomed.spawn(async move {
        let headers = [("x-auth-token", token.as_str()), ("content-type", "application/octet-stream")];
        send(&router, &method, &path, &headers, Body::from(body)).await
    });
    doomed.block_on(async {
        loop {
            let waiting = cloud.world.next_waiting().await;
            if waiting.operation == at {
                break;
            }
            cloud.world.release(waiting.ticket);
        }
    });
    doomed.shutdown_timeout(Duration::from_secs(60));
    assert!(cloud.world.waiting().is_empty(), "the process is gone");
}

async fn swept_after(cloud: &Cloud, past: Duration) -> Swept {
    cloud.world.set_mode(Mode::default());
    cloud.clock.advance(past);
    cloud.images.sweep().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_killed_at_any_step_is_undone() {
    for at in [Operation::Write, Operation::Snapshot] {
        for engine in Engine::ALL {
            let cloud = Cloud::on(engine).await;
            let token = cloud.member("p");
            let id = cloud.queued(&token, "raw").await;
            tokio::task::block_in_place(|| {
                killed_at(&cloud, at, "PUT", &file(&id), noise(1, 50_000));
            });
            // Another process does not touch it as long as its holder may live.
            assert_eq!(swept_after(&cloud, Duration::from_secs(5)).await.uploads, 0);
            assert_eq!(cloud.show(&id).await["status"], "saving", "{at:?} {engine:?}");
            assert_eq!(swept_after(&cloud, Duration::from_secs(60)).await.uploads, 1);
            assert_eq!(cloud.show(&id).await["status"], "queued");
            eventually("nothing is left", async || cloud.disks().await.is_empty()).await;
            cloud.upload(&token, &id, b"data").await.expect(204);
            assert_eq!(cloud.get(&token, &file(&id)).await.bytes, "data");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_process_need_not_wait() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    tokio::task::block_in_place(|| {
        killed_at(&cloud, Operation::Snapshot, "PUT", &file(&id), noise(1, 50_000));
    });
    cloud.world.set_mode(Mode::default());
    assert_eq!(cloud.images.take_over().await.unwrap(), 1);
    assert_eq!(cloud.images.sweep().await.uploads, 1);
    assert_eq!(cloud.show(&id).await["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_killed_at_its_step_is_finished() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let token = cloud.member("p");
        let id = cloud.active(&token, b"data").await;
        tokio::task::block_in_place(|| {
            killed_at(&cloud, Operation::Remove, "DELETE", &image(&id), Vec::new());
        });
        cloud.get(&token, &image(&id)).await.expect(404);
        assert_eq!(cloud.disks().await, [id.as_str()], "{engine:?}");
        assert_eq!(swept_after(&cloud, Duration::ZERO).await.deletions, 1);
        assert!(cloud.disks().await.is_empty());
        cloud.create(&token, json!({"id": id})).await;
    }
}

/// An image deleted while its upload's process is dead: the claim must run out before its data are taken away.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_and_death_together_leave_nothing() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    tokio::task::block_in_place(|| {
        killed_at(&cloud, Operation::Snapshot, "PUT", &file(&id), noise(1, 50_000));
    });
    cloud.world.set_mode(Mode::default());
    cloud.delete(&token, &image(&id)).await.expect(204);
    cloud.get(&token, &image(&id)).await.expect(404);
    assert_eq!(cloud.images.sweep().await, Swept::default());
    assert_eq!(swept_after(&cloud, Duration::from_secs(60)).await.deletions, 1);
    assert!(cloud.disks().await.is_empty());
}

/// Notes whom it shuts out, once it can.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    gone: Mutex<Vec<String>>,
}

#[async_trait]
impl Fence for Gate {
    async fn shut_out(&self, process: &str) -> Result<()> {
        if !self.open.load(Ordering::SeqCst) {
            return Err(Error::unavailable("The cluster does not answer."));
        }
        self.gone.lock().push(process.to_owned());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_undone_when_its_holder_is_shut_out() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    let gate = Arc::new(Gate::default());
    let process = |name: &str| cloud.known_as(Process { name: name.to_owned(), fence: gate.clone() });
    tokio::task::block_in_place(|| {
        killed_in(&cloud, process("one"), Operation::Snapshot, "PUT", &file(&id), noise(1, 50_000));
    });
    cloud.world.set_mode(Mode::default());
    cloud.clock.advance(Duration::from_secs(60));
    let (other, _) = process("other").await;
    assert_eq!(other.sweep().await.uploads, 0);
    assert_eq!(cloud.show(&id).await["status"], "saving", "its holder may go on");
    gate.open.store(true, Ordering::SeqCst);
    assert_eq!(other.sweep().await.uploads, 1);
    assert_eq!(cloud.show(&id).await["status"], "queued");
    assert_eq!(*gate.gone.lock(), ["one"]);
}

/// A process that stood still for longer than its claim, and comes back when another has undone its upload.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_lost_its_claim_does_no_harm() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    cloud.world.set_mode(Mode::Stepped);
    let slow = tokio::spawn({
        let (router, token, path) = (cloud.router.clone(), token.clone(), file(&id));
        async move {
            let headers = [("x-auth-token", token.as_str()), ("content-type", "application/octet-stream")];
            send(&router, "PUT", &path, &headers, Body::from(noise(1, 50_000))).await
        }
    });
    let write = cloud.world.step().await;
    assert_eq!(write.operation, Operation::Write);
    let snapshot = cloud.world.next_waiting().await;
    assert_eq!(snapshot.operation, Operation::Snapshot);
    // Time passes for the others before the slow one renews its claim.
    let (other, _) = cloud.another().await;
    cloud.clock.advance(Duration::from_secs(3_600));
    let sweep = tokio::spawn(async move { Images::sweep(&other).await });
    eventually("the sweep removes the disk", async || {
        cloud.world.waiting().iter().any(|waiting| waiting.operation == Operation::Remove)
    })
    .await;
    cloud.world.set_mode(Mode::default());
    assert_eq!(sweep.await.unwrap().uploads, 1);
    assert!(slow.await.unwrap().status >= 400);
    assert_eq!(cloud.show(&id).await["status"], "queued");
    eventually("nothing is left", async || cloud.disks().await.is_empty()).await;
    cloud.upload(&token, &id, b"data").await.expect(204);
}

/// A commit whose answer is lost must not cost the image its data: a pool's lost answers are undone, a completed
/// upload never is.
#[tokio::test]
async fn lost_answers_of_the_pool_are_undone() {
    for operation in [Operation::Write, Operation::Snapshot] {
        let cloud = Cloud::new().await;
        let token = cloud.member("p");
        let id = cloud.queued(&token, "raw").await;
        cloud.world.lose_answers(operation, 1);
        cloud.upload(&token, &id, b"data").await.expect(503);
        assert_eq!(cloud.show(&id).await["status"], "queued");
        assert!(cloud.disks().await.is_empty(), "{operation:?}");
    }
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.active(&token, b"data").await;
    cloud.world.lose_answers(Operation::Remove, 1);
    cloud.delete(&token, &image(&id)).await.expect(204);
    assert_eq!(cloud.images.sweep().await.deletions, 1);
}

#[tokio::test]
async fn the_background_sweeps_until_it_is_told_to_stop() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.active(&token, b"data").await;
    cloud.world.fail_next(Operation::Remove, 1, umbel_core::Kind::Unavailable);
    cloud.delete(&token, &image(&id)).await.expect(204);
    assert_eq!(cloud.disks().await, [id]);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let background = tokio::spawn(cloud.images.clone().run_background(async move {
        let _ = stopped.await;
    }));
    eventually("the background finishes the deletion", async || cloud.disks().await.is_empty()).await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), background).await.unwrap().unwrap();
}
