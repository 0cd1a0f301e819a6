//! What was optional once. Clients still ask.

use serde::Serialize;

use crate::{Method, Route, Rule};

pub static LIST: Route = Route::new(Method::Get, "/v2.1/extensions", "os_compute_api:extensions", Rule::Authenticated);
pub static SHOW: Route =
    Route::new(Method::Get, "/v2.1/extensions/{alias}", "os_compute_api:extensions", Rule::Authenticated);

#[derive(Serialize)]
pub struct Extensions {
    pub extensions: Vec<Extension>,
}

#[derive(Serialize)]
pub struct OneExtension {
    pub extension: Extension,
}

#[derive(Serialize)]
pub struct Extension {
    pub alias: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    pub links: [(); 0],
    pub namespace: &'static str,
    pub updated: &'static str,
}
