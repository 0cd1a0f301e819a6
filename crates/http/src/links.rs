use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use umbel_core::{Error, Result};

use crate::Req;

/// `limit` and `marker` of a list request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub limit: usize,
    pub marker: Option<String>,
}

impl Page {
    /// At most `max` a page, whatever is asked for; 400 for what is no number.
    pub fn of(req: &Req, max: usize) -> Result<Page> {
        let mut page = Page { limit: max, marker: None };
        for (name, value) in req.query_pairs() {
            match name.as_str() {
                "limit" => {
                    let limit: usize = value.parse().map_err(|_| {
                        Error::bad_request(format!("Invalid input for query parameters: limit '{value}'."))
                    })?;
                    page.limit = limit.min(max);
                }
                "marker" if !value.is_empty() => page.marker = Some(value),
                _ => {}
            }
        }
        Ok(page)
    }
}

/// Where the next page is: this request's own URL with the last item as marker.
pub fn next_link(req: &Req, url: &str, marker: &str) -> String {
    let mut link = format!("{url}?");
    for (name, value) in req.query_pairs().into_iter().filter(|(name, _)| name != "marker") {
        link.extend(quoted(&name));
        link.push('=');
        link.extend(quoted(&value));
        link.push('&');
    }
    link.push_str("marker=");
    link.extend(quoted(marker));
    link
}

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, RESERVED)
}
