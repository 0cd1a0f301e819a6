//! What a disk's name says of whose it is. A pool can be shared with others (another cloud, an operator's own images):
//! a name that is none of ours is never touched, whatever the databases say.

use uuid::Uuid;

/// The service whose database knows a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Noun {
    Image,
    Server,
    Volume,
}

impl Noun {
    pub const ALL: [Noun; 3] = [Noun::Image, Noun::Server, Noun::Volume];

    pub fn name(self) -> &'static str {
        match self {
            Noun::Image => "image",
            Noun::Server => "server",
            Noun::Volume => "volume",
        }
    }
}

/// Whose a disk of this name would be; `None` for a foreign one.
///
/// `<uuid>`, `<uuid>.raw` and `staging-<uuid>` are images', `<uuid>_disk` and `<uuid>_disk.<what>` servers',
/// `volume-<uuid>`, the chain of backups `volume-<uuid>.backup.<uuid>`, and for as long as a volume gets an image
/// `import-<uuid>`, `reimage-<uuid>` and `replaced-<uuid>` volumes'.
pub fn noun_of(disk: &str) -> Option<Noun> {
    if let Some(rest) = ["import-", "reimage-", "replaced-"].iter().find_map(|prefix| disk.strip_prefix(prefix)) {
        return split_uuid(rest)?.1.is_empty().then_some(Noun::Volume);
    }
    if let Some(rest) = disk.strip_prefix("volume-") {
        let (volume, rest) = split_uuid(rest)?;
        return (!volume.is_nil() && is_volume_rest(rest)).then_some(Noun::Volume);
    }
    if let Some(rest) = disk.strip_prefix("staging-") {
        return split_uuid(rest)?.1.is_empty().then_some(Noun::Image);
    }
    match split_uuid(disk)?.1 {
        "" | ".raw" => Some(Noun::Image),
        "_disk" => Some(Noun::Server),
        rest if rest.starts_with("_disk.") => Some(Noun::Server),
        _ => None,
    }
}

fn is_volume_rest(rest: &str) -> bool {
    rest.is_empty() || rest.strip_prefix(".backup.").and_then(split_uuid).is_some_and(|(_, rest)| rest.is_empty())
}

/// What stands before the id in the names of snapshots: users' own, those of backups, and those that flows make for a
/// while, of a volume's clone, alone or with its group, its upload, its move to another pool, and of a server's image.
const SNAPSHOTS: [&str; 7] = ["snapshot-", "backup.", "clone-", "group-", "upload-", "migrate-", "image-"];

/// Whether a snapshot of this name is of our making: `snap` of images, or one of [`SNAPSHOTS`] with an id.
pub fn is_our_snapshot(snapshot: &str) -> bool {
    let after = SNAPSHOTS.iter().find_map(|prefix| snapshot.strip_prefix(prefix));
    snapshot == "snap" || after.and_then(split_uuid).is_some_and(|(_, rest)| rest.is_empty())
}

/// Whether data of this name in the directory of backups is of our making: whole, or half written or half removed.
pub fn is_backup_data(name: &str) -> bool {
    split_uuid(name).is_some_and(|(_, rest)| matches!(rest, "" | ".part"))
}

/// All UUIDs, written with hyphens, that stand in a text.
pub fn uuids(text: &str) -> Vec<Uuid> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        match split_uuid(rest) {
            Some((uuid, _)) => {
                found.push(uuid);
                at += LENGTH;
            }
            None => match rest.chars().next() {
                Some(first) => at += first.len_utf8(),
                None => break,
            },
        }
    }
    found
}

const LENGTH: usize = 36;

/// The UUID at the beginning, and what follows. Lower case only, as all services write them.
fn split_uuid(text: &str) -> Option<(Uuid, &str)> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    if head.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse(head).ok().map(|uuid| (uuid, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f6e4f0a-5f7e-4c44-9d53-0d3c8a9f6a11";

    #[test]
    fn a_name_tells_whose_a_disk_is() {
        let check = |pattern: &str, want: Option<Noun>| {
            let name = pattern.replace('#', ID);
            assert_eq!(noun_of(&name), want, "{name}");
        };
        check("#", Some(Noun::Image));
        check("#.raw", Some(Noun::Image));
        check("staging-#", Some(Noun::Image));
        check("#_disk", Some(Noun::Server));
        check("#_disk.config", Some(Noun::Server));
        check("volume-#", Some(Noun::Volume));
        check("volume-#.backup.#", Some(Noun::Volume));
        check("import-#", Some(Noun::Volume));
        check("reimage-#", Some(Noun::Volume));
        check("replaced-#", Some(Noun::Volume));
        check("volume-#.deleted", None);
        check("volume-#.backup.base", None);
        check("#_other", None);
        check("vm-100-disk-0", None);
        check("volume-mine", None);
        check("", None);
        assert_eq!(noun_of(&ID.to_uppercase()), None);
    }

    #[test]
    fn a_snapshot_is_ours_by_its_name_too() {
        for ours in ["snap", &format!("snapshot-{ID}"), &format!("backup.{ID}"), &format!("image-{ID}")] {
            assert!(is_our_snapshot(ours), "{ours}");
        }
        for other in ["before-upgrade", "snapshot-1", &format!("backup.{ID}.snap.1"), ID] {
            assert!(!is_our_snapshot(other), "{other}");
        }
    }

    #[test]
    fn ids_are_found_in_any_text() {
        assert_eq!(uuids(&format!("{{\"é\": \"volume-{ID}\", \"at\": \"{ID}{ID}\"}}")).len(), 3);
        assert!(uuids("nothing").is_empty());
    }
}
