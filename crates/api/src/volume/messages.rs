//! Messages: why something that was accepted came to nothing afterwards; from 3.3.

use serde::Serialize;

use crate::{Link, Method, Route, Rule};

const ALL: &str = "/v3/messages";
const ONE: &str = "/v3/messages/{message_id}";
pub static LIST: Route = Route::new(Method::Get, ALL, "message:get_all", Rule::Reader).since(3, 3);
pub static SHOW: Route = Route::new(Method::Get, ONE, "message:get", Rule::Reader).since(3, 3);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "message:delete", Rule::Member).since(3, 3);

#[derive(Serialize)]
pub struct OneMessage<'a> {
    pub message: Message<'a>,
}

#[derive(Serialize)]
pub struct Messages<'a> {
    pub messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages_links: Vec<Link>,
}

#[derive(Serialize)]
pub struct Message<'a> {
    pub id: String,
    /// `VOLUME_<resource type>_<action>_<detail>`.
    pub event_id: String,
    pub user_message: String,
    /// `ERROR`, `WARNING` or `INFO`.
    pub message_level: &'a str,
    pub created_at: String,
    pub guaranteed_until: String,
    pub request_id: &'a str,
    pub links: Vec<Link>,
    /// `VOLUME`, `VOLUME_SNAPSHOT` or `VOLUME_BACKUP`.
    pub resource_type: &'a str,
    pub resource_uuid: &'a str,
}
