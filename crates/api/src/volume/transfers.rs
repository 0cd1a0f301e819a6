//! Volumes handed from one project to another. `os-volume-transfer` is the same without what came later.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Microversion, Route, Rule, Versioned};

const OLD: &str = "/v3/os-volume-transfer";
const OLD_ONE: &str = "/v3/os-volume-transfer/{transfer_id}";
const NEW: &str = "/v3/volume-transfers";
const NEW_ONE: &str = "/v3/volume-transfers/{transfer_id}";

pub static OLD_LIST: Route = Route::new(Method::Get, OLD, "volume:get_all_transfers", Rule::Reader);
pub static OLD_DETAIL: Route =
    Route::new(Method::Get, "/v3/os-volume-transfer/detail", "volume:get_all_transfers", Rule::Reader);
pub static OLD_SHOW: Route = Route::new(Method::Get, OLD_ONE, "volume:get_transfer", Rule::Reader);
pub static OLD_CREATE: Route = Route::new(Method::Post, OLD, "volume:create_transfer", Rule::Member);
pub static OLD_DELETE: Route = Route::new(Method::Delete, OLD_ONE, "volume:delete_transfer", Rule::Member);
pub static OLD_ACCEPT: Route =
    Route::new(Method::Post, "/v3/os-volume-transfer/{transfer_id}/accept", "volume:accept_transfer", Rule::Member);

pub static LIST: Route = Route::new(Method::Get, NEW, "volume:get_all_transfers", Rule::Reader).since(3, 55);
pub static DETAIL: Route =
    Route::new(Method::Get, "/v3/volume-transfers/detail", "volume:get_all_transfers", Rule::Reader).since(3, 55);
pub static SHOW: Route = Route::new(Method::Get, NEW_ONE, "volume:get_transfer", Rule::Reader).since(3, 55);
pub static CREATE: Route = Route::new(Method::Post, NEW, "volume:create_transfer", Rule::Member).since(3, 55);
pub static DELETE: Route = Route::new(Method::Delete, NEW_ONE, "volume:delete_transfer", Rule::Member).since(3, 55);
pub static ACCEPT: Route =
    Route::new(Method::Post, "/v3/volume-transfers/{transfer_id}/accept", "volume:accept_transfer", Rule::Member)
        .since(3, 55);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub transfer: NewTransfer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTransfer {
    pub volume_id: String,
    #[serde(default)]
    pub name: Option<String>,
    /// 3.55: the volume's snapshots stay with the giver. A boolean, or one as text.
    #[serde(default)]
    pub no_snapshots: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    pub accept: Accept,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// A text; clients may send one of digits as a number.
    pub auth_key: Value,
}

#[derive(Serialize)]
pub struct OneTransfer {
    pub transfer: Transfer,
}

impl Versioned for OneTransfer {
    fn patch(&mut self, version: Microversion) {
        self.transfer.patch(version);
    }
}

#[derive(Serialize)]
pub struct Transfers {
    pub transfers: Vec<Transfer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transfers_links: Vec<Link>,
}

impl Versioned for Transfers {
    fn patch(&mut self, version: Microversion) {
        self.transfers.patch(version);
    }
}

#[derive(Serialize)]
pub struct Transfer {
    pub id: String,
    pub volume_id: String,
    pub name: Option<String>,
    pub links: Vec<Link>,
    /// Not in plain lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Told once, when the transfer is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_key: Option<String>,
    /// 3.55.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_snapshots: Option<bool>,
    /// 3.57.
    #[serde(flatten)]
    pub history: Option<History>,
}

#[derive(Serialize)]
pub struct History {
    pub source_project_id: String,
    pub destination_project_id: Option<String>,
    pub accepted: bool,
}

impl Versioned for Transfer {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(3, 55) {
            self.no_snapshots = None;
        }
        if !version.at_least(3, 57) {
            self.history = None;
        }
    }
}
