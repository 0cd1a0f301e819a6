use umbel_compute::store::flavors::{self, FlavorFilter, FlavorSort};
use umbel_compute::store::keypairs::{self, Keypair};
use umbel_compute::store::{cells, quotas};
use umbel_compute::{Api, CellId};
use umbel_core::{Kind, Timestamp};
use umbel_db::testing::open_all;
use umbel_db::{Direction, read, tx};
use uuid::Uuid;

use crate::support::flavor;

fn all() -> FlavorFilter {
    FlavorFilter {
        is_public: None,
        project_id: None,
        min_memory_mib: 0,
        min_root_gib: 0,
        sort: (FlavorSort::Id, Direction::Asc),
        marker: None,
        limit: 100,
    }
}

#[tokio::test]
async fn flavors_are_listed_by_who_may_use_them() {
    for temp in open_all::<Api>().await {
        let mut private = flavor("2", 1_024);
        private.is_public = false;
        private.extra_specs.insert("hw:x".into(), "1".into());
        tx!(temp.db, "insert", |tx| {
            flavors::insert(tx, &flavor("1", 2_048)).await?;
            flavors::insert(tx, &private).await?;
            flavors::insert(tx, &flavor("3", 512)).await
        })
        .unwrap();
        let ids = async |filter: FlavorFilter| {
            let rows = read!(temp.db, "list", |tx| flavors::list(tx, &filter).await).unwrap();
            rows.map(|rows| rows.into_iter().map(|flavor| flavor.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(all()).await.unwrap(), ["1", "2", "3"]);
        assert_eq!(ids(FlavorFilter { is_public: Some(false), ..all() }).await.unwrap(), ["2"]);
        assert_eq!(ids(FlavorFilter { project_id: Some("p".into()), ..all() }).await.unwrap(), ["1", "3"]);
        assert_eq!(ids(FlavorFilter { min_memory_mib: 1_024, ..all() }).await.unwrap(), ["1", "2"]);
        let by_memory = FlavorFilter { sort: (FlavorSort::Memory, Direction::Desc), ..all() };
        assert_eq!(ids(by_memory.clone()).await.unwrap(), ["1", "2", "3"]);
        let second = FlavorFilter { marker: Some("1".into()), limit: 1, ..by_memory };
        assert_eq!(ids(second).await.unwrap(), ["2"]);
        assert_eq!(ids(FlavorFilter { marker: Some("9".into()), ..all() }).await, None);

        let access = tx!(temp.db, "access", |tx| {
            let first = flavors::add_project(tx, "2", "p").await?;
            let second = flavors::add_project(tx, "2", "p").await?;
            Ok((first, second, flavors::projects(tx, "2").await?))
        })
        .unwrap();
        assert_eq!(access, (true, false, vec!["p".to_owned()]));
        let seen = read!(temp.db, "get", |tx| flavors::get(tx, "2", Some("p")).await).unwrap();
        assert_eq!(seen, Some(private));
        assert_eq!(read!(temp.db, "get", |tx| flavors::get(tx, "2", Some("q")).await).unwrap(), None);

        for (id, name, says) in [("1", "new", "Flavor with ID 1"), ("9", "flavor 3", "Flavor with name flavor 3")] {
            let mut twin = flavor(id, 1);
            twin.name = name.into();
            let error = tx!(temp.db, "insert", |tx| flavors::insert(tx, &twin).await).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.message().starts_with(says), "{}", error.for_log());
        }
        assert!(tx!(temp.db, "delete", |tx| flavors::delete(tx, "2").await).unwrap());
        assert!(!tx!(temp.db, "delete", |tx| flavors::delete(tx, "2").await).unwrap());
    }
}

#[tokio::test]
async fn keys_belong_to_a_user() {
    for temp in open_all::<Api>().await {
        let key = |name: &str| Keypair {
            user_id: "u".into(),
            name: name.into(),
            number: 1,
            kind: "ssh".into(),
            fingerprint: "aa:bb".into(),
            public_key: "ssh-ed25519 AAAA".into(),
            created_at: Timestamp(1),
        };
        tx!(temp.db, "insert", |tx| {
            for name in ["b", "a", "c"] {
                keypairs::insert(tx, &key(name)).await?;
            }
            Ok(())
        })
        .unwrap();
        let again = tx!(temp.db, "insert", |tx| keypairs::insert(tx, &key("a")).await).unwrap_err();
        assert_eq!(again.message(), "Key pair 'a' already exists.");
        let names = async |user: &str, marker: Option<&str>, limit| {
            let rows = read!(temp.db, "list", |tx| keypairs::list(tx, user, marker, limit).await).unwrap();
            rows.map(|rows| rows.into_iter().map(|key| key.name).collect::<Vec<_>>())
        };
        assert_eq!(names("u", None, 10).await.unwrap(), ["a", "b", "c"]);
        assert_eq!(names("u", Some("a"), 1).await.unwrap(), ["b"]);
        assert_eq!(names("u", Some("x"), 1).await, None);
        assert!(names("other", None, 10).await.unwrap().is_empty());
        assert!(tx!(temp.db, "delete", |tx| keypairs::delete(tx, "u", "a").await).unwrap());
        assert_eq!(read!(temp.db, "count", |tx| keypairs::count(tx, "u").await).unwrap(), 2);
    }
}

#[tokio::test]
async fn limits_are_set_and_cleared() {
    for temp in open_all::<Api>().await {
        tx!(temp.db, "set", |tx| {
            quotas::lock(tx, "p").await?;
            quotas::set(tx, "p", None, "cores", 5).await?;
            quotas::set(tx, "p", None, "cores", -1).await?;
            quotas::set(tx, "p", Some("u"), "cores", 2).await?;
            quotas::set_class(tx, "default", "ram", 7).await
        })
        .unwrap();
        let of = async |user: Option<&str>| read!(temp.db, "of", |tx| quotas::of_project(tx, "p", user).await).unwrap();
        assert_eq!(of(None).await.get("cores"), Some(&-1));
        assert_eq!(of(Some("u")).await.get("cores"), Some(&2));
        tx!(temp.db, "clear", |tx| quotas::clear(tx, "p", None).await).unwrap();
        assert!(of(None).await.is_empty() && of(Some("u")).await.is_empty());
        let class = read!(temp.db, "class", |tx| quotas::of_class(tx, "default").await).unwrap();
        assert_eq!(class.get("ram"), Some(&7));
    }
}

#[tokio::test]
async fn a_cell_keeps_its_newest_address() {
    for temp in open_all::<Api>().await {
        let mut cell = cells::CellRow {
            id: CellId::from_uuid(Uuid::from_u128(1)),
            name: "cell1".into(),
            url: "sqlite:a".into(),
            disabled: false,
        };
        tx!(temp.db, "put", |tx| cells::put(tx, &cell, Timestamp(1)).await).unwrap();
        cell.url = "sqlite:b".into();
        tx!(temp.db, "put", |tx| cells::put(tx, &cell, Timestamp(2)).await).unwrap();
        assert_eq!(read!(temp.db, "list", |tx| cells::list(tx).await).unwrap(), [cell]);
    }
}
