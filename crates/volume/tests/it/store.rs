//! The tables, on all three engines.

use umbel_auth::Visible;
use umbel_core::{Id, Kind, SeededRng, Timestamp};
use umbel_db::testing::open_all;
use umbel_db::{Direction, tx};
use umbel_volume::Volume;
use umbel_volume::model::{SnapshotRow, SnapshotStatus, VolumeRow, VolumeStatus};
use umbel_volume::store::metadata::{self, Kind as Whose};
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
