//! Filters in a query string.

use umbel_http::Req;

use crate::store::{Compare, TextFilter};

pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(req: &Req) -> Self {
        Query(req.query_pairs())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// As [`Query::text`], but an empty value is none.
    pub fn given(&self, name: &str) -> Option<String> {
        self.text(name).filter(|value| !value.is_empty())
    }

    /// A filter on a truth value: anything but a word for no means yes, the empty value included.
    pub fn truth(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| is_true(&value))
    }

    /// A switch: there, and not set to a word for no.
    pub fn flag(&self, name: &str) -> bool {
        self.truth(name).unwrap_or(false)
    }

    /// Comma-separated.
    pub fn words(&self, name: &str) -> Vec<String> {
        let value = self.given(name).unwrap_or_default();
        value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// `name=…` or `name__contains=…` and its kin; an empty value filters nothing.
    pub fn text_filter(&self, name: &str) -> Option<TextFilter> {
        self.0.iter().find_map(|(known, value)| {
            let how = match known.strip_prefix(name)? {
                "" => Compare::Equals,
                "__contains" => Compare::Contains,
                "__startswith" => Compare::StartsWith,
                "__endswith" => Compare::EndsWith,
                "__iexact" | "__iequals" => Compare::IEquals,
                "__icontains" => Compare::IContains,
                "__istartswith" => Compare::IStartsWith,
                "__iendswith" => Compare::IEndsWith,
                _ => return None,
            };
            (!value.is_empty()).then(|| TextFilter { how, value: value.clone() })
        })
    }
}

fn is_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "0" | "f" | "false" | "n" | "no" | "off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let query = Query(vec![
            pair("enabled", "False"),
            pair("effective", ""),
            pair("name__contains", "x"),
            pair("tags", "a,,b"),
        ]);
        assert_eq!(query.truth("enabled"), Some(false));
        assert!(query.flag("effective"));
        assert!(!query.flag("include_names"));
        assert_eq!(query.text_filter("name"), Some(TextFilter { how: Compare::Contains, value: "x".into() }));
        assert_eq!(query.text_filter("type"), None);
        assert_eq!(query.words("tags"), ["a", "b"]);
    }
}
