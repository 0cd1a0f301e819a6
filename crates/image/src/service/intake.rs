//! An upload on its way from the client into a pool: every byte is counted, inspected and hashed, and none is kept.
//!
//! The pool pulls, so the client is read no faster than the pool writes. Each of the two digests has a thread of its own, a
//! few chunks behind: either takes about as long as writing the bytes, and all three in one task would be a third as fast.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use md5::Md5;
use parking_lot::Mutex;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::sync::mpsc;
use umbel_core::{Error, Kind, Result};
use umbel_driver::ByteStream;

use super::uploads::{self, Flow};
use crate::inspect::{Facts, Inspector, Refusal};

/// Chunks that may wait for the hashing thread. HTTP's are at most some hundred KiB each.
const HASHED_BEHIND: usize = 16;

/// How much of a refused upload is read all the same: a client that still sends meets a reset connection instead of
/// the answer if nobody reads.
const DRAINED: u64 = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(5);

/// What is known of the data when they are all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub size: u64,
    pub facts: Option<Facts>,
    pub digests: Digests,
    /// Why the content is refused, where that is judged later.
    pub refusal: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub md5: String,
    /// Of [`crate::model::HASH_ALGORITHM`], unless another was asked for.
    pub hash: String,
}

pub(super) struct Limits {
    /// Bytes that the sender announced.
    pub announced: Option<u64>,
    pub most: u64,
    pub idle: Duration,
    /// What is staged is judged when it is imported: refused content is let in, and remembered as such.
    pub judged_later: bool,
}

/// What the stream leaves behind for the one who handed it to the pool.
#[derive(Default)]
pub(super) struct Outcome {
    /// Why the stream failed. The pool's error says as much, but is the pool's to word.
    pub failure: Option<Error>,
    pub content: Option<Content>,
    /// What was not read.
    pub rest: Option<ByteStream>,
}

pub(super) struct Intake {
    body: Option<ByteStream>,
    flow: Arc<Flow>,
    limits: Limits,
    inspector: Option<Inspector>,
    refusal: Option<String>,
    hasher: Option<Hasher>,
    received: u64,
    ended: bool,
    outcome: Arc<Mutex<Outcome>>,
}

impl Intake {
    pub fn new(body: ByteStream, flow: Arc<Flow>, limits: Limits, inspector: Option<Inspector>) -> Self {
        let hasher = Some(Hasher::start());
        let (body, refusal, outcome) = (Some(body), None, Arc::default());
        Intake { body, flow, limits, inspector, refusal, hasher, received: 0, ended: false, outcome }
    }

    pub fn outcome(&self) -> Arc<Mutex<Outcome>> {
        self.outcome.clone()
    }

