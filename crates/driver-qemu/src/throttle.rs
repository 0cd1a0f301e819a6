//! What bounds a guest's use of its disks.
//!
//! QEMU counts at the device, above all nodes: overlays, resizes and copies to other places below it change nothing. The
//! refused alternative, a filter node of its own for each disk, would be one more thing to carry along in each of these.
//!
//! Each disk is a throttle group of its own. What the guest asks for beyond its bounds waits within QEMU; nothing fails.

use serde_json::{Value, json};
use umbel_core::{Error, Result};
use umbel_driver::Limits;

use crate::driver::Driver;
use crate::qmp::Command;

impl Driver {
    pub(crate) async fn limit(&mut self, serial: &str, limits: &Limits) -> Result<()> {
        limits.check()?;
        if self.running.is_none() {
            return Ok(());
        }
        self.refresh().await?;
        let is = |plug: &&crate::drive::Plug| plug.serial.as_deref() == Some(serial) && plug.number.is_some();
        let device = self.plugs.borrow().iter().find(is).map(|plug| plug.device.clone());
        let device = device.ok_or_else(|| Error::not_found("The guest has no such disk."))?;
        self.qemu(&Command::with("block_set_io_throttle", arguments(&device, limits))).await?;
        Ok(())
    }
}

/// All bounds of a device; 0 for none.
fn arguments(device: &str, limits: &Limits) -> Value {
    let bytes = split([limits.bytes, limits.read_bytes, limits.write_bytes]);
    let bytes_burst = split([limits.bytes_burst, limits.read_bytes_burst, limits.write_bytes_burst]);
    let iops = split([limits.iops, limits.read_iops, limits.write_iops]);
    let iops_burst = split([limits.iops_burst, limits.read_iops_burst, limits.write_iops_burst]);
    let bytes_burst = above(bytes, bytes_burst);
    let iops_burst = above(iops, iops_burst);
    let counted = iops.iter().any(|limit| *limit > 0);
    json!({
        "id": format!("/machine/peripheral/{device}/virtio-backend"),
        "bps": bytes[0], "bps_rd": bytes[1], "bps_wr": bytes[2],
        "bps_max": bytes_burst[0], "bps_rd_max": bytes_burst[1], "bps_wr_max": bytes_burst[2],
        "iops": iops[0], "iops_rd": iops[1], "iops_wr": iops[2],
        "iops_max": iops_burst[0], "iops_rd_max": iops_burst[1], "iops_wr_max": iops_burst[2],
        // Without a bound on operations QEMU refuses to be told how to count them.
        "iops_size": limits.iops_size.filter(|_| counted).unwrap_or_default(),
    })
}

/// QEMU bounds either all, or reads and writes apart. Of both, reads and writes are bounded, each by the stricter: together
/// they may come to more than what was meant for all, and neither to more than was meant for it.
fn split([all, read, write]: [Option<u64>; 3]) -> [u64; 3] {
    let bounded = |one: Option<u64>| one.into_iter().chain(all).min().unwrap_or_default();
    match (read, write) {
        (None, None) => [all.unwrap_or_default(), 0, 0],
        _ => [0, bounded(read), bounded(write)],
    }
}

/// Bursts where there is a limit below them; one that no longer has its own is none.
fn above(limits: [u64; 3], bursts: [u64; 3]) -> [u64; 3] {
    [0, 1, 2].map(|at| if limits[at] > 0 && bursts[at] > limits[at] { bursts[at] } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_as_qemu_takes_them() {
        let check = |limits: Limits, want: Value| {
            let said = arguments("disk1.a", &limits);
            assert_eq!(said["id"], "/machine/peripheral/disk1.a/virtio-backend");
            for (name, value) in said.as_object().unwrap().iter().filter(|(name, _)| *name != "id") {
                assert_eq!(value, want.get(name).unwrap_or(&json!(0)), "{name} of {limits:?}");
            }
        };
        check(Limits::default(), json!({}));
        let all = Limits { iops: Some(100), iops_burst: Some(300), iops_size: Some(4096), ..Limits::default() };
        check(all, json!({"iops": 100, "iops_max": 300, "iops_size": 4096}));
        let apart =
            Limits { read_bytes: Some(10), write_bytes: Some(20), write_bytes_burst: Some(30), ..Limits::default() };
        check(apart, json!({"bps_rd": 10, "bps_wr": 20, "bps_wr_max": 30}));
        // What QEMU refuses.
        let both = Limits { bytes: Some(15), read_bytes: Some(10), write_bytes: Some(20), ..Limits::default() };
        check(both, json!({"bps_rd": 10, "bps_wr": 15}));
        check(Limits { iops_size: Some(4096), bytes: Some(5), ..Limits::default() }, json!({"bps": 5}));
        let mixed = Limits { iops: Some(50), iops_burst: Some(80), read_iops: Some(10), ..Limits::default() };
        check(mixed, json!({"iops_rd": 10, "iops_wr": 50}));
    }
}
