//! From the QoS specs of a type to the limits that pools keep (`back-end`). Those for whoever attaches a volume
//! (`front-end`) go out as they are: see `connections`.

use std::collections::BTreeMap;

use umbel_core::Result;
use umbel_db::Tx;
use umbel_driver::Limits;

use crate::Volumes;
use crate::store::Volume;
use crate::store::qos_specs::{self, Qos};
use crate::store::types::VolumeType;

impl Volumes {
    /// The limits that a volume's pool keeps, by the volume's type: none without a type, without QoS specs or where
    /// these are for the front end.
    pub(crate) async fn limits_of(
        &self,
        tx: &mut Tx<Volume>,
        volume_type: Option<&VolumeType>,
        size_gib: u64,
    ) -> Result<Limits> {
        let qos = qos_of(tx, volume_type).await?;
        Ok(qos.as_ref().map(|qos| back_end(qos, size_gib)).unwrap_or_default())
    }
}

async fn qos_of(tx: &mut Tx<Volume>, volume_type: Option<&VolumeType>) -> Result<Option<Qos>> {
    match volume_type.and_then(|one| one.qos_specs_id) {
        Some(id) => qos_specs::get(tx, id).await,
        None => Ok(None),
    }
}

/// A burst goes with its own limit: upstream's RBD driver takes `total_iops_sec_max` for a burst of bytes.
fn back_end(qos: &Qos, size_gib: u64) -> Limits {
    if !matches!(qos.consumer.as_str(), "back-end" | "both") {
        return Limits::default();
    }
    let specs = of_size(&qos.specs, size_gib);
    Limits::named(|name| specs.get(name)?.trim().parse().ok())
}

/// Limits per GiB (`read_iops_sec_per_gb`) as those of a volume of this size, with the least that it has
/// (`read_iops_sec_per_gb_min`). They replace a fixed limit of the same kind, as upstream has it.
pub(crate) fn of_size(specs: &BTreeMap<String, String>, size_gib: u64) -> BTreeMap<String, String> {
    let mut sized = specs.clone();
    for kind in
        ["total_iops_sec", "read_iops_sec", "write_iops_sec", "total_bytes_sec", "read_bytes_sec", "write_bytes_sec"]
    {
        let mut number = |name: String| sized.remove(&name).and_then(|value| value.trim().parse::<u64>().ok());
        let (each, least) = (number(format!("{kind}_per_gb")), number(format!("{kind}_per_gb_min")));
        if let Some(each) = each {
            let limit = each.saturating_mul(size_gib).max(least.unwrap_or_default());
            sized.insert(kind.to_owned(), limit.to_string());
        }
    }
    sized
}

#[cfg(test)]
mod tests {
    use umbel_core::{Id, SeededRng, Timestamp};

    use super::*;

    fn qos(consumer: &str, specs: &[(&str, &str)]) -> Qos {
        Qos {
            id: Id::random(&SeededRng::new(1)),
            name: "q".into(),
            consumer: consumer.into(),
            specs: specs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            created_at: Timestamp(0),
            updated_at: None,
        }
    }

    #[test]
    fn a_pool_keeps_what_is_for_the_back_end() {
        let specs = [
            ("total_iops_sec", "100"),
            ("total_iops_sec_max", "200"),
            ("read_bytes_sec", "1024"),
            ("write_iops_sec", "many"),
            ("unknown", "1"),
        ];
        let want = Limits { iops: Some(100), iops_burst: Some(200), read_bytes: Some(1024), ..Limits::default() };
        assert_eq!(back_end(&qos("back-end", &specs), 1), want);
        assert_eq!(back_end(&qos("both", &specs), 1), want);
        assert_eq!(back_end(&qos("front-end", &specs), 1), Limits::default());
    }

    #[test]
    fn what_would_stop_a_disk_is_left_out() {
        let check = |specs: &[(&str, &str)], want: Limits| {
            let limits = back_end(&qos("both", specs), 1);
            assert_eq!(limits, want);
            limits.check().unwrap();
        };
        check(&[("total_iops_sec", "0")], Limits::default());
        check(&[("total_iops_sec_max", "10")], Limits::default());
        check(
            &[("total_bytes_sec", "10"), ("total_bytes_sec_max", "5")],
            Limits { bytes: Some(10), ..Limits::default() },
        );
    }

    #[test]
    fn limits_per_gigabyte_grow_with_the_volume() {
        let specs = [("read_iops_sec_per_gb", "10"), ("read_iops_sec_per_gb_min", "100"), ("read_iops_sec", "7")];
        let check = |size: u64, want: u64| {
            let limits = back_end(&qos("both", &specs), size);
            assert_eq!(limits, Limits { read_iops: Some(want), ..Limits::default() }, "{size}");
        };
        check(1, 100);
        check(20, 200);
        let sized = of_size(&qos("front-end", &specs).specs, 20);
        assert_eq!(sized, [("read_iops_sec".to_owned(), "200".to_owned())].into());
    }
}
