//! Images are made of servers.

use umbel_client::NewImage;
use umbel_compute::flows::{self, Rotation};
use umbel_compute::model::*;
use umbel_compute::store::{actions, servers};
use umbel_compute::{ImageCatalog, Who};
use umbel_conductor::Conductor;
use umbel_core::{Clock, Kind, OnBehalf, SystemClock};
use umbel_db::tx;
use umbel_driver::{Operation, Pool};
use umbel_workflow::harness::at_every_moment;
use umbel_workflow::{NewFlow, enqueue};
use uuid::Uuid;

use crate::world::{Conducting, DEADLINE, Running, World, until};

const HOST: &str = "h1";

/// How the request for an image goes on after its transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    Named,
    Refused,
    Died,
}

struct Ask {
    rotation: Option<Rotation>,
    quiesce: bool,
    naming: Naming,
}

const PLAIN: Ask = Ask { rotation: None, quiesce: false, naming: Naming::Named };

/// `POST /servers/{id}/action`; the image's id.
async fn image(world: &World, conductor: &Conductor, id: ServerId, ask: Ask) -> String {
    // A request that died did so long ago.
    let now = SystemClock.now();
    let now = if ask.naming == Naming::Died { now.minus(std::time::Duration::from_secs(61)) } else { now };
    let (image_id, request_id) = (Uuid::new_v4().to_string(), format!("req-{}", Uuid::new_v4()));
    let disk = world.disks(id).await.remove(0);
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
        let state = flows::ServerImage {
            server_id: id,
            image_id: image_id.clone(),
            host: HOST.into(),
            disk: umbel_bus::DiskRef { pool: disk.pool.clone(), name: disk.name.clone() },
            quiesce: ask.quiesce,
            behalf: OnBehalf { user_id: "u".into(), project_id: "p".into() },
            rotation: ask.rotation.clone(),
            location: None,
            published: false,
        };
        let flow = NewFlow {
            id: &image_id,
            kind: flows::SERVER_IMAGE,
            first_step: flows::SERVER_IMAGE_FIRST,
            state: &state,
            request_id: &request_id,
            now,
            deadline: now.plus(flows::SERVER_IMAGE_DEADLINE),
        };
        enqueue(tx, flow).await
    })
    .unwrap();
    match ask.naming {
        Naming::Named => name(world, id, &image_id, ask.rotation.as_ref()).await,
        Naming::Died => {}
        Naming::Refused => tx!(world.cell.db, "take image back", |tx| {
            let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
            server.state = imaged(&server, &request_id, now).unwrap();
            servers::update(tx, &mut server).await?;
            actions::finish(tx, id, &request_id, true, now).await
        })
        .unwrap(),
    }
    conductor.cell(crate::world::CELL).unwrap().changed(id).await.unwrap();
    image_id
}

async fn name(world: &World, id: ServerId, image_id: &str, rotation: Option<&Rotation>) {
    let mut properties = std::collections::BTreeMap::from([("instance_uuid".to_owned(), id.to_string())]);
    if let Some(rotation) = rotation {
        properties.insert("image_type".into(), "backup".into());
        properties.insert("backup_type".into(), rotation.backup_type.clone());
    }
    let new = NewImage {
        id: Some(image_id.to_owned()),
        name: "image".into(),
        disk_format: "raw".into(),
        container_format: "bare".into(),
        properties,
        ..NewImage::default()
    };
    world.images.create("token", &new).await.unwrap();
}

async fn running(world: &World) -> (Conducting, Running, ServerId) {
    let conducting = world.conductor().await;
    let agent = world.agent(HOST);
    world.hosts(1).await;
    let id = world.create(&world.server()).await;
    conducting.nudge();
    world.status(id, Status::Active).await;
    (conducting, agent, id)
}

/// Snapshots of the server's root disk.
async fn snapshots(world: &World, id: ServerId) -> Vec<String> {
    let info = world.pool.stat(&format!("{id}_disk")).await.unwrap();
    info.map(|info| info.snapshots.into_iter().collect()).unwrap_or_default()
}

fn status(world: &World, image_id: &str) -> Option<String> {
    world.images.get(image_id).map(|image| image.status)
}

