//! Images are made of servers' volumes.

use serde_json::{Value, json};
use umbel_client::NewImage;
use umbel_compute::ImageCatalog;
use umbel_compute::flows;
use umbel_compute::model::*;
use umbel_compute::store::{actions, servers};
use umbel_conductor::Conductor;
use umbel_core::{Clock, Kind, OnBehalf, SystemClock};
use umbel_db::tx;
use umbel_workflow::harness::at_every_moment;
use umbel_workflow::{NewFlow, enqueue};
use uuid::Uuid;

use crate::volumes::volume_backed;
use crate::world::{Conducting, DEADLINE, Running, World};

const HOST: &str = "h1";

/// An active server that boots from a volume and has another.
async fn running(world: &World) -> (Conducting, Running, ServerId) {
    let conducting = world.conductor().await;
    let agent = world.agent(HOST);
    world.hosts(1).await;
    let (server, _) = volume_backed(world, false).await;
    let id = world.create(&server).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
    (conducting, agent, id)
}

/// `POST /servers/{id}/action`; the image's id.
async fn image(world: &World, conductor: &Conductor, id: ServerId, quiesce: bool) -> String {
    let now = SystemClock.now();
    let (image_id, request_id) = (Uuid::new_v4().to_string(), format!("req-{}", Uuid::new_v4()));
    tx!(world.cell.db, "begin image", |tx| {
        let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
        may_image(&server, "createImage")?;
        server.state = imaging(&server, Task::ImageSnapshotPending, &request_id, now);
        servers::update(tx, &mut server).await?;
        let row = actions::ActionRow {
            server_id: id,
            request_id: request_id.clone(),
            action: "createImage".into(),
            user_id: "u".into(),
            project_id: "p".into(),
            started_at: now,
            finished_at: None,
            updated_at: now,
            message: None,
        };
        actions::start(tx, &row).await?;
        let state = flows::VolumesImage {
            server_id: id,
            image_id: image_id.clone(),
            name: "image".into(),
            host: Some(HOST.into()),
            quiesce,
            behalf: OnBehalf { user_id: "u".into(), project_id: "p".into() },
            blanks: vec![flows::BlankDisk { swap: true, size: 64 }],
            snapshots: Vec::new(),
            stale: Vec::new(),
            published: false,
        };
        let flow = NewFlow {
            id: &image_id,
            kind: flows::VOLUMES_IMAGE,
            first_step: flows::VOLUMES_IMAGE_FIRST,
            state: &state,
            request_id: &request_id,
            now,
            deadline: now.plus(flows::VOLUMES_IMAGE_DEADLINE),
        };
        enqueue(tx, flow).await
    })
    .unwrap();
    let new = NewImage {
        id: Some(image_id.clone()),
        name: "image".into(),
        disk_format: "raw".into(),
        container_format: "bare".into(),
        ..NewImage::default()
    };
    world.images.create("token", &new).await.unwrap();
    conductor.cell(crate::world::CELL).unwrap().changed(id).await.unwrap();
    image_id
}

fn frozen(world: &World, id: ServerId) -> bool {
    world.hypervisor(HOST).is_frozen(id.uuid()).unwrap_or_default()
}

async fn assert_action(world: &World, id: ServerId, ok: bool, context: &str) {
    let (action, events) = world.action(id, "createImage").await;
    assert_eq!((action.finished_at.is_some(), action.message.is_none()), (true, ok), "{context}");
    let mut events = events.into_iter();
    assert!(events.any(|event| event.name == "api_snapshot_instance" && event.ok == Some(ok)), "{context}");
}

/// An image that lists the only snapshots there are, and a server that is none the worse.
async fn assert_made(world: &World, id: ServerId, image_id: &str, context: &str) {
    let server = world.status(id, Status::Active).await;
    assert_eq!((server.state.fault, server.state.action), (None, None), "{context}");
    let image = world.images.get(image_id).unwrap();
    assert_eq!((image.status.as_str(), image.size), ("active", Some(0)), "{context}");
    let list: Value = serde_json::from_str(image.properties["block_device_mapping"].as_str().unwrap()).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!((list.len(), &list[2]["guest_format"]), (3, &json!("swap")), "{context}");
    let mut listed: Vec<_> = list[..2].iter().map(|one| one["snapshot_id"].as_str().unwrap()).collect();
    listed.sort_unstable();
    let made = world.volumes.snapshots();
    let there: Vec<_> = made.iter().map(|snapshot| snapshot.id.as_str()).collect();
    assert_eq!(listed, there, "{context}");
    let of: Vec<_> = server.state.volumes.iter().map(|device| device.volume_id.unwrap().to_string()).collect();
    assert!(made.iter().all(|snapshot| of.contains(&snapshot.volume_id)), "{context}");
    assert!(!frozen(world, id), "{context}");
    assert_action(world, id, true, context).await;
}

