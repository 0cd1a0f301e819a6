//! QEMU's machine protocol: JSON lines over a socket, commands with ids, events in between.
//!
//! A small client of our own: the few commands that a guest's life and its disks need, each with a deadline. One owner
//! reads the stream; events that arrive while a command waits for its answer are kept in order.
//! Reference: QEMU's "QEMU Machine Protocol Specification" and "QMP Reference Manual".

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// QEMU answers within milliseconds unless its main loop waits for storage.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Command {
    #[serde(rename = "execute")]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
}

impl Command {
    pub(crate) const CAPABILITIES: Command = Command::plain("qmp_capabilities");
    pub(crate) const STATUS: Command = Command::plain("query-status");
    pub(crate) const POWERDOWN: Command = Command::plain("system_powerdown");
    pub(crate) const RESET: Command = Command::plain("system_reset");
    pub(crate) const STOP: Command = Command::plain("stop");
    pub(crate) const CONT: Command = Command::plain("cont");
    pub(crate) const QUIT: Command = Command::plain("quit");
    pub(crate) const QUERY_BLOCK: Command = Command::plain("query-block");
    pub(crate) const QUERY_CHARDEV: Command = Command::plain("query-chardev");

    const fn plain(name: &'static str) -> Command {
        Command { name, arguments: None }
    }

    pub(crate) fn with(name: &'static str, arguments: Value) -> Command {
        Command { name, arguments: Some(arguments) }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(flatten)]
    command: &'a Command,
    id: u64,
}

/// What a guest's owner reacts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Shutdown {
        reason: String,
    },
    Stop,
    Resume,
    Panicked,
    /// The guest has let a device go, and QEMU has taken it away.
    Deleted {
        device: String,
    },
}

#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u64>,
    #[serde(rename = "return", borrow)]
    value: Option<&'a RawValue>,
    error: Option<Refusal>,
    event: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

#[derive(Deserialize)]
struct ShutdownData {
    reason: String,
}

/// Of a device's inner parts the path is told alone.
#[derive(Deserialize)]
struct DeletedData {
    device: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

enum Message {
    Answer(u64, Result<Box<RawValue>, String>),
    Event(Event),
    Other,
}

#[derive(Debug)]
pub(crate) enum Failure {
    /// The stream ended or made no sense; there is no use in asking again on it.
    Lost(io::Error),
    /// QEMU answered, and said no.
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Lost(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Lost(error) => write!(f, "QMP: {error}"),
            Failure::Refused(text) => write!(f, "QEMU refused: {text}"),
        }
    }
}

pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    /// The line that is being read; kept here so that reading may be interrupted.
    line: Vec<u8>,
    events: VecDeque<Event>,
    last_id: u64,
}

impl Qmp {
    /// Greets. QEMU serves one client at a time: with another one connected this waits for it to leave.
    pub(crate) async fn open(stream: UnixStream) -> Result<Qmp, Failure> {
        let mut qmp = Qmp { stream: BufReader::new(stream), line: Vec::new(), events: VecDeque::new(), last_id: 0 };
        let greeting = timeout(DEADLINE, qmp.message()).await.map_err(|_| late("the greeting"))?;
        greeting?;
        qmp.execute(&Command::CAPABILITIES).await?;
        Ok(qmp)
    }

    pub(crate) async fn execute(&mut self, command: &Command) -> Result<Box<RawValue>, Failure> {
        self.execute_within(command, DEADLINE).await
    }

    pub(crate) async fn execute_within(
        &mut self,
        command: &Command,
        limit: Duration,
    ) -> Result<Box<RawValue>, Failure> {
        self.last_id += 1;
        let mut line = serde_json::to_vec(&Envelope { command, id: self.last_id }).map_err(io::Error::from)?;
        line.push(b'\n');
        let answer = async {
            self.stream.write_all(&line).await?;
            loop {
                match self.message().await? {
                    Message::Answer(id, answer) if id == self.last_id => return answer.map_err(Failure::Refused),
                    Message::Event(event) => self.events.push_back(event),
                    Message::Answer(..) | Message::Other => {}
                }
            }
        };
        timeout(limit, answer).await.unwrap_or_else(|_| Err(late(&format!("the answer to {}", command.name))))
    }

