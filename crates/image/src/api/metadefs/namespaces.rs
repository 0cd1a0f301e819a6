use std::sync::Arc;

use umbel_api::image::metadefs::{NamespaceList, NewNamespace};
use umbel_core::Result;
use umbel_http::{Reply, Req, next_link};

use super::super::images::first_link;
use super::{body, views};
use crate::Images;
use crate::service::metadefs::NamespaceListing;

const NAMESPACES: &str = "/v2/metadefs/namespaces";

pub async fn list(state: Arc<Images>, req: Req) -> Result<Reply> {
    let listing = NamespaceListing::parse(&req.query_pairs(), &state.config)?;
    let (page, more) = state.list_namespaces(&req.ctx, &listing).await?;
    let next = match page.last() {
        Some(last) if more => Some(next_link(&req, NAMESPACES, &last.namespace.name)),
        _ => None,
    };
    let body = NamespaceList {
        namespaces: page.iter().map(|detail| views::detail(detail, None)).collect::<Result<_>>()?,
        first: first_link(&req, NAMESPACES),
        next,
        schema: "/v2/schemas/metadefs/namespaces".into(),
    };
    Ok(Reply::json(200, &body))
}

pub async fn create(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let new: NewNamespace = body::NAMESPACE.read(&mut req).await?;
    let detail = state.create_namespace(&req.ctx, &new).await?;
    let view = views::detail(&detail, None)?;
    Ok(Reply::json(201, &view).header("location", req.url(&view.self_link)))
}

/// With `resource_type`, properties have the names that they have on such a resource.
pub async fn show(state: Arc<Images>, req: Req) -> Result<Reply> {
    let on = req.query_pairs().into_iter().find(|(name, _)| name == "resource_type").map(|(_, value)| value);
    let detail = state.show_namespace(&req.ctx, req.param("namespace")?).await?;
    Ok(Reply::json(200, &views::detail(&detail, on.as_deref())?))
}

pub async fn update(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let new: NewNamespace = body::NAMESPACE.read(&mut req).await?;
    let namespace = state.update_namespace(&req.ctx, req.param("namespace")?, &new).await?;
    Ok(Reply::json(200, &views::namespace(&namespace)))
}

pub async fn delete(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.delete_namespace(&req.ctx, req.param("namespace")?).await?;
    Ok(Reply::empty(204))
}
