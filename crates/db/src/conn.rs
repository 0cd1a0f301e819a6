use sqlx::{MySql, Postgres, Sqlite, Transaction};

/// An open transaction on one of the engines.
pub(crate) enum Conn {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
    MariaDb(Transaction<'static, MySql>),
}

/// Binds the arguments and runs `$body` with the query and its executor, on whichever engine the connection is.
macro_rules! on_engine {
    ($conn:expr, $sql:expr, $args:expr, |$query:ident, $executor:ident| $body:expr) => {
        match $conn {
            $crate::conn::Conn::Sqlite(tx) => {
                $crate::conn::on_engine!(@bind tx, $sql, $args, $query, $executor, $body)
            }
            $crate::conn::Conn::Postgres(tx) => {
                $crate::conn::on_engine!(@bind tx, $sql, $args, $query, $executor, $body)
            }
            $crate::conn::Conn::MariaDb(tx) => {
                $crate::conn::on_engine!(@bind tx, $sql, $args, $query, $executor, $body)
            }
        }
    };
    (@bind $tx:ident, $sql:expr, $args:expr, $query:ident, $executor:ident, $body:expr) => {{
        // The text is a constant of ours with placeholders; every value of a user's is bound.
        let mut $query = sqlx::query(sqlx::AssertSqlSafe($sql));
        for value in $args {
            $query = match value {
                $crate::Value::Int(value) => $query.bind(value),
                $crate::Value::Text(value) => $query.bind(value),
            };
        }
        let $executor = &mut **$tx;
        $body
    }};
}

pub(crate) use on_engine;
