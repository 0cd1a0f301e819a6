//! Checks of the source tree that no compiler makes, run by `cargo xtask`, by `make check` and as tests of this crate.
//!
//! Each check is a pure function from text to findings, so that its tests can show it bad input and see it complain; only
//! [`tree`] reads files. Refused: a shell script of greps (nobody tests those), and a parser such as `syn` (half a
//! minute of compiling for questions that a view of the source without comments and strings answers).

mod docs_links;
mod layers;
mod source;
mod tidy;
mod tree;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use tree::Tree;

/// Something a check objects to: where (relative to the root), and one sentence that says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    /// `line` counts from 1; 0 means the file as a whole.
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Finding { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: [(&str, Check); 3] =
    [("layers", layers::check), ("tidy", tidy::check), ("docs-links", docs_links::check)];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| CHECKS.iter().any(|(check, _)| check == name);
    if wanted.is_empty() || !wanted.iter().all(|name| known(name) || name == "all") {
        eprintln!("use: cargo xtask all | layers | tidy | docs-links");
        return ExitCode::from(2);
    }
    let tree = match Tree::read(Path::new(tree::ROOT)) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("xtask: the source tree cannot be read: {error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for (name, check) in CHECKS {
        if !wanted.iter().any(|w| w == name || w == "all") {
            continue;
        }
        let mut findings = check(&tree);
        findings.sort();
        for finding in &findings {
            println!("{finding}");
        }
        println!(
            "{name}: {}",
            if findings.is_empty() { "ok".to_owned() } else { format!("{} findings", findings.len()) }
        );
        failed |= !findings.is_empty();
    }
    ExitCode::from(u8::from(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_clean(check: Check) {
        let tree = Tree::read(Path::new(tree::ROOT)).unwrap();
        let findings: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn this_tree_keeps_its_layers() {
        assert_clean(layers::check);
    }

    #[test]
    fn this_tree_is_tidy() {
        assert_clean(tidy::check);
    }

    #[test]
    fn links_in_this_tree_lead_somewhere() {
        assert_clean(docs_links::check);
    }
}
