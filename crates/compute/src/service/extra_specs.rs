//! Which extra specs a flavor may have. Names are free, but for the namespaces that mean something to compute: there a
//! name that nothing reads is a mistake, and from 2.86 it is refused.

use umbel_core::{Error, Result};

/// Namespaces whose names are known.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "hw",
        &[
            "boot_menu",
            "cpu_cores",
            "cpu_dedicated_mask",
            "cpu_max_cores",
            "cpu_max_sockets",
            "cpu_max_threads",
            "cpu_policy",
            "cpu_realtime",
            "cpu_realtime_mask",
            "cpu_sockets",
            "cpu_thread_policy",
            "cpu_threads",
            "emulator_threads_policy",
            "hide_hypervisor_id",
            "input_bus",
            "iothreads_per_disk",
            "locked_memory",
            "machine_type",
            "max_io_queues",
            "maxphysaddr_bits",
            "maxphysaddr_mode",
            "mem_encryption",
            "mem_encryption_model",
            "mem_page_size",
            "numa_nodes",
            "pci_numa_affinity_policy",
            "pmem",
            "pmu",
            "rescue_bus",
            "serial_port_count",
            "sound_model",
            "tpm_model",
            "tpm_secret_security",
            "tpm_version",
            "usb_model",
            "vif_multiqueue_enabled",
            "viommu_model",
            "virtio_packed_ring",
            "watchdog_action",
        ],
    ),
    ("hw_rng", &["allowed", "rate_bytes", "rate_period"]),
    ("hw_video", &["ram_max_mb"]),
    ("os", &["secure_boot"]),
    ("accel", &["device_profile"]),
    ("pci_passthrough", &["alias"]),
    ("powervm", &[]),
    (
        "quota",
        &[
            "cpu_period",
            "cpu_quota",
            "cpu_shares",
            "disk_read_bytes_sec",
            "disk_read_iops_sec",
            "disk_total_bytes_sec",
            "disk_total_iops_sec",
            "disk_write_bytes_sec",
            "disk_write_iops_sec",
            "vif_inbound_average",
            "vif_inbound_burst",
            "vif_inbound_peak",
            "vif_outbound_average",
            "vif_outbound_burst",
            "vif_outbound_peak",
        ],
    ),
];

/// Ours: which tier a server's disks must be on.
const STORAGE: &str = "storage";
const STORAGE_NAMES: &[&str] = &["tier"];

/// What every version wants of a name and a value.
pub(crate) fn check_form(name: &str, value: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:. ".contains(c);
    if name.is_empty() || name.len() > 255 || !name.chars().all(allowed) {
        return Err(Error::bad_request(format!("Invalid input for field/attribute extra_specs. '{name}' is no key.")));
    }
    if value.chars().count() > 255 {
        return Err(Error::bad_request(format!("Invalid input for field/attribute {name}. The value is too long.")));
    }
    Ok(())
}

/// What 2.86 wants besides.
pub(crate) fn check_meaning(name: &str, value: &str) -> Result<()> {
    let unknown = || {
        Error::bad_request(format!("Validation failed; extra spec '{name}' does not appear to be a valid extra spec."))
    };
    let Some((namespace, rest)) = name.split_once(':') else {
        return Ok(());
    };
    if namespace == STORAGE {
        return if STORAGE_NAMES.contains(&rest) { Ok(()) } else { Err(unknown()) };
    }
    if let Some(group) = namespace.strip_prefix("resources") {
        let number = value.parse::<u64>().is_ok();
        return match is_group(group) && is_class(rest) && number {
            true => Ok(()),
            false => Err(unknown()),
        };
    }
    if let Some(group) = namespace.strip_prefix("trait") {
        return match is_group(group) && is_class(rest) && ["required", "forbidden"].contains(&value) {
            true => Ok(()),
            false => Err(unknown()),
        };
    }
    match KNOWN.iter().find(|(known, _)| *known == namespace) {
        None => Ok(()),
        Some((_, names)) => {
            // `hw:numa_cpus.0`, `hw:numa_mem.1`
            let numbered = rest.split_once('.').is_some_and(|(name, number)| {
                ["numa_cpus", "numa_mem"].contains(&name) && number.parse::<u16>().is_ok()
            });
            match names.contains(&rest) || (namespace == "hw" && numbered) {
                true => Ok(()),
                false => Err(unknown()),
            }
        }
    }
}

/// The suffix of a granular group: none, a number, or a name with its underscore.
fn is_group(suffix: &str) -> bool {
    suffix.len() <= 64 && suffix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn is_class(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_known_namespaces_are_checked() {
        let check = |name: &str, value: &str, good: bool| {
            assert_eq!(check_meaning(name, value).is_ok(), good, "{name}={value}");
        };
        check("hw:cpu_policy", "dedicated", true);
        check("hw:numa_cpus.0", "0,1", true);
        check("hw:numa_cpu.0", "0", false);
        check("hw:foo", "1", false);
        check("storage:tier", "ssd", true);
        check("storage:teir", "ssd", false);
        check("resources:CUSTOM_GPU", "1", true);
        check("resources1:VCPU", "2", true);
        check("resources:VCPU", "two", false);
        check("trait:HW_CPU_X86_AVX", "required", true);
        check("trait:HW_CPU_X86_AVX", "wanted", false);
        check("mycompany:anything", "x", true);
        check("plain", "x", true);
    }
}
