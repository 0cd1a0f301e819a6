use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use umbel_core::{Error, Kind, Result};
use umbel_driver::HostFacts;

/// What executes the guests' instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: works anywhere, a tenth of the speed.
    Tcg,
}

impl Accelerator {
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// Looks at the host and asks QEMU for its version; fails if there is no QEMU.
pub(crate) fn facts(binary: &Path, wanted: Option<Accelerator>) -> Result<(HostFacts, Accelerator)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let (accelerator, reason) = match wanted {
        Some(wanted) => (wanted, "The configuration says so.".to_owned()),
        None => choose(kvm_opens(), &cpuinfo),
    };
    let facts = HostFacts {
        hypervisor_type: "QEMU".to_owned(),
        hypervisor_version: version(binary)?,
        accelerator: accelerator.name().to_owned(),
        accelerator_reason: reason,
        vcpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_mib: memory_mib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        cpu_arch: std::env::consts::ARCH.to_owned(),
        cpu_model: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
    };
    Ok((facts, accelerator))
}

fn kvm_opens() -> Result<(), String> {
    let opened = fs::File::options().read(true).write(true).open("/dev/kvm");
    opened.map(drop).map_err(|error| error.to_string())
}

/// KVM where its device opens **and** the processor says it virtualizes: nested under some hypervisors the device exists
/// without the processor's help, and guests that use it crash.
fn choose(kvm_opens: Result<(), String>, cpuinfo: &str) -> (Accelerator, String) {
    if let Err(error) = kvm_opens {
        return (Accelerator::Tcg, format!("Emulated, because /dev/kvm does not open: {error}."));
    }
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    let Some(flag) = flags.split(' ').find(|flag| matches!(*flag, "vmx" | "svm")) else {
        let reason = "Emulated, because the processor has neither the flag vmx nor svm, though /dev/kvm opens.";
        return (Accelerator::Tcg, reason.to_owned());
    };
    (Accelerator::Kvm, format!("/dev/kvm opens and the processor has the flag {flag}."))
}

/// The first value of a name in a file of `name : value` lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn memory_mib(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal").and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn version(binary: &Path) -> Result<u64> {
    let missing = |cause: String| {
        let text = format!("{} cannot be run; on Debian: apt-get install qemu-system-x86.", binary.display());
        Error::new(Kind::Unavailable, text).because(cause)
    };
    let output = Command::new(binary).arg("--version").output().map_err(|error| missing(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| missing(format!("--version says '{}'", text.trim())))
}

/// `QEMU emulator version 7.2.22 (Debian ...)`: 7,002,022.
fn parse_version(text: &str) -> Option<u64> {
    let numbers = text.split_once("version ")?.1.split([' ', '\n']).next()?;
    let mut parts = numbers.split('.').map(u64::from_str);
    let mut next = || parts.next().and_then(Result::ok);
    Some(next()? * 1_000_000 + next()? * 1_000 + next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_its_device_and_the_processor() {
        let check = |opens: Result<(), String>, cpuinfo: &str, want: Accelerator, says: &str| {
            let (accelerator, reason) = choose(opens, cpuinfo);
            assert_eq!(accelerator, want, "{reason}");
            assert!(reason.contains(says), "{reason}");
        };
        check(Ok(()), "flags\t\t: fpu vmx sse", Accelerator::Kvm, "vmx");
        check(Ok(()), "flags\t\t: fpu svm", Accelerator::Kvm, "svm");
        check(Ok(()), "flags\t\t: fpu svm_lock vmxoff", Accelerator::Tcg, "neither");
        check(Ok(()), "", Accelerator::Tcg, "neither");
        check(Err("No such file".into()), "flags\t\t: vmx", Accelerator::Tcg, "No such file");
    }

    #[test]
    fn what_the_kernel_and_qemu_say() {
        assert_eq!(memory_mib("MemTotal:       24600000 kB\nMemFree: 1 kB\n"), 24_023);
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"), Some(7_002_022));
        assert_eq!(parse_version("QEMU emulator version 10.1\n"), Some(10_001_000));
        assert_eq!(parse_version("bash: no"), None);
    }
}