/// An image that is active, and a server that is none the worse for it.
async fn assert_made(world: &World, id: ServerId, image_id: &str, context: &str) {
    let server = world.status(id, Status::Active).await;
    assert_eq!(status(world, image_id).as_deref(), Some("active"), "{context}");
    assert_eq!((server.state.fault, server.state.action), (None, None), "{context}");
    assert_eq!(snapshots(world, id).await, Vec::<String>::new(), "{context}");
    let (action, events) = world.action(id, "createImage").await;
    assert_eq!((action.finished_at.is_some(), action.message), (true, None), "{context}");
    let mut events = events.into_iter();
    assert!(events.any(|event| event.name == "compute_snapshot_instance" && event.ok == Some(true)), "{context}");
    world.assert_no_orphans(&[HOST], context).await;
}

/// No image, and a server that is none the worse.
async fn assert_failed(world: &World, id: ServerId, image_id: &str, why: &str) {
    let server = world.status(id, Status::Active).await;
    assert_eq!(status(world, image_id), None, "{why}");
    assert_eq!(snapshots(world, id).await, Vec::<String>::new(), "{why}");
    let (action, events) = world.action(id, "createImage").await;
    assert_eq!((action.finished_at.is_some(), action.message.as_deref()), (true, Some("Error")), "{why}");
    let event = events.into_iter().find(|event| event.ok == Some(false)).unwrap();
    assert!(event.details.unwrap().contains(why));
    assert!(server.state.fault.unwrap().message.contains(why));
}

#[tokio::test]
async fn an_image_is_cloned_where_its_disk_lies() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    let image_id = image(&world, &conducting.conductor, id, PLAIN).await;
    assert_made(&world, id, &image_id, "cloned").await;
    let at = world.images.location(&image_id).unwrap();
    assert!(at.contains(&format!("{id}_disk")) && at.contains(&image_id), "{at}");
    // And of a server that is off.
    world.act(&conducting.conductor, id, Action::Stop).await.unwrap();
    world.status(id, Status::Shutoff).await;
    let image_id = image(&world, &conducting.conductor, id, PLAIN).await;
    world.status(id, Status::Shutoff).await;
    assert_eq!(status(&world, &image_id).as_deref(), Some("active"));
}

#[tokio::test]
async fn an_image_is_sent_where_it_cannot_be_cloned() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    for kind in [Kind::BadRequest, Kind::Conflict] {
        world.images.fail_next("add_location", 1, kind);
        let image_id = image(&world, &conducting.conductor, id, PLAIN).await;
        assert_made(&world, id, &image_id, "sent").await;
        assert_eq!(world.images.location(&image_id), None);
        assert_eq!(world.images.get(&image_id).unwrap().size, Some(4 << 20));
    }
}

#[tokio::test]
async fn an_image_survives_a_crash_at_every_moment() {
    for refusals in [0, 9] {
        let places = at_every_moment(async |crash| {
            let world = World::new().await;
            let (conducting, _agent, id) = running(&world).await;
            conducting.stop().await;
            world.images.fail_next("add_location", refusals, Kind::BadRequest);
            let first = world.doomed(crash.clone());
            let image_id = image(&world, &first.conductor, id, PLAIN).await;
            first.conductor.run_until_idle(DEADLINE).await.unwrap();
            drop(first);
            let _conducting = world.conductor().await;
            world.quiet(&crash.place()).await;
            assert_made(&world, id, &image_id, &crash.place()).await;
        })
        .await;
        println!("image, {refusals} refusals: {places:#?}");
        assert!(places.len() >= 8, "{places:?}");
    }
}

#[tokio::test]
async fn an_image_that_fails_leaves_nothing_whenever_it_crashes() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        conducting.stop().await;
        world.images.fail_next("add_location", 99, Kind::BadRequest);
        world.images.fail_next("upload", 99, Kind::TooLarge);
        let first = world.doomed(crash.clone());
        let image_id = image(&world, &first.conductor, id, PLAIN).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let _conducting = world.conductor().await;
        world.quiet(&crash.place()).await;
        assert_failed(&world, id, &image_id, "told to fail").await;
    })
    .await;
    assert!(places.len() >= 8, "{places:?}");
}

#[tokio::test]
async fn what_a_host_cannot_do_is_said() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    world.sim.fail_next(Operation::Snapshot, 1, Kind::Internal);
    let image_id = image(&world, &conducting.conductor, id, PLAIN).await;
    assert_failed(&world, id, &image_id, "told to fail").await;
}

