//! From the QoS specs of a type to the limits that pools keep (`back-end`). Those for whoever attaches a volume
//! (`front-end`) go out as they are: see `connections`.

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
    pub(crate) async fn limits_of(&self, tx: &mut Tx<Volume>, volume_type: Option<&VolumeType>) -> Result<Limits> {
        let qos = qos_of(tx, volume_type).await?;
        Ok(qos.as_ref().map(back_end).unwrap_or_default())
    }
}

async fn qos_of(tx: &mut Tx<Volume>, volume_type: Option<&VolumeType>) -> Result<Option<Qos>> {
    match volume_type.and_then(|one| one.qos_specs_id) {
        Some(id) => qos_specs::get(tx, id).await,
        None => Ok(None),
    }
}

/// A burst goes with its own limit: upstream's RBD driver takes `total_iops_sec_max` for a burst of bytes.
///
/// Values that are no numbers, zeros, and bursts that their limit leaves without a meaning say nothing: a type that
/// somebody spelled wrongly should not keep volumes from being made.
fn back_end(qos: &Qos) -> Limits {
    if !matches!(qos.consumer.as_str(), "back-end" | "both") {
        return Limits::default();
    }
    let number = |key: &str| qos.specs.get(key).and_then(|value| value.trim().parse::<u64>().ok()).filter(|n| *n > 0);
    let pair = |key: &str| {
        let limit = number(key);
        let burst = number(&format!("{key}_max")).filter(|burst| limit.is_some_and(|limit| *burst >= limit));
        (limit, burst)
    };
    let ((iops, iops_burst), (bytes, bytes_burst)) = (pair("total_iops_sec"), pair("total_bytes_sec"));
    let ((read_iops, read_iops_burst), (read_bytes, read_bytes_burst)) =
        (pair("read_iops_sec"), pair("read_bytes_sec"));
    let ((write_iops, write_iops_burst), (write_bytes, write_bytes_burst)) =
        (pair("write_iops_sec"), pair("write_bytes_sec"));
    Limits {
        iops,
        iops_burst,
        read_iops,
        read_iops_burst,
        write_iops,
        write_iops_burst,
        bytes,
        bytes_burst,
        read_bytes,
        read_bytes_burst,
        write_bytes,
        write_bytes_burst,
    }
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
        assert_eq!(back_end(&qos("back-end", &specs)), want);
        assert_eq!(back_end(&qos("both", &specs)), want);
        assert_eq!(back_end(&qos("front-end", &specs)), Limits::default());
    }

    #[test]
    fn what_would_stop_a_disk_is_left_out() {
        let check = |specs: &[(&str, &str)], want: Limits| {
            let limits = back_end(&qos("both", specs));
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
}
