use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use umbel_api::Link;
use umbel_api::volume::backups as wire;
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes, next_link};

use super::volumes::short;
use super::{input, view};
use crate::Volumes;
use crate::listing;
use crate::service::Caller;
use crate::service::backup_create::NewBackup;
use crate::service::backups::{BackupChange, backup_not_found};
use crate::store::backups::{Backup, BackupId, BackupStatus};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::DETAIL, detail)
        .on(&wire::SHOW, show)
        .on(&wire::CREATE, create)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::RESTORE, restore)
        .on(&wire::ACTION, action)
        .on(&wire::EXPORT, export)
        .on(&wire::IMPORT, import)
}

fn backup_id(req: &Req) -> Result<BackupId> {
    req.id("backup_id", "Backup")
}

fn brief(req: &Req, backup: &Backup) -> wire::Backup {
    let links = view::links(req, "backups", backup.id);
    wire::Backup { id: backup.id.to_string(), name: backup.name.clone(), links, detail: None }
}

fn whole(req: &Req, caller: &Caller, backup: Backup, has_dependents: bool) -> wire::Backup {
    let mut shown = brief(req, &backup);
    let mut metadata = backup.metadata;
    if let Some(percent) = backup.progress {
        metadata.insert(view::PROGRESS.to_owned(), format!("{percent}%"));
    }
    shown.detail = Some(wire::BackupDetail {
        status: backup.status.name(),
        size: backup.size_gib,
        object_count: backup.object_count,
        availability_zone: backup.availability_zone,
        container: backup.container,
        created_at: backup.created_at.iso_naive(),
        updated_at: backup.updated_at.map(|at| at.iso_naive()),
        description: backup.description,
        fail_reason: backup.fail_reason,
        volume_id: backup.volume_id.to_string(),
        is_incremental: backup.data.parent.is_some(),
        has_dependent_backups: has_dependents,
        snapshot_id: backup.snapshot_id.map(|id| id.to_string()),
        data_timestamp: backup.data_timestamp.iso_naive(),
        metadata: Some(metadata),
        project_id: caller.admin.then_some(backup.project_id),
        user_id: caller.admin.then_some(backup.user_id),
    });
    shown
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/backups", false).await
}

async fn detail(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    page(&state, &req, "/v3/backups/detail", true).await
}

async fn page(state: &Volumes, req: &Req, path: &str, details: bool) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let max = state.config.max_page;
    let asked = listing::parse(&req.query_pairs(), &listing::BACKUPS, req.version, caller.admin, max)?;
    let filter = asked.page();
    let found = state.list_backups(&caller.listed(asked.all_tenants), &filter, asked.with_count).await?;
    let last = found.backups.last().filter(|_| found.more);
    let next = last.map(|last| Link::new("next", next_link(req, &req.url(path), &last.id.to_string())));
    let shown = found.backups.into_iter().map(|backup| match details {
        true => {
            let has_dependents = found.with_dependents.contains(&backup.id);
            whole(req, &caller, backup, has_dependents)
        }
        false => brief(req, &backup),
    });
    let body =
        wire::Backups { backups: shown.collect(), backups_links: next.into_iter().collect(), count: found.count };
    Ok(Reply::versioned(200, req.version, body))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let (backup, has_dependents) = state.backup(&caller, backup_id(&req)?).await?;
    let backup = whole(&req, &caller, backup, has_dependents);
    Ok(Reply::versioned(200, req.version, wire::OneBackup { backup }))
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let new = req.json::<wire::CreateRequest>().await?.backup;
    only_since(&req, 43, "metadata", new.metadata.is_some())?;
    only_since(&req, 51, "availability_zone", new.availability_zone.is_some())?;
    let metadata = new.metadata.unwrap_or_default();
    crate::service::check_metadata(&metadata)?;
    let wanted = NewBackup {
        volume_id: input::uuid("volume_id", &new.volume_id)?,
        snapshot_id: new.snapshot_id.map(|text| input::uuid("snapshot_id", &text)).transpose()?,
        incremental: input::flag_or_false("incremental", new.incremental.as_ref())?,
        force: input::flag_or_false("force", new.force.as_ref())?,
        name: short("name", new.name)?,
        description: short("description", new.description)?,
        container: short("container", new.container)?,
        availability_zone: new.availability_zone,
        metadata,
    };
    let backup = state.create_backup(&caller, wanted).await?;
    let backup = brief(&req, &backup);
    Ok(Reply::versioned(202, req.version, wire::OneBackup { backup }))
}

