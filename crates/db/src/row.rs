use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo, ValueRef};
use umbel_core::{Error, Generation, Id, Result, Timestamp};

/// One row of an answer; columns by the name the statement gives them.
pub enum Row {
    #[doc(hidden)]
    Sqlite(SqliteRow),
    #[doc(hidden)]
    Postgres(PgRow),
    #[doc(hidden)]
    MariaDb(MySqlRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Row::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Row::Postgres(row)
    }
}

impl From<MySqlRow> for Row {
    fn from(row: MySqlRow) -> Self {
        Row::MariaDb(row)
    }
}

impl Row {
    pub fn text(&self, column: &str) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| missing(column))
    }

    pub fn opt_text(&self, column: &str) -> Result<Option<String>> {
        match self {
            // Unchecked: MariaDB reports a text column with a binary collation as bytes.
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => row.try_get_unchecked(column),
            Row::MariaDb(row) => row.try_get_unchecked(column),
        }
        .map_err(|error| Error::internal(error).because(format!("reading column {column}")))
    }

    pub fn int(&self, column: &str) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| missing(column))
    }

    pub fn opt_int(&self, column: &str) -> Result<Option<i64>> {
        match self {
            Row::Sqlite(row) => row.try_get_unchecked(column),
            Row::Postgres(row) => postgres_int(row, column),
            Row::MariaDb(row) => row.try_get_unchecked(column),
        }
        .map_err(|error| Error::internal(error).because(format!("reading column {column}")))
    }

    /// A count or size: a stored number that cannot be negative.
    pub fn uint(&self, column: &str) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(|_| Error::internal(format!("column {column} is negative")))
    }

    pub fn opt_uint(&self, column: &str) -> Result<Option<u64>> {
        self.opt_int(column)?
            .map(|value| u64::try_from(value).map_err(|_| Error::internal(format!("column {column} is negative"))))
            .transpose()
    }

    pub fn bool(&self, column: &str) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    pub fn time(&self, column: &str) -> Result<Timestamp> {
        self.int(column).map(Timestamp)
    }

    pub fn opt_time(&self, column: &str) -> Result<Option<Timestamp>> {
        Ok(self.opt_int(column)?.map(Timestamp))
    }

    pub fn generation(&self, column: &str) -> Result<Generation> {
        self.int(column).map(Generation)
    }

    pub fn id<T>(&self, column: &str) -> Result<Id<T>> {
        self.text(column)?.parse().map_err(|error| Error::internal(error).because(format!("reading column {column}")))
    }

    pub fn opt_id<T>(&self, column: &str) -> Result<Option<Id<T>>> {
        self.opt_text(column)?
            .map(|text| text.parse().map_err(|error: Error| Error::internal(error).because(format!("column {column}"))))
            .transpose()
    }
}

/// Literals and some functions are 32-bit there, and the wire form differs by width.
fn postgres_int(row: &PgRow, column: &str) -> sqlx::Result<Option<i64>> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    match value.type_info().name() {
        "INT4" => row.try_get::<i32, _>(column).map(|value| Some(value.into())),
        _ => row.try_get::<i64, _>(column).map(Some),
    }
}

fn missing(column: &str) -> Error {
    Error::internal(format!("column {column} is null"))
}
