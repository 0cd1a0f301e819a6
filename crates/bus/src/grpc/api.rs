use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::uri::PathAndQuery;
use tonic::Request;
use tonic::transport::Channel;
use umbel_core::{Error, Kind, Result};
use uuid::Uuid;

use super::codec::{Json, Pair};
use super::peer::{Security, client};
use super::wire::{self, Ask, Told, millis};
use crate::{Task, TaskReply, ToCells};

/// The conductors of a cloud, as a compute API in another process reaches them, and agents behind them. Dialled when
/// they are needed, and again when a connection broke.
pub struct Conductors {
    channels: Vec<Channel>,
    /// The one that answered last is asked first.
    last: AtomicUsize,
}

/// For a nudge, which is not worth more: the sweep finds what it was about.
const NUDGE: Duration = Duration::from_secs(2);
/// On top of a task's own deadline, so that the agent's answer wins.
const MARGIN: Duration = Duration::from_secs(1);

impl Conductors {
    /// By their addresses, `host:port`.
    pub fn new(addresses: &[String], security: &Security) -> Result<Conductors> {
        let channels: Result<Vec<Channel>> = addresses.iter().map(|address| security.channel(address)).collect();
        Ok(Conductors { channels: channels?, last: AtomicUsize::new(0) })
    }

    /// A flow was written: some conductor should take it now.
    pub async fn flow(&self) -> Result<()> {
        self.ask(Ask::Flow, NUDGE).await.map(drop)
    }

    /// What is wanted of a server has changed.
    pub async fn server(&self, cell: Uuid, server: Uuid) -> Result<()> {
        self.ask(Ask::Server { cell, server }, NUDGE).await.map(drop)
    }

    /// Asks one after the other until one can answer.
    async fn ask(&self, ask: Ask, deadline: Duration) -> Result<Told> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failed = Error::unavailable("There is no conductor.");
        for step in 0..self.channels.len() {
            let at = (first + step) % self.channels.len();
            let told = match tokio::time::timeout(deadline, one(self.channels[at].clone(), ask.clone())).await {
                Ok(told) => told,
                Err(_) => Err(Error::new(Kind::Timeout, "A conductor did not answer in time.")),
            };
            match told {
                Ok(Told::Fault(fault)) => failed = fault.into(),
                Ok(told) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(told);
                }
                Err(error) => failed = error,
            }
            // Another one may hold the agent's connection; any other failure is the answer.
            if !failed.is(Kind::Unavailable) {
                break;
            }
        }
        Err(failed)
    }
}

async fn one(channel: Channel, ask: Ask) -> Result<Told> {
    let mut client = client(channel);
    client.ready().await.map_err(|error| Error::unavailable("No conductor answers.").because(super::chain(&error)))?;
    let path = PathAndQuery::from_static(wire::ASK);
    let answer = client.unary(Request::new(ask), path, Pair::<Json<Ask>, Json<Told>>::default()).await;
    answer.map(tonic::Response::into_inner).map_err(|status| wire::error(&status))
}

#[async_trait]
impl ToCells for Conductors {
    async fn task(&self, cell: &str, host: &str, task: Task, deadline: Duration) -> Result<TaskReply> {
        let ask = Ask::Task { cell: cell.to_owned(), host: host.to_owned(), task, deadline: millis(deadline) };
        match self.ask(ask, deadline + MARGIN).await? {
            Told::Reply(reply) => Ok(reply),
            _ => Err(Error::internal("a conductor answered a task with nothing")),
        }
    }
}
