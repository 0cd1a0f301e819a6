//! The promises of this crate, on every engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use umbel_core::{Error, Kind};
use umbel_db::testing::{TempDb, fresh, open_all};
use umbel_db::{Db, Direction, Engine, Migration, Schema, Sql, Value, args, escape_like, read, tx};

struct Things;

impl Schema for Things {
    const NAME: &'static str = "things";
    const MIGRATIONS: &'static [Migration] = &[
        Migration {
            version: 1,
            name: "things",
            statements: &[
                "CREATE TABLE IF NOT EXISTS things (id VARCHAR(36) PRIMARY KEY, size BIGINT NOT NULL, note TEXT)",
                "CREATE INDEX IF NOT EXISTS things_size ON things (size)",
            ],
        },
        // An apostrophe, as a person writes it.
        Migration {
            version: 2,
            name: "a thing's colour",
            statements: &["ALTER TABLE things ADD COLUMN colour VARCHAR(20)"],
        },
    ];
}

async fn insert(db: &Db<Things>, id: &str, size: i64, note: Option<&str>) -> umbel_core::Result<u64> {
    tx!(db, "insert", |tx| {
        tx.execute("INSERT INTO things (id, size, note) VALUES (?, ?, ?)", args![id, size, note]).await
    })
}

async fn ids(db: &Db<Things>, sql: impl Fn() -> Sql) -> Vec<String> {
    let rows = read!(db, "ids", |tx| tx.select(sql()).await).unwrap();
    rows.iter().map(|row| row.text("id").unwrap()).collect()
}

