use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::task::JoinHandle;
use umbel_core::{Error, Result};

use super::change::NewLayer;
use super::patch::Patch;
use super::sparse;
use crate::{ByteStream, Change, ChangeStream, Progress, WriteOptions};

/// Bytes handed to the file system at a time; as many are collected meanwhile.
const BATCH: usize = 1 << 20;

/// Changes handed to the file system at a time, if they are small.
const CHANGES: usize = 256;

/// The progress is told after so many bytes.
const PROGRESS: u64 = 4 << 20;

/// Takes the stream into the layer, and gives the layer back with the number of bytes. Whatever fails, the stream
/// included, and also if the future is dropped, the layer goes.
pub(super) async fn receive(new: NewLayer, mut data: ByteStream, options: &WriteOptions) -> Result<(NewLayer, u64)> {
    let mut writer = Writer { layer: Arc::new(new), written: 0, writing: None };
    let (mut batch, mut received, mut told) = (BytesMut::new(), 0, 0);
    while let Some(bytes) = data.next().await {
        let bytes = bytes?;
        received += bytes.len() as u64;
        if let Some(size) = options.size.filter(|size| received > *size) {
            return Err(Error::bad_request(format!("More bytes came than the {size} that were announced.")));
        }
        batch.extend_from_slice(&bytes);
        if batch.len() >= BATCH {
            writer.write(batch.split().freeze()).await?;
        }
        if received - told >= PROGRESS {
            told = received;
            (options.progress)(received);
        }
    }
    if let Some(size) = options.size.filter(|size| received < *size) {
        return Err(Error::bad_request(format!("Only {received} bytes came of the {size} that were announced.")));
    }
    writer.write(batch.freeze()).await?;
    Ok((writer.finish().await?, received))
}

/// Takes the changes in, and gives the patch back with the bytes of data written.
pub(super) async fn patch(mut patch: Patch, mut changes: ChangeStream, progress: &Progress) -> Result<(Patch, u64)> {
    let (mut batch, mut bytes, mut end) = (Vec::new(), 0, 0);
    let (mut written, mut told) = (0, 0);
    while let Some(change) = changes.next().await {
        let change = change?;
        end = change.check(end, patch.size)?;
        if let Change::Data { bytes: data, .. } = &change {
            bytes += data.len();
        }
        batch.push(change);
        if bytes < BATCH && batch.len() < CHANGES {
            continue;
        }
        written += bytes as u64;
        patch = apply(patch, std::mem::take(&mut batch)).await?;
        bytes = 0;
        if written - told >= PROGRESS {
            told = written;
            progress(written);
        }
    }
    Ok((apply(patch, batch).await?, written + bytes as u64))
}

async fn apply(patch: Patch, batch: Vec<Change>) -> Result<Patch> {
    super::blocking(move || patch.apply(&batch)).await
}

/// Writes one batch while the next is received.
struct Writer {
    layer: Arc<NewLayer>,
    /// Where the next batch goes.
    written: u64,
    writing: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.wait().await?;
        let (layer, offset) = (self.layer.clone(), self.written);
        self.written += bytes.len() as u64;
        let work = move || sparse::write(&bytes, offset, |bytes, offset| layer.write_at(bytes, offset));
        self.writing = Some(tokio::task::spawn_blocking(work));
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        match self.writing.take() {
            Some(writing) => writing.await.map_err(|error| Error::internal(error).because("writing a disk"))?,
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<NewLayer> {
        self.wait().await?;
        // The batch that held the other reference is written.
        Arc::into_inner(self.layer).ok_or_else(|| Error::internal("a disk is still being written"))
    }
}
