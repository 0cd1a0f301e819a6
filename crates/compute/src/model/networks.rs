//! Which networks a server asks for, and the default network rows.
//!
//! There is no network service yet, so there are two answers to "which networks": none, and whatever there is. From
//! 2.37 on the API has a word for each, but the command line's `--network NAME` never sends a word: it looks for a
//! network of that name, in compute's old proxy while the catalog has no network service, and sends the id it found.
//! So each answer is a row too, with its word as label and an id that is the same in every cloud, and a server may be
//! made with that id as with the word. The rows stand in until the network service brings real ones.
//!
//! Fixed ids, because a row has no table: every API process gives the same answer without having agreed on it, and an id
//! that a client keeps in a template stays good over restarts and from cloud to cloud. Refused: labels in the place of
//! ids (clients take the id for a UUID, and so does the check of a server's networks), and ids made at the first start
//! (a table and a migration, for rows that are to go).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The row `none`. Random once, so that no network can come to have it.
const NONE_ID: Uuid = Uuid::from_u128(0x11cd_d046_5477_4aee_bff2_a31b_6caf_a5b1);
/// The row `auto`.
const AUTO_ID: Uuid = Uuid::from_u128(0x50a5_612c_2668_4d4e_973d_0506_b99b_f159);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Networks {
    None,
    /// What the project has, made if need be. Without a network service it comes to none.
    Auto,
}

impl Networks {
    pub const ALL: [Networks; 2] = [Networks::None, Networks::Auto];

    /// The word of the API, and the label of the default row.
    pub fn label(self) -> &'static str {
        match self {
            Networks::None => "none",
            Networks::Auto => "auto",
        }
    }

    /// The id of the default row: well known, part of the interface, never to change.
    pub fn id(self) -> Uuid {
        match self {
            Networks::None => NONE_ID,
            Networks::Auto => AUTO_ID,
        }
    }

    pub fn by_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }

    /// Of an id in any of the spellings of a UUID.
    pub fn by_id(id: &str) -> Option<Self> {
        let id = Uuid::try_parse(id).ok()?;
        Self::ALL.into_iter().find(|one| one.id() == id)
    }
}
