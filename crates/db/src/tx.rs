use std::marker::PhantomData;
use std::time::Duration;

use umbel_core::{Error, Kind, Result};

use crate::conn::{Conn, on_engine};
use crate::db::{Finished, Schema};
use crate::error::from_sqlx;
use crate::{Engine, Row, Sql, Value};

/// How often a transaction is tried before the caller is told that the database is busy.
const ATTEMPTS: u32 = 8;

/// An open transaction on a database of schema `S`. Dropped without [`Tx::finish`], it rolls back.
pub struct Tx<S> {
    conn: Conn,
    name: &'static str,
    schema: PhantomData<fn() -> S>,
}

impl<S: Schema> Tx<S> {
    pub(crate) fn new(conn: Conn, name: &'static str) -> Self {
        Tx { conn, name, schema: PhantomData }
    }

    pub fn engine(&self) -> Engine {
        match self.conn {
            Conn::Sqlite(_) => Engine::Sqlite,
            Conn::Postgres(_) => Engine::Postgres,
            Conn::MariaDb(_) => Engine::MariaDb,
        }
    }

    /// Runs a statement; the number of rows it changed. `name = ?` with the old value counts as changed everywhere.
    pub async fn execute(&mut self, sql: &str, args: Vec<Value>) -> Result<u64> {
        let text = self.statement(sql, &args)?;
        let done = on_engine!(&mut self.conn, text, args, |query, executor| query
            .execute(executor)
            .await
            .map(|done| done.rows_affected()));
        done.map_err(|error| self.failed(error, sql))
    }

    pub async fn fetch_all(&mut self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>> {
        let text = self.statement(sql, &args)?;
        let rows = on_engine!(&mut self.conn, text, args, |query, executor| collect(query.fetch_all(executor).await));
        rows.map_err(|error| self.failed(error, sql))
    }

    /// The first row, if there is one.
    pub async fn fetch_opt(&mut self, sql: &str, args: Vec<Value>) -> Result<Option<Row>> {
        let text = self.statement(sql, &args)?;
        let row = on_engine!(&mut self.conn, text, args, |query, executor| query
            .fetch_optional(executor)
            .await
            .map(|row| row.map(Row::from)));
        row.map_err(|error| self.failed(error, sql))
    }

    /// The row that must be there; a missing one is a fault of ours, not of the caller.
    pub async fn fetch_one(&mut self, sql: &str, args: Vec<Value>) -> Result<Row> {
        let row = self.fetch_opt(sql, args).await?;
        row.ok_or_else(|| Error::internal(format!("no row in {}: {sql}", self.name)))
    }

    /// Runs a statement that was put together.
    pub async fn select(&mut self, sql: Sql) -> Result<Vec<Row>> {
        let (text, args) = sql.into_parts();
        self.fetch_all(&text, args).await
    }

    /// A write that names what it read: [`Kind::Busy`] if no row matched, so that [`crate::tx!`] reads again.
    pub async fn compare_and_swap(&mut self, sql: &str, args: Vec<Value>) -> Result<()> {
        match self.execute(sql, args).await? {
            0 => Err(Error::new(Kind::Busy, "Another change came first; try again.").because(sql)),
            _ => Ok(()),
        }
    }

    /// Commits if the body succeeded, rolls back if not; says whether to run the body again.
    pub async fn finish<T>(self, result: Result<T>, attempt: &mut u32) -> Finished<T> {
        let name = self.name;
        let result = match result {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) => {
                self.rollback().await;
                Err(error)
            }
        };
        match result {
            Err(error) => retry(error, name, attempt).await,
            done => Finished::Done(done),
        }
    }

    async fn commit(self) -> Result<()> {
        match self.conn {
            Conn::Sqlite(tx) => tx.commit().await,
            Conn::Postgres(tx) => tx.commit().await,
            Conn::MariaDb(tx) => tx.commit().await,
        }
        .map_err(|error| from_sqlx(error).because(format!("committing {}", self.name)))
    }

    async fn rollback(self) {
        // A failed rollback means a dead connection, whose transaction the server ends by itself.
        let _ = match self.conn {
            Conn::Sqlite(tx) => tx.rollback().await,
            Conn::Postgres(tx) => tx.rollback().await,
            Conn::MariaDb(tx) => tx.rollback().await,
        };
    }

    /// The statement as the engine wants it. PostgreSQL has no place for the character NUL in a text and the others
    /// have: it is refused for all of them, as a fault of whoever sent it, so that a cloud answers alike on each.
    fn statement(&self, sql: &str, args: &[Value]) -> Result<String> {
        let nul = args.iter().any(|value| matches!(value, Value::Text(Some(text)) if text.contains('\0')));
        if nul {
            let error = Error::bad_request("Invalid input: the character NUL cannot be part of a text.");
            return Err(error.because(format!("{}: {sql}", self.name)));
        }
        Ok(self.engine().statement(sql))
    }

    fn failed(&self, error: sqlx::Error, sql: &str) -> Error {
        from_sqlx(error).because(format!("{}: {sql}", self.name))
    }
}

/// Waits a little and says "again" where that can help; hands the error back where not.
#[doc(hidden)]
pub async fn retry<T>(error: Error, name: &'static str, attempt: &mut u32) -> Finished<T> {
    *attempt += 1;
    if !error.is(Kind::Busy) || *attempt >= ATTEMPTS {
        return Finished::Done(Err(error));
    }
    tracing::debug!(name, attempt = *attempt, cause = error.cause(), "transaction runs again");
    tokio::time::sleep(Duration::from_millis(1 << *attempt)).await;
    Finished::Again
}

fn collect<R>(rows: sqlx::Result<Vec<R>>) -> sqlx::Result<Vec<Row>>
where
    Row: From<R>,
{
    rows.map(|rows| rows.into_iter().map(Row::from).collect())
}