async fn assert_failed(world: &World, id: ServerId, image_id: &str, why: &str) {
    let server = world.status(id, Status::Active).await;
    assert!(world.images.get(image_id).is_none(), "{why}");
    assert_eq!(world.volumes.snapshots().len(), 0, "{why}");
    assert!(server.state.fault.unwrap().message.contains(why));
    assert!(!frozen(world, id), "{why}");
    assert_action(world, id, false, why).await;
}

#[tokio::test]
async fn an_image_lists_snapshots_of_all_volumes() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    world.hypervisor(HOST).guest_runs_agent(id.uuid()).unwrap();
    let image_id = image(&world, &conducting.conductor, id, true).await;
    world.quiet("made").await;
    assert_made(&world, id, &image_id, "made").await;
}

#[tokio::test]
async fn a_guest_that_must_be_held_and_cannot_has_no_image_of_its_volumes() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    let image_id = image(&world, &conducting.conductor, id, true).await;
    world.quiet("failed").await;
    assert_failed(&world, id, &image_id, "cannot be quiesced").await;
}

#[tokio::test]
async fn what_services_refuse_is_said_and_leaves_nothing() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    let check = async |why: &str| {
        let image_id = image(&world, &conducting.conductor, id, false).await;
        world.quiet(why).await;
        assert_failed(&world, id, &image_id, why).await;
    };
    world.volumes.fail_next("snapshot_together", 1, Kind::OverQuota);
    check("snapshot_together was told to fail").await;
    world.images.fail_next("set_properties", 1, Kind::OverQuota);
    check("set_properties was told to fail").await;
    world.images.fail_next("complete_empty", 1, Kind::OverQuota);
    check("complete_empty was told to fail").await;
    world.volumes.snapshots_end_as("error");
    check("A snapshot of volume").await;
}

#[tokio::test]
async fn an_image_of_volumes_survives_a_crash_at_every_moment() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        world.hypervisor(HOST).guest_runs_agent(id.uuid()).unwrap();
        conducting.stop().await;
        let first = world.doomed(crash.clone());
        let image_id = image(&world, &first.conductor, id, true).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let _conducting = world.conductor().await;
        world.quiet(&crash.place()).await;
        assert_made(&world, id, &image_id, &crash.place()).await;
    })
    .await;
    assert!(places.len() >= 12, "{places:?}");
}

#[tokio::test]
async fn an_image_of_volumes_that_fails_leaves_nothing_whenever_it_crashes() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        conducting.stop().await;
        world.images.fail_next("complete_empty", 99, Kind::TooLarge);
        let first = world.doomed(crash.clone());
        let image_id = image(&world, &first.conductor, id, false).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let _conducting = world.conductor().await;
        world.quiet(&crash.place()).await;
        assert_failed(&world, id, &image_id, "told to fail").await;
    })
    .await;
    assert!(places.len() >= 12, "{places:?}");
}

#[tokio::test]
async fn a_server_that_is_deleted_meanwhile_leaves_a_whole_list_or_none() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        conducting.stop().await;
        let first = world.doomed(crash.clone());
        let image_id = image(&world, &first.conductor, id, false).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        world.delete(&first.conductor, id).await;
        drop(first);
        let _conducting = world.conductor().await;
        let context = crash.place();
        world.status(id, Status::Deleted).await;
        world.quiet(&context).await;
        world.assert_no_orphans(&[HOST], &context).await;
        let made = world.images.get(&image_id).map(|image| image.status);
        let left = if made.is_some() { 2 } else { 0 };
        assert_eq!(world.volumes.snapshots().len(), left, "{context} {made:?}");
        assert!(matches!(made.as_deref(), None | Some("active")), "{context}");
    })
    .await;
    assert!(places.len() >= 10, "{places:?}");
}
