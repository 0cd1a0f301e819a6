use crate::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Asc,
    Desc,
}

impl Direction {
    fn sql(self) -> &'static str {
        match self {
            Direction::Asc => "ASC",
            Direction::Desc => "DESC",
        }
    }

    fn after(self) -> &'static str {
        match self {
            Direction::Asc => ">",
            Direction::Desc => "<",
        }
    }
}

/// A SELECT put together from constant text and bound values.
///
/// ```
/// # use umbel_db::{Direction, Sql, args};
/// let sql = Sql::new("SELECT id FROM servers WHERE deleted = 0")
///     .and("project_id = ?", args!["p"])
///     .order(&[("created_at", Direction::Desc), ("id", Direction::Desc)])
///     .limit(100);
/// ```
pub struct Sql {
    text: String,
    args: Vec<Value>,
    filtered: bool,
}

impl Sql {
    pub fn new(text: &str) -> Self {
        Sql { text: text.to_owned(), args: Vec::new(), filtered: text.contains(" WHERE ") }
    }

    /// Adds a condition that every row must meet.
    #[must_use]
    pub fn and(mut self, condition: &str, args: Vec<Value>) -> Self {
        self.text.push_str(if self.filtered { " AND (" } else { " WHERE (" });
        self.text.push_str(condition);
        self.text.push(')');
        self.filtered = true;
        self.args.extend(args);
        self
    }

    /// The column is one of the values; of no values, no row is.
    #[must_use]
    pub fn and_in<V: Into<Value>>(self, column: &str, values: impl IntoIterator<Item = V>) -> Self {
        let args: Vec<Value> = values.into_iter().map(Into::into).collect();
        if args.is_empty() {
            return self.and("1 = 0", args);
        }
        let marks = vec!["?"; args.len()].join(", ");
        self.and(&format!("{column} IN ({marks})"), args)
    }

    /// Rows that come after the marker's in this order: keyset paging, whose cost does not grow with the page's number.
    /// The last column must be unique and none may be null.
    #[must_use]
    pub fn after(self, order: &[(&str, Direction)], marker: &[Value]) -> Self {
        let mut branches = Vec::with_capacity(order.len());
        let mut args = Vec::new();
        for (at, (column, direction)) in order.iter().enumerate() {
            let mut terms: Vec<String> = order[..at].iter().map(|(equal, _)| format!("{equal} = ?")).collect();
            terms.push(format!("{column} {} ?", direction.after()));
            branches.push(format!("({})", terms.join(" AND ")));
            args.extend(marker[..=at].iter().cloned());
        }
        self.and(&branches.join(" OR "), args)
    }

    #[must_use]
    pub fn order(mut self, order: &[(&str, Direction)]) -> Self {
        let terms: Vec<String> =
            order.iter().map(|(column, direction)| format!("{column} {}", direction.sql())).collect();
        self.text.push_str(" ORDER BY ");
        self.text.push_str(&terms.join(", "));
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.text.push_str(&format!(" LIMIT {limit}"));
        self
    }

    /// Adds constant text at the end (`GROUP BY`, `FOR UPDATE`).
    #[must_use]
    pub fn push(mut self, text: &str) -> Self {
        self.text.push(' ');
        self.text.push_str(text);
        self
    }

    pub fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.args)
    }
}

/// For `LIKE ? ESCAPE '!'`: the text stands for itself.
pub fn escape_like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    #[test]
    fn a_keyset_page_is_spelled_out() {
        let order = [("created_at", Direction::Desc), ("id", Direction::Asc)];
        let (text, args) = Sql::new("SELECT id FROM t")
            .and_in("state", ["a", "b"])
            .after(&order, &[Value::from(5), Value::from("x")])
            .order(&order)
            .limit(10)
            .into_parts();
        assert_eq!(
            text,
            "SELECT id FROM t WHERE (state IN (?, ?)) AND ((created_at < ?) OR (created_at = ? AND id > ?)) \
             ORDER BY created_at DESC, id ASC LIMIT 10"
        );
        assert_eq!(args, args!["a", "b", 5, 5, "x"]);
    }
}
