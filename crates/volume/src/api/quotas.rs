use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::volume::quotas as wire;
use umbel_core::{Error, Result};
use umbel_db::{read, tx};
use umbel_http::{Reply, Req, Routes};

use super::input::flag;
use crate::Volumes;
use crate::service::Caller;
use crate::store::quotas::{self, Limits};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::SHOW, show)
        .on(&wire::DEFAULTS, defaults)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::CLASS_SHOW, class_show)
        .on(&wire::CLASS_UPDATE, class_update)
        .on(&wire::LIMITS, limits)
}

/// Everybody may see their own project's.
fn project(req: &Req) -> Result<String> {
    let project = req.param("project_id")?;
    let caller = Caller::of(&req.ctx)?;
    if caller.project_id.as_deref() != Some(project) {
        caller.must_be_admin(req.route.policy)?;
    }
    Ok(project.to_owned())
}

fn parameter(req: &Req, name: &str) -> Option<String> {
    req.query_pairs().into_iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let project = project(&req)?;
    let with_usage = parameter(&req, "usage").map_or(Ok(false), |value| flag("usage", &value.into()))?;
    let id = Some(project.clone());
    if !with_usage {
        let limits = read!(state.db, "quota", |tx| quotas::limits(tx, &state.config, &project).await)?;
        return Ok(Reply::json(200, &wire::QuotaSetBody { quota_set: wire::QuotaSet { id, limits } }));
    }
    let (limits, used) = read!(state.db, "quota and usage", |tx| {
        Ok((quotas::limits(tx, &state.config, &project).await?, quotas::usage(tx, &project).await?))
    })?;
    let detail = |name: String, limit| {
        let in_use = used.get(&name).copied().unwrap_or(0);
        (name, wire::Detail { limit, in_use, reserved: 0 })
    };
    let limits: BTreeMap<String, wire::Detail> = limits.into_iter().map(|(name, limit)| detail(name, limit)).collect();
    Ok(Reply::json(200, &wire::QuotaSetBody { quota_set: wire::QuotaSet { id, limits } }))
}

async fn defaults(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let id = Some(project(&req)?);
    let limits = read!(state.db, "default quota", |tx| {
        quotas::class_limits(tx, &state.config, quotas::DEFAULT_CLASS).await
    })?;
    Ok(Reply::json(200, &wire::QuotaSetBody { quota_set: wire::QuotaSet { id, limits } }))
}

/// The limits in a request; 400 for what is no resource, or no number of at least -1.
fn asked(body: &BTreeMap<String, Value>, known: &Limits, what: &str) -> Result<Limits> {
    let bad: Vec<&str> = body.keys().filter(|name| !known.contains_key(*name)).map(String::as_str).collect();
    if !bad.is_empty() {
        return Err(Error::bad_request(format!("Invalid input received: Bad key(s) in {what}: {}", bad.join(", "))));
    }
    let mut limits = Limits::new();
    for (name, value) in body {
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let fits = number.filter(|number| (-1..=i64::from(i32::MAX)).contains(number));
        let limit = fits.ok_or_else(|| {
            Error::bad_request(format!("Invalid input received: {name} must be an integer between -1 and {}", i32::MAX))
        })?;
        limits.insert(name.clone(), limit);
    }
    Ok(limits)
}

/// A limit below what is used is refused.
async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let mut body = req.json::<wire::UpdateRequest>().await?.quota_set;
    if body.is_empty() {
        return Err(Error::bad_request(
            "Invalid input for field/attribute quota_set. It does not have enough properties.",
        ));
    }
    // Some clients send back what they read.
    body.retain(|name, _| !["tenant_id", "id"].contains(&name.as_str()));
    let project = req.param("project_id")?.to_owned();
    let limits = tx!(state.db, "set quota", |tx| {
        quotas::lock(tx, &project).await?;
        let mut limits = quotas::limits(tx, &state.config, &project).await?;
        let used = quotas::usage(tx, &project).await?;
        let new = asked(&body, &limits, "quota set")?;
        for (name, limit) in &new {
            let used = used.get(name).copied().unwrap_or(0);
            if u64::try_from(*limit).is_ok_and(|limit| limit < used) {
                return Err(Error::bad_request(format!(
                    "Quota {name} limit must be equal or greater than existing resources. Current usage is {used} and \
                     the requested limit is {limit}."
                )));
            }
            quotas::set(tx, &project, name, *limit).await?;
        }
        limits.extend(new);
        Ok(limits)
    })?;
    Ok(Reply::json(200, &wire::QuotaSetBody { quota_set: wire::QuotaSet { id: None, limits } }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let project = req.param("project_id")?.to_owned();
    tx!(state.db, "clear quota", |tx| quotas::clear(tx, &project).await)?;
    Ok(Reply::empty(200))
}

async fn class_show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let class = req.param("class")?.to_owned();
    let limits = read!(state.db, "quota class", |tx| quotas::class_limits(tx, &state.config, &class).await)?;
    Ok(Reply::json(200, &wire::QuotaClassBody { quota_class_set: wire::QuotaSet { id: Some(class), limits } }))
}

async fn class_update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body = req.json::<wire::ClassUpdateRequest>().await?.quota_class_set;
    let class = req.param("class")?.to_owned();
    if class.chars().count() > 255 {
        return Err(Error::bad_request("quota_class_name has more than 255 characters."));
    }
    let limits = tx!(state.db, "set quota class", |tx| {
        let mut limits = quotas::class_limits(tx, &state.config, &class).await?;
        let new = asked(&body, &limits, "quota class set")?;
        for (name, limit) in &new {
            quotas::set_class(tx, &class, name, *limit).await?;
        }
        limits.extend(new);
        Ok(limits)
    })?;
    Ok(Reply::json(200, &wire::QuotaClassBody { quota_class_set: wire::QuotaSet { id: None, limits } }))
}

/// The caller's project's own; from 3.39 administrators may name another.
async fn limits(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let other = parameter(&req, "project_id").or_else(|| parameter(&req, "tenant_id"));
    let other = other.filter(|_| caller.admin && req.version.at_least(3, 39));
    let project = match other {
        Some(project) => project,
        None => caller.project_id.unwrap_or_default(),
    };
    let (limits, used) = read!(state.db, "limits", |tx| {
        Ok((quotas::limits(tx, &state.config, &project).await?, quotas::usage(tx, &project).await?))
    })?;
    let limit = |name: &str| limits.get(name).copied().unwrap_or(-1);
    let used = |name: &str| used.get(name).copied().unwrap_or(0);
    let absolute = wire::Absolute {
        max_total_volumes: limit("volumes"),
        max_total_volume_gigabytes: limit("gigabytes"),
        max_total_snapshots: limit("snapshots"),
        max_total_backups: limit("backups"),
        max_total_backup_gigabytes: limit("backup_gigabytes"),
        total_volumes_used: used("volumes"),
        total_gigabytes_used: used("gigabytes"),
        total_snapshots_used: used("snapshots"),
        total_backups_used: used("backups"),
        total_backup_gigabytes_used: used("backup_gigabytes"),
    };
    Ok(Reply::json(200, &wire::LimitsBody { limits: wire::Limits { rate: [], absolute } }))
}
