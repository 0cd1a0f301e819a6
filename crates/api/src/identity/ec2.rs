//! EC2 keys of a user: credentials of type `ec2` under an older name, as the `openstack ec2 credentials` commands ask.

use serde::{Deserialize, Serialize};

use super::SelfLink;
use crate::{Method, Route, Rule};

const ALL: &str = "/v3/users/{user_id}/credentials/OS-EC2";
const ONE: &str = "/v3/users/{user_id}/credentials/OS-EC2/{access}";
pub static LIST: Route = Route::new(Method::Get, ALL, "identity:ec2_list_credentials", Rule::Authenticated);
pub static CREATE: Route = Route::new(Method::Post, ALL, "identity:ec2_create_credential", Rule::Authenticated);
pub static SHOW: Route = Route::new(Method::Get, ONE, "identity:ec2_get_credential", Rule::Authenticated);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "identity:ec2_delete_credential", Rule::Authenticated);

#[derive(Deserialize)]
pub struct Ec2Request {
    /// A project, by its name of old.
    pub tenant_id: String,
}

/// Not `Debug`: it holds a secret.
#[derive(Serialize, Deserialize)]
pub struct Ec2Credential {
    pub user_id: String,
    pub tenant_id: String,
    pub access: String,
    pub secret: String,
    pub trust_id: Option<String>,
    pub links: SelfLink,
}
