//! What the service needs of other services. Written as traits, so that tests and processes bring what they have.

use async_trait::async_trait;
use umbel_client::{ImageData, ImageLocation, ImageView, NewImage};
use umbel_core::Result;
use umbel_driver::ByteStream;

/// The image service. `token`: the caller's; none for this service's own.
#[async_trait]
pub trait ImageAccess: Send + Sync {
    async fn show(&self, token: Option<&str>, id: &str) -> Result<ImageView>;
    /// With the service's own token. Raw twins of images in other formats come first.
    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>>;
    async fn download(&self, id: &str) -> Result<ImageData>;
    async fn create(&self, token: Option<&str>, new: &NewImage) -> Result<ImageView>;
    async fn add_location(&self, id: &str, url: &str) -> Result<()>;
    async fn upload(&self, id: &str, size: Option<u64>, data: ByteStream) -> Result<()>;
    async fn delete(&self, id: &str) -> Result<()>;
}

/// The compute service.
#[async_trait]
pub trait ServerAccess: Send + Sync {
    /// Tells it that a volume that the server has attached has grown.
    async fn extended(&self, server_id: &str, volume_id: &str) -> Result<()>;

    /// Tells it that a volume that the server has is to go to another disk, which its attachment names. It ends with the
    /// volume's `os-migrate_volume_completion`. Told again, it goes on.
    async fn moving(&self, server_id: &str, volume_id: &str) -> Result<()>;

    /// Whether the server has the volume by this attachment, or may have it: one that a user ends behind the server's back
    /// would give its bytes to the next one. Who cannot tell says yes.
    async fn holds(&self, server_id: &str, volume_id: &str, attachment_id: &str) -> Result<bool>;
}
