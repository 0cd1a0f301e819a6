//! The tables, on all three engines.

use umbel_auth::Visible;
use umbel_core::{Id, Kind, SeededRng, Timestamp};
use umbel_db::testing::open_all;
use umbel_db::{Direction, tx};
use umbel_volume::Volume;
use umbel_volume::backup::Data;
use umbel_volume::model::{SnapshotRow, SnapshotStatus, VolumeRow, VolumeStatus};
use umbel_volume::store::backups::{self, Backup, BackupStatus, Origin};
use umbel_volume::store::group_snapshots::{self, GroupSnapshot, GroupSnapshotStatus};
use umbel_volume::store::groups::{self, Group, GroupStatus, Source};
use umbel_volume::store::metadata::{self, Kind as Whose};
use umbel_volume::store::pages::Page;
use umbel_volume::store::snapshots::{self, SnapshotFilter};
use umbel_volume::store::volumes::{self, Condition, VolumeFilter};

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

fn volume(rng: &SeededRng, project: &str, name: &str, size: u64) -> VolumeRow {
    let mut row = VolumeRow::new(Id::random(rng), project, "u", size, Timestamp(NOW.0 + size as i64));
    row.name = Some(name.to_owned());
    row.metadata.insert("k".to_owned(), name.repeat(60));
    row
}

#[tokio::test]
async fn volumes_are_written_read_and_found() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(1);
        let rows: Vec<VolumeRow> =
            [("p", "aaaa", 3), ("p", "b_b", 1), ("q", "bxb", 2)].map(|(p, n, s)| volume(&rng, p, n, s)).into();
        tx!(db, "insert", |tx| {
            for row in &rows {
                volumes::insert(tx, row).await?;
            }
            Ok(())
        })
        .unwrap();
        let own = Visible::Project("p".to_owned());
        let (found, others) = tx!(db, "get", |tx| {
            Ok((volumes::get(tx, &own, rows[0].id).await?, volumes::get(tx, &own, rows[2].id).await?))
        })
        .unwrap();
        assert_eq!((found.as_ref(), others), (Some(&rows[0]), None));
        let order = vec![("COALESCE(name, '')", Direction::Asc), ("id", Direction::Asc)];
        let check = async |visible: &Visible, filter: VolumeFilter, want: &[usize], more: bool| {
            let filter = VolumeFilter { order: order.clone(), ..filter };
            let (found, next) = tx!(db, "list", |tx| volumes::list(tx, visible, &filter).await).unwrap();
            let got: Vec<_> = found.iter().map(|row| rows.iter().position(|one| one.id == row.id).unwrap()).collect();
            assert_eq!((got.as_slice(), next), (want, more), "{filter:?}");
        };
        let none = VolumeFilter::default;
        check(&own, none(), &[0, 1], false).await;
        check(&Visible::All, VolumeFilter { limit: Some(2), ..none() }, &[0, 1], true).await;
        let marker = VolumeFilter { marker: Some(rows[1].id), limit: Some(2), ..none() };
        check(&Visible::All, marker, &[2], false).await;
        check(&Visible::All, VolumeFilter { offset: 1, limit: Some(1), ..none() }, &[1], true).await;
        let like = vec![Condition::Like("name", "b_".to_owned())];
        check(&Visible::All, VolumeFilter { conditions: like, ..none() }, &[1], false).await;
        let item = vec![("k".to_owned(), "aaaa".repeat(60))];
        check(&Visible::All, VolumeFilter { metadata: item, ..none() }, &[0], false).await;
        let counted = tx!(db, "count", |tx| volumes::count(tx, &own, &none()).await).unwrap();
        assert_eq!(counted, (2, 4));
    }
}

#[tokio::test]
async fn a_write_that_comes_second_is_told_so() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let row = volume(&SeededRng::new(2), "p", "v", 1);
        let later = Timestamp(NOW.0 + 5);
        let after = tx!(db, "change", |tx| {
            volumes::insert(tx, &row).await?;
            metadata::set_volume(tx, row.id, Whose::Image, &[("i".to_owned(), "x".to_owned())].into()).await?;
            volumes::set_status(tx, &row, VolumeStatus::Available, later).await
        })
        .unwrap();
        assert_eq!((after.status, after.updated_at), (VolumeStatus::Available, later));
        let again = tx!(db, "change again", |tx| volumes::set_status(tx, &row, VolumeStatus::Error, later).await);
        assert_eq!(again.unwrap_err().kind(), Kind::Busy);
        let read = tx!(db, "read", |tx| volumes::get_any(tx, row.id).await).unwrap().unwrap();
        assert_eq!((read.status, read.image_metadata["i"].as_str()), (VolumeStatus::Available, "x"));
        tx!(db, "hide", |tx| {
            let gone = VolumeRow { deleted: true, ..read.clone() };
            volumes::update(tx, &read, &gone, later).await
        })
        .unwrap();
        let (seen, there) = tx!(db, "look", |tx| {
            Ok((volumes::get(tx, &Visible::All, row.id).await?, volumes::get_any(tx, row.id).await?))
        })
        .unwrap();
        assert!(seen.is_none() && there.is_some());
    }
}

