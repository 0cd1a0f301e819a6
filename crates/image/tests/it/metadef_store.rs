//! The tables of metadata definitions by themselves, on all engines.

use umbel_api::image::metadefs::Visibility;
use umbel_auth::Visible;
use umbel_core::{Id, Kind as ErrorKind, Result, SystemRng, Timestamp};
use umbel_db::testing::{TempDb, open_all};
use umbel_db::{Direction, read, tx};
use umbel_image::Image;
use umbel_image::store::metadefs::{self as rows, Column, Filter, Item, Kind, Namespace, Sort};

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

fn namespace(name: &str, owner: &str, visibility: Visibility) -> Namespace {
    Namespace {
        id: Id::random(&SystemRng::new()),
        name: name.to_owned(),
        display_name: Some("ü".repeat(80)),
        description: None,
        visibility,
        protected: true,
        owner: Some(owner.to_owned()),
        created_at: NOW,
        updated_at: NOW,
    }
}

fn item(name: &str, created_at: Timestamp) -> Item {
    Item { name: name.to_owned(), body: format!("\"{}\"", "x".repeat(70_000)), created_at, updated_at: created_at }
}

async fn stored(temp: &TempDb<Image>, name: &str, owner: &str, visibility: Visibility) -> Namespace {
    let namespace = namespace(name, owner, visibility);
    tx!(temp.db, "insert", |tx| rows::insert_namespace(tx, &namespace).await).unwrap();
    namespace
}

fn project(id: &str) -> Visible {
    Visible::Project(id.to_owned())
}

#[tokio::test]
async fn isolation_holds_for_every_read_of_a_namespace() {
    for temp in open_all::<Image>().await {
        for (name, visibility, seen) in [("a", Visibility::Private, false), ("b", Visibility::Public, true)] {
            let namespace = stored(&temp, name, "p", visibility).await;
            let filter =
                Filter { visibility: None, resource_types: None, sort: Column::Name, direction: Direction::Asc };
            for (visible, seen) in [(Visible::All, true), (project("p"), true), (project("q"), seen)] {
                let expected = seen.then(|| namespace.clone());
                let got: Result<_> = tx!(temp.db, "get", |tx| {
                    let got = rows::get_namespace(tx, &visible, name).await?;
                    let locked = rows::lock_namespace(tx, &visible, name).await?;
                    let all = rows::list_namespaces(tx, &visible, &filter, None, 10).await?;
                    Ok((got, locked, all.into_iter().find(|listed| listed.name == name)))
                });
                let engine = temp.db.engine();
                assert_eq!(got.unwrap(), (expected.clone(), expected.clone(), expected), "{engine:?} {name}");
            }
        }
    }
}

#[tokio::test]
async fn names_of_namespaces_are_taken_once() {
    for temp in open_all::<Image>().await {
        let first = stored(&temp, "a", "p", Visibility::Private).await;
        let other = stored(&temp, "A", "q", Visibility::Private).await;
        let again = namespace("a", "q", Visibility::Private);
        let refused = tx!(temp.db, "insert", |tx| rows::insert_namespace(tx, &again).await);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        let renamed = Namespace { name: "a".to_owned(), ..other };
        let refused = tx!(temp.db, "update", |tx| rows::update_namespace(tx, &renamed).await);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        let changed = Namespace { name: "c".to_owned(), display_name: None, updated_at: LATER, ..first };
        tx!(temp.db, "update", |tx| rows::update_namespace(tx, &changed).await).unwrap();
        let got = read!(temp.db, "get", |tx| rows::get_namespace(tx, &Visible::All, "c").await).unwrap();
        assert_eq!(got, Some(changed));
    }
}

