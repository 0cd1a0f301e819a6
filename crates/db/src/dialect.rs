//! Everything in which the three engines differ, in one file.
//!
//! Statements are written for all of them in this subset, and translated once per call:
//! * placeholders are `?`;
//! * column types are `VARCHAR(n)`, `TEXT` (any length) and `BIGINT`;
//! * `INSERT IGNORE INTO` leaves an existing row alone;
//! * `SUM_INT(x)` is a sum that is 0 for no rows, and an integer;
//! * `FOR UPDATE`, `FOR UPDATE SKIP LOCKED` and `FOR SHARE` stand last; SQLite, which has one writer, needs none.
//!
//! Text compares by its bytes on every engine. Not to be used: `RETURNING`, upserts, booleans, identifiers that any
//! engine reserves (`key`, `order`, `group`, `groups`, `user`, `rank`, `condition`, `read`, `trigger`).

use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Engine {
    pub const ALL: [Engine; 3] = [Engine::Sqlite, Engine::Postgres, Engine::MariaDb];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgresql",
            Engine::MariaDb => "mariadb",
        }
    }

    /// The statement as this engine wants it.
    pub fn statement(self, sql: &str) -> String {
        let mut text = Cow::Borrowed(sql);
        if text.contains("SUM_INT(") {
            text = Cow::Owned(self.sums(&text));
        }
        match self {
            Engine::Sqlite => sqlite(&text),
            Engine::Postgres => postgres(&text),
            Engine::MariaDb => mariadb(text.into_owned()),
        }
    }

    /// A statement of a migration: data definition has its own differences.
    pub fn definition(self, sql: &str) -> String {
        if self != Engine::MariaDb {
            return self.statement(sql);
        }
        // TEXT ends at 64 KiB there, and the default collation takes 'A' for 'a'.
        let text = sql.replace(" TEXT", " LONGTEXT");
        match text.trim_start().starts_with("CREATE TABLE") {
            true => format!("{text} ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
            false => text,
        }
    }

    fn sums(self, sql: &str) -> String {
        let mut out = String::with_capacity(sql.len() + 32);
        let mut rest = sql;
        while let Some(at) = rest.find("SUM_INT(") {
            let inner = &rest[at + "SUM_INT(".len()..];
            let end = closing(inner);
            out.push_str(&rest[..at]);
            let sum = format!("COALESCE(SUM({}), 0)", &inner[..end]);
            match self {
                Engine::Sqlite => out.push_str(&sum),
                Engine::Postgres => out.push_str(&format!("CAST({sum} AS BIGINT)")),
                Engine::MariaDb => out.push_str(&format!("CAST({sum} AS SIGNED)")),
            }
            rest = inner.get(end + 1..).unwrap_or("");
        }
        out.push_str(rest);
        out
    }
}

/// Where the parenthesis that is open at the start closes.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn mariadb(sql: String) -> String {
    match sql.trim_end().strip_suffix("FOR SHARE") {
        Some(rest) => format!("{rest}LOCK IN SHARE MODE"),
        None => sql,
    }
}

fn sqlite(sql: &str) -> String {
    let text = sql.trim_end();
    let locks = ["FOR UPDATE SKIP LOCKED", "FOR UPDATE", "FOR SHARE"];
    let text = locks.iter().find_map(|lock| text.strip_suffix(lock)).unwrap_or(text);
    match text.strip_prefix("INSERT IGNORE INTO") {
        Some(rest) => format!("INSERT OR IGNORE INTO{rest}"),
        None => text.to_owned(),
    }
}

fn postgres(sql: &str) -> String {
    let ignore = sql.strip_prefix("INSERT IGNORE INTO");
    let mut out = String::with_capacity(sql.len() + 32);
    if ignore.is_some() {
        out.push_str("INSERT INTO");
    }
    let (mut number, mut quoted) = (0, false);
    for c in ignore.unwrap_or(sql).chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                out.push(c);
            }
            '?' if !quoted => {
                number += 1;
                out.push('$');
                out.push_str(&number.to_string());
            }
            _ => out.push(c),
        }
    }
    if ignore.is_some() {
        out.push_str(" ON CONFLICT DO NOTHING");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_translated() {
        let check = |engine: Engine, sql: &str, want: &str| assert_eq!(engine.statement(sql), want, "{engine:?}");
        check(Engine::Sqlite, "SELECT a FROM t FOR SHARE", "SELECT a FROM t ");
        check(Engine::Postgres, "SELECT a FROM t FOR SHARE", "SELECT a FROM t FOR SHARE");
        check(Engine::MariaDb, "SELECT a FROM t FOR SHARE", "SELECT a FROM t LOCK IN SHARE MODE");
        let sql = "SELECT a FROM t WHERE b = ? AND c = '?' AND d LIKE ? FOR UPDATE SKIP LOCKED";
        check(Engine::Sqlite, sql, "SELECT a FROM t WHERE b = ? AND c = '?' AND d LIKE ? ");
        check(Engine::Postgres, sql, "SELECT a FROM t WHERE b = $1 AND c = '?' AND d LIKE $2 FOR UPDATE SKIP LOCKED");
        check(Engine::MariaDb, sql, sql);

        let sql = "INSERT IGNORE INTO t (a) VALUES (?)";
        check(Engine::Sqlite, sql, "INSERT OR IGNORE INTO t (a) VALUES (?)");
        check(Engine::Postgres, sql, "INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING");
        check(Engine::MariaDb, sql, sql);

        let sql = "SELECT SUM_INT(a * (b + 1)), SUM_INT(c) FROM t";
        check(Engine::Sqlite, sql, "SELECT COALESCE(SUM(a * (b + 1)), 0), COALESCE(SUM(c), 0) FROM t");
        check(
            Engine::MariaDb,
            sql,
            "SELECT CAST(COALESCE(SUM(a * (b + 1)), 0) AS SIGNED), CAST(COALESCE(SUM(c), 0) AS SIGNED) FROM t",
        );
    }

    #[test]
    fn definitions_are_translated() {
        let sql = "CREATE TABLE t (a VARCHAR(36) PRIMARY KEY, b TEXT, c TEXT NOT NULL)";
        assert_eq!(Engine::Sqlite.definition(sql), sql);
        assert_eq!(
            Engine::MariaDb.definition(sql),
            "CREATE TABLE t (a VARCHAR(36) PRIMARY KEY, b LONGTEXT, c LONGTEXT NOT NULL) \
             ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
    }
}
