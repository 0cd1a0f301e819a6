//! The slow way to a disk: the image's bytes through this host, converted if they are not raw.
//!
//! What a user uploaded is hostile: a header can name any file of the host as backing store, and a converter that
//! follows it hands that file to the guest. So the format is always the one the image service found, never guessed;
//! whatever refers to another file is refused before anything is read; and the look at the header is itself bounded in
//! memory and time.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use umbel_bus::{Disk, ImageSource};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{ByteStream, Pool, WriteOptions, no_progress};

use crate::agent::Agent;
use crate::converge::overtaken;

/// The image service's names of formats that can be converted, and what the converter calls them.
const FORMATS: &[(&str, &str)] =
    &[("qcow2", "qcow2"), ("vdi", "vdi"), ("vhd", "vpc"), ("vhdx", "vhdx"), ("vmdk", "vmdk")];

/// A look at a header: memory and processor time upstream allows it too.
const INFO_LIMITS: [&str; 2] = ["--as=1073741824", "--cpu=30"];
const INFO_TIME: Duration = Duration::from_secs(60);

const CHUNK: usize = 1 << 20;

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
        let bytes = until(self.images.open(&image.image_id).await?, cancel.clone());
        if image.disk_format == "raw" || image.disk_format == "iso" {
            return write(pool, disk, bytes, image.size).await;
        }
        let format = FORMATS.iter().find(|(name, _)| *name == image.disk_format).map(|(_, format)| *format);
        let format = format
            .ok_or_else(|| Error::bad_request(format!("Images of format '{}' cannot be booted.", image.disk_format)))?;
        let scratch = tempfile::Builder::new().prefix("import-").tempdir_in(&self.config.scratch).map_err(scratch)?;
        let (source, raw) = (scratch.path().join("image"), scratch.path().join("raw"));
        download(bytes, &source).await?;
        let qemu_img = QemuImg { program: &self.config.qemu_img, format, cancel };
        let size = qemu_img.inspect(&source).await?;
        if disk.size_bytes > 0 && size > disk.size_bytes {
            return Err(Error::bad_request("Flavor's disk is too small for requested image."));
        }
        qemu_img.convert(&source, &raw).await?;
        // Two files of an image's size are one too many.
        tokio::fs::remove_file(&source).await.map_err(self::scratch)?;
        write(pool, disk, until(read(&raw).await?, cancel.clone()), Some(size)).await
    }
}

async fn write(pool: &dyn Pool, disk: &Disk, bytes: ByteStream, size: Option<u64>) -> Result<()> {
    let options = WriteOptions { size, min_size: disk.size_bytes, progress: no_progress() };
    pool.write(&disk.at.name, bytes, options).await.map(drop)
}

/// The stream, until it is no longer wanted: then it fails, and its receiver takes back what it wrote.
fn until(bytes: ByteStream, cancel: CancellationToken) -> ByteStream {
    Box::pin(futures_util::stream::unfold(Some((bytes, cancel)), |state| async {
        let (mut bytes, cancel) = state?;
        tokio::select! {
            biased;
            () = cancel.cancelled() => Some((Err(overtaken()), None)),
            chunk = bytes.next() => chunk.map(|chunk| (chunk, Some((bytes, cancel)))),
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

async fn read(path: &Path) -> Result<ByteStream> {
    let file = tokio::fs::File::open(path).await.map_err(scratch)?;
    Ok(Box::pin(futures_util::stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let mut chunk = Vec::with_capacity(CHUNK);
        match (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(chunk.into()), Some(file))),
            Err(error) => Some((Err(scratch(error)), None)),
        }
    })))
}

fn scratch(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::NoSpace,
        _ => Kind::Internal,
    };
    Error::new(kind, "The host has no room or no right to convert the image.").because(error)
}

struct QemuImg<'a> {
    program: &'a Path,
    format: &'a str,
    cancel: &'a CancellationToken,
}

/// What the converter says of an image, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
    format_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Data {
    data_file: Option<String>,
    create_type: Option<String>,
}

/// Kinds of VMDK that are one file. The others are a text that names files.
const VMDK_IN_ONE_FILE: [&str; 2] = ["monolithicSparse", "streamOptimized"];

impl Info {
    /// Why the image must not be read, if it must not.
    fn danger(&self) -> Option<&'static str> {
        let data = self.format_specific.as_ref().map(|specific| &specific.data);
        let create_type = data.and_then(|data| data.create_type.as_deref());
        if self.backing_filename.is_some() || self.full_backing_filename.is_some() {
            return Some("it refers to a backing file");
        }
        if data.is_some_and(|data| data.data_file.is_some()) {
            return Some("it refers to a data file");
        }
        if create_type.is_some_and(|kind| !VMDK_IN_ONE_FILE.contains(&kind)) {
            return Some("it consists of more than one file");
        }
        self.encrypted.then_some("it is encrypted")
    }
}

impl QemuImg<'_> {
    /// Bytes of the disk in the image, once that is known to be harmless.
    async fn inspect(&self, image: &Path) -> Result<u64> {
        let mut command = Command::new("prlimit");
        command.args(INFO_LIMITS).arg(self.program);
        command.args(["info", "--output=json", "-f", self.format]).arg(image);
        let output = match tokio::time::timeout(INFO_TIME, self.run(command)).await {
            Ok(output) => output?,
            Err(_) => return Err(refused("it takes too long to read its header")),
        };
        let info: Info =
            serde_json::from_slice(&output).map_err(|error| refused("its header is not understood").because(error))?;
        match info.danger() {
            Some(why) => Err(refused(why)),
            None => Ok(info.virtual_size),
        }
    }

    async fn convert(&self, image: &Path, raw: &PathBuf) -> Result<()> {
        let mut command = Command::new(self.program);
        // Neither cache needs to survive: the result is read once and thrown away.
        command.args(["convert", "-t", "unsafe", "-T", "none", "-f", self.format, "-O", "raw"]);
        command.arg(image).arg(raw);
        self.run(command).await.map(drop)
    }

    async fn run(&self, mut command: Command) -> Result<Vec<u8>> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            Error::internal(error).because(format!("starting {}; is qemu-utils installed?", self.program.display()))
        })?;
        let output = tokio::select! {
            output = child.wait_with_output() => output.map_err(Error::internal)?,
            () = self.cancel.cancelled() => return Err(overtaken()),
        };
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(refused("it cannot be read").because(String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn refused(why: &str) -> Error {
    Error::bad_request(format!("The image cannot be used: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_reach_out_are_dangers() {
        let check = |json: &str, want: Option<&str>| {
            let info: Info = serde_json::from_str(json).unwrap();
            assert_eq!(info.danger(), want, "{json}");
        };
        check(r#"{"virtual-size": 1, "format": "qcow2"}"#, None);
        check(r#"{"virtual-size": 1, "backing-filename": "/etc/shadow"}"#, Some("it refers to a backing file"));
        check(
            r#"{"virtual-size": 1, "format-specific": {"type": "qcow2", "data": {"data-file": "x", "compat": "1.1"}}}"#,
            Some("it refers to a data file"),
        );
        let vmdk = |kind: &str| {
            format!(
                r#"{{"virtual-size": 1, "format-specific": {{"type": "vmdk", "data": {{"create-type": "{kind}"}}}}}}"#
            )
        };
        check(&vmdk("monolithicSparse"), None);
        check(&vmdk("monolithicFlat"), Some("it consists of more than one file"));
        check(r#"{"virtual-size": 1, "encrypted": true}"#, Some("it is encrypted"));
    }
}
