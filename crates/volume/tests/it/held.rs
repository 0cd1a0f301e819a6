//! A pool that stops where a test wants to look: at a moment that would be over otherwise before anybody had seen it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use umbel_core::Result;
use umbel_driver::{
    Attachment, ByteStream, Capacity, ChangeStream, Child, DiskInfo, Extent, Hidden, Limits, Location, Pool, Progress,
    Removed, Usage, WriteOptions,
};

/// Where whoever comes by waits to be let on, once it is shut.
pub struct Door {
    shut: AtomicBool,
    come: Semaphore,
    let_on: Semaphore,
    /// What the last one that came had to tell.
    told: Mutex<u64>,
}

impl Default for Door {
    fn default() -> Self {
        Door {
            shut: AtomicBool::new(false),
            come: Semaphore::new(0),
            let_on: Semaphore::new(0),
            told: Mutex::default(),
        }
    }
}

impl Door {
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// For those who come from now on.
    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    /// Waits until somebody stands at it; what was told there.
    pub async fn reached(&self) -> u64 {
        self.come.acquire().await.unwrap().forget();
        *self.told.lock()
    }

    /// Lets one on.
    pub fn let_on(&self) {
        self.let_on.add_permits(1);
    }

    async fn pass(&self, told: u64) {
        if self.shut.load(Ordering::SeqCst) {
            *self.told.lock() = told;
            self.come.add_permits(1);
            self.let_on.acquire().await.unwrap().forget();
        }
    }
}

/// The pool inside does all the work.
pub struct HeldPool {
    inner: Arc<dyn Pool>,
    /// Before its capacity is told.
    pub capacity: Arc<Door>,
    /// After each piece of a disk that is flattened, with how many bytes are done. Stops the pool's own thread: tests that
    /// shut it need a runtime with several.
    pub flattened: Arc<Door>,
}

impl HeldPool {
    pub fn new(inner: Arc<dyn Pool>) -> Arc<HeldPool> {
        Arc::new(HeldPool { inner, capacity: Arc::default(), flattened: Arc::default() })
    }
}

#[async_trait]
impl Pool for HeldPool {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn location(&self, disk: &str, snapshot: &str) -> Location {
        self.inner.location(disk, snapshot)
    }

    async fn capacity(&self) -> Result<Capacity> {
        self.capacity.pass(0).await;
        self.inner.capacity().await
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.inner.list().await
    }

    async fn stat(&self, disk: &str) -> Result<Option<DiskInfo>> {
        self.inner.stat(disk).await
    }

    async fn create(&self, disk: &str, size: u64) -> Result<()> {
        self.inner.create(disk, size).await
    }

    async fn write(&self, disk: &str, data: ByteStream, options: WriteOptions) -> Result<u64> {
        self.inner.write(disk, data, options).await
    }

    async fn read(&self, disk: &str, snapshot: Option<&str>, offset: u64, length: u64) -> Result<ByteStream> {
        self.inner.read(disk, snapshot, offset, length).await
    }

    async fn snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.inner.snapshot(disk, snapshot).await
    }

    async fn snapshot_size(&self, disk: &str, snapshot: &str) -> Result<u64> {
        self.inner.snapshot_size(disk, snapshot).await
    }

    async fn remove_snapshot(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.inner.remove_snapshot(disk, snapshot).await
    }

    async fn rollback(&self, disk: &str, snapshot: &str) -> Result<()> {
        self.inner.rollback(disk, snapshot).await
    }

    async fn can_clone(&self, parent: &Location) -> Result<(), String> {
        self.inner.can_clone(parent).await
    }

    async fn clone_disk(&self, parent: &Location, disk: &str, size: u64) -> Result<()> {
        self.inner.clone_disk(parent, disk, size).await
    }

    async fn resize(&self, disk: &str, size: u64) -> Result<()> {
        self.inner.resize(disk, size).await
    }

    async fn flatten(&self, disk: &str, progress: Progress) -> Result<()> {
        let door = self.flattened.clone();
        let held: Progress = Arc::new(move |done| {
            progress(done);
            tokio::task::block_in_place(|| Handle::current().block_on(door.pass(done)));
        });
        self.inner.flatten(disk, held).await
    }

    async fn remove(&self, disk: &str) -> Result<Removed> {
        self.inner.remove(disk).await
    }

    async fn purge(&self) -> Result<Vec<String>> {
        self.inner.purge().await
    }

    fn attachment(&self, disk: &str) -> Attachment {
        self.inner.attachment(disk)
    }

    async fn rename(&self, disk: &str, to: &str) -> Result<()> {
        self.inner.rename(disk, to).await
    }

    async fn rename_snapshot(&self, disk: &str, snapshot: &str, to: &str) -> Result<()> {
        self.inner.rename_snapshot(disk, snapshot, to).await
    }

    async fn snapshot_together(&self, disks: &[(&str, &str)]) -> Result<()> {
        self.inner.snapshot_together(disks).await
    }

    async fn diff(&self, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Vec<Extent>> {
        self.inner.diff(disk, from, to).await
    }

    async fn patch(&self, disk: &str, changes: ChangeStream, progress: Progress) -> Result<u64> {
        self.inner.patch(disk, changes, progress).await
    }

    async fn children(&self, disk: &str, snapshot: &str) -> Result<Vec<Child>> {
        self.inner.children(disk, snapshot).await
    }

    async fn usage(&self, disk: &str) -> Result<Usage> {
        self.inner.usage(disk).await
    }

    async fn hidden(&self) -> Result<Vec<Hidden>> {
        self.inner.hidden().await
    }

    async fn limit(&self, disk: &str, limits: &Limits) -> Result<()> {
        self.inner.limit(disk, limits).await
    }

    async fn limits(&self, disk: &str) -> Result<Limits> {
        self.inner.limits(disk).await
    }
}
