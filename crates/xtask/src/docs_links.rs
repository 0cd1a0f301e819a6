//! Documents that lead nowhere: links, anchors, and paths named in `code` that are not in the tree.

use crate::Finding;
use crate::tree::Tree;

/// Folders whose paths, when a document names one in `code`, must exist.
const NAMED: &[&str] = &["crates/", "scripts/", "bench/", "docs/", ".ci/", ".config/", ".cargo/"];

/// The page that must mention every crate.
const MAP: &str = "ARCHITECTURE.md";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension(&["md"]) {
        for (line, prose) in prose_lines(text) {
            for target in links(&prose) {
                if let Some(message) = check_link(tree, path, &target) {
                    findings.push(Finding::new(path, line, message));
                }
            }
            for named in code_spans(&prose).filter(|span| names_path(span)) {
                if !tree.exists(named) {
                    findings.push(Finding::new(path, line, format!("`{named}` is not in the tree")));
                }
            }
        }
    }
    findings.extend(check_map(tree));
    findings
}

/// Every crate has a line in the map.
fn check_map(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.get(MAP) else { return vec![Finding::new(MAP, 0, "is missing")] };
    let unnamed = tree.crates().into_iter().filter(|name| !map.contains(&format!("`crates/{name}`")));
    unnamed.map(|name| Finding::new(MAP, 0, format!("has no line for `crates/{name}`"))).collect()
}

/// Lines outside fenced code, numbered from 1.
fn prose_lines(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        if !fenced && !is_fence {
            lines.push((at + 1, line.to_owned()));
        }
    }
    lines
}

/// Texts between single backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Is this span a path as it stands: of a folder we check, and no pattern or command line?
fn names_path(span: &str) -> bool {
    NAMED.iter().any(|folder| span.starts_with(folder))
        && !span.contains([' ', '*', '<', '{', '$', ':'])
        && !span.contains("NNNN")
}

/// Targets of `[text](target)` and `[name]: target`; what stands in backticks is no link.
fn links(line: &str) -> Vec<String> {
    let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let mut found: Vec<String> = outside
        .match_indices("](")
        .filter_map(|(at, _)| outside[at + 2..].split([')', ' ']).next())
        .map(str::to_owned)
        .collect();
    if let Some((name, target)) = outside.trim_start().split_once("]: ")
        && name.starts_with('[')
        && !name.starts_with("[^")
    {
        found.extend(target.split_whitespace().next().map(str::to_owned));
    }
    found
}

/// Why the link of this document leads nowhere.
fn check_link(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let Some(path) = resolve(from, file) else { return Some(format!("`{target}` leads out of the tree")) };
    if !tree.exists(&path) {
        return Some(format!("`{target}` leads to no file"));
    }
    let (anchor, text) = (anchor?, tree.get(&path)?);
    let known = path.ends_with(".md") && anchors(text).iter().any(|known| known == anchor);
    (!known).then(|| format!("`{target}` leads to no heading of {path}"))
}

/// The path that a relative link from a document names; none if it climbs out.
fn resolve(from: &str, file: &str) -> Option<String> {
    if file.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Anchors of a document's headings, made as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in prose_lines(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor_of(heading.trim());
        let same = found.iter().filter(|known| **known == anchor).count();
        found.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
    }
    found
}

fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: (&str, &str) = ("docs/ceph.md", "# Ceph: how\n\n## `caps` & keys\n\n## Same\n## Same\n");

    /// The findings for the text of `docs/a.md`.
    fn findings(text: &str) -> Vec<String> {
        let map = "`crates/db`";
        let tree = Tree::of(&[("docs/a.md", text), OTHER, (MAP, map), ("crates/db/Cargo.toml", "")]);
        check(&tree).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        for (text, expected) in [
            ("[a](ceph.md)", None),
            ("[a](../docs/ceph.md#ceph-how)", None),
            ("[a](ceph.md#caps--keys) and [b](ceph.md#same-1)", None),
            ("# Here\n[a](#here)", None),
            ("[a](https://example.org/nowhere)", None),
            ("[a]\n\n[a]: ceph.md", None),
            ("`[a](nowhere.md)`", None),
            ("```\n[a](nowhere.md)\n```", None),
            ("[a](../crates/db)", None),
            ("[a](nowhere.md)", Some("`nowhere.md` leads to no file")),
            ("[a]: nowhere.md", Some("`nowhere.md` leads to no file")),
            ("[a](../../out.md)", Some("`../../out.md` leads out of the tree")),
            ("[a](ceph.md#none)", Some("`ceph.md#none` leads to no heading of docs/ceph.md")),
            ("[a](#none)", Some("`#none` leads to no heading of docs/a.md")),
        ] {
            assert_eq!(findings(text), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn named_paths_exist() {
        for (text, expected) in [
            ("see `crates/db/Cargo.toml`", None),
            ("see `crates/<name>` and `scripts/*.sh` and `docs/adr/NNNN-x.md`", None),
            ("see `crates/none`", Some("`crates/none` is not in the tree")),
        ] {
            assert_eq!(findings(text), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn the_map_names_every_crate() {
        let tree = Tree::of(&[(MAP, "`crates/db`"), ("crates/db/Cargo.toml", ""), ("crates/bus/Cargo.toml", "")]);
        let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.message).collect();
        assert_eq!(found, ["has no line for `crates/bus`"]);
        assert_eq!(check(&Tree::default())[0].message, "is missing");
    }
}
