use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Executor, MySqlConnection, MySqlPool, PgConnection, PgPool, SqlitePool};
use umbel_core::{Error, Result};

use crate::conn::Conn;
use crate::error::from_sqlx;
use crate::{Engine, Migration, Tx, migrate};

/// A set of tables with one owner. The type parameter of [`Db`] and [`Tx`].
pub trait Schema: Send + Sync + 'static {
    /// Names the database in messages, and its file in the embedded default.
    const NAME: &'static str;
    /// In order; a landed one is never changed.
    const MIGRATIONS: &'static [Migration];
}

/// What became of one run of a transaction's body.
pub enum Finished<T> {
    Done(Result<T>),
    Again,
}

#[derive(Clone)]
pub(crate) enum Pools {
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres(PgPool),
    MariaDb(MySqlPool),
}

/// A database of schema `S`: a cheap handle on its pools.
pub struct Db<S> {
    pools: Arc<Pools>,
    schema: PhantomData<fn() -> S>,
}

impl<S> Clone for Db<S> {
    fn clone(&self) -> Self {
        Db { pools: self.pools.clone(), schema: PhantomData }
    }
}

/// How long a request waits for a connection before it answers that the database is unavailable.
const ACQUIRE: Duration = Duration::from_secs(10);

impl<S: Schema> Db<S> {
    /// Opens `sqlite:<path>` (made if missing), `postgres://…` or `mysql://…`. Does not migrate.
    ///
    /// `connections` bounds the pool of a server, and the readers of a SQLite file.
    pub async fn open(url: &str, connections: u32) -> Result<Self> {
        let pools = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => open_sqlite(url, connections).await,
            Some("postgres" | "postgresql") => {
                let options = PgConnectOptions::from_str(url).map_err(|error| bad_url::<S>(&error))?;
                let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE);
                let pool = pool.after_connect(|connection, _| Box::pin(async { bounded(connection).await }));
                pool.connect_with(options).await.map(Pools::Postgres)
            }
            Some("mysql" | "mariadb") => {
                let url = url.replacen("mariadb:", "mysql:", 1);
                let options = MySqlConnectOptions::from_str(&url).map_err(|error| bad_url::<S>(&error))?;
                let pool = MySqlPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE);
                let pool = pool.after_connect(|connection, _| Box::pin(async { read_committed(connection).await }));
                pool.connect_with(options).await.map(Pools::MariaDb)
            }
            _ => return Err(bad_url::<S>(&"the scheme is none of sqlite, postgres, mysql")),
        };
        let pools = pools.map_err(|error| from_sqlx(error).because(format!("opening the {} database", S::NAME)))?;
        Ok(Db { pools: Arc::new(pools), schema: PhantomData })
    }

    pub fn engine(&self) -> Engine {
        match &*self.pools {
            Pools::Sqlite { .. } => Engine::Sqlite,
            Pools::Postgres(_) => Engine::Postgres,
            Pools::MariaDb(_) => Engine::MariaDb,
        }
    }

    /// Brings the tables to the newest version; the number of steps taken. Safe to run from many processes at once.
    pub async fn migrate(&self) -> Result<usize> {
        migrate::run::<S>(&self.pools).await
    }

    /// Steps that [`Db::migrate`] would take.
    pub async fn pending(&self) -> Result<usize> {
        migrate::pending::<S>(&self.pools).await
    }

    /// Begins a writing transaction. Use [`crate::tx!`], which also commits and repeats.
    pub async fn begin(&self, name: &'static str) -> Result<Tx<S>> {
        match &*self.pools {
            // IMMEDIATE: a transaction that reads and then writes would else fail with "locked", whatever it waits.
            Pools::Sqlite { writer, .. } => writer.begin_with("BEGIN IMMEDIATE").await.map(Conn::Sqlite),
            Pools::Postgres(pool) => pool.begin().await.map(Conn::Postgres),
            Pools::MariaDb(pool) => pool.begin().await.map(Conn::MariaDb),
        }
        .map(|conn| Tx::new(conn, name))
        .map_err(|error| from_sqlx(error).because(format!("beginning {name}")))
    }

    /// Begins a reading transaction. Use [`crate::read!`].
    pub async fn begin_read(&self, name: &'static str) -> Result<Tx<S>> {
        match &*self.pools {
            Pools::Sqlite { readers, .. } => readers.begin().await.map(Conn::Sqlite),
            Pools::Postgres(pool) => pool.begin_with("BEGIN READ ONLY").await.map(Conn::Postgres),
            Pools::MariaDb(pool) => pool.begin_with("START TRANSACTION READ ONLY").await.map(Conn::MariaDb),
        }
        .map(|conn| Tx::new(conn, name))
        .map_err(|error| from_sqlx(error).because(format!("beginning {name}")))
    }

    /// Waits for connections in use and closes them all.
    pub async fn close(&self) {
        match &*self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
            Pools::MariaDb(pool) => pool.close().await,
        }
    }
}

/// A process that stands still, or whose machine is gone, must not keep rows from all others: the server ends a transaction
/// in which nothing was asked for 15 s. None of ours waits for anything but the database.
async fn bounded(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection.execute("SET idle_in_transaction_session_timeout = '15s'").await.map(drop)
}

/// As PostgreSQL does by default. MariaDB's own default shows a transaction what there was at its first read, also after
/// it has waited for a lock: sums that are taken under the lock would leave out what the one before has added.
async fn read_committed(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    // As `bounded` does.
    connection.execute("SET SESSION idle_transaction_timeout = 15").await.map(drop)
}

async fn open_sqlite(url: &str, connections: u32) -> sqlx::Result<Pools> {
    // FULL: what was acknowledged survives a power cut, not only a killed process.
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10));
    let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE).idle_timeout(None).max_lifetime(None);
    let writer = pool().max_connections(1).connect_with(options.clone()).await?;
    let readers = pool().max_connections(connections).connect_lazy_with(options.read_only(true));
    Ok(Pools::Sqlite { writer, readers })
}

fn bad_url<S: Schema>(cause: &dyn std::fmt::Display) -> Error {
    Error::bad_request(format!("The {} database has an invalid URL: {cause}.", S::NAME))
}
