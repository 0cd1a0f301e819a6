//! Which crate may use which, and what only one crate may use.
//!
//! The table below is ARCHITECTURE.md's, as data. Cargo alone would let any crate reach for any other; the rules matter
//! most where that would be the easy way: SQL in a handler, a database in what runs on a host.

use toml::{Table, Value};

use crate::Finding;
use crate::source::Source;
use crate::tree::Tree;

/// Which of our crates a crate may use.
struct Row {
    name: &'static str,
    may_use: MayUse,
}

enum MayUse {
    Only(&'static [&'static str]),
    /// Whatever stands in a row before.
    AllBelow,
}

const fn row(name: &'static str, may_use: &'static [&'static str]) -> Row {
    Row { name, may_use: MayUse::Only(may_use) }
}

const fn assembly(name: &'static str) -> Row {
    Row { name, may_use: MayUse::AllBelow }
}

/// What a crate may use; none if it has no row.
fn row_of(krate: &str) -> Option<Vec<&'static str>> {
    let at = ROWS.iter().position(|row| row.name == krate)?;
    Some(match ROWS[at].may_use {
        MayUse::Only(names) => names.to_vec(),
        MayUse::AllBelow => ROWS[..at].iter().map(|row| row.name).collect(),
    })
}

/// What every service may use: the vocabulary and the plumbing.
const SERVICE: &[&str] = &["core", "api", "db", "bus", "auth", "http", "client", "workflow", "driver"];

/// Crates by layer, lowest first. A crate that is not here may not exist: give it a row, and ARCHITECTURE.md a line.
const ROWS: &[Row] = &[
    row("core", &[]),
    row("api", &["core"]),
    row("db", &["core"]),
    row("bus", &["core"]),
    row("auth", &["core", "api"]),
    row("http", &["core", "api", "auth"]),
    row("client", &["core", "api"]),
    row("workflow", &["core", "db"]),
    row("driver", &["core"]),
    row("scheduler", &["core"]),
    row("identity", SERVICE),
    row("image", SERVICE),
    row("volume", SERVICE),
    row("placement", &["core", "api", "db", "auth", "http"]),
    row("compute", &["core", "api", "db", "bus", "auth", "http", "client", "workflow", "driver", "placement"]),
    row("conductor", &["core", "bus", "db", "client", "workflow", "scheduler", "placement", "compute"]),
    row("agent", &["core", "bus", "driver", "client"]),
    row("driver-qemu", &["core", "driver"]),
    row("driver-ceph", &["core", "driver"]),
    assembly("umbel"),
    assembly("testkit"),
    assembly("e2e"),
    row("xtask", &[]),
];

/// What tests may use beyond their crate's row: the kit, which starts a whole cloud in the test.
const TESTS_MAY_USE: &[&str] = &["testkit"];

/// What the tests of one crate may use besides: the conductor's run with real agents on simulated hosts, for a stand-in
/// would agree with it by construction; those of http take certificates from the bus's authority.
const ITS_TESTS_MAY_USE: &[(&str, &[&str])] = &[("conductor", &["agent", "driver"]), ("http", &["bus"])];

/// Foreign crates that one of ours wraps, so that nobody else need know them; `(foreign, ours)`.
const WRAPPED: &[(&str, &str)] =
    &[("sqlx", "db"), ("axum", "http"), ("libloading", "driver-ceph"), ("tonic", "bus"), ("rcgen", "bus")];

/// The one file that names concrete drivers, and the crates that are made to know everything.
const COMPOSE: &str = "crates/umbel/src/compose.rs";
const KNOW_ALL: &[&str] = &["testkit", "e2e", "xtask"];

