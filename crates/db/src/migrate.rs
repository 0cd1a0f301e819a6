use sqlx::{Connection, Executor, Row as _};
use umbel_core::{Clock, Result, SystemClock};

use crate::Engine;
use crate::db::{Pools, Schema};
use crate::error::from_sqlx;

/// One step of a schema. Statements are in the portable subset of [`crate::dialect`], and each may run again on tables
/// that have it already (`IF NOT EXISTS`): MariaDB commits every definition by itself, so a crash can leave half a step.
pub struct Migration {
    pub version: i64,
    pub name: &'static str,
    pub statements: &'static [&'static str],
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS umbel_migrations \
    (version BIGINT PRIMARY KEY, name VARCHAR(255) NOT NULL, applied_at BIGINT NOT NULL)";
const NEWEST: &str = "SELECT CAST(COALESCE(MAX(version), 0) AS CHAR(20)) FROM umbel_migrations";

pub(crate) async fn run<S: Schema>(pools: &Pools) -> Result<usize> {
    match pools {
        Pools::Sqlite { writer, .. } => {
            // One connection for all: another one's cached schema would not know the new tables.
            let mut conn = writer.acquire().await.map_err(from_sqlx)?;
            let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
            let count = steps::<S, sqlx::Sqlite>(&mut tx, Engine::Sqlite).await?;
            tx.commit().await.map_err(from_sqlx)?;
            Ok(count)
        }
        Pools::Postgres(pool) => {
            let mut tx = pool.begin().await.map_err(from_sqlx)?;
            execute(&mut *tx, format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
            let count = steps::<S, sqlx::Postgres>(&mut tx, Engine::Postgres).await?;
            tx.commit().await.map_err(from_sqlx)?;
            Ok(count)
        }
        Pools::MariaDb(pool) => {
            let mut conn = pool.acquire().await.map_err(from_sqlx)?;
            execute(&mut *conn, format!("SELECT GET_LOCK(CONCAT(DATABASE(), '.{LOCK}'), 60)")).await?;
            let count = steps::<S, sqlx::MySql>(&mut conn, Engine::MariaDb).await;
            execute(&mut *conn, format!("SELECT RELEASE_LOCK(CONCAT(DATABASE(), '.{LOCK}'))")).await?;
            count
        }
    }
}

/// Any number that no other user of the database locks.
const LOCK: i64 = 7_562_656_101;

pub(crate) async fn pending<S: Schema>(pools: &Pools) -> Result<usize> {
    let newest = match pools {
        Pools::Sqlite { readers, .. } => newest(readers).await,
        Pools::Postgres(pool) => newest(pool).await,
        Pools::MariaDb(pool) => newest(pool).await,
    };
    // No table of steps yet: none was taken.
    let newest = newest.unwrap_or(0);
    Ok(S::MIGRATIONS.iter().filter(|step| step.version > newest).count())
}

async fn steps<S: Schema, D>(conn: &mut D::Connection, engine: Engine) -> Result<usize>
where
    D: sqlx::Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
    for<'r> String: sqlx::Decode<'r, D> + sqlx::Type<D>,
    usize: sqlx::ColumnIndex<D::Row>,
{
    execute(&mut *conn, engine.definition(TABLE)).await?;
    let newest = newest(&mut *conn).await?;
    let mut count = 0;
    for step in S::MIGRATIONS.iter().filter(|step| step.version > newest) {
        for statement in step.statements {
            execute(&mut *conn, engine.definition(statement))
                .await
                .map_err(|error| error.because(format!("migration {} {} of {}", step.version, step.name, S::NAME)))?;
        }
        // A literal: definitions run as raw statements, which bind nothing.
        let (version, name, now) = (step.version, step.name.replace('\'', "''"), SystemClock.now().0);
        execute(&mut *conn, format!("INSERT INTO umbel_migrations VALUES ({version}, '{name}', {now})")).await?;
        count += 1;
    }
    Ok(count)
}

async fn newest<'c, D, E>(executor: E) -> Result<i64>
where
    D: sqlx::Database,
    E: Executor<'c, Database = D>,
    for<'r> String: sqlx::Decode<'r, D> + sqlx::Type<D>,
    usize: sqlx::ColumnIndex<D::Row>,
{
    let row = executor.fetch_one(sqlx::raw_sql(NEWEST)).await.map_err(from_sqlx)?;
    let text: String = row.try_get_unchecked(0).map_err(from_sqlx)?;
    Ok(text.trim().parse().unwrap_or(0))
}

async fn execute<'c, D, E>(executor: E, sql: String) -> Result<()>
where
    D: sqlx::Database,
    E: Executor<'c, Database = D>,
{
    executor.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.map_err(from_sqlx)?;
    Ok(())
}
