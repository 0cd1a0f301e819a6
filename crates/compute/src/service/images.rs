use std::collections::BTreeMap;

use async_trait::async_trait;
use umbel_client::{ImageLocation, ImageView};
use umbel_core::{Ctx, Error, Kind, Result};

use crate::model::ImageSnapshot;

use super::Compute;

/// The image service, as compute asks it.
#[async_trait]
pub trait ImageCatalog: Send + Sync {
    /// With the caller's token: what the caller may not see is `NotFound`.
    async fn show(&self, token: &str, id: &str) -> Result<ImageView>;

    /// Where the bytes lie, asked with compute's own token.
    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>>;
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

fn properties(image: &ImageView) -> BTreeMap<String, String> {
    let own = image.properties.iter().filter(|(name, _)| !NOT_PROPERTIES.contains(&name.as_str()));
    own.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}
