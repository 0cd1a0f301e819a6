//! The options that a domain may set, with what holds where it does not. Names and defaults are upstream's.

use serde_json::{Value, json};
use umbel_api::identity::domain_config::{Groups, Options};

/// An option's default.
#[derive(Clone, Copy)]
enum Otherwise {
    Nothing,
    Text(&'static str),
    Number(i64),
    Truth(bool),
    Empty,
}

use Otherwise::{Empty, Nothing, Number, Text, Truth};

impl Otherwise {
    fn value(self) -> Value {
        match self {
            Nothing => Value::Null,
            Text(text) => json!(text),
            Number(number) => json!(number),
            Truth(truth) => json!(truth),
            Empty => json!([]),
        }
    }
}

const IDENTITY: &[(&str, Otherwise)] = &[("driver", Text("sql")), ("list_limit", Nothing)];

const LDAP: &[(&str, Otherwise)] = &[
    ("url", Text("ldap://localhost")),
    ("user", Nothing),
    ("suffix", Text("cn=example,cn=com")),
    ("query_scope", Text("one")),
    ("page_size", Number(0)),
    ("alias_dereferencing", Text("default")),
    ("debug_level", Nothing),
    ("chase_referrals", Nothing),
    ("connection_timeout", Number(-1)),
    ("user_tree_dn", Nothing),
    ("user_filter", Nothing),
    ("user_objectclass", Text("inetOrgPerson")),
    ("user_id_attribute", Text("cn")),
    ("user_name_attribute", Text("sn")),
    ("user_description_attribute", Text("description")),
    ("user_mail_attribute", Text("mail")),
    ("user_pass_attribute", Text("userPassword")),
    ("user_enabled_attribute", Text("enabled")),
    ("user_enabled_invert", Truth(false)),
    ("user_enabled_mask", Number(0)),
    ("user_enabled_default", Text("True")),
    ("user_attribute_ignore", Text("default_project_id")),
    ("user_default_project_id_attribute", Nothing),
    ("user_enabled_emulation", Truth(false)),
    ("user_enabled_emulation_dn", Nothing),
    ("user_enabled_emulation_use_group_config", Truth(false)),
    ("user_additional_attribute_mapping", Empty),
    ("group_tree_dn", Nothing),
    ("group_filter", Nothing),
    ("group_objectclass", Text("groupOfNames")),
    ("group_id_attribute", Text("cn")),
    ("group_name_attribute", Text("ou")),
    ("group_member_attribute", Text("member")),
    ("group_members_are_ids", Truth(false)),
    ("group_desc_attribute", Text("description")),
    ("group_attribute_ignore", Text("")),
    ("group_additional_attribute_mapping", Empty),
    ("group_ad_nesting", Truth(false)),
    ("tls_cacertfile", Nothing),
    ("tls_cacertdir", Nothing),
    ("use_tls", Truth(false)),
    ("tls_req_cert", Text("demand")),
    ("use_pool", Truth(true)),
    ("pool_size", Number(10)),
    ("pool_retry_max", Number(3)),
    ("pool_connection_timeout", Number(-1)),
    ("pool_connection_lifetime", Number(600)),
    ("use_auth_pool", Truth(true)),
    ("auth_pool_size", Number(100)),
    ("auth_pool_connection_lifetime", Number(60)),
];

const GROUPS: &[(&str, &[(&str, Otherwise)])] = &[("identity", IDENTITY), ("ldap", LDAP)];

/// Set, sealed in the database, and never shown.
const SECRETS: &[(&str, &str)] = &[("ldap", "password")];

fn of_group(group: &str) -> Option<&'static [(&'static str, Otherwise)]> {
    GROUPS.iter().find(|(name, _)| *name == group).map(|(_, options)| *options)
}

pub(super) fn is_group(group: &str) -> bool {
    of_group(group).is_some()
}

pub(super) fn is_secret(group: &str, option: &str) -> bool {
    SECRETS.contains(&(group, option))
}

pub(super) fn is_option(group: &str, option: &str) -> bool {
    is_secret(group, option) || default_of(group, option).is_some()
}

pub(super) fn defaults() -> Groups {
    GROUPS.iter().filter_map(|(group, _)| Some(((*group).to_owned(), defaults_of(group)?))).collect()
}

pub(super) fn defaults_of(group: &str) -> Option<Options> {
    Some(of_group(group)?.iter().map(|(name, default)| ((*name).to_owned(), default.value())).collect())
}

pub(super) fn default_of(group: &str, option: &str) -> Option<Value> {
    of_group(group)?.iter().find(|(name, _)| *name == option).map(|(_, default)| default.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_found() {
        assert_eq!(default_of("identity", "driver"), Some(json!("sql")));
        assert_eq!(default_of("identity", "url"), None);
        assert_eq!(default_of("ldap", "user_additional_attribute_mapping"), Some(json!([])));
        assert_eq!(defaults().len(), 2);
        assert!(is_option("ldap", "password") && default_of("ldap", "password").is_none());
        assert!(!is_group("oslo") && !is_option("oslo", "driver"));
    }
}
