//! Volume types: what a volume is made of and where, as users choose it by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Link, Method, Route, Rule};

const ALL: &str = "/v3/types";
const ONE: &str = "/v3/types/{type_id}";
const SPECS: &str = "/v3/types/{type_id}/extra_specs";
const SPEC: &str = "/v3/types/{type_id}/extra_specs/{key}";
const ENCRYPTION: &str = "/v3/types/{type_id}/encryption";
const ENCRYPTION_ONE: &str = "/v3/types/{type_id}/encryption/{key}";

pub static LIST: Route = Route::new(Method::Get, ALL, "volume_extension:type_get_all", Rule::Reader);
/// The id `default` stands for the type that a volume gets if nobody says.
pub static SHOW: Route = Route::new(Method::Get, ONE, "volume_extension:type_get", Rule::Reader);
pub static CREATE: Route = Route::new(Method::Post, ALL, "volume_extension:type_create", Rule::Admin);
pub static UPDATE: Route = Route::new(Method::Put, ONE, "volume_extension:type_update", Rule::Admin);
pub static DELETE: Route = Route::new(Method::Delete, ONE, "volume_extension:type_delete", Rule::Admin);

pub static SPECS_LIST: Route = Route::new(Method::Get, SPECS, "volume_extension:types_extra_specs:index", Rule::Reader);
pub static SPECS_SHOW: Route = Route::new(Method::Get, SPEC, "volume_extension:types_extra_specs:show", Rule::Reader);
pub static SPECS_CREATE: Route =
    Route::new(Method::Post, SPECS, "volume_extension:types_extra_specs:create", Rule::Admin);
pub static SPECS_UPDATE: Route =
    Route::new(Method::Put, SPEC, "volume_extension:types_extra_specs:update", Rule::Admin);
pub static SPECS_DELETE: Route =
    Route::new(Method::Delete, SPEC, "volume_extension:types_extra_specs:delete", Rule::Admin);

pub static ACCESS_LIST: Route = Route::new(
    Method::Get,
    "/v3/types/{type_id}/os-volume-type-access",
    "volume_extension:volume_type_access:get_all_for_type",
    Rule::Admin,
);
/// `addProjectAccess` and `removeProjectAccess`.
pub static ACTION: Route = Route::new(
    Method::Post,
    "/v3/types/{type_id}/action",
    "volume_extension:volume_type_access:addProjectAccess",
    Rule::Admin,
);

pub static ENCRYPTION_SHOW: Route =
    Route::new(Method::Get, ENCRYPTION, "volume_extension:volume_type_encryption:get", Rule::Admin);
pub static ENCRYPTION_CREATE: Route =
    Route::new(Method::Post, ENCRYPTION, "volume_extension:volume_type_encryption:create", Rule::Admin);
/// How one volume is encrypted, for the hosts that open it.
pub static VOLUME_ENCRYPTION: Route = Route::new(
    Method::Get,
    "/v3/volumes/{volume_id}/encryption",
    "volume_extension:volume_encryption_metadata",
    Rule::Reader,
);
/// One member of the encryption, by its name.
pub static ENCRYPTION_ITEM: Route =
    Route::new(Method::Get, ENCRYPTION_ONE, "volume_extension:volume_type_encryption:get", Rule::Admin);
pub static ENCRYPTION_UPDATE: Route =
    Route::new(Method::Put, ENCRYPTION_ONE, "volume_extension:volume_type_encryption:update", Rule::Admin);
pub static ENCRYPTION_DELETE: Route =
    Route::new(Method::Delete, ENCRYPTION_ONE, "volume_extension:volume_type_encryption:delete", Rule::Admin);

pub static DEFAULTS_LIST: Route =
    Route::new(Method::Get, "/v3/default-types", "volume_extension:default_get_all", Rule::Admin).since(3, 62);
const DEFAULT: &str = "/v3/default-types/{project_id}";
pub static DEFAULT_SHOW: Route =
    Route::new(Method::Get, DEFAULT, "volume_extension:default_get", Rule::Admin).since(3, 62);
pub static DEFAULT_SET: Route =
    Route::new(Method::Put, DEFAULT, "volume_extension:default_set_or_update", Rule::Admin).since(3, 62);
