use crate::{Method, Route, Rule};

/// `image`, `images`, `member`, `members`, `task` and `tasks`: JSON schemas from which older clients build their models.
pub static SHOW_SCHEMA: Route = Route::new(Method::Get, "/v2/schemas/{schema}", "get_schema", Rule::Authenticated);
