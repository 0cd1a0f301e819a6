use std::sync::Arc;

use umbel_api::image::metadefs::{NamedTag, ResourceType, ResourceTypeList, TagList};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::{body, views};
use crate::Images;
use crate::service::metadefs::{Draft, ItemListing};
use crate::store::metadefs::Kind;

pub async fn list(state: Arc<Images>, req: Req, kind: Kind) -> Result<Reply> {
    let listing = ItemListing::parse(&req.query_pairs(), &state.config)?;
    let namespace = req.param("namespace")?;
    let items = state.list_items(&req.ctx, namespace, kind, &listing).await?;
    views::list(kind, namespace, &items)
}

pub async fn create(state: Arc<Images>, mut req: Req, kind: Kind) -> Result<Reply> {
    let draft = draft(&mut req, kind).await?;
    let namespace = req.param("namespace")?;
    let item = state.add_item(&req.ctx, namespace, kind, &draft).await?;
    views::item(201, kind, namespace, &item)
}

pub async fn show(state: Arc<Images>, req: Req, kind: Kind) -> Result<Reply> {
    let namespace = req.param("namespace")?;
    let item = state.show_item(&req.ctx, namespace, kind, req.param("name")?).await?;
    views::item(200, kind, namespace, &item)
}

/// With `resource_type`, the name is the one that the property has on such a resource.
pub async fn show_property(state: Arc<Images>, req: Req) -> Result<Reply> {
    let on = req.query_pairs().into_iter().find(|(name, value)| name == "resource_type" && !value.is_empty());
    let Some((_, resource_type)) = on else {
        return show(state, req, Kind::Property).await;
    };
    let namespace = req.param("namespace")?;
    let item = state.show_property_on(&req.ctx, namespace, &resource_type, req.param("name")?).await?;
    views::item(200, Kind::Property, namespace, &item)
}

pub async fn update(state: Arc<Images>, mut req: Req, kind: Kind) -> Result<Reply> {
    let draft = draft(&mut req, kind).await?;
    let namespace = req.param("namespace")?;
    let item = state.replace_item(&req.ctx, namespace, kind, req.param("name")?, &draft).await?;
    views::item(200, kind, namespace, &item)
}

pub async fn delete(state: Arc<Images>, req: Req, kind: Kind) -> Result<Reply> {
    state.remove_item(&req.ctx, req.param("namespace")?, kind, req.param("name")?).await?;
    Ok(Reply::empty(204))
}

pub async fn clear(state: Arc<Images>, req: Req, kind: Kind) -> Result<Reply> {
    state.clear_namespace(&req.ctx, req.param("namespace")?, kind).await?;
    Ok(Reply::empty(204))
}

/// One, whose name is in the path; there is no body.
pub async fn create_tag(state: Arc<Images>, req: Req) -> Result<Reply> {
    let namespace = req.param("namespace")?;
    let item = state.add_item(&req.ctx, namespace, Kind::Tag, &Draft::tag(req.param("name")?)?).await?;
    views::item(201, Kind::Tag, namespace, &item)
}

/// Several, in place of all others unless the request says that they come beside them.
pub async fn create_tags(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let new: TagList = body::TAGS.read(&mut req).await?;
    let drafts: Vec<Draft> = new.tags.iter().map(|tag| Draft::tag(&tag.name)).collect::<Result<_>>()?;
    let append = req.header("x-openstack-append").is_some_and(yes);
    state.add_tags(&req.ctx, req.param("namespace")?, &drafts, append).await?;
    Ok(Reply::json(201, &new))
}

pub async fn list_resource_types(state: Arc<Images>, _: Req) -> Result<Reply> {
    let view = |known: crate::store::metadefs::ResourceType| ResourceType {
        name: known.name,
        created_at: known.created_at.iso(),
        updated_at: known.updated_at.iso(),
    };
    let resource_types = state.list_resource_types().await?.into_iter().map(view).collect();
    Ok(Reply::json(200, &ResourceTypeList { resource_types }))
}

async fn draft(req: &mut Req, kind: Kind) -> Result<Draft> {
    match kind {
        Kind::Object => Draft::object(&body::OBJECT.read(req).await?),
        Kind::Property => Draft::property(&body::PROPERTY.read(req).await?),
        Kind::Tag => Draft::tag(&body::TAG.read::<NamedTag>(req).await?.name),
        Kind::ResourceType => Draft::association(&body::ASSOCIATION.read(req).await?),
    }
}

/// What upstream's services take for true.
fn yes(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes")
}
