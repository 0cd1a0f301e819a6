//! What the audit reads, on all three engines, and what it is told of things that left the books.

use umbel_core::{Id, SeededRng, Timestamp};
use umbel_db::testing::open_all;
use umbel_db::tx;
use umbel_volume::Volume;
use umbel_volume::backup::Data;
use umbel_volume::model::{SnapshotRow, SnapshotStatus, VolumeRow, VolumeStatus};
use umbel_volume::store::backups::{self, Backup, BackupStatus, Origin};
use umbel_volume::store::unmanaged::{self, Unmanaged};
use umbel_volume::store::{audit, snapshots, volumes};
use umbel_workflow::{NewFlow, enqueue};

const NOW: Timestamp = Timestamp::from_secs(1_795_000_000);

fn volume(rng: &SeededRng, name: Option<&str>, backend: Option<&str>) -> VolumeRow {
    let mut row = VolumeRow::new(Id::random(rng), "p", "u", 1, NOW);
    row.name = name.map(str::to_owned);
    row.backend = backend.map(str::to_owned);
    row
}

fn backup(rng: &SeededRng, of: &VolumeRow, parent: Option<&Backup>) -> Backup {
    let id = Id::random(rng);
    let base = parent.map_or_else(|| id.to_string(), |parent| parent.data.base.clone());
    let data_parent = parent.map(|parent| parent.data.id.clone());
    Backup {
        id,
        generation: Default::default(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        name: Some("b".to_owned()),
        description: None,
        status: BackupStatus::Available,
        fail_reason: None,
        volume_id: of.id,
        size_gib: 1,
        snapshot_id: None,
        parent_id: parent.map(|parent| parent.id),
        container: None,
        availability_zone: None,
        metadata: Default::default(),
        origin: Origin::default(),
        object_count: 0,
        progress: None,
        target: "directory".to_owned(),
        data: Data { id: id.to_string(), volume: of.id.to_string(), base, parent: data_parent, size: 1 << 30 },
        source_snapshot: parent.is_some().then(|| format!("backup.{id}")),
        own_snapshot: parent.is_some(),
        restore_volume_id: None,
        data_timestamp: NOW,
        created_at: NOW,
        updated_at: None,
    }
}

#[tokio::test]
async fn the_audit_reads_every_disk_snapshot_and_backup() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(21);
        let settled = volume(&rng, Some("a"), Some("fast"));
        let making = volume(&rng, None, Some("fast"));
        let nowhere = volume(&rng, None, None);
        let taken = SnapshotRow::new(Id::random(&rng), &settled, "u", NOW);
        let full = backup(&rng, &settled, None);
        let increment = Backup { status: BackupStatus::Creating, ..backup(&rng, &settled, Some(&full)) };
        tx!(db, "make", |tx| {
            for row in [&settled, &making, &nowhere] {
                volumes::insert(tx, row).await?;
            }
            volumes::set_status(tx, &settled, VolumeStatus::InUse, NOW).await?;
            snapshots::insert(tx, &taken).await?;
            snapshots::set_status(tx, &taken, SnapshotStatus::Available, NOW).await?;
            backups::insert(tx, &full).await?;
            backups::insert(tx, &increment).await
        })
        .unwrap();
        let (mut disks, mut kept) =
            tx!(db, "read", |tx| Ok((audit::disks(tx).await?, audit::backups(tx).await?))).unwrap();
        disks.sort_by_key(|one| (one.id != settled.id.to_string(), one.snapshot.clone()));
        let of = |row: &VolumeRow, snapshot: Option<&SnapshotRow>, expected| audit::Known {
            id: row.id.to_string(),
            name: row.name.clone().unwrap_or_default(),
            backend: "fast".to_owned(),
            disk: row.disk.clone(),
            snapshot: snapshot.map(|row| row.disk_snapshot.clone()),
            expected,
        };
        assert_eq!(disks, [of(&settled, None, true), of(&settled, Some(&taken), true), of(&making, None, false)]);
        kept.sort_by_key(|one| one.parent.is_some());
        let of = |row: &Backup, expected| audit::KnownBackup {
            id: row.id.to_string(),
            name: "b".to_owned(),
            target: "directory".to_owned(),
            volume: settled.id.to_string(),
            base: full.data.id.clone(),
            data: row.data.id.clone(),
            parent: row.data.parent.clone(),
            source: row.source_snapshot.clone().map(|name| (settled.id.to_string(), name)),
            expected,
        };
        assert_eq!(kept, [of(&full, true), of(&increment, false)]);
        let found = tx!(db, "find", |tx| {
            let by_id = audit::find(tx, &making.id.to_string()).await?;
            Ok((audit::find(tx, "a").await?, by_id, audit::find(tx, "A").await?))
        });
        let (a, none) = ((settled.id.to_string(), "a".to_owned()), (making.id.to_string(), String::new()));
        assert_eq!(found.unwrap(), (vec![a], vec![none], vec![]));
    }
}

