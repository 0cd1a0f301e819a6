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
fn rules_that_cannot_be_kept_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("umbel.toml");
    let check = |text: &str, want: &str| {
        std::fs::write(&file, text).unwrap();
        let (good, _, error) = umbel(&["config", "check", "--config", file.to_str().unwrap()]);
        assert!(!good && error.contains(want), "{text}: {error}");
    };
    check("[identity.security_compliance]\npassword_regex = '('\n", "password_regex '(' cannot be used");
    check("[listen]\ntls_cert = '/x'\n", "listen.tls_cert and listen.tls_key go together");
}

#[test]
fn certificates_are_listed_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (state, host) = (at("state"), at("host"));
    let cert = |args: &[&str]| {
        let all = [&["cert"], args, &["--dir", &state]].concat();
        let (good, told, error) = umbel(&all);
        assert!(good, "{error}");
        told
    };
    cert(&["control"]);
    cert(&["agent", "node1", "--cell", "cell1", "--out", &host]);
    let listed = cert(&["list"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(!listed.contains("revoked"), "{listed}");
    assert!(cert(&["revoke", "cell1/node1"]).contains("cell1/node1 is revoked"));
    let lines: Vec<String> = cert(&["list"]).lines().map(str::to_owned).collect();
    assert!(!lines[0].contains("revoked") && lines[1].contains("cell1/node1  revoked"), "{lines:?}");
    // Where the process of this directory reads it, and with what is handed out from now on.
    let list = std::fs::read_to_string(dir.path().join("state/keys/bus/revoked")).unwrap();
    assert!(lines[1].starts_with(list.split(' ').next().unwrap()), "{list}");
    cert(&["agent", "node1", "--cell", "cell1", "--out", &host]);
    assert_eq!(std::fs::read_to_string(dir.path().join("host/revoked")).unwrap(), list);
    let file = dir.path().join("host/cert.pem");
    assert!(cert(&["revoke", file.to_str().unwrap()]).contains("cell1/node1 is revoked"));
    assert!(!umbel(&["cert", "revoke", "node9", "--dir", &state]).0);
}

#[test]
fn once_without_demo_is_refused() {
    assert!(!umbel(&["up", "--once"]).0);
}
