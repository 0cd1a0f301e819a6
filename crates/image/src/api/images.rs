use std::sync::Arc;

use serde_json::{Map, Value};
use umbel_api::image::{Image, ImageList, ShownLocation};
use umbel_core::{Error, Kind, Result};
use umbel_http::{Reply, Req, next_link};

use crate::Images;
use crate::listing::Listing;
use crate::model::{ImageId, Record, TWIN_PROPERTY};
use crate::patch::{self, Draft};

/// Paths in bodies are relative to the service, as upstream's are; clients put its URL before them.
const IMAGES: &str = "/v2/images";

pub async fn create(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let body: Map<String, Value> = req.json().await?;
    let record = state.create(&req.ctx, body).await?;
    let reply = Reply::json(201, &state.view(&record))
        .header("location", req.url(&format!("{IMAGES}/{}", record.id)))
        .header("openstack-image-store-ids", state.store_names().join(","));
    let methods = state.import_methods();
    Ok(match methods.is_empty() {
        true => reply,
        false => reply.header("openstack-image-import-methods", methods.join(",")),
    })
}

pub async fn list(state: Arc<Images>, req: Req) -> Result<Reply> {
    check_id_is_meant(&req)?;
    let listing = Listing::parse(&req.query_pairs(), &state.config)?;
    let (records, more) = state.list(&req.ctx, &listing).await?;
    let next = match records.last() {
        Some(last) if more => Some(next_link(&req, IMAGES, &last.id.to_string())),
        _ => None,
    };
    let body = ImageList {
        images: state.views(&records).await?,
        first: first_link(&req, IMAGES),
        next,
        schema: "/v2/schemas/images".into(),
    };
    Ok(Reply::json(200, &body))
}

pub async fn show(state: Arc<Images>, req: Req) -> Result<Reply> {
    let record = state.show(&req.ctx, image_id(&req)?).await?;
    let views = state.views(std::slice::from_ref(&record)).await?;
    let view = views.into_iter().next().ok_or_else(|| Error::internal("an image without a view"))?;
    Ok(Reply::json(200, &view))
}

pub async fn update(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let id = image_id(&req)?;
    let draft = req.content_type().as_deref().and_then(Draft::of).ok_or_else(|| {
        let types = Draft::MEDIA_TYPES.map(|(name, _)| name).join(", ");
        Error::new(Kind::UnsupportedMediaType, format!("Image PATCH expects Content-Type one of: {types}"))
    })?;
    let changes = patch::parse(draft, &req.bytes().await?)?;
    let record = state.update(&req.ctx, id, changes).await?;
    Ok(Reply::json(200, &state.view(&record)))
}

pub async fn delete(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.delete(&req.ctx, image_id(&req)?).await?;
    Ok(Reply::empty(204))
}

pub async fn delete_none(_: Arc<Images>, req: Req) -> Result<Reply> {
    check_id_is_meant(&req)?;
    Err(Error::new(Kind::MethodNotAllowed, "The method is not allowed for this resource."))
}

/// `/v2/images/` is an image whose id is empty, not the list: a client that lost the id must not meet everything.
fn check_id_is_meant(req: &Req) -> Result<()> {
    match req.path.ends_with('/') {
        true => Err(Error::not_found("No image found with an empty ID.")),
        false => Ok(()),
    }
}

pub fn image_id(req: &Req) -> Result<ImageId> {
    let text = req.param("image_id")?;
    text.parse().map_err(|_| Error::not_found(format!("No image found with ID {text}")))
}

/// This request's own URL, without the marker.
pub(super) fn first_link(req: &Req, path: &str) -> String {
    let link = next_link(req, path, "");
    let link = link.strip_suffix("marker=").unwrap_or(&link);
    link.trim_end_matches(['?', '&']).to_owned()
}

impl Images {
    /// Images as clients see them, with how far their twins are.
    async fn views(&self, records: &[Record]) -> Result<Vec<Image>> {
        let mut progress = self.twin_progress(records).await?;
        let view = |record: &Record| {
            let mut view = self.view(record);
            if let Some(progress) = progress.remove(&record.id) {
                view.properties.insert(TWIN_PROPERTY.to_owned(), Some(progress));
            }
            view
        };
        Ok(records.iter().map(view).collect())
    }

    /// The image without what others make of it.
    fn view(&self, record: &Record) -> Image {
        let (meta, data) = (&record.meta, &record.data);
        let web = self.config.web_store.as_deref().filter(|_| !record.web.is_empty());
        let stores: Vec<&str> = record.places.iter().map(|place| place.store.as_str()).chain(web).collect();
        let direct_url = self.preferred(&record.places, &[]).filter(|_| self.config.show_direct_url);
        Image {
            id: record.id,
            name: meta.name.clone(),
            status: record.status,
            visibility: meta.visibility,
            protected: meta.protected,
            os_hidden: meta.hidden,
            checksum: data.checksum.clone(),
            os_hash_algo: data.hash_algorithm.clone(),
            os_hash_value: data.hash.clone(),
            size: data.size,
            virtual_size: data.virtual_size,
            container_format: meta.container_format,
            disk_format: meta.disk_format,
            min_disk: meta.min_disk,
            min_ram: meta.min_ram,
            owner: meta.owner.clone(),
            created_at: record.created_at.iso(),
            updated_at: record.updated_at.iso(),
            tags: meta.tags.iter().cloned().collect(),
            self_path: format!("{IMAGES}/{}", record.id),
            file: format!("{IMAGES}/{}/file", record.id),
            schema: "/v2/schemas/image".into(),
            stores: (!stores.is_empty()).then(|| stores.join(",")),
            direct_url: direct_url.map(|place| place.url.clone()),
            locations: self.config.show_multiple_locations.then(|| self.shown_locations(record)),
            properties: meta.properties.clone(),
        }
    }

    /// Places in stores, and those on the web.
    fn shown_locations(&self, record: &Record) -> Vec<ShownLocation> {
        let shown = |url: &str, mut metadata: Map<String, Value>, store: Option<&str>| {
            metadata.extend(store.map(|store| ("store".to_owned(), store.into())));
            ShownLocation { url: url.to_owned(), metadata }
        };
        let places = record.places.iter().map(|place| shown(&place.url, Map::new(), Some(&place.store)));
        let web = record.web.iter();
        places
            .chain(web.map(|place| shown(&place.url, place.metadata.clone(), self.config.web_store.as_deref())))
            .collect()
    }

    pub(super) fn store_names(&self) -> Vec<&str> {
        self.stores.iter().map(|store| store.name.as_str()).collect()
    }
}