pub static DEFAULT_UNSET: Route =
    Route::new(Method::Delete, DEFAULT, "volume_extension:default_unset", Rule::Admin).since(3, 62);

/// Extra specs; a client may have stored null.
pub type Specs = BTreeMap<String, Option<String>>;

#[derive(Serialize)]
pub struct OneType<'a> {
    pub volume_type: VolumeType<'a>,
}

#[derive(Serialize)]
pub struct Types<'a> {
    pub volume_types: Vec<VolumeType<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_type_links: Vec<Link>,
}

#[derive(Serialize)]
pub struct VolumeType<'a> {
    pub id: String,
    pub name: &'a str,
    pub is_public: bool,
    pub description: Option<&'a str>,
    pub extra_specs: Specs,
    /// Only administrators see it, and not in the answer to a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_specs_id: Option<Option<String>>,
    /// Not in the answer to a change.
    #[serde(rename = "os-volume-type-access:is_public", skip_serializing_if = "Option::is_none")]
    pub access_is_public: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    pub volume_type: NewType,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewType {
    pub name: String,
    pub description: Option<String>,
    #[serde(default)]
    pub extra_specs: Specs,
    #[serde(rename = "os-volume-type-access:is_public")]
    pub is_public: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub volume_type: TypeChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeChange {
    pub name: Option<String>,
    pub description: Option<String>,
    /// The openstack client says it by the name that it has in a request to create.
    #[serde(alias = "os-volume-type-access:is_public")]
    pub is_public: Option<Value>,
}

/// Of a request, and of the answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecsBody {
    pub extra_specs: Specs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Action {
    #[serde(rename = "addProjectAccess")]
    Add(AccessOf),
    #[serde(rename = "removeProjectAccess")]
    Remove(AccessOf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessOf {
    pub project: String,
}

#[derive(Serialize)]
pub struct AccessList {
    pub volume_type_access: Vec<Access>,
}

#[derive(Serialize)]
pub struct Access {
    pub volume_type_id: String,
    pub project_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionRequest {
    pub encryption: EncryptionChange,
}

/// Upstream lets any other member through, and forgets it; so do we.
#[derive(Deserialize)]
pub struct EncryptionChange {
    pub provider: Option<String>,
    pub control_location: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub cipher: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    pub key_size: Option<Value>,
}

/// Tells `null` from nothing.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The answer to GET; of a type without encryption it is `{}`.
#[derive(Serialize)]
pub struct Encryption<'a> {
    pub volume_type_id: String,
    pub encryption_id: &'a str,
    pub provider: &'a str,
    pub control_location: &'a str,
    pub cipher: Option<&'a str>,
    pub key_size: Option<i64>,
    pub created_at: String,
    pub updated_at: Option<String>,
    pub deleted: bool,
    pub deleted_at: Option<String>,
}

/// Of a volume that is not encrypted. What a type says of encryption would stand beside the key.
#[derive(Serialize)]
pub struct VolumeEncryption {
    pub encryption_key_id: Option<String>,
}

#[derive(Serialize)]
pub struct EncryptionCreated<'a> {
    pub encryption: NewEncryption<'a>,
}

#[derive(Serialize)]
pub struct NewEncryption<'a> {
    pub volume_type_id: String,
    pub encryption_id: &'a str,
    pub provider: &'a str,
    pub control_location: &'a str,
    pub cipher: Option<&'a str>,
    pub key_size: Option<i64>,
}

#[derive(Serialize)]
pub struct EncryptionUpdated<'a> {
    pub encryption: EncryptionFields<'a>,
}

/// What the request had.
#[derive(Serialize)]
pub struct EncryptionFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_location: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_size: Option<Option<i64>>,
}

#[derive(Deserialize)]
pub struct DefaultRequest {
    pub default_type: DefaultChoice,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultChoice {
    /// Id or name.
    pub volume_type: String,
}

#[derive(Serialize)]
pub struct OneDefault {
    pub default_type: DefaultType,
}

#[derive(Serialize)]
pub struct Defaults {
    pub default_types: Vec<DefaultType>,
}

#[derive(Serialize)]
pub struct DefaultType {
    pub project_id: String,
    pub volume_type_id: String,
}
