//! Databases, typed by their schema: a `Db<Api>` cannot be passed where a `Db<Cell>` is wanted.
//!
//! SQL is written once, in a portable subset with `?` placeholders, and translated by [`dialect`] (ADR 0001). Store
//! functions are free functions that take a [`Tx`]; [`tx!`] and [`read!`] begin, commit and repeat it.
//!
//! Engines: SQLite (one writer connection, WAL, `BEGIN IMMEDIATE`, a pool of readers), PostgreSQL, MariaDB.

mod conn;
mod db;
pub mod dialect;
mod error;
mod migrate;
mod query;
mod row;
pub mod testing;
mod tx;
mod value;

pub use db::{Db, Finished, Schema};
pub use dialect::Engine;
pub use migrate::Migration;
pub use query::{Direction, Sql, escape_like};
pub use row::Row;
pub use tx::Tx;
pub use value::Value;
// For the macros below.
#[doc(hidden)]
pub use tx::retry;
#[doc(hidden)]
pub use umbel_core as core;

/// Runs a body in a writing transaction: `tx!(db, "create server", |tx| { store::insert(tx, &row).await?; Ok(row) })`.
///
/// The body is an expression of type `Result<T>`; it may run more than once (a lost race, a deadlock), so it must not
/// consume what it captures. `Err` rolls back. A macro rather than a function because no stable bound says "the future
/// of this async closure is `Send`", which a closure that borrows its surroundings needs.
#[macro_export]
macro_rules! tx {
    ($db:expr, $name:expr, |$tx:ident| $body:expr) => {{
        let mut attempt = 0;
        loop {
            let outcome = match $db.begin($name).await {
                Ok(mut owned) => {
                    let result: $crate::core::Result<_> = {
                        let $tx = &mut owned;
                        async { $body }.await
                    };
                    owned.finish(result, &mut attempt).await
                }
                Err(error) => $crate::retry(error, $name, &mut attempt).await,
            };
            match outcome {
                $crate::Finished::Done(result) => break result,
                $crate::Finished::Again => continue,
            }
        }
    }};
}

/// Runs a body that only reads, on one consistent snapshot where the engine has one. See [`tx!`].
#[macro_export]
macro_rules! read {
    ($db:expr, $name:expr, |$tx:ident| $body:expr) => {{
        let mut attempt = 0;
        loop {
            let outcome = match $db.begin_read($name).await {
                Ok(mut owned) => {
                    let result: $crate::core::Result<_> = {
                        let $tx = &mut owned;
                        async { $body }.await
                    };
                    owned.finish(result, &mut attempt).await
                }
                Err(error) => $crate::retry(error, $name, &mut attempt).await,
            };
            match outcome {
                $crate::Finished::Done(result) => break result,
                $crate::Finished::Again => continue,
            }
        }
    }};
}

/// Arguments of a statement, in order: `args![id, name, size]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::Value::from($value)),*] };
}