#[tokio::test]
async fn a_guest_that_must_be_quiesced_and_cannot_has_no_image() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    world.sim.fail_next(Operation::Freeze, 1, Kind::NotImplemented);
    let image_id = image(&world, &conducting.conductor, id, Ask { quiesce: true, ..PLAIN }).await;
    assert_failed(&world, id, &image_id, "cannot be quiesced").await;
}

#[tokio::test]
async fn a_request_that_dies_or_is_refused_leaves_nothing() {
    for naming in [Naming::Refused, Naming::Died] {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        let image_id = image(&world, &conducting.conductor, id, Ask { naming, ..PLAIN }).await;
        world.quiet("ended").await;
        let server = world.status(id, Status::Active).await;
        assert_eq!((server.state.task, server.state.action), (None, None));
        assert_eq!((status(&world, &image_id), snapshots(&world, id).await), (None, Vec::new()));
        assert_eq!(world.action(id, "createImage").await.0.message.as_deref(), Some("Error"));
    }
}

#[tokio::test]
async fn a_server_that_is_deleted_meanwhile_leaves_a_whole_image_or_none() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        conducting.stop().await;
        let first = world.doomed(crash.clone());
        let image_id = image(&world, &first.conductor, id, PLAIN).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        world.delete(&first.conductor, id).await;
        drop(first);
        let _conducting = world.conductor().await;
        let context = crash.place();
        world.status(id, Status::Deleted).await;
        world.quiet(&context).await;
        world.assert_no_orphans(&[HOST], &context).await;
        assert!(matches!(status(&world, &image_id).as_deref(), None | Some("active")), "{context}");
    })
    .await;
    assert!(places.len() >= 8, "{places:?}");
}

#[tokio::test]
async fn backups_are_kept_in_the_number_that_is_asked_for() {
    let world = World::new().await;
    let (conducting, _agent, id) = running(&world).await;
    let backup = async |kind: &str, keep| {
        let rotation = Some(Rotation { backup_type: kind.into(), keep });
        let image_id = image(&world, &conducting.conductor, id, Ask { rotation, ..PLAIN }).await;
        world.quiet("backup").await;
        image_id
    };
    let weekly = backup("weekly", 1).await;
    let mut daily = Vec::new();
    for _ in 0..3 {
        daily.push(backup("daily", 2).await);
    }
    assert_eq!(status(&world, &daily[0]), None);
    for kept in [&weekly, &daily[1], &daily[2]] {
        assert_eq!(status(&world, kept).as_deref(), Some("active"));
    }
    // One that its owner has deleted is none.
    world.images.delete(Who::Compute, &daily[1]).await.unwrap();
    let last = backup("daily", 2).await;
    assert_eq!(status(&world, &daily[2]).as_deref(), Some("active"));
    backup("daily", 0).await;
    assert_eq!((status(&world, &last), status(&world, &daily[2])), (None, None));
    until("the weekly one stays", async || status(&world, &weekly)).await;
}

/// The next backup may be asked for as soon as the server rests. What its rotation keeps, no rotation before it takes.
#[tokio::test]
async fn a_rotation_takes_nothing_from_a_later_one_whenever_it_crashes() {
    let places = at_every_moment(async |crash| {
        let world = World::new().await;
        let (conducting, _agent, id) = running(&world).await;
        conducting.stop().await;
        let keep = |keep| Ask { rotation: Some(Rotation { backup_type: "daily".into(), keep }), ..PLAIN };
        let first = world.doomed(crash.clone());
        let one = image(&world, &first.conductor, id, keep(1)).await;
        first.conductor.run_until_idle(DEADLINE).await.unwrap();
        drop(first);
        let context = crash.place();
        let mut two = None;
        if world.row(id).await.unwrap().state.task.is_none() {
            // Another process, which leaves the first one's work to it.
            let mut second = world.conductor_with(world.config.clone(), world.hub.clone());
            second.run();
            let id_of_two = image(&world, &second.conductor, id, keep(2)).await;
            let rests = async || world.row(id).await.unwrap().state.task.is_none().then_some(());
            until(&context, rests).await;
            two = Some(id_of_two);
            second.stop().await;
        }
        let _conducting = world.conductor().await;
        world.quiet(&context).await;
        for made in [Some(one), two].into_iter().flatten() {
            assert_eq!(status(&world, &made).as_deref(), Some("active"), "{context}");
        }
    })
    .await;
    assert!(places.len() >= 8, "{places:?}");
}
