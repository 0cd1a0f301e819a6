//! The slow way to a disk: the image's bytes through this host, converted if they are not raw.
//!
//! What a user uploaded is hostile. So the format is always the one the image service found, never guessed, and the
//! readers are the driver's own, which open no file but the one scratch file with the image; see
//! [`umbel_driver::convert`]. The image is downloaded whole first, since its tables lie anywhere in it.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use umbel_bus::{Disk, ImageSource};
use umbel_core::{Error, Kind, Result};
use umbel_driver::convert::{Converter, FileSource, ImageFormat};
use umbel_driver::{ByteStream, Pool, WriteOptions, no_progress};

use crate::agent::Agent;
use crate::converge::overtaken;

/// Disks are whole sectors.
const SECTOR: u64 = 512;

impl Agent {
    pub(crate) async fn import(
        &self,
        pool: &dyn Pool,
        disk: &Disk,
        image: &ImageSource,
        cancel: &CancellationToken,
    ) -> Result<()> {
        if image.container_format != "bare" {
            let message = format!("Images in a container of format '{}' cannot be booted.", image.container_format);
            return Err(Error::bad_request(message));
        }
        let data = self.images.open(&image.image_id).await?;
        // Since the server was asked for the image's data may have been replaced by its raw twin.
        let format = data.disk_format.as_deref().unwrap_or(&image.disk_format);
        let bytes = until(data.bytes, cancel.clone());
        if format == "raw" || format == "iso" {
            return write(pool, disk, bytes, image.size.filter(|_| format == image.disk_format)).await;
        }
        let format: ImageFormat =
            format.parse().map_err(|_| Error::bad_request(format!("Images of format '{format}' cannot be booted.")))?;
        let scratch = tempfile::Builder::new().prefix("import-").tempdir_in(&self.config.scratch).map_err(scratch)?;
        let stored = scratch.path().join("image");
        download(bytes, &stored).await?;
        let source = std::fs::File::open(&stored).and_then(FileSource::new).map_err(self::scratch)?;
        let converter = Converter::open(format, Arc::new(source)).await?;
        let size = converter.virtual_size();
        if disk.size_bytes > 0 && size > disk.size_bytes {
            return Err(Error::bad_request("Flavor's disk is too small for requested image."));
        }
        let least = size.next_multiple_of(SECTOR).max(disk.size_bytes);
        pool.create(&disk.at.name, least).await?;
        let changes = until(converter.into_changes(size), cancel.clone());
        match pool.patch(&disk.at.name, changes, no_progress()).await {
            Ok(_) => Ok(()),
            Err(error) => match pool.remove(&disk.at.name).await {
                Ok(_) => Err(error),
                Err(worse) => Err(error.because(worse.for_log())),
            },
        }
    }
}

async fn write(pool: &dyn Pool, disk: &Disk, bytes: ByteStream, size: Option<u64>) -> Result<()> {
    let options = WriteOptions { size, min_size: disk.size_bytes, progress: no_progress() };
    pool.write(&disk.at.name, bytes, options).await.map(drop)
}

/// The stream, until it is no longer wanted: then it fails, and its receiver takes back what it wrote.
fn until<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    cancel: CancellationToken,
) -> BoxStream<'static, Result<T>> {
    Box::pin(futures_util::stream::unfold(Some((items, cancel)), |state| async {
        let (mut items, cancel) = state?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Some((Err(overtaken()), None)),
            item = items.next() => item.map(|item| (item, Some((items, cancel)))),
        }
    }))
}

async fn download(mut bytes: ByteStream, to: &Path) -> Result<()> {
    let mut file = tokio::fs::File::create(to).await.map_err(scratch)?;
    while let Some(chunk) = bytes.next().await {
        file.write_all(&chunk?).await.map_err(scratch)?;
    }
    file.flush().await.map_err(scratch)
}

fn scratch(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::NoSpace,
        _ => Kind::Internal,
    };
    Error::new(kind, "The host has no room or no right to convert the image.").because(error)
}