/// Names of concrete drivers, each with the crate that defines it.
const CONCRETE: &[(&str, &str)] = &[
    ("umbel_driver_ceph", "driver-ceph"),
    ("umbel_driver_qemu", "driver-qemu"),
    ("LocalPool", "driver"),
    ("SimulatedPool", "driver"),
    ("SimulatedHypervisor", "driver"),
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.crates() {
        let path = format!("crates/{name}/Cargo.toml");
        match tree.get(&path).unwrap_or_default().parse::<Table>() {
            Ok(manifest) => check_manifest(name, &path, &manifest, &mut findings),
            Err(error) => findings.push(Finding::new(&path, 0, format!("is no valid TOML: {}", error.message()))),
        }
    }
    for (path, text) in tree.with_extension(&["rs"]) {
        check_concrete(path, text, &mut findings);
    }
    findings
}

/// One entry of a dependency table.
struct Dependency<'a> {
    name: &'a str,
    value: &'a Value,
    for_tests: bool,
}

fn check_manifest(krate: &str, path: &str, manifest: &Table, findings: &mut Vec<Finding>) {
    let mut object = |message: String| findings.push(Finding::new(path, 0, message));
    let row = row_of(krate);
    if row.is_none() {
        object(format!("crate {krate} has no row in the table of crates/xtask/src/layers.rs"));
    }
    for dependency in dependencies(manifest) {
        let name = dependency.name;
        if !from_workspace(dependency.value) {
            object(format!(
                "{name}: write `{name}.workspace = true`; versions and features stand in the root Cargo.toml"
            ));
        }
        if let Some((_, owner)) = WRAPPED.iter().find(|(foreign, owner)| *foreign == name && *owner != krate) {
            object(format!("{name} is for crate {owner} alone; use what {owner} offers"));
        }
        let (Some(ours), Some(may_use)) = (our_crate(name), &row) else { continue };
        let its_own = ITS_TESTS_MAY_USE.iter().any(|(name, uses)| *name == krate && uses.contains(&ours));
        let in_tests = dependency.for_tests && (its_own || TESTS_MAY_USE.contains(&ours));
        let allowed = may_use.contains(&ours) || in_tests;
        if !allowed && ours != krate {
            object(format!("crate {krate} may not use {ours}; it may use: {}", list(may_use)));
        }
    }
}

/// All dependency tables, those of targets too.
fn dependencies(manifest: &Table) -> Vec<Dependency<'_>> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let mut found = Vec::new();
    for table in tables {
        for (key, for_tests) in [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)] {
            let entries = table.get(key).and_then(Value::as_table).into_iter().flatten();
            found.extend(entries.map(|(name, value)| Dependency { name, value, for_tests }));
        }
    }
    found
}

/// `x.workspace = true` and no features of its own: else a build of one package and one of all would differ.
fn from_workspace(value: &Value) -> bool {
    let is = |key: &str| value.get(key).and_then(Value::as_bool);
    is("workspace") == Some(true) && value.get("features").is_none() && is("default-features").is_none()
}

/// The folder of one of our crates by its package name.
fn our_crate(package: &str) -> Option<&str> {
    let folder = package.strip_prefix("umbel-").unwrap_or(package);
    let is_ours = package.starts_with("umbel-") || ["umbel", "testkit", "e2e", "xtask"].contains(&package);
    is_ours.then_some(folder)
}

