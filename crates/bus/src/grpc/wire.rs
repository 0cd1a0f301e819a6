//! What goes over the wire, beside the documents.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use umbel_core::{Error, Kind};
use uuid::Uuid;

use crate::{Desired, HostReport, Observed, Task, TaskReply};

/// Grows when an older peer would misunderstand; a field more is no reason.
pub(super) const VERSION: u32 = 1;

pub(super) const AGENT: &str = "/umbel.bus.v1.Bus/Agent";
pub(super) const ASK: &str = "/umbel.bus.v1.Bus/Ask";
pub(super) const READ_IMAGE: &str = "/umbel.bus.v1.Bus/ReadImage";
pub(super) const WRITE_IMAGE: &str = "/umbel.bus.v1.Bus/WriteImage";

/// In the header of an image on its way to an agent: its disk format.
pub(super) const DISK_FORMAT: &str = "umbel-disk-format";

/// In the header of an upload, whose messages are the image's bytes: a [`Wanted`] as JSON.
pub(super) const WANTED_HEADER: &str = "umbel-wanted";

/// From an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Up {
    /// Always the first.
    Hello(Hello),
    Report {
        id: u64,
        report: HostReport,
    },
    Observed {
        id: u64,
        observed: Observed,
    },
    Resync {
        id: u64,
        held: Vec<Uuid>,
    },
    /// To a task.
    Reply {
        id: u64,
        reply: Result<TaskReply, Fault>,
    },
}

/// Who speaks on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub version: u32,
    pub cell: String,
    pub host: String,
}

/// To an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Down {
    /// Always the first: from here on the conductor reaches the agent.
    Welcome,
    Desire(Desired),
    Task {
        id: u64,
        task: Task,
    },
    /// Part of the answer to a resync: many servers do not fit into one message.
    Part {
        id: u64,
        desired: Vec<Desired>,
    },
    /// To a report, an observation, or after the last part.
    Answer {
        id: u64,
        result: Result<(), Fault>,
    },
}

/// Documents of one [`Down::Part`]; each has 200 KB at most, nearly all of it its config drive.
pub(super) const PART: usize = 64;

/// From a compute API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    Flow,
    Server {
        cell: Uuid,
        server: Uuid,
    },
    Task {
        /// By name, as the host is: names of hosts are the cell's own.
        cell: String,
        host: String,
        task: Task,
        /// Milliseconds.
        deadline: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    Done,
    Reply(TaskReply),
    Fault(Fault),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub cell: String,
    pub host: String,
    pub image_id: String,
    /// Bytes, of an upload.
    #[serde(default)]
    pub size: u64,
}

/// An error, with both its halves: both ends are ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub kind: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// A kind that is not here, or that a newer peer has, is internal.
const KINDS: [(Kind, &str); 13] = [
    (Kind::BadRequest, "bad_request"),
    (Kind::Unauthorized, "unauthorized"),
    (Kind::Forbidden, "forbidden"),
    (Kind::NotFound, "not_found"),
    (Kind::Conflict, "conflict"),
    (Kind::PreconditionFailed, "precondition_failed"),
    (Kind::TooLarge, "too_large"),
    (Kind::Busy, "busy"),
    (Kind::NoSpace, "no_space"),
    (Kind::NotImplemented, "not_implemented"),
    (Kind::Unavailable, "unavailable"),
    (Kind::Timeout, "timeout"),
    (Kind::Internal, "internal"),
];

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = KINDS.iter().find(|(kind, _)| *kind == error.kind()).map_or("internal", |(_, name)| name);
        Fault { kind: kind.to_owned(), message: error.message().to_owned(), cause: error.cause().map(str::to_owned) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let kind = KINDS.iter().find(|(_, name)| *name == fault.kind).map_or(Kind::Internal, |(kind, _)| *kind);
        let error = Error::new(kind, fault.message);
        match fault.cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }
}

/// How an image's stream ends that cannot go on.
pub(super) fn status(error: &Error) -> Status {
    let code = match error.kind() {
        Kind::NotFound => Code::NotFound,
        Kind::Forbidden | Kind::Unauthorized => Code::PermissionDenied,
        Kind::BadRequest => Code::InvalidArgument,
        Kind::Conflict => Code::FailedPrecondition,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Unavailable | Kind::Busy => Code::Unavailable,
        Kind::NotImplemented => Code::Unimplemented,
        _ => Code::Internal,
    };
    Status::new(code, error.message())
}

pub(super) fn error(status: &Status) -> Error {
    let kind = match status.code() {
        // Not a conductor's word but the transport's: the connection broke.
        _ if std::error::Error::source(status).is_some() => Kind::Unavailable,
        Code::NotFound => Kind::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Forbidden,
        Code::InvalidArgument => Kind::BadRequest,
        Code::FailedPrecondition => Kind::Conflict,
        Code::DeadlineExceeded => Kind::Timeout,
        // We never send the last; the transport says it of connections that did not come about.
        Code::Unavailable | Code::Cancelled | Code::Unknown => Kind::Unavailable,
        Code::Unimplemented => Kind::NotImplemented,
        _ => return Error::internal(status.message()).because("on the bus"),
    };
    let message = match kind {
        Kind::Unavailable => "No conductor answers.".to_owned(),
        _ => status.message().to_owned(),
    };
    // The transport's own words are for the log.
    Error::new(kind, message).because(super::chain(status))
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_kind_and_both_halves() {
        for (kind, _) in KINDS {
            let error = Error::new(kind, "m").because("c");
            let read = Error::from(Fault::from(error));
            assert_eq!((read.kind(), read.message(), read.cause()), (kind, "m", Some("c")));
        }
        let other = Fault { kind: "of_tomorrow".into(), message: "m".into(), cause: None };
        assert_eq!(Error::from(other).kind(), Kind::Internal);
    }
}
