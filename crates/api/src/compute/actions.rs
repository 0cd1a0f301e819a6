//! What was done to a server, with the steps and their times.

use serde::Serialize;

use super::NextLink;
use crate::{Method, Microversion, Route, Rule, Versioned};

pub static LIST: Route = Route::new(
    Method::Get,
    "/v2.1/servers/{server_id}/os-instance-actions",
    "os_compute_api:os-instance-actions:list",
    Rule::Reader,
);
pub static SHOW: Route = Route::new(
    Method::Get,
    "/v2.1/servers/{server_id}/os-instance-actions/{request_id}",
    "os_compute_api:os-instance-actions:show",
    Rule::Reader,
);

#[derive(Debug, Serialize)]
pub struct Action {
    pub action: String,
    pub instance_uuid: String,
    pub request_id: String,
    pub user_id: String,
    pub project_id: String,
    /// With microseconds, as all times here.
    pub start_time: String,
    pub message: Option<String>,
    /// 2.58.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Not in lists. To everybody from 2.51, to administrators before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<Event>>,
    #[serde(skip)]
    pub admin: bool,
}

#[derive(Debug, Serialize)]
pub struct Event {
    pub event: String,
    pub start_time: String,
    pub finish_time: Option<String>,
    /// `Success` or `Error`; null while it runs.
    pub result: Option<&'static str>,
    /// To administrators; always null, since our failures have reasons and not stacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<Option<String>>,
    /// 2.62, to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// 2.62.
    #[serde(rename = "hostId", skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// 2.84: which way a disk took and why, or the reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Option<String>>,
}

impl Versioned for Action {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(2, 58) {
            self.updated_at = None;
        }
        if !version.at_least(2, 51) && !self.admin {
            self.events = None;
        }
        for event in self.events.iter_mut().flatten() {
            event.patch(version);
        }
    }
}

impl Versioned for Event {
    fn patch(&mut self, version: Microversion) {
        if !version.at_least(2, 62) {
            self.host = None;
            self.host_id = None;
        }
        if !version.at_least(2, 84) {
            self.details = None;
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Actions {
    #[serde(rename = "instanceActions")]
    pub actions: Vec<Action>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<NextLink>,
}

impl Versioned for Actions {
    fn patch(&mut self, version: Microversion) {
        self.actions.patch(version);
    }
}

#[derive(Debug, Serialize)]
pub struct OneAction {
    #[serde(rename = "instanceAction")]
    pub action: Action,
}

impl Versioned for OneAction {
    fn patch(&mut self, version: Microversion) {
        self.action.patch(version);
    }
}