/// A member that older versions do not have.
fn only_since(req: &Req, minor: u16, member: &str, given: bool) -> Result<()> {
    match given && !req.version.at_least(3, minor) {
        true => Err(Error::bad_request(format!("Additional properties are not allowed ('{member}' was unexpected)"))),
        false => Ok(()),
    }
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = backup_id(&req)?;
    let change = req.json::<wire::UpdateRequest>().await?.backup.unwrap_or_default();
    only_since(&req, 43, "metadata", change.metadata.is_some())?;
    crate::service::check_metadata(change.metadata.as_ref().unwrap_or(&BTreeMap::new()))?;
    let change = BackupChange {
        name: short("name", change.name)?,
        description: short("description", change.description)?,
        metadata: change.metadata,
    };
    let backup = brief(&req, &state.update_backup(&caller, id, &change).await?);
    Ok(Reply::versioned(200, req.version, wire::OneBackup { backup }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    state.delete_backup(&caller, backup_id(&req)?, false).await?;
    Ok(Reply::empty(202))
}

async fn restore(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = backup_id(&req)?;
    let asked = req.json::<wire::RestoreRequest>().await?.restore.unwrap_or_default();
    let name = short("name", asked.name)?.filter(|name| !name.is_empty());
    let row = match asked.volume_id {
        Some(volume) => state.restore_over(&caller, id, input::uuid("volume_id", &volume)?).await?,
        None => state.restore_new(&caller, id, name).await?,
    };
    let restore = wire::Restoring {
        backup_id: id.to_string(),
        volume_id: row.id.to_string(),
        volume_name: row.name.unwrap_or_default(),
    };
    Ok(Reply::json(202, &wire::RestoreAnswer { restore }))
}

async fn action(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = backup_id(&req)?;
    let body: Map<String, Value> = req.json().await?;
    let mut members = body.into_iter();
    let (Some((name, arguments)), None) = (members.next(), members.next()) else {
        return Err(Error::bad_request("The body of an action has exactly one member, which names it."));
    };
    match name.as_str() {
        "os-reset_status" => {
            let text = arguments["status"].as_str().unwrap_or_default().to_ascii_lowercase();
            let status = match text.as_str() {
                "available" => BackupStatus::Available,
                "error" => BackupStatus::Error,
                _ => {
                    return Err(Error::bad_request(format!(
                        "Backup status: {text} is invalid, valid statuses are: ['available', 'error']."
                    )));
                }
            };
            state.reset_backup_status(&caller, id, status).await?;
        }
        "os-force_delete" => state.delete_backup(&caller, id, true).await?,
        other => return Err(Error::bad_request(format!("There is no such action: {other}"))),
    }
    Ok(Reply::empty(202))
}

async fn export(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let id = backup_id(&req).map_err(|_| backup_not_found(req.param("backup_id").unwrap_or_default()))?;
    let (backup_service, backup_url) = state.export_backup(&caller, id).await?;
    Ok(Reply::json(200, &wire::RecordBody { record: wire::Record { backup_service, backup_url } }))
}

async fn import(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let record = req.json::<wire::RecordBody>().await?.record;
    let backup = state.import_backup(&caller, &record.backup_service, &record.backup_url).await?;
    let backup = brief(&req, &backup);
    Ok(Reply::versioned(201, req.version, wire::OneBackup { backup }))
}
