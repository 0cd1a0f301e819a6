//! The image service behind compute's old paths: its answers, in compute's old words.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use umbel_api::Method;
use umbel_api::compute::NextLink;
use umbel_api::compute::images::{
    DELETE, DETAIL, Details, Image, Images, LIST, Link, METADATA_DELETE, METADATA_LIST, METADATA_MERGE,
    METADATA_REPLACE, METADATA_SET, METADATA_SHOW, OneImage, SHOW, Server,
};
use umbel_api::compute::metadata::{Meta, Metadata};
use umbel_core::{Error, Kind, Result};
use umbel_http::{Reply, Req, Routes, next_link};
use uuid::Uuid;

use super::input::metadata_item;
use crate::Compute;
use crate::service::images::own_properties;
use crate::service::volumes::token;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&LIST, list)
        .on(&DETAIL, list)
        .on(&SHOW, show)
        .on(&DELETE, delete)
        .on(&METADATA_LIST, metadata)
        .on(&METADATA_MERGE, merge)
        .on(&METADATA_REPLACE, replace)
        .on(&METADATA_SHOW, show_item)
        .on(&METADATA_SET, set_item)
        .on(&METADATA_DELETE, delete_item)
}

/// Statuses of the image service: what compute calls each, and how far it is, in percent.
const STATUSES: [(&str, &str, u8); 8] = [
    ("active", "ACTIVE", 100),
    ("queued", "SAVING", 25),
    ("saving", "SAVING", 50),
    ("uploading", "SAVING", 50),
    ("importing", "SAVING", 50),
    ("killed", "ERROR", 0),
    ("deleted", "DELETED", 0),
    ("pending_delete", "DELETED", 0),
];

fn text<'v>(of: &'v Value, name: &str) -> &'v str {
    of[name].as_str().unwrap_or_default()
}

fn links(root: &str, collection: &str, id: &str) -> Vec<Link> {
    let link = |rel, href| Link { rel, href, kind: None };
    let mut links = vec![link("self", format!("{root}/v2.1/{collection}/{id}"))];
    let bookmark = format!("{root}/{collection}/{id}");
    links.push(link("bookmark", bookmark.clone()));
    if collection == "images" {
        links.push(Link { rel: "alternate", href: bookmark, kind: Some("application/vnd.openstack.image") });
    }
    links
}

fn image(root: &str, of: &Value, detailed: bool) -> Image {
    let id = text(of, "id");
    let details = detailed.then(|| {
        let known = STATUSES.iter().find(|(status, ..)| *status == text(of, "status"));
        let (status, progress) = known.map_or(("UNKNOWN", 0), |(_, status, progress)| (*status, *progress));
        let number = |name: &str| of[name].as_u64().unwrap_or(0);
        let metadata = own_properties(of);
        let server = metadata.get("instance_uuid").map(|id| {
            let links = links(root, "servers", id);
            Server { id: id.clone(), links }
        });
        Details {
            status,
            progress,
            min_disk: number("min_disk"),
            min_ram: number("min_ram"),
            created: text(of, "created_at").to_owned(),
            updated: text(of, "updated_at").to_owned(),
            metadata,
            server,
            size: number("size"),
        }
    });
    Image { id: id.to_owned(), name: of["name"].as_str().map(str::to_owned), links: links(root, "images", id), details }
}

/// The filters, as the image service has them. Others than these are passed over, as ever.
fn query(req: &Req) -> Result<String> {
    let mut query = Vec::new();
    for (name, value) in req.query_pairs() {
        let (name, value) = match name.as_str() {
            "name" | "limit" | "marker" => (name, value),
            "minRam" => ("min_ram".to_owned(), value),
            "minDisk" => ("min_disk".to_owned(), value),
            "type" => ("image_type".to_owned(), value),
            // Its URL will do as well as its id.
            "server" => ("instance_uuid".to_owned(), value.rsplit('/').next().unwrap_or_default().to_owned()),
            "changes-since" => ("updated_at".to_owned(), format!("gte:{value}")),
            "status" => {
                let of = STATUSES.iter().filter(|(_, status, _)| status.eq_ignore_ascii_case(&value));
                let of: Vec<&str> = of.map(|(status, ..)| *status).collect();
                ("status".to_owned(), if of.is_empty() { value } else { format!("in:{}", of.join(",")) })
            }
            other => match other.strip_prefix("property-") {
                Some(property) => (property.to_owned(), value),
                None => continue,
            },
        };
        query.push((name, value));
    }
    let text = serde_urlencoded::to_string(query).map_err(Error::internal)?;
    Ok(if text.is_empty() { text } else { format!("?{text}") })
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let detailed = std::ptr::eq(req.route, &DETAIL);
    let path = format!("/v2/images{}", query(&req)?);
    let answer = state.images.raw(token(&req.ctx), Method::Get, &path, None).await?;
    let images: Vec<Image> =
        answer["images"].as_array().into_iter().flatten().map(|one| image(&req.root, one, detailed)).collect();
    let limit = super::input::parameter(&req.query_pairs(), "limit").and_then(|limit| limit.parse::<usize>().ok());
    let images_links = match images.last() {
        Some(last) if limit == Some(images.len()) => NextLink::to(next_link(&req, &req.url(req.route.path), &last.id)),
        _ => Vec::new(),
    };
    Ok(Reply::json(200, &Images { images, images_links }))
}

