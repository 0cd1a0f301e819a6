use http::request::Parts;

use crate::serve::Secure;

/// The URL by which the client reached what stands at `below`, for the links in answers: scheme, host and port that a
/// proxy in front tells (`X-Forwarded-Proto`, `-Host`, `-Prefix`; of several the first, which is the client's side), or
/// the `Host` asked for.
///
/// Believed without a list of trusted proxies: whoever lies here gets wrong links in an answer of their own. What
/// could not be part of a URL is passed over.
pub(crate) fn of(parts: &Parts, below: &str) -> String {
    let text = |name: &str| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some(value.split(',').next().unwrap_or(value).trim())
    };
    let host = text("x-forwarded-host").filter(|host| is_host(host));
    let host = host.or_else(|| text("host").filter(|host| is_host(host)));
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()).filter(|host| is_host(host)));
    let scheme = match text("x-forwarded-proto") {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        None if parts.extensions.get::<Secure>().is_some() => "https",
        _ => "http",
    };
    let prefix = text("x-forwarded-prefix").filter(|prefix| is_path(prefix)).unwrap_or_default();
    [scheme, "://", host.unwrap_or("localhost"), prefix.trim_end_matches('/'), below].concat()
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:[]".contains(&c))
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~/".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_s_side_of_a_proxy_is_the_origin() {
        let check = |headers: &[(&'static str, &str)], want: &str| {
            let request = http::Request::get("http://in.process/x");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(of(&parts, "/x"), format!("{want}/x"), "{headers:?}");
        };
        check(&[], "http://in.process");
        check(&[("host", "cloud:8000")], "http://cloud:8000");
        check(&[("host", "[::1]:8000")], "http://[::1]:8000");
        let proxied = [("host", "10.0.0.1:8000"), ("x-forwarded-host", "cloud.example, inner")];
        check(&proxied, "http://cloud.example");
        let tls = [("host", "cloud"), ("x-forwarded-proto", "https, http"), ("x-forwarded-prefix", "/os/")];
        check(&tls, "https://cloud/os");
        check(&[("host", "a\"><script>"), ("x-forwarded-proto", "javascript")], "http://in.process");
        check(&[("host", "cloud"), ("x-forwarded-host", "a b"), ("x-forwarded-prefix", "no")], "http://cloud");
    }
}
