use umbel_auth::Visible;
use umbel_compute::model::*;
use umbel_compute::store::actions::{self, ActionPage, ActionRow, EventRow};
use umbel_compute::store::disks::{self, DiskRow};
use umbel_compute::store::{audit, block_devices, build_requests, server_map, servers};
use umbel_compute::{Api, Cell, CellId};
use umbel_core::{Kind, Timestamp};
use umbel_db::testing::open_all;
use umbel_db::{read, tx};
use umbel_placement::PoolId;
use uuid::Uuid;

use crate::support::{running, server, server_id};

fn own(project: &str) -> Visible {
    Visible::Project(project.to_owned())
}

#[tokio::test]
async fn a_server_comes_back_as_it_was_written() {
    for temp in open_all::<Cell>().await {
        let mut vm = running(1, "p", "h1");
        vm.state.metadata.insert("role".into(), "wéb".into());
        vm.state.tags = vec!["blue".into()];
        vm.state.description = Some("d".into());
        tx!(temp.db, "insert", |tx| servers::insert(tx, &vm).await).unwrap();
        let got = read!(temp.db, "get", |tx| servers::get(tx, vm.id, &own("p")).await).unwrap();
        assert_eq!(got, Some(vm.clone()));
        let foreign = read!(temp.db, "get", |tx| servers::get(tx, vm.id, &own("q")).await).unwrap();
        assert_eq!(foreign, None);
        let again = tx!(temp.db, "insert", |tx| servers::insert(tx, &vm).await).unwrap_err();
        assert_eq!(again.kind(), Kind::Conflict);
    }
}

#[tokio::test]
async fn a_write_that_read_an_older_version_is_refused() {
    for temp in open_all::<Cell>().await {
        let vm = running(1, "p", "h1");
        tx!(temp.db, "insert", |tx| servers::insert(tx, &vm).await).unwrap();
        let mut first = vm.clone();
        first.state = transition(&vm, Action::Stop, "req-a", Timestamp(5)).unwrap();
        let first = tx!(temp.db, "stop", |tx| {
            let mut first = first.clone();
            servers::update(tx, &mut first).await?;
            Ok(first)
        })
        .unwrap();
        assert_eq!(first.version.0, 1);
        let second = tx!(temp.db, "late", |tx| servers::update(tx, &mut vm.clone()).await).unwrap_err();
        assert_eq!(second.kind(), Kind::Busy);
        let (behind, here) = read!(temp.db, "sweep", |tx| Ok((
            servers::behind(tx, Timestamp(5), 10).await?,
            servers::on_host(tx, "h1").await?
        )))
        .unwrap();
        assert_eq!(behind, here);
        assert_eq!(here, [first]);
        let early = read!(temp.db, "sweep", |tx| servers::behind(tx, Timestamp(4), 10).await).unwrap();
        assert_eq!(early, []);
    }
}

#[tokio::test]
async fn a_deleted_server_is_on_no_host() {
    for temp in open_all::<Cell>().await {
        let mut vm = running(1, "p", "h1");
        let other = running(2, "p", "h1");
        tx!(temp.db, "insert", |tx| {
            servers::insert(tx, &vm).await?;
            servers::insert(tx, &other).await
        })
        .unwrap();
        vm.state = deleted(&vm, Timestamp(9));
        tx!(temp.db, "delete", |tx| servers::update_metadata(tx, &mut vm.clone()).await).unwrap();
        let (here, counts) =
            read!(temp.db, "hosts", |tx| Ok((servers::on_host(tx, "h1").await?, servers::count_by_host(tx).await?)))
                .unwrap();
        assert_eq!(here, [other]);
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("h1".to_owned(), 1)]);
    }
}

