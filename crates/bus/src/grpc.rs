//! The transport between processes: gRPC over mutual TLS.
//!
//! * **Agents dial.** Each holds one bidirectional stream to every conductor of its cell ([`Uplinks`]), so hosts need no
//!   open port, and a conductor that dies takes nothing with it: the others hear the same reports already. A stream that
//!   broke is made again after a short wait; when it stands, the agent tells what it holds and hears what should be.
//! * **The stream ends in the [`Hub`](crate::Hub)**, as an agent of the same process does. What conductors see is the same.
//! * **A certificate names its host** ([`Authority`]). A conductor takes reports for that host only, and hands out images
//!   only to hosts whose servers need them ([`Images`]): an agent has no password and no token, so a host that was broken
//!   into has nothing that is good elsewhere.
//! * **Certificates change while it runs** ([`Credentials`]): renewed ones hold for the next connection, revoked ones end.
//! * **Nothing waits for ever, nothing piles up.** Calls have deadlines, queues have ends; a peer that does not take what
//!   it is sent loses it, which costs a sweep. Pings end connections whose other side is gone.
//!
//! Messages are JSON in gRPC's frames. The documents are tagged and flattened serde types, which need a format that says
//! what its fields are; and processes of two versions talk during an upgrade, where a field that one does not know is to be
//! passed over. Refused: protobuf, a second definition of each document with a generator that needs `protoc`; postcard
//! and other formats without field names, for both reasons above.

mod api;
mod certificates;
mod codec;
mod credentials;
mod gate;
mod peer;
mod reading;
mod remote;
mod uplink;
mod wire;

use std::time::Duration;

pub use api::Conductors;
pub use certificates::{Authority, Issued};
pub use credentials::{Credentials, fingerprint};
pub use gate::{Control, Gate, Images};
pub use peer::Security;
pub use uplink::{Uplink, Uplinks};

/// Between two pings on a connection, whether it is used or not; and how long their answer may take.
const PING: Duration = Duration::from_secs(10);
/// For an answer to a report or a resync; a conductor that is slower is as good as away.
const ANSWER: Duration = Duration::from_secs(30);
/// For room in a stream's queue.
const ROOM: Duration = Duration::from_secs(2);
/// Messages that wait for one stream.
const QUEUE: usize = 64;
/// Messages of one stream that are worked on at a time.
const PARALLEL: usize = 64;
/// Bytes of a message.
const MAX_MESSAGE: usize = 32 << 20;

/// What the transport says, with its causes: the outermost alone is "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