    /// QEMU's run state: `running`, `paused`, `shutdown` and a dozen others.
    pub(crate) async fn status(&mut self) -> Result<String, Failure> {
        let answer = self.execute(&Command::STATUS).await?;
        let status: Status = serde_json::from_str(answer.get()).map_err(io::Error::from)?;
        Ok(status.status)
    }

    /// Waits for the next event. May be dropped while it waits; nothing is lost.
    pub(crate) async fn event(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Message::Event(event) = self.message().await? {
                return Ok(event);
            }
        }
    }

    /// Forgets events that were not asked for yet.
    pub(crate) fn forget(&mut self, which: impl Fn(&Event) -> bool) {
        self.events.retain(|event| !which(event));
    }

    async fn message(&mut self) -> io::Result<Message> {
        self.stream.read_until(b'\n', &mut self.line).await?;
        if !self.line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message = parse(&self.line);
        self.line.clear();
        Ok(message?)
    }
}

fn late(what: &str) -> Failure {
    Failure::Lost(io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not come in time")))
}

fn parse(line: &[u8]) -> serde_json::Result<Message> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    if let Some(name) = line.event {
        return Ok(event(name, line.data)?.map_or(Message::Other, Message::Event));
    }
    let (Some(id), value, error) = (line.id, line.value, line.error) else { return Ok(Message::Other) };
    Ok(match (value, error) {
        (_, Some(refusal)) => Message::Answer(id, Err(format!("{}: {}", refusal.class, refusal.desc))),
        (Some(value), None) => Message::Answer(id, Ok(value.to_owned())),
        (None, None) => Message::Other,
    })
}

fn event(name: &str, data: Option<&RawValue>) -> serde_json::Result<Option<Event>> {
    Ok(match name {
        "SHUTDOWN" => {
            let data: ShutdownData = serde_json::from_str(data.map_or("{}", RawValue::get))?;
            Some(Event::Shutdown { reason: data.reason })
        }
        "STOP" => Some(Event::Stop),
        "RESUME" => Some(Event::Resume),
        "GUEST_PANICKED" => Some(Event::Panicked),
        "DEVICE_DELETED" => {
            let data: DeletedData = serde_json::from_str(data.map_or("{}", RawValue::get))?;
            data.device.map(|device| Event::Deleted { device })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: &str) {
        let seen = match parse(line.as_bytes()) {
            Ok(Message::Answer(id, Ok(value))) => format!("{id} {}", value.get()),
            Ok(Message::Answer(id, Err(text))) => format!("{id} refused {text}"),
            Ok(Message::Event(event)) => format!("{event:?}"),
            Ok(Message::Other) => "other".to_owned(),
            Err(_) => "unreadable".to_owned(),
        };
        assert_eq!(seen, want, "{line}");
    }

    #[test]
    fn lines_are_told_apart() {
        check(r#"{"QMP": {"version": {"qemu": {"micro": 22}}, "capabilities": ["oob"]}}"#, "other");
        check(r#"{"return": {"status": "running"}, "id": 7}"#, r#"7 {"status": "running"}"#);
        check(r#"{"id": 8, "error": {"class": "GenericError", "desc": "no"}}"#, "8 refused GenericError: no");
        check(r#"{"timestamp": {}, "event": "STOP"}"#, "Stop");
        check(
            r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
            r#"Shutdown { reason: "guest-shutdown" }"#,
        );
        check(r#"{"event": "DEVICE_DELETED", "data": {"path": "/machine/peripheral/d/virtio-backend"}}"#, "other");
        check(r#"{"event": "DEVICE_DELETED", "data": {"device": "d", "path": "p"}}"#, r#"Deleted { device: "d" }"#);
        check(r#"{"event": "RTC_CHANGE", "data": {"offset": 1}}"#, "other");
        check("{", "unreadable");
    }

    #[test]
    fn commands_are_written_as_qemu_reads_them() {
        let check = |command: &Command, want: &str| {
            assert_eq!(serde_json::to_string(&Envelope { command, id: 1 }).unwrap(), want);
        };
        check(&Command::STATUS, r#"{"execute":"query-status","id":1}"#);
        check(
            &Command::with("device_del", serde_json::json!({"id": "disk1.s"})),
            r#"{"execute":"device_del","arguments":{"id":"disk1.s"},"id":1}"#,
        );
    }
}