#[tokio::test]
async fn a_placement_that_was_undone_leaves_nothing() {
    for temp in open_all::<Cell>().await {
        let vm = running(1, "p", "h1");
        let disk = DiskRow {
            server_id: vm.id,
            name: format!("{}_disk", vm.id),
            pool_id: PoolId::from_uuid(Uuid::from_u128(5)),
            pool: "local".into(),
            size_bytes: 1 << 40,
            source: DiskSource::Image,
            boot_index: Some(0),
        };
        let drive = DiskRow {
            name: format!("{}_disk.config", vm.id),
            source: DiskSource::ConfigDrive,
            boot_index: None,
            ..disk.clone()
        };
        tx!(temp.db, "place", |tx| {
            servers::insert(tx, &vm).await?;
            disks::insert(tx, &drive, Timestamp(1)).await?;
            disks::insert(tx, &disk, Timestamp(1)).await?;
            disks::insert(tx, &disk, Timestamp(1)).await
        })
        .unwrap();
        let got = read!(temp.db, "disks", |tx| disks::of_server(tx, vm.id).await).unwrap();
        assert_eq!(got, [disk.clone(), drive.clone()]);
        let owned = read!(temp.db, "pool", |tx| disks::of_pool(tx, disk.pool_id).await).unwrap();
        assert_eq!(owned, [disk.clone(), drive]);
        // As the comparison of pools with the cell reads them: nobody reaches this pool by a row of it any more.
        let known = read!(temp.db, "audit", |tx| audit::disks(tx).await).unwrap();
        let known = known.into_iter().find(|one| one.disk == disk.name).unwrap();
        assert_eq!((known.server, known.pool.as_str(), known.host.as_deref()), (vm.id, "local", Some("h1")));
        let (named, volumes) = read!(temp.db, "audit", |tx| {
            Ok((audit::find(tx, &vm.id.to_string()).await?, audit::volumes(tx, vm.id).await?))
        })
        .unwrap();
        assert_eq!((named.len(), volumes), (1, vec![]));
        for _ in 0..2 {
            tx!(temp.db, "undo", |tx| servers::forget(tx, vm.id).await).unwrap();
        }
        let left = read!(temp.db, "left", |tx| Ok((
            servers::get(tx, vm.id, &Visible::All).await?,
            disks::of_server(tx, vm.id).await?
        )))
        .unwrap();
        assert_eq!(left, (None, vec![]));
    }
}

#[tokio::test]
async fn actions_keep_their_steps() {
    for temp in open_all::<Cell>().await {
        let action = |number: i64| ActionRow {
            server_id: server_id(1),
            request_id: format!("req-{number}"),
            action: "create".into(),
            user_id: "u".into(),
            project_id: "p".into(),
            started_at: Timestamp(number),
            finished_at: None,
            updated_at: Timestamp(number),
            message: None,
        };
        let step = |name: &str, started: i64, finished: Option<i64>| EventRow {
            server_id: server_id(1),
            request_id: "req-3".into(),
            name: name.into(),
            started_at: Timestamp(started),
            finished_at: finished.map(Timestamp),
            ok: finished.map(|_| true),
            host: "h1".into(),
            details: None,
        };
        tx!(temp.db, "actions", |tx| {
            for number in 1..=3 {
                actions::start(tx, &action(number)).await?;
            }
            actions::start(tx, &action(3)).await?;
            actions::event(tx, &step("schedule", 4, Some(5)), Timestamp(5)).await?;
            actions::event(tx, &step("disk_clone", 6, None), Timestamp(6)).await?;
            actions::event(tx, &step("disk_clone", 6, Some(8)), Timestamp(8)).await?;
            actions::finish(tx, server_id(1), "req-3", true, Timestamp(9)).await?;
            actions::finish(tx, server_id(1), "req-3", false, Timestamp(10)).await
        })
        .unwrap();
        let page =
            |marker: Option<&str>, limit| ActionPage { marker: marker.map(Into::into), limit, ..Default::default() };
        let ids = async |page: ActionPage| {
            let rows = read!(temp.db, "list", |tx| actions::list(tx, server_id(1), &page).await).unwrap();
            rows.map(|rows| rows.into_iter().map(|row| row.request_id).collect::<Vec<_>>())
        };
        assert_eq!(ids(page(None, None)).await.unwrap(), ["req-3", "req-2", "req-1"]);
        assert_eq!(ids(page(Some("req-3"), Some(1))).await.unwrap(), ["req-2"]);
        assert_eq!(ids(page(Some("req-9"), None)).await, None);
        let since = ActionPage { changes_since: Some(Timestamp(9)), ..Default::default() };
        assert_eq!(ids(since).await.unwrap(), ["req-3"]);
        let (row, events) = read!(temp.db, "show", |tx| Ok((
            actions::get(tx, server_id(1), "req-3").await?.unwrap(),
            actions::events(tx, server_id(1), "req-3").await?
        )))
        .unwrap();
        assert_eq!((row.finished_at, row.message.as_deref()), (Some(Timestamp(9)), Some("Error")));
        assert_eq!(events, [step("disk_clone", 6, Some(8)), step("schedule", 4, Some(5))]);
    }
}

