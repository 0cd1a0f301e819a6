//! The habits of this code base that neither rustfmt nor clippy knows. (Functions over 100 lines and `unwrap` outside
//! tests are clippy's: see clippy.toml and the workspace's lints.)

use toml::{Table, Value};

use crate::Finding;
use crate::source::Source;
use crate::tree::Tree;

/// Lines of a Rust file, tests aside. Files of 400 read well; whoever nears this has two subjects in one file.
const MAX_LINES: usize = 800;

/// In all crates together: a macro is a language that readers must learn first.
const MAX_MACROS: usize = 5;

/// Files whose blanks, tabs and words are checked.
const TEXTS: &[&str] = &["rs", "toml", "md", "sh", "cnf", "txt", "yaml", "yml", "json", "py"];

/// Promises to do something later belong in an issue; what is in the tree works.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX"];

/// Paths of one person's machine, and the names of tools that wrote a text: noise to every reader. (In halves, so that this
/// list does not find itself.)
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("Clau", "de"),
    concat!("Anthro", "pic"),
    concat!("Chat", "GPT"),
    concat!("Open", "AI"),
    concat!("Copi", "lot"),
    concat!("AI assis", "tant"),
    concat!("language ", "model"),
];

/// Lints that keep panics out of the product; a file may lift them only where a panic is what a caller wants.
const PANIC_LINTS: &[&str] = &["clippy::unwrap_used", "clippy::expect_used", "clippy::panic"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut macros = Vec::new();
    for (path, text) in tree.with_extension(TEXTS) {
        check_blanks(path, text, &mut findings);
        check_words(path, text, &mut findings);
    }
    for (path, text) in tree.with_extension(&["rs"]) {
        let source = Source::of(path, text);
        check_rust(path, &source, &mut findings);
        macros.extend(source.lines_with("macro_rules!").map(|line| (path, line)));
    }
    for (path, line) in macros.iter().skip(MAX_MACROS) {
        let message = format!("macro number {} of at most {MAX_MACROS}: write a function", macros.len());
        findings.push(Finding::new(*path, *line, message));
    }
    for name in tree.crates() {
        let path = format!("crates/{name}/Cargo.toml");
        if !takes_lints(tree.get(&path).unwrap_or_default()) {
            findings.push(Finding::new(path, 0, "add `[lints]` with `workspace = true`"));
        }
    }
    findings
}

fn check_blanks(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut object = |line: usize, message: &str| findings.push(Finding::new(path, line, message));
    for (at, line) in text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            object(at + 1, "blank at the end of the line");
        }
        if line.contains('\t') {
            object(at + 1, "tab: indent with spaces");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        object(0, "the last line has no end");
    }
}

fn check_words(path: &str, text: &str, findings: &mut Vec<Finding>) {
    // This file must be able to name what it forbids.
    let unfinished = if path == "crates/xtask/src/tidy.rs" { &[] } else { UNFINISHED };
    for (at, line) in text.lines().enumerate() {
        for word in unfinished.iter().filter(|word| has_mark(line, word)) {
            findings.push(Finding::new(path, at + 1, format!("{word}: finish it, or open an issue")));
        }
        for word in FOREIGN.iter().filter(|word| line.contains(**word)) {
            findings.push(Finding::new(path, at + 1, format!("`{word}` says nothing to a reader of this project")));
        }
    }
}

/// Is the mark there as a word? `mktemp x.XXXXXX` holds no `XXX`.
fn has_mark(line: &str, mark: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark)
}

fn check_rust(path: &str, source: &Source, findings: &mut Vec<Finding>) {
    let mut object = |line: usize, message: String| findings.push(Finding::new(path, line, message));
    let lines = source.lines_of_code();
    if lines > MAX_LINES {
        object(0, format!("{lines} lines without tests, more than {MAX_LINES}: split it by subject"));
    }
    for line in source.lines_with("#[ignore") {
        object(line, "a test that does not run proves nothing: repair or delete it".to_owned());
    }
    if !is_ffi(path) {
        for line in source.lines_with("unsafe") {
            object(line, "unsafe belongs in a file ffi.rs or a folder ffi".to_owned());
        }
    }
    if path.contains("/tests/") {
        for word in ["thread::sleep", "time::sleep"] {
            for line in source.lines_with(word).filter(|line| !in_eventually(source, *line)) {
                object(line, "no sleeping in tests: ask `eventually`, which looks again until a deadline".to_owned());
            }
        }
    }
    for (at, code) in source.lines.iter().enumerate() {
        let lifts = code.contains("allow(") && PANIC_LINTS.iter().any(|lint| code.contains(lint));
        if lifts && !code.contains("reason") && !source.is_test(at + 1) && !is_test_support(path) {
            object(at + 1, "lifting a panic lint outside tests needs a `reason = \"…\"`".to_owned());
        }
    }
}