fn missing(error: Error) -> Error {
    match error.is(Kind::NotFound) {
        true => Error::not_found("Image not found.").because(error.for_log()),
        false => error,
    }
}

/// Path of the image at its service; what cannot be an id is not there.
fn path(req: &Req) -> Result<String> {
    match Uuid::try_parse(req.param("image_id")?) {
        Ok(id) => Ok(format!("/v2/images/{id}")),
        Err(_) => Err(Error::not_found("Image not found.")),
    }
}

async fn read(state: &Compute, req: &Req) -> Result<Value> {
    state.images.raw(token(&req.ctx), Method::Get, &path(req)?, None).await.map_err(missing)
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let found = read(&state, &req).await?;
    Ok(Reply::json(200, &OneImage { image: image(&req.root, &found, true) }))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.images.raw(token(&req.ctx), Method::Delete, &path(&req)?, None).await.map_err(missing)?;
    Ok(Reply::empty(204))
}

async fn metadata(state: Arc<Compute>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &Metadata { metadata: own_properties(&read(&state, &req).await?) }))
}

fn no_item() -> Error {
    Error::not_found("Metadata item was not found")
}

async fn show_item(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let found = own_properties(&read(&state, &req).await?);
    let name = req.param("item")?;
    let value = found.get(name).ok_or_else(no_item)?;
    Ok(Reply::json(200, &Meta { meta: BTreeMap::from([(name.to_owned(), value.clone())]) }))
}

/// Changes the image's properties from what they are into what they are to be.
async fn change(
    state: &Compute,
    req: &Req,
    change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    let old = own_properties(&read(state, req).await?);
    let mut new = old.clone();
    change(&mut new)?;
    state.check_image_metadata(&req.ctx, new.len()).await?;
    let at = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    let removed = removed.map(|name| json!({"op": "remove", "path": at(name)}));
    let set = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let set = set.map(|(name, value)| json!({"op": "add", "path": at(name), "value": value}));
    let patch: Vec<Value> = removed.chain(set).collect();
    if !patch.is_empty() {
        let body = Some(Value::Array(patch));
        state.images.raw(token(&req.ctx), Method::Patch, &path(req)?, body).await.map_err(missing)?;
    }
    Ok(new)
}

async fn items(req: &mut Req) -> Result<BTreeMap<String, String>> {
    let body: Metadata = req.json().await?;
    for (name, value) in &body.metadata {
        metadata_item(name, value)?;
    }
    Ok(body.metadata)
}

async fn merge(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new = items(&mut req).await?;
    let metadata = change(&state, &req, |items| {
        items.extend(new);
        Ok(())
    });
    Ok(Reply::json(200, &Metadata { metadata: metadata.await? }))
}

async fn replace(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new = items(&mut req).await?;
    let metadata = change(&state, &req, |items| {
        *items = new;
        Ok(())
    });
    Ok(Reply::json(200, &Metadata { metadata: metadata.await? }))
}

async fn set_item(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let body: Meta = req.json().await?;
    let name = req.param("item")?.to_owned();
    if body.meta.len() > 1 {
        return Err(Error::bad_request("Request body contains too many items"));
    }
    let value = body.meta.get(&name).ok_or_else(|| Error::bad_request("Request body and URI mismatch"))?;
    metadata_item(&name, value)?;
    let set = |items: &mut BTreeMap<String, String>| {
        items.insert(name.clone(), value.clone());
        Ok(())
    };
    change(&state, &req, set).await?;
    Ok(Reply::json(200, &body))
}

async fn delete_item(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let name = req.param("item")?.to_owned();
    change(&state, &req, |items| items.remove(&name).map(drop).ok_or_else(no_item)).await?;
    Ok(Reply::empty(204))
}