#[tokio::test]
async fn a_build_request_ends_in_a_cell_or_deleted() {
    let cell = CellId::from_uuid(Uuid::from_u128(7));
    for temp in open_all::<Api>().await {
        let (kept, gone) = (server(1, "p"), server(2, "p"));
        tx!(temp.db, "create", |tx| {
            for vm in [&kept, &gone] {
                build_requests::insert(tx, vm).await?;
                server_map::insert(tx, vm).await?;
            }
            Ok(())
        })
        .unwrap();
        let list = async |who: Visible| {
            let rows = read!(temp.db, "list", |tx| build_requests::list(tx, &who).await).unwrap();
            rows.into_iter().map(|server| server.id).collect::<Vec<_>>()
        };
        assert_eq!(list(own("p")).await, [gone.id, kept.id]);
        assert!(list(own("q")).await.is_empty());
        let usage = read!(temp.db, "usage", |tx| server_map::usage(tx, "p").await).unwrap();
        assert_eq!((usage.instances, usage.cores, usage.memory_mib), (2, 2, 1_024));

        assert!(tx!(temp.db, "delete", |tx| server_map::delete_unplaced(tx, gone.id).await).unwrap());
        assert_eq!(list(Visible::All).await, [kept.id]);
        let placed = tx!(temp.db, "place", |tx| server_map::place(tx, gone.id, cell).await).unwrap();
        assert_eq!(placed, server_map::Placed::Deleted);
        let still = read!(temp.db, "get", |tx| build_requests::get(tx, gone.id).await).unwrap();
        assert!(still.is_some_and(|request| request.deleted));

        for _ in 0..2 {
            let placed = tx!(temp.db, "place", |tx| server_map::place(tx, kept.id, cell).await).unwrap();
            assert_eq!(placed, server_map::Placed::InCell);
        }
        assert!(!tx!(temp.db, "delete", |tx| server_map::delete_unplaced(tx, kept.id).await).unwrap());
        let (mapped, usage) = read!(temp.db, "get", |tx| Ok((
            server_map::get(tx, kept.id, &own("p")).await?.unwrap(),
            server_map::usage(tx, "p").await?
        )))
        .unwrap();
        assert_eq!((mapped.cell, mapped.queued_for_delete), (Some(cell), false));
        assert_eq!(usage.instances, 1);
        let of_cell = read!(temp.db, "cell", |tx| server_map::of_cell(tx, cell, None, 10).await).unwrap();
        assert_eq!(of_cell, [mapped]);
        tx!(temp.db, "queue", |tx| server_map::queue_for_delete(tx, kept.id).await).unwrap();
        let usage = read!(temp.db, "usage", |tx| server_map::usage(tx, "p").await).unwrap();
        assert_eq!(usage, server_map::Usage::default());
    }
}

#[tokio::test]
async fn volumes_are_found_by_their_servers_and_servers_by_their_volumes() {
    for temp in open_all::<Cell>().await {
        let volume = Uuid::from_u128(7);
        let device = |number: u128, volume| {
            BlockDevice::planned(BlockDeviceId::from_uuid(Uuid::from_u128(number)), volume, 1, Timestamp(1))
        };
        let mut vm = running(1, "p", "h1");
        vm.state.volumes = vec![device(1, Some(volume)), device(2, None)];
        tx!(temp.db, "insert", |tx| servers::insert(tx, &vm).await).unwrap();
        let found = async || read!(temp.db, "volume", |tx| block_devices::of_volume(tx, volume).await).unwrap();
        let rows = found().await;
        assert_eq!((rows.len(), rows[0].server_id, rows[0].attachment_id.as_str()), (1, vm.id, ""));
        vm.state.volumes[0].attachment_id = Some("a".into());
        let id = vm.state.volumes[0].id;
        let vm = tx!(temp.db, "reserve", |tx| {
            let mut vm = vm.clone();
            servers::update_volumes(tx, &mut vm).await?;
            Ok(vm)
        })
        .unwrap();
        let rows = found().await;
        assert_eq!((rows.len(), rows[0].id, rows[0].attachment_id.as_str()), (1, id, "a"));
        let got = read!(temp.db, "get", |tx| servers::get(tx, vm.id, &own("p")).await).unwrap();
        assert_eq!(got, Some(vm.clone()));
        let left = tx!(temp.db, "end", |tx| {
            let mut vm = vm.clone();
            vm.state = deleted(&vm, Timestamp(9));
            servers::update(tx, &mut vm).await?;
            block_devices::clear(tx, vm.id).await?;
            Ok((block_devices::all(tx).await?, servers::deleted_before(tx, Timestamp(10), 5).await?))
        })
        .unwrap();
        assert_eq!(left, (vec![], vec![vm.id]));
        let early = read!(temp.db, "old", |tx| servers::deleted_before(tx, Timestamp(9), 5).await).unwrap();
        assert_eq!(early, []);
    }
}
