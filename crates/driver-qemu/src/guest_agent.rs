//! The agent in a guest, as far as storage needs it: it flushes and holds file systems.
//!
//! JSON lines over a serial channel ("QEMU Guest Agent Protocol Reference"). What an earlier conversation has left on
//! the channel is passed over by asking the agent to say a number. Whether anybody listens in the guest at all is known
//! from QEMU, so that a guest without an agent costs no waiting.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use umbel_core::{Error, Result};

use crate::command::AGENT;
use crate::driver::Driver;
use crate::home::{Home, Passing};
use crate::qmp::Command;

/// An agent that runs answers within milliseconds; an emulated guest that is busy, within a second or two.
const HELLO: Duration = Duration::from_secs(5);

/// For file systems with much to write. As long as libvirt's callers allow it.
const FLUSH: Duration = Duration::from_secs(60);

/// No agent's line is longer; a guest could send without end.
const LINE: u64 = 64 << 10;

static LAST_NUMBER: AtomicU32 = AtomicU32::new(1);

/// Returns the number of file systems; 0 if they were held before.
pub(crate) async fn freeze(home: &Home) -> Result<u32> {
    let mut agent = Conversation::open(home, HELLO).await?;
    if agent.ask("guest-fsfreeze-status", HELLO).await?.as_str() == Some("frozen") {
        return Ok(0);
    }
    noted(home.note(Passing::Frozen, true))?;
    let count = agent.ask("guest-fsfreeze-freeze", FLUSH).await?;
    Ok(count.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or_default())
}

pub(crate) async fn thaw(home: &Home) -> Result<()> {
    // The agent may still be at what it was asked before.
    Conversation::open(home, FLUSH).await?.ask("guest-fsfreeze-thaw", FLUSH).await?;
    noted(home.note(Passing::Frozen, false))
}

fn noted(outcome: std::io::Result<()>) -> Result<()> {
    outcome.map_err(|error| Error::internal(error).because("noting that a guest is frozen"))
}

pub(crate) fn absent() -> Error {
    Error::unavailable("No agent answers in the guest.")
}

#[derive(Deserialize)]
struct Channel {
    label: String,
    #[serde(rename = "frontend-open")]
    open: bool,
}

impl Driver {
    /// Whether the guest has its end of the agent's channel open.
    pub(crate) async fn find_agent(&mut self, found: oneshot::Sender<bool>) -> Result<()> {
        let answer = self.qemu(&Command::QUERY_CHARDEV).await?;
        let channels: Vec<Channel> = serde_json::from_str(answer.get())
            .map_err(|error| Error::internal(error).because("reading QEMU's channels"))?;
        // Nobody waits any more: as good.
        let _ = found.send(channels.iter().any(|channel| channel.label == AGENT && channel.open));
        Ok(())
    }
}

struct Conversation(BufReader<UnixStream>);

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

impl Conversation {
    async fn open(home: &Home, patience: Duration) -> Result<Conversation> {
        let connect = || {
            let stream = home.connect_agent()?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        let stream = connect().map_err(|error| absent().because(error))?;
        let mut agent = Conversation(BufReader::new(stream));
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed);
        let greet = async {
            // The byte ends whatever half a line the agent has read before.
            agent.send(b"\xff", &json!({"execute": "guest-sync", "arguments": {"id": number}})).await?;
            loop {
                if agent.line().await?.value.and_then(|value| value.as_u64()) == Some(u64::from(number)) {
                    return std::io::Result::Ok(());
                }
            }
        };
        match timeout(patience, greet).await {
            Ok(Ok(())) => Ok(agent),
            Ok(Err(error)) => Err(absent().because(error)),
            Err(_) => Err(absent().because(format!("nothing came within {patience:?}"))),
        }
    }

    async fn ask(&mut self, command: &str, limit: Duration) -> Result<Value> {
        let answer = async {
            self.send(b"", &json!({"execute": command})).await?;
            self.line().await
        };
        let answer = match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| absent().because(error))?,
            Err(_) => return Err(absent().because(format!("no answer to {command} within {limit:?}"))),
        };
        match answer.error {
            Some(refusal) => {
                let text = "The guest's agent cannot hold the guest's file systems.";
                Err(Error::conflict(text).because(format!("{command}: {}", refusal.desc)))
            }
            None => Ok(answer.value.unwrap_or_default()),
        }
    }

    async fn send(&mut self, before: &[u8], command: &Value) -> std::io::Result<()> {
        let mut line = before.to_vec();
        line.extend(command.to_string().into_bytes());
        line.push(b'\n');
        self.0.get_mut().write_all(&line).await
    }

    /// The next line that is an answer.
    async fn line(&mut self) -> std::io::Result<Answer> {
        loop {
            let mut line = Vec::new();
            let mut bounded = tokio::io::AsyncReadExt::take(&mut self.0, LINE);
            bounded.read_until(b'\n', &mut line).await?;
            if !line.ends_with(b"\n") {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Ok(answer) = serde_json::from_slice(&line) {
                return Ok(answer);
            }
        }
    }
}
