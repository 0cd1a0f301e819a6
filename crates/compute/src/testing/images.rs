use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use umbel_api::Method;
use umbel_client::{ImageLocation, ImageView, LocationMetadata, NewImage};
use umbel_core::{Error, Kind, Result};

use crate::{ImageCatalog, Who};

/// An image service in memory. All tokens are one project's.
#[derive(Default)]
pub struct MemoryImages {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The oldest first.
    images: Vec<ImageView>,
    locations: BTreeMap<String, String>,
    failing: BTreeMap<&'static str, (usize, Kind)>,
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("No image found with ID {id}"))
}

impl Inner {
    fn begin(&mut self, call: &'static str) -> Result<()> {
        match self.failing.get_mut(call) {
            Some((times, kind)) if *times > 0 => {
                *times -= 1;
                Err(Error::new(*kind, format!("{call} was told to fail")))
            }
            _ => Ok(()),
        }
    }

    fn get(&mut self, id: &str) -> Result<&mut ImageView> {
        self.images.iter_mut().find(|image| image.id == id).ok_or_else(|| missing(id))
    }

    fn complete(&mut self, id: &str, size: u64) -> Result<()> {
        let image = self.get(id)?;
        if image.status != "queued" {
            return Err(Error::conflict(format!("Image {id} is {}.", image.status)));
        }
        image.status = "active".to_owned();
        (image.size, image.virtual_size) = (Some(size), Some(size));
        Ok(())
    }
}

impl MemoryImages {
    /// In the place of one with the same id, if there is one.
    pub fn add(&self, image: ImageView) {
        let mut inner = self.inner.lock();
        inner.images.retain(|known| known.id != image.id);
        inner.images.push(image);
    }

    pub fn all(&self) -> Vec<ImageView> {
        self.inner.lock().images.clone()
    }

    /// The image, if it is there.
    pub fn get(&self, id: &str) -> Option<ImageView> {
        self.inner.lock().get(id).ok().cloned()
    }

    /// Where an image's bytes were said to be.
    pub fn location(&self, id: &str) -> Option<String> {
        self.inner.lock().locations.get(id).cloned()
    }

    /// The next calls of this name fail.
    pub fn fail_next(&self, call: &'static str, times: usize, kind: Kind) {
        self.inner.lock().failing.insert(call, (times, kind));
    }

    /// What a host sends; sent once more it is no failure.
    pub fn upload(&self, id: &str, size: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.begin("upload")?;
        let image = inner.get(id)?;
        if image.status == "active" && image.size == Some(size) {
            return Ok(());
        }
        inner.complete(id, size)
    }
}

#[async_trait]
impl ImageCatalog for MemoryImages {
    async fn show(&self, _: &str, id: &str) -> Result<ImageView> {
        self.inner.lock().get(id).cloned()
    }

    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>> {
        Ok(vec![ImageLocation { url: format!("rbd://fsid/images/{id}/snap"), metadata: LocationMetadata::default() }])
    }

    async fn state(&self, id: &str) -> Result<ImageView> {
        self.inner.lock().get(id).cloned()
    }

    async fn find(&self, _: Who<'_>, having: &[(&str, &str)]) -> Result<Vec<ImageView>> {
        let has = |image: &&ImageView| {
            having.iter().all(|(name, value)| image.properties.get(*name).is_some_and(|own| own == value))
        };
        Ok(self.inner.lock().images.iter().rev().filter(has).cloned().collect())
    }

    async fn create(&self, token: &str, new: &NewImage) -> Result<ImageView> {
        if token.is_empty() {
            return Err(Error::unauthorized("An image needs its owner's token."));
        }
        let mut inner = self.inner.lock();
        inner.begin("create")?;
        let mut text = json!(new);
        text["status"] = json!("queued");
        text["id"] = json!(new.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()));
        let image: ImageView = serde_json::from_value(text).map_err(Error::internal)?;
        inner.images.push(image.clone());
        Ok(image)
    }

    async fn set_properties(&self, _: Who<'_>, id: &str, properties: &BTreeMap<String, String>) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.begin("set_properties")?;
        let image = inner.get(id)?;
        image.properties.extend(properties.iter().map(|(name, value)| (name.clone(), json!(value))));
        Ok(())
    }

    async fn complete_empty(&self, _: Who<'_>, id: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.begin("complete_empty")?;
        inner.complete(id, 0)
    }

    async fn add_location(&self, id: &str, url: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.begin("add_location")?;
        inner.complete(id, 1)?;
        inner.locations.insert(id.to_owned(), url.to_owned());
        Ok(())
    }

    async fn delete(&self, _: Who<'_>, id: &str) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.begin("delete")?;
        inner.get(id)?;
        inner.images.retain(|image| image.id != id);
        Ok(())
    }

    async fn raw(&self, _: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let id = path.split('?').next().unwrap_or_default().trim_start_matches("/v2/images").trim_start_matches('/');
        let shown = |image: &ImageView| {
            let mut shown = json!({
                "id": image.id, "name": image.name, "status": image.status, "min_disk": image.min_disk,
                "min_ram": image.min_ram, "size": image.size, "created_at": "2026-11-21T10:00:00Z",
                "updated_at": "2026-11-21T10:00:00Z", "visibility": "private", "tags": [], "locations": [],
            });
            for (name, value) in &image.properties {
                shown[name] = value.clone();
            }
            shown
        };
        let mut inner = self.inner.lock();
        match (method, id) {
            (Method::Get, "") => Ok(json!({"images": inner.images.iter().map(shown).collect::<Vec<_>>()})),
            (Method::Get, id) => inner.get(id).map(|image| shown(image)),
            (Method::Patch, id) => {
                let image = inner.get(id)?;
                for change in body.as_ref().and_then(Value::as_array).into_iter().flatten() {
                    let name = change["path"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
                    match change["op"].as_str() {
                        Some("remove") => image.properties.remove(&name),
                        _ => image.properties.insert(name, change["value"].clone()),
                    };
                }
                Ok(shown(image))
            }
            (Method::Delete, id) => {
                inner.get(id)?;
                inner.images.retain(|image| image.id != id);
                Ok(Value::Null)
            }
            _ => Err(missing(id)),
        }
    }
}