fn check_concrete(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let Some(krate) = path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()) else { return };
    if path == COMPOSE || KNOW_ALL.contains(&krate) {
        return;
    }
    let source = Source::of(path, text);
    for (name, _) in CONCRETE.iter().filter(|(_, owner)| *owner != krate) {
        for line in source.lines_with(name).filter(|line| !source.is_test(*line)) {
            findings.push(Finding::new(path, line, format!("{name} may be named only in {COMPOSE}: take the trait")));
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none of ours".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings for one crate's manifest, given its dependency tables.
    fn findings(krate: &str, tables: &str) -> Vec<String> {
        let path = format!("crates/{krate}/Cargo.toml");
        check(&Tree::of(&[(&path, tables)])).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn rows_are_kept() {
        let dep = |name: &str| format!("[dependencies]\n{name}.workspace = true");
        let dev = |name: &str| format!("[dev-dependencies]\n{name}.workspace = true");
        for (krate, tables, expected) in [
            ("api", dep("umbel-core"), None),
            ("agent", dep("umbel-db"), Some("crate agent may not use db")),
            ("agent", dep("umbel-http"), Some("crate agent may not use http")),
            ("agent", dev("umbel-db"), Some("crate agent may not use db")),
            ("agent", dev("umbel-testkit"), None),
            ("agent", dep("umbel-testkit"), Some("crate agent may not use testkit")),
            (
                "agent",
                "[target.'cfg(unix)'.dependencies]\numbel-db.workspace = true".to_owned(),
                Some("may not use db"),
            ),
            ("core", "[build-dependencies]\numbel-api.workspace = true".to_owned(), Some("it may use: none of ours")),
            ("compute", dep("sqlx"), Some("sqlx is for crate db alone")),
            ("compute", dev("axum"), Some("axum is for crate http alone")),
            ("db", dep("sqlx"), None),
            ("db", "[dependencies]\nsqlx = \"0.9\"".to_owned(), Some("write `sqlx.workspace = true`")),
            (
                "db",
                "[dependencies]\nuuid = { workspace = true, features = [\"v7\"] }".to_owned(),
                Some("root Cargo.toml"),
            ),
            ("nobody", String::new(), Some("has no row")),
            ("db", "[dependencies".to_owned(), Some("is no valid TOML")),
        ] {
            let found = findings(krate, &tables);
            match expected {
                None => assert!(found.is_empty(), "{krate}: {tables}: {found:?}"),
                Some(expected) => assert!(found.iter().any(|f| f.contains(expected)), "{krate}: {tables}: {found:?}"),
            }
        }
    }

    #[test]
    fn drivers_are_named_in_one_file() {
        let text = "use umbel_driver_ceph::RbdPool;\n";
        for (path, expected) in [
            ("crates/conductor/src/lib.rs", 1),
            ("crates/umbel/src/main.rs", 1),
            ("crates/umbel/src/compose.rs", 0),
            ("crates/umbel/tests/it/main.rs", 0),
            ("crates/testkit/src/lib.rs", 0),
            ("crates/driver-ceph/tests/it/main.rs", 0),
        ] {
            assert_eq!(check(&Tree::of(&[(path, text)])).len(), expected, "{path}");
        }
    }

    /// A row allows only what stands below it, so the table can hold no circle.
    #[test]
    fn rows_look_down_only() {
        for (at, row) in ROWS.iter().enumerate() {
            for used in row_of(row.name).unwrap() {
                let below = ROWS[..at].iter().any(|lower| lower.name == used);
                assert!(below, "{} may use {used}, which does not stand below it", row.name);
            }
        }
    }

    /// What runs on a host reaches neither SQL nor an HTTP server, by no detour either.
    #[test]
    fn an_agent_reaches_no_database() {
        let mut reached = vec!["agent"];
        let mut at = 0;
        while let Some(name) = reached.get(at) {
            let used = row_of(name).unwrap();
            reached.extend(used.into_iter().filter(|used| !reached.contains(used)).collect::<Vec<_>>());
            at += 1;
        }
        assert!(!reached.contains(&"db") && !reached.contains(&"http"), "{reached:?}");
    }

    /// A name that was changed where it is defined would make its rule silent.
    #[test]
    fn the_concrete_names_exist() {
        let tree = Tree::read(std::path::Path::new(crate::tree::ROOT)).unwrap();
        for (name, owner) in CONCRETE.iter().filter(|(name, _)| !name.starts_with("umbel_")) {
            let definition = format!("pub struct {name}");
            let prefix = format!("crates/{owner}/src/");
            let defined = tree.files().any(|(path, text)| path.starts_with(&prefix) && text.contains(&definition));
            assert!(defined, "crate {owner} defines no `{definition}`: correct the list of concrete drivers");
        }
    }
}
