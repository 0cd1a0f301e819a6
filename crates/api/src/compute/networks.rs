//! Networks as compute once had them itself: a proxy that ends with 2.35, and by which clients resolve the name of a
//! network wherever the catalog has no network service.

use serde::Serialize;

use crate::{Method, Route, Rule};

pub static LIST: Route =
    Route::new(Method::Get, "/v2.1/os-networks", "os_compute_api:os-networks:list", Rule::Reader).until(2, 35);
pub static SHOW: Route =
    Route::new(Method::Get, "/v2.1/os-networks/{network_id}", "os_compute_api:os-networks:show", Rule::Reader)
        .until(2, 35);

#[derive(Serialize)]
pub struct Networks {
    pub networks: Vec<Network>,
}

#[derive(Serialize)]
pub struct OneNetwork {
    pub network: Network,
}

/// What everybody sees of a network. What administrators saw beside it described networks that compute itself ran, and
/// is left out.
#[derive(Default, Serialize)]
pub struct Network {
    pub id: String,
    pub label: &'static str,
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// Members that are there and null: addresses belong to subnets, which the proxy never knew.
#[derive(Default, Serialize)]
pub struct Addressing {
    pub cidr: (),
    pub netmask: (),
    pub gateway: (),
    pub broadcast: (),
    pub dns1: (),
    pub dns2: (),
    pub cidr_v6: (),
    pub gateway_v6: (),
    pub netmask_v6: (),
}
