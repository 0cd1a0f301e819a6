//! The tables by themselves, on all engines.

use umbel_api::image::{ImageStatus, MemberStatus, Visibility};
use umbel_auth::Visible;
use umbel_core::{Generation, Id, Kind, Result, SystemRng, Timestamp};
use umbel_db::testing::{TempDb, open_all};
use umbel_db::{read, tx};
use umbel_image::Image;
use umbel_image::store::members::Member;
use umbel_image::store::{Claim, Data, Meta, Place, Record, claims, images, locations, members};

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

fn record(owner: &str, visibility: Visibility) -> Record {
    let mut meta = Meta { visibility, ..Meta::new(Some(owner.to_owned())) };
    meta.properties.insert("empty".to_owned(), None);
    meta.properties.insert("long".to_owned(), Some("x".repeat(70_000)));
    meta.tags.insert("tag".to_owned());
    Record {
        id: Id::random(&SystemRng::new()),
        generation: Generation::default(),
        status: ImageStatus::Queued,
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

async fn stored(temp: &TempDb<Image>, owner: &str, visibility: Visibility) -> Record {
    let record = record(owner, visibility);
    tx!(temp.db, "insert", |tx| images::insert(tx, &record).await).unwrap();
    record
}

async fn any(temp: &TempDb<Image>, record: &Record) -> Option<Record> {
    read!(temp.db, "get", |tx| images::get_any(tx, record.id).await).unwrap()
}

fn claim(record: &Record, token: &str) -> Claim {
    let (token, store, disk) = (token.to_owned(), "fast".to_owned(), record.id.to_string());
    Claim { image: record.id, token, store, disk, expires_at: LATER }
}

fn place(disk: &str) -> Place {
    Place { store: "fast".to_owned(), disk: disk.to_owned(), url: format!("local://c/fast/{disk}/snap"), format: None }
}

#[tokio::test]
async fn migrations_run_twice() {
    for temp in open_all::<Image>().await {
        assert_eq!(temp.db.migrate().await.unwrap(), 0);
        assert_eq!(temp.db.pending().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_is_stored_is_read() {
    for temp in open_all::<Image>().await {
        let record = stored(&temp, "p", Visibility::Private).await;
        assert_eq!(any(&temp, &record).await, Some(record.clone()), "{:?}", temp.db.engine());
        let again = tx!(temp.db, "insert", |tx| images::insert(tx, &record).await);
        assert_eq!(again.unwrap_err().kind(), Kind::Conflict);
    }
}

#[tokio::test]
async fn isolation_holds_for_every_read() {
    for temp in open_all::<Image>().await {
        let member = |record: &Record, status| Member {
            image: record.id,
            project: "q".to_owned(),
            status,
            created_at: NOW,
            updated_at: NOW,
        };
        for (visibility, shared, seen) in [
            (Visibility::Private, None, false),
            (Visibility::Private, Some(MemberStatus::Accepted), false),
            (Visibility::Shared, None, false),
            (Visibility::Shared, Some(MemberStatus::Pending), true),
            (Visibility::Shared, Some(MemberStatus::Rejected), true),
            (Visibility::Community, None, true),
            (Visibility::Public, None, true),
        ] {
            let record = stored(&temp, "p", visibility).await;
            if let Some(status) = shared {
                tx!(temp.db, "share", |tx| members::insert(tx, &member(&record, status)).await).unwrap();
            }
            let sees = async |visible: Visible| {
                let got: Result<(bool, bool)> = tx!(temp.db, "get", |tx| {
                    let got = images::get(tx, &visible, record.id).await?.is_some();
                    Ok((got, images::lock(tx, &visible, record.id).await?.is_some()))
                });
                got.unwrap()
            };
            assert_eq!(sees(Visible::Project("q".to_owned())).await, (seen, seen), "{visibility} {shared:?}");
            assert_eq!(sees(Visible::Project("p".to_owned())).await, (true, true));
            assert_eq!(sees(Visible::All).await, (true, true));
        }
    }
}

#[tokio::test]
async fn a_claim_goes_its_way() {
    for temp in open_all::<Image>().await {
        let engine = temp.db.engine();
        let record = stored(&temp, "p", Visibility::Private).await;
        let (first, second) = (claim(&record, "one"), claim(&record, "two"));
        tx!(temp.db, "take", |tx| claims::take(tx, &record, &first, ImageStatus::Saving, NOW).await).unwrap();
        // Another that has read the same row.
        let late = tx!(temp.db, "take", |tx| claims::take(tx, &record, &second, ImageStatus::Saving, NOW).await);
        assert_eq!(late.unwrap_err().kind(), Kind::Busy, "{engine:?}");
        let renew = async |claim: &Claim| tx!(temp.db, "renew", |tx| claims::renew(tx, claim, LATER, 7).await).unwrap();
        assert!(renew(&first).await && renew(&first).await && !renew(&second).await);
        let row = any(&temp, &record).await.unwrap();
        assert_eq!((row.status, row.uploaded, row.claim), (ImageStatus::Saving, 7, Some(first.clone())));
        assert_eq!(tx!(temp.db, "usage", |tx| images::counted(tx, "p").await).unwrap().stored, 7);

        let expired = async |at| read!(temp.db, "expired", |tx| claims::expired(tx, at).await).unwrap();
        assert_eq!((expired(NOW).await, expired(LATER).await), (vec![], vec![first.clone()]));
        let take_over = async |at| tx!(temp.db, "over", |tx| claims::take_over(tx, &first, &second, at).await).unwrap();
        assert!(!take_over(NOW).await && take_over(LATER).await && !take_over(LATER).await);
        assert!(!renew(&first).await && renew(&second).await);
        let data = Data { size: Some(5), ..Data::default() };
        let complete = async |claim: &Claim| {
            tx!(temp.db, "complete", |tx| claims::complete(tx, claim, &data, &place("d"), LATER).await).unwrap()
        };
        assert!(!complete(&first).await && complete(&second).await && !complete(&second).await);
        let row = any(&temp, &record).await.unwrap();
        assert_eq!((row.status, row.claim, row.places), (ImageStatus::Active, None, vec![place("d")]));
        assert_eq!(tx!(temp.db, "usage", |tx| images::counted(tx, "p").await).unwrap().stored, 5);
        // What is complete cannot be released any more.
        assert!(!tx!(temp.db, "release", |tx| claims::release(tx, &second, LATER).await).unwrap());
        assert_eq!(any(&temp, &record).await.unwrap().status, ImageStatus::Active);
    }
}

#[tokio::test]
async fn a_deleted_image_waits_for_its_upload() {
    for temp in open_all::<Image>().await {
        let record = stored(&temp, "p", Visibility::Private).await;
        let claim = claim(&record, "one");
        tx!(temp.db, "take", |tx| claims::take(tx, &record, &claim, ImageStatus::Saving, NOW).await).unwrap();
        let row = any(&temp, &record).await.unwrap();
        let gone = ImageStatus::PendingDelete;
        tx!(temp.db, "delete", |tx| images::set_status(tx, &row, gone, NOW).await).unwrap();
        let deleted = async |at| read!(temp.db, "deleted", |tx| images::deleted(tx, at).await).unwrap();
        assert_eq!((deleted(NOW).await, deleted(LATER).await), (vec![], vec![record.id]));
        assert!(!tx!(temp.db, "renew", |tx| claims::renew(tx, &claim, LATER, 7).await).unwrap());
        let seen = read!(temp.db, "get", |tx| images::get(tx, &Visible::All, record.id).await).unwrap();
        assert!(seen.is_none(), "{:?}", temp.db.engine());
        // Releasing the claim leaves it deleted.
        assert!(tx!(temp.db, "release", |tx| claims::release(tx, &claim, NOW).await).unwrap());
        assert_eq!(deleted(NOW).await, [record.id]);
        tx!(temp.db, "forget", |tx| images::forget(tx, record.id).await).unwrap();
        assert_eq!(any(&temp, &record).await, None);
    }
}

#[tokio::test]
async fn a_place_has_one_image() {
    for temp in open_all::<Image>().await {
        let (one, two) = (stored(&temp, "p", Visibility::Public).await, stored(&temp, "p", Visibility::Public).await);
        let put = async |record: &Record, disk: &str| {
            tx!(temp.db, "place", |tx| locations::insert(tx, record.id, &place(disk), NOW).await)
        };
        put(&one, "d").await.unwrap();
        put(&one, "e").await.unwrap();
        assert_eq!(put(&two, "d").await.unwrap_err().kind(), Kind::Conflict, "{:?}", temp.db.engine());
        assert_eq!(any(&temp, &one).await.unwrap().places.len(), 2);
    }
}
