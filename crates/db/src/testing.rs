//! Fresh databases on every engine, for the store suites of all crates.
//!
//! The servers are those the test script starts, named by `UMBEL_TEST_POSTGRES_URL` and `UMBEL_TEST_MARIADB_URL` (both
//! without a database name at the end); a suite without them fails rather than pass on one engine.
#![allow(clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection, Executor};

use crate::{Db, Engine, Schema};

/// A migrated, empty database that goes when this is dropped (SQLite) or with the test's server.
pub struct TempDb<S> {
    pub db: Db<S>,
    _dir: Option<tempfile::TempDir>,
}

/// Does nothing, but makes a closure that moves `temp.db` move the whole, folder included.
impl<S> Drop for TempDb<S> {
    fn drop(&mut self) {}
}

/// An empty database of this schema on each engine in turn.
pub async fn open_all<S: Schema>() -> Vec<TempDb<S>> {
    let mut all = Vec::new();
    for engine in Engine::ALL {
        all.push(open(engine).await);
    }
    all
}

pub async fn open<S: Schema>(engine: Engine) -> TempDb<S> {
    let (url, dir) = fresh(engine).await;
    let db = Db::open(&url, 4).await.expect("the test's database opens");
    db.migrate().await.expect("the migrations run");
    TempDb { db, _dir: dir }
}

/// The URL of an empty database that has no tables yet.
pub async fn fresh(engine: Engine) -> (String, Option<tempfile::TempDir>) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("umbel_t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    match engine {
        Engine::Sqlite => {
            let dir = tempfile::tempdir().expect("a temporary directory");
            (format!("sqlite:{}", dir.path().join("test.db").display()), Some(dir))
        }
        Engine::Postgres => {
            let base = server("UMBEL_TEST_POSTGRES_URL");
            let mut conn = sqlx::PgConnection::connect(&format!("{base}/postgres")).await.expect("PostgreSQL answers");
            create(&mut conn, &name).await;
            (format!("{base}/{name}"), None)
        }
        Engine::MariaDb => {
            let base = server("UMBEL_TEST_MARIADB_URL");
            let mut conn = sqlx::MySqlConnection::connect(&base).await.expect("MariaDB answers");
            create(&mut conn, &name).await;
            (format!("{base}/{name}"), None)
        }
    }
}

async fn create<C>(conn: &mut C, name: &str)
where
    for<'c> &'c mut C: Executor<'c>,
{
    let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"));
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    for sql in [drop, create] {
        conn.execute(sqlx::raw_sql(sql)).await.unwrap_or_else(|error| panic!("making {name}: {error}"));
    }
}

fn server(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(url) => url.trim_end_matches('/').to_owned(),
        Err(_) => panic!("{variable} is not set: run `make test`, or `eval $(scripts/databases.sh up DIR)` first"),
    }
}
