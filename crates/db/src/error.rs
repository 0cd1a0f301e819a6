use umbel_core::{Error, Kind};

/// What a database's failure means to us. Which statement it was is added by the caller as a cause.
pub(crate) fn from_sqlx(error: sqlx::Error) -> Error {
    let kind = match &error {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            _ if database.is_unique_violation() => Kind::Conflict,
            _ if database.is_foreign_key_violation() || database.is_check_violation() => Kind::Internal,
            Some(code) if is_transient(code) => Kind::Busy,
            Some(code) if is_cut_off(code) => Kind::Unavailable,
            _ => Kind::Internal,
        },
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed => Kind::Unavailable,
        _ => Kind::Internal,
    };
    let message = match kind {
        Kind::Conflict => "A record with the same name or id exists already.",
        Kind::Busy => "The database is busy; try again.",
        Kind::Unavailable => "The database does not answer.",
        _ => "An unexpected internal error occurred.",
    };
    Error::new(kind, message).because(error)
}

/// Failures that the same transaction, tried again, may not meet.
///
/// SQLite: BUSY (5), LOCKED (6) and their extended forms. PostgreSQL: serialization (40001), deadlock (40P01).
/// MariaDB: lock wait timeout (1205, HY000), deadlock (1213, 40001), record changed since read (1020).
fn is_transient(code: &str) -> bool {
    matches!(code, "5" | "6" | "261" | "262" | "517" | "518" | "40001" | "40P01" | "1205" | "1213" | "1020")
}

/// The server has ended the connection, or takes none: it stops or starts, has too many, or has waited too long for us.
/// PostgreSQL: 25P03, 53300, 57P01 to 57P03. MariaDB: 1040, 1053, 1927.
fn is_cut_off(code: &str) -> bool {
    matches!(code, "25P03" | "53300" | "57P01" | "57P02" | "57P03" | "1040" | "1053" | "1927")
}