#[tokio::test]
async fn snapshots_are_written_read_and_forgotten() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(3);
        let volume = volume(&rng, "p", "v", 4);
        let mut row = SnapshotRow::new(Id::random(&rng), &volume, "u", NOW);
        row.metadata.insert("a".to_owned(), "b".to_owned());
        let done = tx!(db, "make", |tx| {
            volumes::insert(tx, &volume).await?;
            snapshots::insert(tx, &row).await?;
            snapshots::set_status(tx, &row, SnapshotStatus::Available, NOW).await
        })
        .unwrap();
        let filter = SnapshotFilter {
            metadata: vec![("a".to_owned(), "b".to_owned())],
            order: vec![("created_at", Direction::Desc), ("id", Direction::Desc)],
            ..SnapshotFilter::default()
        };
        let (found, of_volume, other) = tx!(db, "list", |tx| {
            let (found, _) = snapshots::list(tx, &Visible::All, &filter).await?;
            let other = snapshots::get(tx, &Visible::Project("q".to_owned()), row.id).await?;
            Ok((found, snapshots::of_volume(tx, volume.id).await?, other))
        })
        .unwrap();
        assert_eq!((found, of_volume, other), (vec![done.clone()], vec![done], None));
        let left = tx!(db, "forget", |tx| {
            volumes::forget_all(tx, volume.id).await?;
            Ok((volumes::get_any(tx, volume.id).await?, snapshots::get_any(tx, row.id).await?))
        })
        .unwrap();
        assert_eq!(left, (None, None));
    }
}

#[tokio::test]
async fn backups_are_chained_and_counted() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(7);
        let source = volume(&rng, "p", "v", 3);
        let full = backup(&rng, &source, None);
        let mut other = backup(&rng, &source, None);
        other.project_id = "q".to_owned();
        let increment = backup(&rng, &source, Some(&full));
        tx!(db, "insert", |tx| {
            for one in [&full, &other, &increment] {
                backups::insert(tx, one).await?;
            }
            Ok(())
        })
        .unwrap();
        let own = Visible::Project("p".to_owned());
        let read = tx!(db, "get", |tx| backups::lock(tx, &own, increment.id).await).unwrap();
        assert_eq!(read.as_ref(), Some(&increment));
        assert_eq!(tx!(db, "get", |tx| backups::get(tx, &own, other.id).await).unwrap(), None);
        let chained = tx!(db, "dependents", |tx| {
            let all = [full.id, increment.id];
            Ok((backups::with_dependents(tx, &all).await?, backups::has_dependents(tx, &full).await?))
        });
        assert_eq!(chained.unwrap(), (vec![full.id], true));
        let waits = tx!(db, "wait", |tx| {
            Ok((backups::must_wait(tx, &increment).await?, backups::must_wait(tx, &full).await?))
        });
        assert_eq!(waits.unwrap(), (true, false));
        let noted = tx!(db, "note", |tx| {
            let first = backups::note_progress(tx, full.id, BackupStatus::Creating, 7, Some(3)).await?;
            Ok((first, backups::note_progress(tx, full.id, BackupStatus::Restoring, 9, None).await?))
        });
        assert_eq!(noted.unwrap(), (true, false));
        let before = tx!(db, "get", |tx| backups::lock(tx, &own, full.id).await).unwrap().unwrap();
        assert_eq!((before.progress, before.object_count), (Some(7), 3));
        let after = Backup { status: BackupStatus::Available, fail_reason: Some("x".to_owned()), ..before.clone() };
        tx!(db, "update", |tx| backups::update(tx, &before, &after, NOW).await).unwrap();
        let mut stale = db.begin("stale").await.unwrap();
        let late = backups::update(&mut stale, &before, &after, NOW).await.unwrap_err();
        assert_eq!(late.kind(), Kind::Busy);
        drop(stale);
        let listed = async |page: Page| {
            let (found, more) = tx!(db, "list", |tx| backups::list(tx, &Visible::All, &page).await).unwrap();
            (found.iter().map(|one| one.id).collect::<Vec<_>>(), more)
        };
        let order = vec![("COALESCE(name, '')", Direction::Asc), ("id", Direction::Asc)];
        let mut want = [full.id, other.id, increment.id];
        want.sort_by_key(ToString::to_string);
        let page = Page { order: order.clone(), limit: 2, ..Page::default() };
        assert_eq!(listed(page).await, (want[..2].to_vec(), true));
        let page = Page { order, marker: Some(want[1].to_string()), ..Page::default() };
        assert_eq!(listed(page).await, (want[2..].to_vec(), false));
        let page = Page {
            order: vec![("COALESCE(updated_at, 0)", Direction::Desc), ("id", Direction::Asc)],
            marker: Some(full.id.to_string()),
            ..Page::default()
        };
        assert_eq!(listed(page).await.0.len(), 2, "only the full one was changed");
        let conditions = vec![Condition::Is("status", "available".into())];
        let count = Page { conditions, ..Page::default() };
        assert_eq!(tx!(db, "count", |tx| backups::count(tx, &own, &count).await).unwrap(), 1);
        tx!(db, "forget", |tx| backups::forget(tx, increment.id).await).unwrap();
        assert!(!tx!(db, "dependents", |tx| backups::has_dependents(tx, &full).await).unwrap());
    }
}

