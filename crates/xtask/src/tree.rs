//! The source tree as texts by path: the only file reading of this crate.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Folders that hold nothing we wrote.
const SKIPPED: [&str; 6] = [".git", ".umbel", ".venv", ".venv-tempest", "target", "node_modules"];

/// Every file of the tree that is text, by its path relative to the root, with `/` between the parts.
///
/// Walked rather than asked of git: the checks also hold for files not committed yet, and in an unpacked archive.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut tree = Tree::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file()
                && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
            {
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose name ends in `.` and one of these.
    pub fn with_extension<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(move |(path, _)| path.rsplit_once('.').is_some_and(|(_, end)| extensions.contains(&end)))
    }

    /// Does a file of this path exist, or a folder that has files?
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.files.contains_key(path) || {
            let folder = format!("{path}/");
            self.files.range(folder.clone()..).next().is_some_and(|(first, _)| first.starts_with(&folder))
        }
    }

    /// The folders below `crates/`, which are the crates' names.
    pub fn crates(&self) -> Vec<&str> {
        self.files
            .keys()
            .filter_map(|path| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
            .filter(|name| !name.contains('/'))
            .collect()
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_file() {
        let tree = Tree::read(Path::new(ROOT)).unwrap();
        assert_eq!(tree.get("crates/xtask/src/tree.rs"), Some(include_str!("tree.rs")));
        assert!(tree.crates().contains(&"xtask"));
        assert!(!tree.exists("target"));
    }

    #[test]
    fn folders_exist_when_they_hold_files() {
        let tree = Tree::of(&[("crates/db/src/lib.rs", ""), ("crates/dbx/Cargo.toml", "")]);
        for (path, expected) in
            [("crates/db", true), ("crates/db/src/", true), ("crates/d", false), ("crates/dby", false)]
        {
            assert_eq!(tree.exists(path), expected, "{path}");
        }
        assert_eq!(tree.crates(), ["dbx"]);
    }
}
