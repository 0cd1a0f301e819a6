//! Paths of services that compute once had and no version has any more: 410, where a plain 404 would read as "no such
//! thing yet".

use crate::{Method, Route, Rule};

const fn gone(method: Method, path: &'static str) -> Route {
    Route::new(method, path, "compute:gone", Rule::Authenticated)
}

pub static GONE: &[Route] = &[
    gone(Method::Get, "/v2.1/os-cells"),
    gone(Method::Post, "/v2.1/os-cells"),
    gone(Method::Get, "/v2.1/os-cells/{*rest}"),
    gone(Method::Post, "/v2.1/os-certificates"),
    gone(Method::Get, "/v2.1/os-certificates/{*rest}"),
    gone(Method::Get, "/v2.1/os-cloudpipe"),
    gone(Method::Post, "/v2.1/os-cloudpipe"),
    gone(Method::Get, "/v2.1/os-fixed-ips/{*rest}"),
    gone(Method::Get, "/v2.1/os-floating-ips-bulk"),
    gone(Method::Get, "/v2.1/os-fping"),
    gone(Method::Get, "/v2.1/os-fping/{*rest}"),
    gone(Method::Get, "/v2.1/os-virtual-interfaces"),
    gone(Method::Get, "/v2.1/os-agents"),
    gone(Method::Post, "/v2.1/os-agents"),
    gone(Method::Get, "/v2.1/os-security-group-default-rules"),
];