    pub fn into_stream(self) -> ByteStream {
        Box::pin(stream::unfold(self, |mut intake| async move {
            let item = intake.next().await?;
            Some((item, intake))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        match self.advance().await {
            Ok(Some(chunk)) => Some(Ok(chunk)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                let told = Error::new(error.kind(), error.message().to_owned());
                self.outcome.lock().failure = Some(error);
                Some(Err(told))
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        let Some(chunk) = self.pull().await? else {
            self.end().await?;
            return Ok(None);
        };
        self.received += chunk.len() as u64;
        if self.received > self.limits.most {
            return Err(too_large(self.limits.most));
        }
        if self.limits.announced.is_some_and(|announced| self.received > announced) {
            return Err(Error::bad_request("The data are longer than the size that was announced."));
        }
        if let Some(inspector) = &mut self.inspector {
            let judged = inspector.feed(&chunk);
            self.judge(judged)?;
        }
        if let Some(hasher) = &self.hasher {
            hasher.feed(chunk.clone()).await?;
        }
        self.flow.received.send_replace(self.received);
        Ok(Some(chunk))
    }

    /// The next bytes that are any; none at the end.
    async fn pull(&mut self) -> Result<Option<Bytes>> {
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        loop {
            let item = tokio::select! {
                biased;
                () = self.flow.until_lost() => return Err(uploads::lost()),
                item = tokio::time::timeout(self.limits.idle, body.next()) => item,
            };
            match item {
                Err(_) => return Err(Error::new(Kind::Timeout, "The sender was silent for too long.")),
                Ok(Some(Ok(chunk))) if chunk.is_empty() => {}
                Ok(item) => return item.transpose(),
            }
        }
    }

    async fn end(&mut self) -> Result<()> {
        if self.limits.announced.is_some_and(|announced| self.received < announced) {
            return Err(Error::bad_request("The request body ended before it was complete."));
        }
        let judged = self.inspector.take().map(Inspector::finish).transpose();
        let facts = self.judge(judged)?.flatten();
        let Some(hasher) = self.hasher.take() else {
            return Err(Error::internal("an upload ended twice"));
        };
        let digests = hasher.finish().await?;
        let refusal = self.refusal.take();
        self.outcome.lock().content = Some(Content { size: self.received, facts, digests, refusal });
        Ok(())
    }

    /// What was found, or nothing if it is refused and that is for later.
    fn judge<T>(&mut self, judged: std::result::Result<T, Refusal>) -> Result<Option<T>> {
        match judged {
            Err(refusal) if self.limits.judged_later => {
                self.refusal = Some(Error::from(refusal).message().to_owned());
                self.inspector = None;
                Ok(None)
            }
            judged => Ok(Some(judged?)),
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.outcome.lock().rest = self.body.take();
    }
}

pub(super) fn too_large(most: u64) -> Error {
    Error::new(Kind::TooLarge, format!("The incoming image is too large: at most {most} bytes are allowed."))
}

/// Reads on, so that the sender gets to its answer; within limits.
pub(crate) async fn drain(rest: Option<ByteStream>) {
    let Some(mut rest) = rest else {
        return;
    };
    let read = async {
        let mut read = 0;
        while let Some(Ok(chunk)) = rest.next().await {
            read += chunk.len() as u64;
            if read > DRAINED {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAINED_FOR, read).await;
}

/// Algorithms of `os_hash_value`, and how many hexadecimal digits theirs have.
pub(super) const HASHES: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

pub(super) struct Hasher {
    md5: Lane,
    hash: Lane,
}

impl Hasher {
    pub(super) fn start() -> Self {
        Hasher::of(Box::new(Sha512::new()))
    }

    /// With one of [`HASHES`] in place of the usual.
    pub(super) fn with(algorithm: &str) -> Self {
        Hasher::of(match algorithm {
            "sha256" => Box::new(Sha256::new()),
            "sha384" => Box::new(Sha384::new()),
            _ => Box::new(Sha512::new()),
        })
    }

    fn of(hash: Box<dyn DynDigest + Send>) -> Self {
        Hasher { md5: Lane::start(Box::new(Md5::new())), hash: Lane::start(hash) }
    }

    pub(super) async fn feed(&self, chunk: Bytes) -> Result<()> {
        self.md5.feed(chunk.clone()).await?;
        self.hash.feed(chunk).await
    }

    pub(super) async fn finish(self) -> Result<Digests> {
        Ok(Digests { md5: self.md5.finish().await?, hash: self.hash.finish().await? })
    }
}

/// One digest and its thread.
struct Lane {
    chunks: mpsc::Sender<Bytes>,
    digest: tokio::task::JoinHandle<String>,
}

impl Lane {
    fn start(mut hash: Box<dyn DynDigest + Send>) -> Self {
        let (chunks, mut waiting) = mpsc::channel::<Bytes>(HASHED_BEHIND);
        let digest = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = waiting.blocking_recv() {
                hash.update(&chunk);
            }
            hex(&hash.finalize())
        });
        Lane { chunks, digest }
    }

    async fn feed(&self, chunk: Bytes) -> Result<()> {
        self.chunks.send(chunk).await.map_err(|_| Error::internal("the hashing thread has ended"))
    }

    async fn finish(self) -> Result<String> {
        drop(self.chunks);
        self.digest.await.map_err(|error| Error::internal(error).because("hashing an upload"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit((byte >> 4).into(), 16).unwrap_or('0'));
        text.push(char::from_digit((byte & 15).into(), 16).unwrap_or('0'));
        text
    })
}