#[tokio::test]
async fn work_under_way_is_told_with_how_far_it_is() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(23);
        let row = volume(&rng, Some("v"), Some("fast"));
        let copy = Backup { progress: Some(40), ..backup(&rng, &row, None) };
        let ids = [row.id.to_string(), copy.id.to_string(), Id::<VolumeRow>::random(&rng).to_string()];
        tx!(db, "make", |tx| {
            volumes::insert(tx, &row).await?;
            volumes::set_progress(tx, row.id, Some(25)).await?;
            backups::insert(tx, &copy).await?;
            for (number, id) in ids.iter().enumerate() {
                let now = Timestamp(NOW.0 + number as i64);
                let (kind, deadline) = (["volume_create", "backup_create", "group_create"][number], now);
                let flow = NewFlow { id, kind, first_step: "copy", state: &(), request_id: "", now, deadline };
                enqueue(tx, flow).await?;
            }
            Ok(())
        })
        .unwrap();
        let found = tx!(db, "running", |tx| audit::running(tx, 10).await).unwrap();
        let seen: Vec<_> =
            found.iter().map(|one| (one.noun, one.name.as_str(), one.what.as_str(), one.percent, one.size)).collect();
        let want = [
            ("volume", "v", "volume_create", Some(25), 1 << 30),
            ("backup", "b", "backup_create", Some(40), 1 << 30),
            ("group", "", "group_create", None, 0),
        ];
        assert_eq!(seen, want);
        assert_eq!(tx!(db, "running", |tx| audit::running(tx, 1).await).unwrap(), found[..1]);
        assert_eq!((found[0].note.as_deref(), found[0].began), (Some("copy"), NOW));
    }
}

#[tokio::test]
async fn what_is_unmanaged_is_kept_until_it_is_managed_or_gone() {
    for temp in open_all::<Volume>().await {
        let db = &temp.db;
        let rng = SeededRng::new(22);
        let row = volume(&rng, None, Some("fast"));
        let listed = async || tx!(db, "list", |tx| unmanaged::list(tx).await).unwrap();
        let one = |disk: &str, snapshot: Option<&str>, at| Unmanaged {
            backend: "fast".to_owned(),
            disk: disk.to_owned(),
            snapshot: snapshot.map(str::to_owned),
            at,
        };
        let later = Timestamp(NOW.0 + 1);
        tx!(db, "unmanage", |tx| {
            unmanaged::note(tx, "fast", "volume-1", Some("snapshot-1"), NOW).await?;
            unmanaged::note(tx, "fast", "volume-1", None, NOW).await?;
            // Unmanaged, managed by hand, unmanaged again.
            unmanaged::note(tx, "fast", "volume-1", None, later).await?;
            unmanaged::note(tx, "slow", "volume-1", None, NOW).await
        })
        .unwrap();
        let slow = Unmanaged { backend: "slow".to_owned(), ..one("volume-1", None, NOW) };
        let snapshot = one("volume-1", Some("snapshot-1"), NOW);
        assert_eq!(listed().await, [one("volume-1", None, later), snapshot, slow.clone()]);
        tx!(db, "manage", |tx| {
            unmanaged::managed(tx, "fast", "volume-1", None).await?;
            unmanaged::renamed(tx, "fast", "volume-1", &row.disk).await?;
            volumes::insert(tx, &row).await
        })
        .unwrap();
        let mut want = [one(&row.disk, Some("snapshot-1"), NOW), slow.clone()];
        want.sort_by(|one, other| one.backend.cmp(&other.backend));
        assert_eq!(listed().await, want);
        tx!(db, "gone", |tx| volumes::forget_all(tx, row.id).await).unwrap();
        assert_eq!(listed().await, [slow]);
    }
}
