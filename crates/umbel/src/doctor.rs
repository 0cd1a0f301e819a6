//! `umbel doctor`: what is missing on this machine, and the command that mends it.

use std::path::Path;

use umbel_core::{Error, Result};

use crate::compose;
use crate::config::{Config, HypervisorKind};

pub struct Finding {
    pub good: bool,
    pub found: String,
    pub mend: String,
}

impl Finding {
    pub fn good(found: impl Into<String>) -> Self {
        Finding { good: true, found: found.into(), mend: String::new() }
    }

    pub fn bad(found: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { good: false, found: found.into(), mend: mend.into() }
    }
}

pub async fn run(config: &Config) -> Result<()> {
    let mut findings = Vec::new();
    if config.agent.hypervisor == HypervisorKind::Qemu {
        findings.push(program("qemu-system-x86_64", "qemu-system-x86", "guests cannot be started"));
        findings.push(kvm());
    }
    findings.extend(compose::look_at_storage(config).await);
    findings.extend(compose::look_at_databases(config).await);
    for finding in &findings {
        println!("{} {}", if finding.good { "ok  " } else { "BAD " }, finding.found);
        if !finding.mend.is_empty() {
            println!("       {}", finding.mend);
        }
    }
    match findings.iter().filter(|finding| !finding.good).count() {
        0 => Ok(()),
        bad => Err(Error::unavailable(format!("{bad} of {} checks failed", findings.len()))),
    }
}

fn program(name: &str, package: &str, without: &str) -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()) {
        Some(file) => Finding::good(format!("{name} is at {}.", file.display())),
        None => Finding::bad(
            format!("{name} is not installed: {without}."),
            format!("apt-get install --no-install-recommends {package}"),
        ),
    }
}

/// Never bad: without it guests are emulated, slower but the same.
fn kvm() -> Finding {
    let opens = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flag = flags.split_whitespace().any(|word| word == "vmx" || word == "svm");
    Finding::good(match (opens, flag, Path::new("/dev/kvm").exists()) {
        (true, true, _) => "KVM can be used.",
        (_, _, false) => "There is no /dev/kvm: guests are emulated (TCG).",
        (false, _, true) => "/dev/kvm cannot be opened by this user: guests are emulated (TCG).",
        (true, false, true) => "/dev/kvm opens, but the CPU has neither vmx nor svm: guests are emulated (TCG).",
    })
}
