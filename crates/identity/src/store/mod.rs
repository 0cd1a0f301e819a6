//! The tables. Free functions that take a transaction; one file per noun. Rows, not wire types: a row knows its
//! generation and what no reply may show (hashes).

use umbel_api::identity::Extra;
use umbel_core::{Error, Result};
use umbel_db::{Direction, Row, Sql, args, escape_like};

use crate::IdentitySchema;

pub(crate) mod application_credentials;
pub(crate) mod assignments;
pub(crate) mod catalog;
pub(crate) mod credentials;
pub(crate) mod directory;
pub(crate) mod domain_config;
pub(crate) mod endpoint_groups;
pub(crate) mod groups;
pub(crate) mod guards;
pub(crate) mod login;
pub(crate) mod oauth1;
pub(crate) mod policies;
pub(crate) mod projects;
pub(crate) mod regions;
pub(crate) mod revocations;
pub(crate) mod roles;
pub(crate) mod trusts;
pub(crate) mod users;

pub(crate) type Tx = umbel_db::Tx<IdentitySchema>;

/// Whose domain's rows a caller may see: identity's counterpart of [`umbel_auth::Visible`], whose unit is the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    All,
    Domain(String),
}

impl Sees {
    pub fn allows(&self, domain_id: &str) -> bool {
        match self {
            Sees::All => true,
            Sees::Domain(own) => own == domain_id,
        }
    }

    fn filter(&self, sql: Sql, column: &str) -> Sql {
        match self {
            Sees::All => sql,
            Sees::Domain(own) => sql.and(&format!("{column} = ?"), args![own]),
        }
    }
}

/// One page of a list, in the order of ids. A list gives one row more than `limit` where more would follow.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub limit: usize,
    pub after: Option<String>,
}

impl Window {
    fn apply(&self, sql: Sql, column: &str) -> Sql {
        let order = [(column, Direction::Asc)];
        let sql = match &self.after {
            Some(marker) => sql.after(&order, &[marker.into()]),
            None => sql,
        };
        sql.order(&order).limit(self.limit.saturating_add(1))
    }
}

/// `name=x`, `name__contains=x` and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextFilter {
    pub how: Compare,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
    IEquals,
    IContains,
    IStartsWith,
    IEndsWith,
}

impl TextFilter {
    fn apply(&self, sql: Sql, column: &str) -> Sql {
        let text = escape_like(&self.value);
        let (pattern, exact) = match self.how {
            Compare::Equals => return sql.and(&format!("{column} = ?"), args![&self.value]),
            Compare::Contains => (format!("%{text}%"), true),
            Compare::StartsWith => (format!("{text}%"), true),
            Compare::EndsWith => (format!("%{text}"), true),
            Compare::IEquals => (text, false),
            Compare::IContains => (format!("%{text}%"), false),
            Compare::IStartsWith => (format!("{text}%"), false),
            Compare::IEndsWith => (format!("%{text}"), false),
        };
        match exact {
            false => sql.and(&format!("LOWER({column}) LIKE ? ESCAPE '!'"), args![pattern.to_lowercase()]),
            // LIKE takes 'A' for 'a' on SQLite only, REPLACE on no engine.
            true => sql.and(
                &format!("{column} LIKE ? ESCAPE '!' AND REPLACE({column}, ?, '') <> {column}"),
                args![pattern, &self.value],
            ),
        }
    }
}

/// The empty text stands for absence in keys.
fn absent(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn document(extra: &Extra) -> Result<String> {
    serde_json::to_string(extra).map_err(Error::internal)
}

fn read_document(row: &Row, column: &str) -> Result<Extra> {
    serde_json::from_str(&row.text(column)?).map_err(|error| Error::internal(error).because(format!("column {column}")))
}

/// Rows of `sql` whose `column` is one of `ids`, asked for in pieces that every engine takes.
async fn select_in(tx: &mut Tx, text: &str, column: &str, ids: &[String]) -> Result<Vec<Row>> {
    const PIECE: usize = 500;
    let mut all = Vec::new();
    for piece in ids.chunks(PIECE) {
        all.extend(tx.select(Sql::new(text).and_in(column, piece)).await?);
    }
    Ok(all)
}
