//! How names of disks, snapshots and layers are written in the file system.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use umbel_core::{Error, Result};

use crate::DiskFormat;

/// All but what every file system and shell takes as it is.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// What file systems take in a name (255), less what is put around it.
const LONGEST: usize = 230;

pub(super) const LAYERS: &str = ".layers";
pub(super) const HIDDEN: &str = ".hidden";
pub(super) const CLONES: &str = ".clones";
pub(super) const HEAD: &str = "head";

/// A name as a file's. Never starts with a dot (those are the store's own) and holds no `@` and no `/`.
pub(super) fn encode(name: &str) -> Result<String> {
    let mut encoded = utf8_percent_encode(name, QUOTED).to_string();
    if encoded.starts_with('.') {
        encoded.replace_range(..1, "%2E");
    }
    if encoded.is_empty() || encoded.len() > LONGEST {
        return Err(Error::bad_request(format!("'{name}' cannot be the name of a disk: it is empty or too long.")));
    }
    Ok(encoded)
}

/// `None` for what [`encode`] does not write.
pub(super) fn decode(file: &str) -> Option<String> {
    let name = percent_decode_str(file).decode_utf8().ok()?;
    (encode(&name).ok()? == file).then(|| name.into_owned())
}

/// The file that names a snapshot in its disk's directory.
pub(super) fn snapshot_link(snapshot: &str) -> Result<String> {
    Ok(format!("@{}", encode(snapshot)?))
}

pub(super) fn snapshot_of_link(file: &str) -> Option<String> {
    decode(file.strip_prefix('@')?)
}

/// One file of data: `<root>/<pool>/.layers/<number>.<format>`. The number grows with every layer made, and the format
/// is part of the name because it is never guessed from content, which a guest has written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layer {
    /// As its directory is called: encoded.
    pub pool: String,
    pub number: u64,
    pub format: DiskFormat,
}

impl Layer {
    pub fn file(&self) -> String {
        match self.format {
            DiskFormat::Raw => format!("{}.raw", self.number),
            DiskFormat::Qcow2 => format!("{}.qcow2", self.number),
        }
    }

    pub fn parse(pool: &str, file: &str) -> Option<Layer> {
        let (number, format) = file.split_once('.')?;
        let format = match format {
            "raw" => DiskFormat::Raw,
            "qcow2" => DiskFormat::Qcow2,
            _ => return None,
        };
        let layer = Layer { pool: pool.to_owned(), number: number.parse().ok()?, format };
        (layer.file() == file).then_some(layer)
    }

    /// How links and headers name it. Right from every directory two below the root: those of layers and those of
    /// disks. So a store can be moved, and a disk be opened by its link as well as by its layer.
    pub fn reference(&self) -> String {
        format!("../../{}/{LAYERS}/{}", self.pool, self.file())
    }

    /// Strict: a reference in a damaged header leads nowhere but to layers.
    pub fn parse_reference(reference: &str) -> Option<Layer> {
        let (pool, file) = reference.strip_prefix("../../")?.split_once(&format!("/{LAYERS}/"))?;
        decode(pool)?;
        Layer::parse(pool, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_stay_inside() {
        for name in ["a", "6f1c3a52_disk", "..", ".layers", "a/b", "50%", "%2E", "ä ö", "a@b", "new\nline"] {
            let file = encode(name).unwrap();
            assert!(!file.starts_with('.') && !file.contains(['/', '@', '\n']), "{file}");
            assert_eq!(decode(&file).as_deref(), Some(name));
        }
        assert!(encode("").is_err());
        assert!(encode(&"x".repeat(300)).is_err());
        for foreign in [".x", "a%2e", "a b", "lost+found"] {
            assert_eq!(decode(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn references_lead_to_layers_only() {
        let layer = Layer { pool: "images".into(), number: 17, format: DiskFormat::Raw };
        assert_eq!(layer.reference(), "../../images/.layers/17.raw");
        assert_eq!(Layer::parse_reference(&layer.reference()), Some(layer));
        for bad in [
            "17.raw",
            "/etc/passwd",
            "../../../etc/.layers/1.raw",
            "../../images/.layers/../../../etc/passwd",
            "../../images/.layers/017.raw",
            "../../images/.layers/1.vmdk",
            "../../../.layers/1.raw",
            "json:{}",
        ] {
            assert_eq!(Layer::parse_reference(bad), None, "{bad}");
        }
    }
}