#[tokio::test]
async fn kinds_do_not_meet_and_only_tags_fold() {
    for temp in open_all::<Image>().await {
        let (one, two) =
            (stored(&temp, "1", "p", Visibility::Private).await, stored(&temp, "2", "p", Visibility::Private).await);
        let insert = async |namespace: &Namespace, kind: Kind, name: &str| {
            let item = item(name, NOW);
            tx!(temp.db, "insert", |tx| rows::insert(tx, namespace.id, kind, &item).await)
        };
        for kind in [Kind::Object, Kind::Property, Kind::Tag, Kind::ResourceType] {
            insert(&one, kind, "Name").await.unwrap();
            insert(&two, kind, "Name").await.unwrap();
            assert_eq!(insert(&one, kind, "Name").await.unwrap_err().kind(), ErrorKind::Conflict);
            assert_eq!(insert(&one, kind, "NAME").await.is_err(), kind == Kind::Tag, "{kind:?}");
        }
        let get = async |namespace: &Namespace, kind: Kind, name: &str| {
            read!(temp.db, "get", |tx| rows::get(tx, namespace.id, kind, name).await).unwrap()
        };
        assert_eq!(get(&one, Kind::Tag, "nAME").await, Some(item("Name", NOW)));
        assert_eq!(get(&one, Kind::Object, "nAME").await, None);
        let cleared: Result<bool> = tx!(temp.db, "clear", |tx| {
            rows::clear(tx, one.id, Kind::Tag).await?;
            rows::remove(tx, one.id, Kind::Tag, "Name").await
        });
        assert!(!cleared.unwrap());
        assert!(get(&one, Kind::Object, "Name").await.is_some() && get(&two, Kind::Tag, "Name").await.is_some());
        tx!(temp.db, "delete", |tx| rows::delete_namespace(tx, one.id).await).unwrap();
        let left = read!(temp.db, "all", |tx| rows::of_all(tx, [one.id, two.id], Kind::Object).await).unwrap();
        assert_eq!(left, [(two.id, item("Name", NOW))]);
    }
}

#[tokio::test]
async fn items_are_replaced_and_paged() {
    for temp in open_all::<Image>().await {
        let namespace = stored(&temp, "n", "p", Visibility::Private).await;
        let kind = Kind::Object;
        let made: Result<()> = tx!(temp.db, "insert", |tx| {
            for (name, at) in [("b", NOW), ("c", NOW), ("a", LATER)] {
                rows::insert(tx, namespace.id, kind, &item(name, at)).await?;
            }
            Ok(())
        });
        made.unwrap();
        for order in [Sort::Name, Sort::CreatedAt, Sort::UpdatedAt] {
            for direction in [Direction::Asc, Direction::Desc] {
                let list = async |after: Option<&Item>, limit: Option<usize>| {
                    read!(temp.db, "list", |tx| rows::list(tx, namespace.id, kind, (order, direction), after, limit)
                        .await)
                    .unwrap()
                };
                let whole = list(None, None).await;
                assert_eq!(whole.len(), 3);
                let mut paged = Vec::new();
                while let Some(next) = list(paged.last(), Some(1)).await.pop() {
                    paged.push(next);
                }
                assert_eq!(paged, whole, "{order:?} {direction:?}");
            }
        }
        let replace = async |name: &str, after: &Item| {
            tx!(temp.db, "replace", |tx| rows::replace(tx, namespace.id, kind, name, after).await)
        };
        assert!(!replace("x", &item("y", NOW)).await.unwrap());
        assert_eq!(replace("b", &item("c", NOW)).await.unwrap_err().kind(), ErrorKind::Conflict);
        // The same again is a change as well, though no byte of the row differs.
        assert!(replace("b", &item("b", NOW)).await.unwrap());
        assert!(replace("b", &item("d", NOW)).await.unwrap());
        let got = read!(temp.db, "get", |tx| rows::get(tx, namespace.id, kind, "d").await).unwrap();
        assert_eq!(got, Some(item("d", NOW)));
    }
}

#[tokio::test]
async fn resource_types_are_known_once() {
    for temp in open_all::<Image>().await {
        let types = async || read!(temp.db, "types", |tx| rows::resource_types(tx).await).unwrap();
        let before = types().await;
        assert!(before.iter().any(|known| known.name == "OS::Nova::Server"), "{:?}", temp.db.engine());
        for name in ["OS::Nova::Server", "Own", "Own"] {
            tx!(temp.db, "add", |tx| rows::add_resource_type(tx, name, LATER).await).unwrap();
        }
        let after = types().await;
        assert_eq!(after.len(), before.len() + 1);
        assert!(before.iter().all(|known| after.contains(known)));
    }
}
