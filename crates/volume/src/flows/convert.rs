//! Images in other formats than raw.
//!
//! Their tables lie anywhere in them, so they are read from a disk beside the volume's, which has the image's bytes as
//! they are. It stands in the backend's own pool: this host needs no room for it, and another process finds it again.

use std::sync::Arc;

use umbel_core::{Error, Result};
use umbel_driver::convert::{Converter, DiskSource, ImageFormat};
use umbel_driver::{ByteStream, WriteOptions, no_progress};

use super::create::too_big;
use super::start::Meter;
use crate::Backend;
use crate::model::VolumeRow;

/// The volume's disk, from an image's bytes. The scratch disk is gone in the end, however it ends, unless the process
/// dies.
pub(super) async fn write(
    backend: &Backend,
    row: &VolumeRow,
    scratch: &str,
    format: &str,
    data: ByteStream,
    meter: &Meter,
) -> Result<()> {
    let known: ImageFormat = format
        .parse()
        .map_err(|_| Error::bad_request(format!("Images of format '{format}' cannot become volumes.")))?;
    backend.pool.remove(scratch).await?;
    let options = WriteOptions { progress: meter.progress(), ..WriteOptions::default() };
    let size = backend.pool.write(scratch, data, options).await?;
    let written = convert(backend, row, scratch, known, size).await;
    let removed = backend.pool.remove(scratch).await;
    written.and(removed.map(drop))
}

async fn convert(backend: &Backend, row: &VolumeRow, scratch: &str, format: ImageFormat, size: u64) -> Result<()> {
    let source = DiskSource { pool: backend.pool.clone(), disk: scratch.to_owned(), snapshot: None, size };
    let converter = Converter::open(format, Arc::new(source)).await?;
    let virtual_size = converter.virtual_size();
    if virtual_size > row.size_bytes() {
        return Err(too_big(virtual_size, row.size_gib));
    }
    let pool = &*backend.pool;
    converter.write_disk(pool, &row.disk, row.size_bytes(), virtual_size, no_progress()).await.map(drop)
}
