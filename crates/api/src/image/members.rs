use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use umbel_core::{Error, Id};

use super::Image;
use crate::{Method, Route, Rule};

pub static CREATE_MEMBER: Route = Route::new(Method::Post, "/v2/images/{image_id}/members", "add_member", Rule::Member);
pub static LIST_MEMBERS: Route = Route::new(Method::Get, "/v2/images/{image_id}/members", "get_members", Rule::Reader);
pub static SHOW_MEMBER: Route =
    Route::new(Method::Get, "/v2/images/{image_id}/members/{member_id}", "get_member", Rule::Reader);
pub static UPDATE_MEMBER: Route =
    Route::new(Method::Put, "/v2/images/{image_id}/members/{member_id}", "modify_member", Rule::Member);
pub static DELETE_MEMBER: Route =
    Route::new(Method::Delete, "/v2/images/{image_id}/members/{member_id}", "delete_member", Rule::Member);

/// A project with which an image is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub member_id: String,
    pub image_id: Id<Image>,
    pub status: MemberStatus,
    pub created_at: String,
    pub updated_at: String,
    pub schema: Cow<'static, str>,
}

/// What the project says to it: only an accepted image is in its lists, but it can use any by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberStatus {
    Pending,
    Accepted,
    Rejected,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberList {
    pub members: Vec<Member>,
    pub schema: Cow<'static, str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMember {
    pub member: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateMember {
    pub status: String,
}

impl MemberStatus {
    pub const fn name(self) -> &'static str {
        match self {
            MemberStatus::Pending => "pending",
            MemberStatus::Accepted => "accepted",
            MemberStatus::Rejected => "rejected",
        }
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MemberStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = [MemberStatus::Pending, MemberStatus::Accepted, MemberStatus::Rejected];
        known
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| Error::bad_request(format!("Invalid status: {text}")))
    }
}
