//! A server's disks: cloned where that is possible, imported where not, and the reason for it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use umbel_bus::{ConfigDrive, Disk, DiskSource, Domain, ImageSource, Step};
use umbel_core::{Error, Kind, Result};
use umbel_driver::{Location, Pool, WriteOptions};

use crate::agent::Agent;
use crate::steps::Steps;

/// How disks are made.
struct Make<'a> {
    /// The guest has never run: what bears its disks' names is what an attempt left.
    anew: bool,
    cancel: &'a CancellationToken,
}

impl Agent {
    pub(crate) fn pool(&self, name: &str) -> Result<&Arc<dyn Pool>> {
        let pool = self.pools.find(name);
        pool.ok_or_else(|| Error::not_found(format!("Host '{}' has no pool '{name}'.", self.config.host)))
    }

    /// Makes what is missing, side by side. `defined`: the hypervisor knows the guest, so its disks were whole when it
    /// was started.
    pub(crate) async fn make_disks(
        &self,
        domain: &Domain,
        defined: bool,
        cancel: &CancellationToken,
        steps: &mut Steps,
    ) -> Result<()> {
        let make = Make { anew: domain.first_start && !defined, cancel };
        let disks = domain.disks.iter().map(|disk| self.disk(disk, &make));
        let drive = async {
            match &domain.config_drive {
                Some(drive) => self.drive(drive, &make).await,
                None => (Ok(()), None),
            }
        };
        // All of them end, also when one fails: what is dropped in the midst could go on behind the removal that follows.
        let (made, drive) = futures_util::future::join(futures_util::future::join_all(disks), drive).await;
        let (outcomes, taken): (Vec<_>, Vec<_>) = made.into_iter().chain([drive]).unzip();
        taken.into_iter().flatten().for_each(|taken| steps.absorb(taken));
        outcomes.into_iter().collect()
    }

    async fn disk(&self, disk: &Disk, make: &Make<'_>) -> (Result<()>, Option<Steps>) {
        let mut steps = Steps::new(&self.clock);
        let outcome = async {
            let pool = self.pool(&disk.at.pool)?;
            let from_image = matches!(disk.source, DiskSource::Image(_));
            if !make.anew && is_there(&**pool, &disk.at.name, disk.size_bytes).await? {
                return Ok(());
            }
            match self.make_disk(&**pool, disk, make, &mut steps).await {
                // What an earlier attempt left: whole, if that can be told, else it is taken away.
                Err(error) if error.is(Kind::Conflict) && make.anew => {
                    if is_whole(&**pool, disk, from_image).await? {
                        return Ok(());
                    }
                    self.make_disk(&**pool, disk, make, &mut steps).await
                }
                outcome => outcome,
            }
        };
        let outcome = outcome
            .await
            .map_err(|error: Error| error.because(format!("disk {} in pool {}", disk.at.name, disk.at.pool)));
        (outcome, Some(steps))
    }

    async fn make_disk(&self, to: &dyn Pool, disk: &Disk, make: &Make<'_>, steps: &mut Steps) -> Result<()> {
        let name = &disk.at.name;
        let DiskSource::Image(image) = &disk.source else {
            let detail = format!("{} bytes in pool {}", disk.size_bytes, disk.at.pool);
            return steps.run_unless_there(Step::DiskCreate, detail, to.create(name, disk.size_bytes)).await;
        };
        let why = match self.parent(to, image).await {
            Ok(parent) => {
                let detail = format!("clone of {parent} in pool {}", disk.at.pool);
                let cloned = to.clone_disk(&parent, name, disk.size_bytes);
                match steps.run_unless_there(Step::DiskClone, detail, cloned).await {
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
            self.import(to, disk, image, make.cancel).await
        };
        steps.run_unless_there(Step::DiskImport, detail, import).await
    }

    /// The place to clone from, or why there is none, in words for the server's owner.
    async fn parent(&self, pool: &dyn Pool, image: &ImageSource) -> Result<Location, String> {
        // Places that come with an image of another format are those of its raw twin.
        if image.disk_format != "raw" && image.locations.is_empty() {
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

    async fn drive(&self, drive: &ConfigDrive, make: &Make<'_>) -> (Result<()>, Option<Steps>) {
        let mut steps = Steps::new(&self.clock);
        let outcome = async {
            let pool = &**self.pool(&drive.at.pool)?;
            if !make.anew && is_there(pool, &drive.at.name, 0).await? {
                return Ok(());
            }
            match write_drive(pool, drive, &mut steps).await {
                // Cheaper written again than compared.
                Err(error) if error.is(Kind::Conflict) && make.anew => {
                    remove(pool, &drive.at.name).await?;
                    write_drive(pool, drive, &mut steps).await
                }
                outcome => outcome,
            }
        };
        (outcome.await, Some(steps))
    }
}

async fn write_drive(pool: &dyn Pool, drive: &ConfigDrive, steps: &mut Steps) -> Result<()> {
    let image = crate::report::iso(drive);
    let detail = format!("{} files in pool {}", drive.files.len(), drive.at.pool);
    let options = WriteOptions { size: Some(image.len() as u64), ..WriteOptions::default() };
    let data = futures_util::stream::iter([Ok(image.into())]);
    let write = async { pool.write(&drive.at.name, Box::pin(data), options).await.map(drop) };
    steps.run_unless_there(Step::ConfigDrive, detail, write).await
}

/// Whether the disk exists. One that is too small was cloned, and the process killed before it was grown.
async fn is_there(pool: &dyn Pool, name: &str, size: u64) -> Result<bool> {
    let Some(info) = pool.stat(name).await? else {
        return Ok(false);
    };
    if info.size < size {
        pool.resize(name, size).await?;
    }
    Ok(true)
}

/// Whether a disk of a server that has never run is all that it should be; if that cannot be told, it is removed.
///
/// An import is many writes, and a process that was killed in the midst of them leaves a disk with a name and a size but
/// not all its bytes. The guest has never run, so nothing of it can be lost.
async fn is_whole(pool: &dyn Pool, disk: &Disk, from_image: bool) -> Result<bool> {
    let name = &disk.at.name;
    let cloned = pool.stat(name).await?.is_some_and(|info| info.parent.is_some());
    if from_image && !cloned {
        remove(pool, name).await?;
        return Ok(false);
    }
    if is_there(pool, name, disk.size_bytes).await? {
        return Ok(true);
    }
    // A name without a disk: the rest of a creation that was killed.
    remove(pool, name).await?;
    Ok(false)
}

/// For as long a store may hold a disk in use in the name of a guest that was killed; Ceph does so for 30 s.
const IN_USE: Duration = Duration::from_secs(40);

/// Takes the disk away, waiting for one that is only about to be free.
pub(crate) async fn remove(pool: &dyn Pool, name: &str) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        match pool.remove(name).await {
            Err(error) if error.is(Kind::Busy) && begun.elapsed() < IN_USE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            outcome => return outcome.map(drop),
        }
    }
}