/// The one helper that may sleep, between two looks at a condition: is this line (counted from 1) in it?
fn in_eventually(source: &Source, line: usize) -> bool {
    let heading = source.lines[..line].iter().rev().find(|code| code.contains("fn ") && code.contains('('));
    heading.is_some_and(|code| code.contains("fn eventually"))
}

fn is_ffi(path: &str) -> bool {
    path.ends_with("/ffi.rs") || path.contains("/ffi/")
}

/// Code that only tests call, although it stands in `src/`: a panic there is a failed test.
fn is_test_support(path: &str) -> bool {
    let named = |name: &str| path.contains(&format!("/{name}.rs")) || path.contains(&format!("/{name}/"));
    named("testing") || named("conformance") || path.starts_with("crates/testkit/")
}

fn takes_lints(manifest: &str) -> bool {
    let lints = manifest.parse::<Table>().ok().and_then(|manifest| manifest.get("lints").cloned());
    lints.and_then(|lints| lints.get("workspace").and_then(Value::as_bool)) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[track_caller]
    fn objects(path: &str, text: &str, expected: &str) {
        let found = findings(path, text);
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {found:?}");
    }

    #[track_caller]
    fn accepts(path: &str, text: &str) {
        assert_eq!(findings(path, text), Vec::<String>::new(), "{path}");
    }

    const LIB: &str = "crates/db/src/lib.rs";
    const TEST: &str = "crates/db/tests/it/main.rs";

    #[test]
    fn long_files() {
        let long = "fn a() {}\n".repeat(801);
        objects(LIB, &long, "801 lines without tests");
        accepts(TEST, &long);
        accepts(LIB, &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"));
    }

    #[test]
    fn blanks() {
        objects(LIB, "fn a() {} \n", ":1: blank at the end");
        objects("README.md", "a\n\tb\n", ":2: tab");
        objects("scripts/a.sh", "a", "the last line has no end");
        accepts("Makefile", "run:\n\tcargo run\n");
    }

    #[test]
    fn words() {
        objects(LIB, "// TODO later\n", "TODO: finish it");
        accepts("scripts/a.sh", "mktemp -d /tmp/a.XXXXXX\n");
        objects("docs/a.md", concat!("see /wo", "rk/a\n"), "says nothing to a reader");
        objects(LIB, concat!("// by Clau", "de\n"), "says nothing to a reader");
    }

    #[test]
    fn tests_that_do_not_run_or_that_sleep() {
        objects(TEST, "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n", ":2: a test that does not run");
        objects(TEST, "fn a() { std::thread::sleep(d) }\n", "no sleeping");
        objects(TEST, "fn a() { tokio::time::sleep(d).await }\n", "no sleeping");
        objects(TEST, "async fn eventually() {}\nfn b() {\n  sleep::c(time::sleep(d))\n}\n", ":3: no sleeping");
        accepts(TEST, "async fn eventually() {\n  while !what() {\n    tokio::time::sleep(d).await\n  }\n}\n");
        accepts(LIB, "fn a() { tokio::time::sleep(d).await }\n");
        accepts(TEST, "// thread::sleep is forbidden here\n");
    }

    #[test]
    fn unsafe_code() {
        objects(LIB, "fn a() { unsafe { b() } }\n", "unsafe belongs in");
        accepts("crates/driver-ceph/src/ffi.rs", "fn a() { unsafe { b() } }\n");
        accepts("crates/driver-ceph/src/ffi/rados.rs", "fn a() { unsafe { b() } }\n");
        accepts(LIB, "#![forbid(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe\";\n");
    }

    #[test]
    fn panic_lints() {
        objects(LIB, "#[allow(clippy::unwrap_used)]\nfn a() {}\n", "needs a `reason");
        accepts(LIB, "#[allow(clippy::unwrap_used, reason = \"checked above\")]\nfn a() {}\n");
        accepts("crates/db/src/testing.rs", "#![allow(clippy::expect_used)]\n");
        accepts(LIB, "#[allow(clippy::too_many_arguments)]\nfn a() {}\n");
    }

    #[test]
    fn macros_are_counted_over_all_files() {
        let one = "macro_rules! a { () => {} }\n";
        accepts(LIB, &one.repeat(5));
        let found = check(&Tree::of(&[(LIB, &one.repeat(4)), ("crates/http/src/lib.rs", &one.repeat(2))]));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn crates_take_the_workspace_lints() {
        objects("crates/db/Cargo.toml", "[package]\nname = \"umbel-db\"\n", "[lints]");
        accepts("crates/db/Cargo.toml", "[lints]\nworkspace = true\n");
    }
}
