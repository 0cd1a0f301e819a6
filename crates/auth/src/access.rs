//! Access rules: what a token from an application credential may be used for at all, before any role is asked about.
//!
//! The rules travel in the token, so that each service holds it to them by itself. What they mean is upstream's
//! `keystonemiddleware`: a request fits a rule by service type, method and the whole path as the client wrote it; a token
//! that does not fit is as good as none (401); whoever holds one may always have it shown; and a request that a service
//! passes on for a user, with its own token beside the user's, was held to the rules where it came in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use umbel_core::{AccessRule, Principal};

/// Rules that hold for a principal; none where it may ask for anything.
pub fn rules_of(principal: &Principal) -> &[AccessRule] {
    principal.application_credential.as_ref().map_or(&[], |from| &from.access_rules)
}

/// Whether one of the rules allows the request. `service` is our name of it, as its path on the shared port has it
/// (`compute`); `path` is the client's, with or without that.
pub fn permits(rules: &[AccessRule], service: &str, method: &str, path: &str) -> bool {
    let below = path.strip_prefix('/').and_then(|path| path.strip_prefix(service)).filter(|rest| rest.starts_with('/'));
    let bare = below.unwrap_or(path);
    if service == "identity" && matches!(method, "GET" | "HEAD") && bare == "/v3/auth/tokens" {
        return true;
    }
    rules.iter().any(|rule| {
        rule.method == method
            && types(service).contains(&rule.service.as_str())
            && (fits(&rule.path, bare) || fits(&rule.path, path))
    })
}

/// What a catalog may call the service, of the types of the service types authority.
fn types(service: &str) -> &[&str] {
    match service {
        "compute" => &["compute"],
        "identity" => &["identity"],
        "image" => &["image"],
        "network" => &["network"],
        "object-store" => &["object-store"],
        "placement" => &["placement"],
        "volume" => &["block-storage", "block-store", "volumev3", "volume"],
        _ => &[],
    }
}

/// Whether the token says of itself that it has access rules. Not verified: for a service that decides whether its own
/// token must go along when it passes a user's on, where a lie gains nothing.
pub fn bears_rules(token: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let principal = claims.and_then(|bytes| serde_json::from_slice::<Principal>(&bytes).ok());
    principal.is_some_and(|principal| !rules_of(&principal).is_empty())
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// `*`, `{name}`: at least one character, no slash.
    Segment,
    /// `**`: anything, also nothing.
    Rest,
}

/// Splits the first piece off.
fn piece(pattern: &str) -> Option<(Piece<'_>, &str)> {
    if let Some(rest) = pattern.strip_prefix("**") {
        return Some((Piece::Rest, rest));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        return Some((Piece::Segment, rest));
    }
    if let Some(rest) = pattern.strip_prefix('{')
        && let Some((_, rest)) = rest.split_once('}')
    {
        return Some((Piece::Segment, rest));
    }
    let first = pattern.chars().next()?.len_utf8();
    let end = pattern[first..].find(['*', '{']).map_or(pattern.len(), |at| first + at);
    Some((Piece::Text(&pattern[..end]), &pattern[end..]))
}

/// Whether the whole path fits the pattern, in time pattern times path whatever the pattern: users write them, and each
/// request is held to them.
fn fits(pattern: &str, path: &str) -> bool {
    let mut pieces = Vec::new();
    let mut left = pattern;
    while let Some((piece, rest)) = piece(left) {
        pieces.push(piece);
        left = rest;
    }
    // Which beginnings of the path the pieces so far can take: by the number of bytes.
    let mut ends = vec![false; path.len() + 1];
    ends[0] = true;
    for piece in pieces {
        ends = advance(&ends, piece, path);
    }
    ends[path.len()]
}

fn advance(ends: &[bool], piece: Piece<'_>, path: &str) -> Vec<bool> {
    let mut next = vec![false; ends.len()];
    match piece {
        Piece::Text(text) => {
            for (from, _) in ends.iter().enumerate().filter(|(_, reached)| **reached) {
                if path.as_bytes()[from..].starts_with(text.as_bytes()) {
                    next[from + text.len()] = true;
                }
            }
        }
        Piece::Rest => {
            let mut reached = false;
            for (at, end) in next.iter_mut().enumerate() {
                reached |= ends[at];
                *end = reached;
            }
        }
        Piece::Segment => {
            let mut reached = false;
            for (at, byte) in path.bytes().enumerate() {
                reached = (reached || ends[at]) && byte != b'/';
                next[at + 1] = reached;
            }
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_upstreams() {
        let check = |pattern: &str, path: &str, want: bool| assert_eq!(fits(pattern, path), want, "{pattern} {path}");
        check("/v2.1/servers", "/v2.1/servers", true);
        check("/v2.1/servers", "/v2.1/servers/", false);
        check("/v2.1/servers", "/v2x1/servers", false);
        check("/v2.1/servers/*", "/v2.1/servers/a", true);
        check("/v2.1/servers/*", "/v2.1/servers/", false);
        check("/v2.1/servers/*", "/v2.1/servers/a/ips", false);
        check("/v2.1/servers/{server_id}/ips", "/v2.1/servers/a/ips", true);
        check("/v2.1/servers/{server_id}/ips", "/v2.1/servers/a/b/ips", false);
        check("/v2.1/**", "/v2.1/servers/a/ips", true);
        check("/v2.1/**", "/v2.1/", true);
        check("/v2.1/**/ips", "/v2.1/servers/a/ips", true);
        check("/v2.1/**/ips", "/v2.1/servers/a/ip", false);
        check("/a*c/d", "/abbc/d", true);
        check("/a*c/d", "/ac/d", false);
        check("/**/*/x", "/a/b/c/x", true);
        check("**", "", true);
        check("*", "", false);
        check("", "", true);
        check("/ü*", "/üx", true);
        check("/{open", "/{open", true);
    }

    #[test]
    fn a_long_pattern_ends() {
        let pattern = "**a".repeat(40) + "b";
        assert!(!fits(&pattern, &"/a".repeat(8_000)));
    }

    #[test]
    fn a_rule_is_for_its_service_and_method() {
        let rule = |service: &str, method: &str, path: &str| AccessRule {
            service: service.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
        };
        let rules = [rule("compute", "GET", "/v2.1/servers"), rule("volumev3", "POST", "/v3/*/volumes")];
        assert!(permits(&rules, "compute", "GET", "/compute/v2.1/servers"));
        assert!(permits(&rules, "compute", "GET", "/v2.1/servers"));
        assert!(!permits(&rules, "compute", "POST", "/compute/v2.1/servers"));
        assert!(!permits(&rules, "image", "GET", "/image/v2.1/servers"));
        assert!(permits(&rules, "volume", "POST", "/volume/v3/p/volumes"));
        assert!(permits(&rules, "identity", "GET", "/identity/v3/auth/tokens"));
        assert!(!permits(&rules, "identity", "DELETE", "/identity/v3/auth/tokens"));
        assert!(!permits(&rules, "identity", "GET", "/identity/v3/users"));
        let with_prefix = [rule("compute", "GET", "/compute/v2.1/servers")];
        assert!(permits(&with_prefix, "compute", "GET", "/compute/v2.1/servers"));
    }
}
