//! A server's disks: cloned where that is possible, imported where not, and the reason for it.

use tokio_util::sync::CancellationToken;
use umbel_bus::{ConfigDrive, Disk, DiskSource, Domain, ImageSource, Step};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Location, Pool, WriteOptions};
use uuid::Uuid;

use crate::agent::Agent;
use crate::config::HostPool;
use crate::steps::Steps;

impl Agent {
    pub(crate) fn pool(&self, name: &str) -> Result<&HostPool> {
        let pool = self.pools.iter().find(|pool| pool.pool.name() == name);
        pool.ok_or_else(|| Error::not_found(format!("Host '{}' has no pool '{name}'.", self.config.host)))
    }

    /// Makes what is missing. `defined`: the hypervisor knows the guest, so its disks were whole when it was started.
    pub(crate) async fn make_disks(
        &self,
        server_id: Uuid,
        domain: &Domain,
        defined: bool,
        cancel: &CancellationToken,
        steps: &mut Steps,
    ) -> Result<()> {
        let anew = domain.first_start && !defined;
        for disk in &domain.disks {
            let pool = self.pool(&disk.at.pool)?;
            if !self.is_there(&*pool.pool, disk, anew).await? {
                self.make_disk(pool, disk, cancel, steps).await.map_err(|error| {
                    error.because(format!("disk {} of server {server_id} in pool {}", disk.at.name, disk.at.pool))
                })?;
            }
        }
        match &domain.config_drive {
            Some(drive) => self.make_config_drive(drive, anew, steps).await,
            None => Ok(()),
        }
    }

    /// Whether the disk exists and is whole. What is not whole is taken away or mended.
    async fn is_there(&self, pool: &dyn Pool, disk: &Disk, anew: bool) -> Result<bool> {
        let name = &disk.at.name;
        let Some(info) = pool.stat(name).await? else {
            return Ok(false);
        };
        let from_image = matches!(disk.source, DiskSource::Image(_));
        if anew && from_image && info.parent.is_none() {
            // An import is many writes, and a process that was killed in the midst of them leaves a disk with a name
            // and a size but not all its bytes. The guest has never run, so nothing of it can be lost.
            remove(pool, name).await?;
            return Ok(false);
        }
        if info.size < disk.size_bytes {
            // Cloned, and the process was killed before the disk was grown.
            pool.resize(name, disk.size_bytes).await?;
        }
        Ok(true)
    }

    async fn make_disk(
        &self,
        pool: &HostPool,
        disk: &Disk,
        cancel: &CancellationToken,
        steps: &mut Steps,
    ) -> Result<()> {
        let (name, to) = (&disk.at.name, &*pool.pool);
        let DiskSource::Image(image) = &disk.source else {
            let detail = format!("{} bytes in pool {}", disk.size_bytes, disk.at.pool);
            return steps.run(Step::DiskCreate, detail, made(to, name, to.create(name, disk.size_bytes))).await;
        };
        let why = match self.parent(to, image).await {
            Ok(parent) => {
                let detail = format!("clone of {parent} in pool {}", disk.at.pool);
                let cloned = made(to, name, to.clone_disk(&parent, name, disk.size_bytes));
                match steps.run(Step::DiskClone, detail, cloned).await {
                    // The parent went between the look and the clone; the image service may still have the bytes.
                    Err(error) if error.is(Kind::NotFound) => error.message().to_owned(),
                    outcome => return outcome,
                }
            }
            Err(why) => why,
        };
        let detail = format!("imported into pool {}: {why}", disk.at.pool);
        let import = async {
            let _turn = self.imports.acquire().await.map_err(Error::internal)?;
            self.import(to, disk, image, cancel).await
        };
        steps.run(Step::DiskImport, detail, import).await
    }

    /// The place to clone from, or why there is none, in words for the server's owner.
    async fn parent(&self, pool: &dyn Pool, image: &ImageSource) -> Result<Location, String> {
        if image.disk_format != "raw" {
            return Err(format!("image is {}", image.disk_format));
        }
        let mut why = None;
        for location in &image.locations {
            let Ok(location) = location.parse::<Location>() else {
                continue;
            };
            match pool.can_clone(&location).await {
                Ok(()) => return Ok(location),
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        Err(why.unwrap_or_else(|| "the image service names no place to clone from".to_owned()))
    }

    async fn make_config_drive(&self, drive: &ConfigDrive, anew: bool, steps: &mut Steps) -> Result<()> {
        let pool = &*self.pool(&drive.at.pool)?.pool;
        let name = &drive.at.name;
        if pool.stat(name).await?.is_some() {
            if !anew {
                return Ok(());
            }
            remove(pool, name).await?;
        }
        let image = crate::report::iso(drive);
        let detail = format!("{} files in pool {}", drive.files.len(), drive.at.pool);
        let options = WriteOptions { size: Some(image.len() as u64), ..WriteOptions::default() };
        let data = futures_util::stream::iter([Ok(image.into())]);
        let write = async { pool.write(name, Box::pin(data), options).await.map(drop) };
        steps.run(Step::ConfigDrive, detail, made(pool, name, write)).await
    }
}

/// A disk that is there now was made by an earlier attempt whose answer was lost.
async fn made(pool: &dyn Pool, name: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    match work.await {
        Err(error) if error.is(Kind::Conflict) && pool.stat(name).await?.is_some() => Ok(()),
        outcome => outcome,
    }
}

async fn remove(pool: &dyn Pool, name: &str) -> Result<()> {
    pool.remove(name).await.map(drop)
}
