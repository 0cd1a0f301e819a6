use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;
use umbel_api::Method;
use umbel_client::{ImageLocation, ImageView, NewImage};
use umbel_core::{Ctx, Error, Kind, Result};

use crate::model::ImageSnapshot;

use super::Compute;
use super::server_images::ATTRIBUTES;
use super::volumes::Who;

/// The image service, as compute asks it.
#[async_trait]
pub trait ImageCatalog: Send + Sync {
    /// With the caller's token: what the caller may not see is `NotFound`.
    async fn show(&self, token: &str, id: &str) -> Result<ImageView>;

    /// Where the bytes lie, asked with compute's own token.
    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>>;

    /// As compute itself sees it, whoever's it is.
    async fn state(&self, id: &str) -> Result<ImageView>;

    /// Images that somebody sees with these attributes and properties, the newest first: at most a hundred.
    async fn find(&self, who: Who<'_>, having: &[(&str, &str)]) -> Result<Vec<ImageView>>;

    /// Names an image, with the caller's token: it is the caller's project's, and counts for its quota.
    async fn create(&self, token: &str, new: &NewImage) -> Result<ImageView>;

    /// Gives an image more properties, or others.
    async fn set_properties(&self, who: Who<'_>, id: &str, properties: &BTreeMap<String, String>) -> Result<()>;

    /// Makes an image active that has no bytes, only properties.
    async fn complete_empty(&self, who: Who<'_>, id: &str) -> Result<()>;

    /// Makes an image active with a snapshot's bytes, where they lie: with compute's own token. `BadRequest` where the
    /// image service cannot take them from there, `Conflict` for an image that is not queued.
    async fn add_location(&self, id: &str, url: &str) -> Result<()>;

    async fn delete(&self, who: Who<'_>, id: &str) -> Result<()>;

    /// Any call, with the caller's token: for the old proxies. Its body is JSON, or a JSON patch for `PATCH`.
    async fn raw(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value>;
}

/// Attributes that the image service answers beside an image's own properties.
const NOT_PROPERTIES: &[&str] = &[
    "checksum",
    "created_at",
    "direct_url",
    "file",
    "locations",
    "os_hash_algo",
    "os_hash_value",
    "os_hidden",
    "protected",
    "schema",
    "self",
    "stores",
    "tags",
    "umbel_twin",
    "updated_at",
];

impl Compute {
    /// The image that a new server is made from: there, active, and with its locations.
    pub(super) async fn image(&self, ctx: &Ctx, id: &str) -> Result<ImageSnapshot> {
        let token = ctx.token.as_deref().unwrap_or_default();
        // Side by side: for an image that is not the caller's the locations are thrown away.
        let (image, locations) = tokio::join!(self.images.show(token, id), self.images.locations(id));
        let image = image.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::Forbidden | Kind::BadRequest => {
                Error::bad_request("Can not find requested image").because(error.for_log())
            }
            _ => error,
        })?;
        if image.status != "active" {
            return Err(Error::bad_request(format!("Image {id} is not active.")));
        }
        let (Some(disk_format), Some(container_format)) = (image.disk_format.clone(), image.container_format.clone())
        else {
            return Err(Error::bad_request(format!("Image {id} is unacceptable: it has no format.")));
        };
        // An image whose service does not tell them is downloaded; that is slower and not a failure.
        let locations = locations.unwrap_or_else(|error| {
            tracing::warn!(image = id, cause = error.cause(), "an image's locations are unknown: {error}");
            Vec::new()
        });
        // Clones are made of raw disks only: the image itself, or the twin that its service keeps beside it.
        let raw = locations.into_iter().filter(|location| location.is_raw(&disk_format));
        let locations = raw.map(|location| location.url).collect();
        Ok(ImageSnapshot {
            id: image.id.clone(),
            name: image.name.clone(),
            disk_format,
            container_format,
            size: image.size,
            virtual_size: image.virtual_size,
            min_disk_gib: image.min_disk,
            min_ram_mib: image.min_ram,
            properties: properties(&image),
            locations,
        })
    }
}

/// The properties of an image as its service writes it, among its attributes.
pub(crate) fn own_properties(image: &Value) -> BTreeMap<String, String> {
    let members = image.as_object().into_iter().flatten();
    let own =
        members.filter(|(name, _)| !ATTRIBUTES.contains(&name.as_str()) && !NOT_PROPERTIES.contains(&name.as_str()));
    own.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn properties(image: &ImageView) -> BTreeMap<String, String> {
    let own = image.properties.iter().filter(|(name, _)| !NOT_PROPERTIES.contains(&name.as_str()));
    own.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}
