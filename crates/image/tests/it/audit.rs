//! What the audit and `umbel storage progress` read, on all engines.

use umbel_api::image::{ImageStatus, Visibility};
use umbel_core::{Generation, Id, SystemRng, Timestamp};
use umbel_db::testing::open_all;
use umbel_db::{args, tx};
use umbel_image::Image;
use umbel_image::store::{Claim, Data, Meta, Place, Record, audit, claims, images, locations, twins};

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn record(name: &str, status: ImageStatus) -> Record {
    let mut meta = Meta { visibility: Visibility::Private, ..Meta::new(Some("p".to_owned())) };
    meta.name = Some(name.to_owned());
    Record {
        id: Id::random(&SystemRng::new()),
        generation: Generation::default(),
        status,
        meta,
        data: Data::default(),
        places: Vec::new(),
        web: Vec::new(),
        created_at: NOW,
        updated_at: NOW,
        claim: None,
        uploaded: 0,
    }
}

#[tokio::test]
async fn every_disk_of_every_image_is_known() {
    for temp in open_all::<Image>().await {
        let active = record("a", ImageStatus::Active);
        let leaving = record("b", ImageStatus::PendingDelete);
        let coming = record("c", ImageStatus::Queued);
        let place = |record: &Record| {
            let disk = record.id.to_string();
            Place { store: "fast".to_owned(), url: format!("local://c/fast/{disk}/snap"), disk, format: None }
        };
        let claim = Claim {
            image: coming.id,
            token: "t".to_owned(),
            store: "slow".to_owned(),
            disk: coming.id.to_string(),
            expires_at: NOW,
        };
        tx!(temp.db, "make", |tx| {
            for record in [&active, &leaving, &coming] {
                images::insert(tx, record).await?;
            }
            for record in [&active, &leaving] {
                locations::insert(tx, record.id, &place(record), NOW).await?;
            }
            twins::want(tx, active.id, "fast", NOW).await?;
            claims::take(tx, &coming, &claim, ImageStatus::Saving, NOW).await
        })
        .unwrap();
        let mut known = tx!(temp.db, "read", |tx| audit::disks(tx).await).unwrap();
        known.sort_by(|one, other| (&one.name, &one.disk).cmp(&(&other.name, &other.disk)));
        let seen: Vec<_> =
            known.iter().map(|one| (one.name.as_str(), one.store.as_str(), one.disk.clone(), one.expected)).collect();
        let id = |record: &Record| record.id.to_string();
        let want = [
            ("a", "fast", id(&active), true),
            // Not converted yet.
            ("a", "fast", format!("{}.raw", active.id), false),
            ("b", "fast", id(&leaving), false),
            // An upload fills one of two.
            ("c", "slow", id(&coming), false),
            ("c", "slow", format!("staging-{}", coming.id), false),
        ];
        assert_eq!(seen, want, "{:?}", temp.db.engine());
        let found = tx!(temp.db, "find", |tx| Ok((audit::find(tx, "a").await?, audit::find(tx, &id(&leaving)).await?)));
        assert_eq!(found.unwrap(), (vec![(active.id, "a".to_owned())], vec![]));
    }
}

#[tokio::test]
async fn work_under_way_is_told_with_how_far_it_is() {
    for temp in open_all::<Image>().await {
        let (uploaded, twinned) = (record("u", ImageStatus::Queued), record("t", ImageStatus::Active));
        let claim = Claim {
            image: uploaded.id,
            token: "t".to_owned(),
            store: "fast".to_owned(),
            disk: uploaded.id.to_string(),
            expires_at: NOW,
        };
        let later = Timestamp::from_secs(2_000);
        tx!(temp.db, "make", |tx| {
            images::insert(tx, &uploaded).await?;
            images::insert(tx, &twinned).await?;
            claims::take(tx, &uploaded, &claim, ImageStatus::Saving, NOW).await?;
            assert!(claims::renew(tx, &claim, later, 7).await?);
            twins::want(tx, twinned.id, "fast", NOW).await
        })
        .unwrap();
        let of = async || {
            let all = tx!(temp.db, "running", |tx| audit::running(tx, 10).await).unwrap();
            all.into_iter().map(|one| (one.what, one.name, one.done, one.total, one.note)).collect::<Vec<_>>()
        };
        let upload = ("upload".to_owned(), "u".to_owned(), Some(7), None, None);
        let waiting = ("twin".to_owned(), "t".to_owned(), Some(0), None, Some("waiting".to_owned()));
        assert_eq!(of().await, [upload.clone(), waiting]);
        tx!(temp.db, "begin", |tx| {
            let half = "UPDATE image_twins SET state = 'running', bytes_done = 3, bytes_total = 9";
            tx.execute(half, args![]).await
        })
        .unwrap();
        let running = ("twin".to_owned(), "t".to_owned(), Some(3), Some(9), None);
        assert_eq!(of().await, [upload, running]);
    }
}
