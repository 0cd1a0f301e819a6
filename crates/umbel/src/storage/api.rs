use std::sync::Arc;

use umbel_api::storage::{MEND, Mend, Progress, SHOW_AUDIT, SHOW_LAST, SHOW_PROGRESS, SHOW_TREE};
use umbel_core::{Error, Result};
use umbel_http::{FaultStyle, Reply, Req, Routes, Service};

use super::StorageAudit;

/// The operator's API, below `/storage`.
pub fn service(state: Arc<StorageAudit>) -> Service {
    let routes = Routes::new(state).on(&SHOW_AUDIT, show).on(&SHOW_LAST, last).on(&MEND, mend).on(&SHOW_TREE, tree);
    let routes = routes.on(&SHOW_PROGRESS, progress);
    // A list of what to mend has an entry per finding.
    let mut service = Service::new("/storage", FaultStyle::Placement).routes(routes);
    service.max_json = 16 << 20;
    service
}

async fn show(state: Arc<StorageAudit>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &state.audit().await?))
}

async fn last(state: Arc<StorageAudit>, _: Req) -> Result<Reply> {
    let last = state.last.show().ok_or_else(|| Error::not_found("Nothing was compared yet."))?;
    Ok(Reply::json(200, &last))
}

async fn progress(state: Arc<StorageAudit>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &Progress { running: state.running().await? }))
}

async fn mend(state: Arc<StorageAudit>, mut req: Req) -> Result<Reply> {
    let body: Mend = req.json().await?;
    Ok(Reply::json(200, &state.mend(&body.fix).await?))
}

async fn tree(state: Arc<StorageAudit>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &state.tree(req.param("kind")?, req.param("id")?).await?))
}
