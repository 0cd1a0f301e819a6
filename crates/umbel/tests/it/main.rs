//! The command line. (Also what makes cargo build the binary for the whole-system tests.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

fn umbel(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_umbel")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_version_is_told() {
    let (good, told, _) = umbel(&["version"]);
    assert!(good);
    assert_eq!(told.trim(), format!("umbel {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_configuration_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("umbel.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "regoin = 'x'\n").unwrap();
    let (good, _, error) = umbel(&["config", "check", "--config", path]);
    assert!(good && error.contains("'regoin' means nothing here"), "{error}");
    std::fs::write(&file, "[listen]\nport = 'many'\n").unwrap();
    let (good, _, error) = umbel(&["config", "check", "--config", path]);
    assert!(!good && error.contains("port"), "{error}");
}

#[test]
fn once_without_demo_is_refused() {
    assert!(!umbel(&["up", "--once"]).0);
}
