//! Lists of things that there are none of yet and that clients ask for in passing: the command line reads the aggregates
//! to show a hypervisor.

use serde::Serialize;

use crate::{Method, Route, Rule};

pub static AGGREGATES: Route =
    Route::new(Method::Get, "/v2.1/os-aggregates", "os_compute_api:os-aggregates:index", Rule::Admin);
pub static SERVER_GROUPS: Route =
    Route::new(Method::Get, "/v2.1/os-server-groups", "os_compute_api:os-server-groups:index", Rule::Reader);
pub static MIGRATIONS: Route =
    Route::new(Method::Get, "/v2.1/os-migrations", "os_compute_api:os-migrations:index", Rule::Admin);
pub static SERVER_MIGRATIONS: Route = Route::new(
    Method::Get,
    "/v2.1/servers/{server_id}/migrations",
    "os_compute_api:servers:migrations:index",
    Rule::Admin,
)
.since(2, 23);

#[derive(Default, Serialize)]
pub struct Aggregates {
    pub aggregates: [(); 0],
}

#[derive(Default, Serialize)]
pub struct ServerGroups {
    pub server_groups: [(); 0],
}

#[derive(Default, Serialize)]
pub struct Migrations {
    pub migrations: [(); 0],
}
