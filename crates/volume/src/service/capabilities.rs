//! What a backend can do, and whether that is what a type of volume asks for.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use umbel_core::{GIB, Timestamp};
use umbel_driver::Capacity;

use crate::Backend;
use crate::store::types::Specs;

/// As upstream's RBD driver names its vendor.
pub(crate) const VENDOR: &str = "Open Source";

pub(crate) type Capabilities = BTreeMap<&'static str, Value>;

/// By what name clients know a driver's way of talking.
pub(crate) fn protocol(driver: &str) -> &str {
    match driver {
        "rbd" => "ceph",
        other => other,
    }
}

/// What the scheduler goes by. Without capacities where the pool does not answer.
pub(crate) fn of(backend: &Backend, capacity: Option<Capacity>, allocated_gib: u64, now: Timestamp) -> Capabilities {
    let gib = |bytes: u64| json!(((bytes as f64 / GIB as f64) * 100.0).round() / 100.0);
    let (total, free) = match capacity {
        Some(capacity) => (gib(capacity.total), gib(capacity.free)),
        None => (json!("unknown"), json!("unknown")),
    };
    let cluster = (!backend.connection.fsid.is_empty()).then(|| {
        let at = &backend.connection;
        format!("{}:{}:{}:{}", at.cluster_name, at.fsid, at.auth_username, backend.name)
    });
    [
        ("volume_backend_name", json!(backend.name)),
        ("pool_name", json!(backend.name)),
        ("vendor_name", json!(VENDOR)),
        ("driver_version", json!(env!("CARGO_PKG_VERSION"))),
        ("storage_protocol", json!(protocol(&backend.driver))),
        ("total_capacity_gb", total),
        ("free_capacity_gb", free),
        ("allocated_capacity_gb", json!(allocated_gib)),
        ("provisioned_capacity_gb", json!(allocated_gib)),
        ("reserved_percentage", json!(0)),
        ("max_over_subscription_ratio", json!("20.0")),
        ("thin_provisioning_support", json!(true)),
        ("thick_provisioning_support", json!(false)),
        ("multiattach", json!(true)),
        ("QoS_support", json!(true)),
        ("qos_support", json!(true)),
        ("online_extend_support", json!(true)),
        ("consistent_group_snapshot_enabled", json!(true)),
        ("replication_enabled", json!(false)),
        ("location_info", json!(cluster)),
        ("backend_state", json!(if capacity.is_some() { "up" } else { "down" })),
        ("timestamp", json!(now.iso_naive())),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_null())
    .collect()
}

/// Whether a backend has all that the extra specs ask for. Specs of another scope (`RESKEY:`, `provisioning:`, ...) are
/// not for the choice of a backend.
pub(crate) fn satisfy(capabilities: &Capabilities, specs: &Specs) -> bool {
    specs.iter().all(|(name, wanted)| {
        let name = match name.split_once(':') {
            None => name.as_str(),
            Some(("capabilities", rest)) => rest,
            Some(_) => return true,
        };
        match (capabilities.get(name), wanted) {
            (Some(value), Some(wanted)) => matches(value, wanted),
            _ => false,
        }
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // As Python spells it, in which the specs have always been written.
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

/// Upstream's operators: `<is>`, `<in>`, `<or>`, `=` (at least), comparisons of numbers and, with an `s`, of texts.
/// Without an operator the texts have to be equal.
fn matches(value: &Value, wanted: &str) -> bool {
    let have = text(value);
    let mut words = wanted.split_whitespace();
    let operator = words.next().unwrap_or_default();
    let first = words.next();
    let numbers = || Some((have.parse::<f64>().ok()?, first?.parse::<f64>().ok()?));
    let compared = |hold: fn(f64, f64) -> bool| numbers().is_some_and(|(have, want)| hold(have, want));
    let texts = |hold: fn(&str, &str) -> bool| first.is_some_and(|want| hold(&have, want));
    match operator {
        "<is>" => texts(|have, want| have.eq_ignore_ascii_case("true") == want.eq_ignore_ascii_case("true")),
        "<in>" => texts(|have, want| have.contains(want)),
        "<or>" => wanted.split("<or>").map(str::trim).any(|one| one == have),
        "=" | ">=" => compared(|have, want| have >= want),
        "<=" => compared(|have, want| have <= want),
        "==" => compared(|have, want| have.total_cmp(&want).is_eq()),
        "!=" => compared(|have, want| have.total_cmp(&want).is_ne()),
        "s==" => texts(|have, want| have == want),
        "s!=" => texts(|have, want| have != want),
        "s<" => texts(|have, want| have < want),
        "s<=" => texts(|have, want| have <= want),
        "s>" => texts(|have, want| have > want),
        "s>=" => texts(|have, want| have >= want),
        _ => have == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_held_against_capabilities() {
        let have: Capabilities = [
            ("volume_backend_name", json!("fast")),
            ("storage_protocol", json!("ceph")),
            ("multiattach", json!(true)),
            ("free_capacity_gb", json!(10.5)),
        ]
        .into();
        let check = |name: &str, wanted: &str, want: bool| {
            let specs = Specs::from([(name.to_owned(), Some(wanted.to_owned()))]);
            assert_eq!(satisfy(&have, &specs), want, "{name}: {wanted}");
        };
        check("volume_backend_name", "fast", true);
        check("volume_backend_name", "slow", false);
        check("capabilities:volume_backend_name", "fast", true);
        check("capabilities:volume_backend_name", "slow", false);
        check("RESKEY:availability_zones", "nowhere", true);
        check("nobody_has_it", "x", false);
        check("multiattach", "<is> True", true);
        check("multiattach", "<is> False", false);
        check("storage_protocol", "<in> cep", true);
        check("storage_protocol", "<or> iSCSI <or> ceph", true);
        check("storage_protocol", "<or> iSCSI <or> nfs", false);
        check("storage_protocol", "s== ceph", true);
        check("storage_protocol", "s!= ceph", false);
        check("free_capacity_gb", ">= 10", true);
        check("free_capacity_gb", "= 11", false);
        check("free_capacity_gb", "<= 11", true);
        check("free_capacity_gb", ">= many", false);
        assert!(!satisfy(&have, &Specs::from([("multiattach".to_owned(), None)])));
        assert!(satisfy(&have, &Specs::new()));
    }
}