fn backup(rng: &SeededRng, of: &VolumeRow, parent: Option<&Backup>) -> Backup {
    let id = Id::random(rng);
    let data = Data {
        id: id.to_string(),
        volume: of.id.to_string(),
        base: parent.map_or_else(|| id.to_string(), |parent| parent.data.base.clone()),
        parent: parent.map(|parent| parent.data.id.clone()),
        size: of.size_bytes(),
    };
    let at = Timestamp(NOW.0 + i64::from(parent.is_some()));
    Backup {
        id,
        generation: Default::default(),
        project_id: of.project_id.clone(),
        user_id: "u".to_owned(),
        name: None,
        description: Some("d".repeat(300)),
        status: BackupStatus::Creating,
        fail_reason: None,
        volume_id: of.id,
        size_gib: of.size_gib,
        snapshot_id: None,
        parent_id: parent.map(|parent| parent.id),
        container: Some("c".to_owned()),
        availability_zone: None,
        metadata: of.metadata.clone(),
        origin: Origin { name: of.name.clone(), bootable: true, ..Origin::default() },
        object_count: 0,
        progress: Some(0),
        target: "directory".to_owned(),
        data,
        source_snapshot: Some("backup.x".to_owned()),
        own_snapshot: true,
        restore_volume_id: None,
        data_timestamp: at,
        created_at: at,
        updated_at: None,
    }
}

#[tokio::test]
async fn groups_keep_their_types_and_snapshots() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(9);
        let kinds = [Id::random(&rng), Id::random(&rng)];
        let group = Group {
            id: Id::random(&rng),
            generation: Default::default(),
            project_id: "p".to_owned(),
            user_id: "u".to_owned(),
            name: Some("g".to_owned()),
            description: None,
            status: GroupStatus::Creating,
            group_type_id: Id::random(&rng),
            availability_zone: "nova".to_owned(),
            backend: "fast".to_owned(),
            source_group_id: Some(Id::random(&rng)),
            group_snapshot_id: None,
            created_at: NOW,
            updated_at: None,
        };
        let snapshot = GroupSnapshot {
            id: Id::random(&rng),
            generation: Default::default(),
            project_id: "p".to_owned(),
            user_id: "u".to_owned(),
            name: None,
            description: Some("d".to_owned()),
            status: GroupSnapshotStatus::Creating,
            group_id: group.id,
            group_type_id: group.group_type_id,
            created_at: NOW,
            updated_at: None,
        };
        tx!(db, "insert", |tx| {
            groups::insert(tx, &group, &[kinds[0], kinds[1], kinds[0]]).await?;
            group_snapshots::insert(tx, &snapshot).await
        })
        .unwrap();
        let (own, other) = (Visible::Project("p".to_owned()), Visible::Project("q".to_owned()));
        let source = group.source_group_id.unwrap().to_string();
        tx!(db, "look", |tx| {
            assert_eq!(groups::lock(tx, &own, group.id).await?.as_ref(), Some(&group));
            assert_eq!(groups::get(tx, &other, group.id).await?, None);
            assert_eq!(groups::types(tx, &[group.id]).await?.len(), 2);
            assert!(groups::is_source(tx, Source::Group, &source).await?);
            assert!(!groups::is_source(tx, Source::Snapshot, &source).await?);
            assert_eq!(group_snapshots::lock(tx, &own, snapshot.id).await?.as_ref(), Some(&snapshot));
            assert_eq!(group_snapshots::list(tx, &other, &Page::default()).await?.0, []);
            assert!(group_snapshots::any_of_group(tx, group.id).await?);
            groups::update(tx, &group, &Group { status: GroupStatus::Available, ..group.clone() }, NOW).await?;
            group_snapshots::set_status(tx, &snapshot, GroupSnapshotStatus::Available, NOW).await?;
            assert!(!groups::is_source(tx, Source::Group, &source).await?);
            let (listed, more) = groups::list(tx, &own, &Page::default()).await?;
            assert_eq!((listed[0].status, listed.len(), more), (GroupStatus::Available, 1, false));
            group_snapshots::forget(tx, snapshot.id).await?;
            groups::forget(tx, group.id).await?;
            assert!(groups::types(tx, &[group.id]).await?.is_empty());
            Ok(())
        })
        .unwrap();
    }
}