async fn everywhere<F, Fut>(check: F)
where
    F: Fn(TempDb<Things>) -> Fut,
    Fut: Future<Output = ()>,
{
    for db in open_all::<Things>().await {
        check(db).await;
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    everywhere(|temp| async move {
        let db = &temp.db;
        let long = "ü".repeat(100_000);
        insert(db, "a", i64::MAX, Some(&long)).await.unwrap();
        insert(db, "b", -1, None).await.unwrap();
        let rows =
            read!(db, "all", |tx| tx.fetch_all("SELECT id, size, note FROM things ORDER BY id", vec![]).await).unwrap();
        assert_eq!(rows[0].int("size").unwrap(), i64::MAX);
        assert_eq!(rows[0].text("note").unwrap(), long);
        assert_eq!(rows[1].opt_text("note").unwrap(), None);
        assert!(rows[1].uint("size").is_err());
        let sum = read!(db, "sum", |tx| tx
            .fetch_one("SELECT SUM_INT(size) AS total FROM things WHERE id = ?", args!["x"])
            .await);
        assert_eq!(sum.unwrap().int("total").unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_failed_body_leaves_nothing() {
    everywhere(|temp| async move {
        let db = &temp.db;
        let outcome: umbel_core::Result<()> = tx!(db, "fails", |tx| {
            tx.execute("INSERT INTO things (id, size) VALUES ('a', 1)", vec![]).await?;
            Err(Error::conflict("no"))
        });
        assert!(outcome.unwrap_err().is(Kind::Conflict));
        assert!(ids(db, || Sql::new("SELECT id FROM things")).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_second_row_of_the_same_id_is_a_conflict_or_ignored() {
    everywhere(|temp| async move {
        let db = &temp.db;
        insert(db, "a", 1, None).await.unwrap();
        assert!(insert(db, "a", 2, None).await.unwrap_err().is(Kind::Conflict));
        let ignored = tx!(db, "ignore", |tx| tx
            .execute("INSERT IGNORE INTO things (id, size) VALUES (?, ?)", args!["a", 3])
            .await);
        assert_eq!(ignored.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn concurrent_increments_are_all_counted() {
    everywhere(|temp| async move {
        let db = Arc::new(temp.db.clone());
        insert(&db, "a", 0, None).await.unwrap();
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        tx!(db, "increment", |tx| {
                            let row = tx.fetch_one("SELECT size FROM things WHERE id = 'a' FOR UPDATE", vec![]).await?;
                            let size = row.int("size")?;
                            let sql = "UPDATE things SET size = ? WHERE id = 'a' AND size = ?";
                            tx.compare_and_swap(sql, args![size + 1, size]).await
                        })
                        .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let row = read!(db, "read", |tx| tx.fetch_one("SELECT size FROM things", vec![]).await).unwrap();
        assert_eq!(row.int("size").unwrap(), 160, "{:?}", temp.db.engine());
    })
    .await;
}

#[tokio::test]
async fn pages_together_are_the_whole_list() {
    everywhere(|temp| async move {
        let db = &temp.db;
        for (id, size) in [("a", 3), ("b", 1), ("c", 3), ("d", 2), ("e", 3)] {
            insert(db, id, size, None).await.unwrap();
        }
        let order = [("size", Direction::Desc), ("id", Direction::Asc)];
        let whole = ids(db, || Sql::new("SELECT id FROM things").order(&order)).await;
        assert_eq!(whole, ["a", "c", "e", "d", "b"]);
        let next = ids(db, || {
            Sql::new("SELECT id FROM things").after(&order, &[Value::from(3), Value::from("c")]).order(&order).limit(2)
        })
        .await;
        assert_eq!(next, ["e", "d"]);
    })
    .await;
}

#[tokio::test]
async fn text_compares_by_its_bytes() {
    everywhere(|temp| async move {
        let db = &temp.db;
        insert(db, "a_b", 1, None).await.unwrap();
        insert(db, "A_b", 1, None).await.unwrap();
        insert(db, "axb", 1, None).await.unwrap();
        let like = format!("%{}%", escape_like("a_"));
        let found = ids(db, || Sql::new("SELECT id FROM things").and("id = ?", args!["a_b"])).await;
        assert_eq!(found, ["a_b"]);
        // LIKE folds ASCII case on SQLite alone; what no engine does is take `_` for a wildcard.
        let found = ids(db, || Sql::new("SELECT id FROM things").and("id LIKE ? ESCAPE '!'", args![&like])).await;
        assert!(!found.contains(&"axb".to_owned()) && found.contains(&"a_b".to_owned()));
    })
    .await;
}

/// PostgreSQL cannot store it, and what a client sends must not end as a fault of ours there alone.
#[tokio::test]
async fn a_text_with_nul_is_refused_everywhere() {
    everywhere(|temp| async move {
        let db = &temp.db;
        let written = insert(db, "nul", 1, Some("a\0b")).await;
        assert_eq!(written.unwrap_err().kind(), Kind::BadRequest);
        let found = read!(db, "ids", |tx| tx.fetch_all("SELECT id FROM things WHERE note = ?", args!["\0"]).await);
        assert_eq!(found.err().unwrap().kind(), Kind::BadRequest);
        let found = read!(db, "one", |tx| tx.fetch_opt("SELECT id FROM things WHERE id = ?", args!["nul\0"]).await);
        assert_eq!(found.err().unwrap().kind(), Kind::BadRequest);
        assert!(ids(db, || Sql::new("SELECT id FROM things")).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn migrations_run_once_from_many_processes() {
    for engine in Engine::ALL {
        let (url, _dir) = fresh(engine).await;
        let first = Db::<Things>::open(&url, 2).await.unwrap();
        assert_eq!(first.pending().await.unwrap(), 2);
        let second = Db::<Things>::open(&url, 2).await.unwrap();
        let (one, two) = tokio::join!(first.migrate(), second.migrate());
        assert_eq!(one.unwrap() + two.unwrap(), 2, "{engine:?}");
        assert_eq!(first.migrate().await.unwrap(), 0);
        assert_eq!(first.pending().await.unwrap(), 0);
    }
}

/// A process that stands still in the middle of one keeps its rows from nobody for long.
#[tokio::test]
async fn a_transaction_that_stands_still_is_ended_by_the_server() {
    let still = async |engine: Engine| {
        let (url, _dir) = fresh(engine).await;
        let (one, other) = (Db::<Things>::open(&url, 2).await.unwrap(), Db::<Things>::open(&url, 2).await.unwrap());
        one.migrate().await.unwrap();
        insert(&one, "a", 1, None).await.unwrap();
        let change = "UPDATE things SET size = size + 1 WHERE id = 'a'";
        let mut stands_still = one.begin("stand still").await.unwrap();
        stands_still.execute(change, args![]).await.unwrap();
        // Waits for the row.
        let changed = async { tx!(other, "change", |tx| tx.execute(change, args![]).await) };
        let changed = tokio::time::timeout(std::time::Duration::from_secs(120), changed).await;
        assert_eq!(changed.expect("the row comes free").unwrap(), 1, "{engine:?}");
        let error = stands_still.execute(change, args![]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{engine:?}: {}", error.for_log());
        drop(stands_still);
        let rows = read!(one, "size", |tx| tx.fetch_all("SELECT size FROM things", args![]).await).unwrap();
        assert_eq!(rows[0].int("size").unwrap(), 2, "{engine:?}: what it had done is gone");
    };
    tokio::join!(still(Engine::Postgres), still(Engine::MariaDb));
}
