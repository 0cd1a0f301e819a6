use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::application_credentials::{AccessRule, ApplicationCredential, ApplicationCredentialRequest};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, roles, window};
use crate::Identity;
use crate::service::application_credentials as service;
use crate::service::application_credentials::Shown;
use crate::store::application_credentials::AccessRuleRow;

const ONE: &str = "application_credential";

fn body(req: &Req, shown: Shown) -> ApplicationCredential {
    let Shown { row, roles, secret } = shown;
    let path = format!("users/{}/application_credentials/{}", row.user_id, row.id);
    ApplicationCredential {
        links: SelfLink::new(&req.root, &path),
        id: row.id,
        name: row.name,
        description: row.description,
        user_id: row.user_id,
        project_id: row.project_id,
        system: None,
        expires_at: row.expires_at.map(|at| at.iso_naive()),
        unrestricted: row.unrestricted,
        roles: roles.into_iter().map(roles::bare).collect(),
        access_rules: row.rules.into_iter().map(AccessRuleRow::bare).collect(),
        secret,
    }
}

fn rule_body(req: &Req, row: AccessRuleRow) -> AccessRule {
    let links = SelfLink::new(&req.root, &format!("users/{}/access_rules/{}", row.user_id, row.id));
    AccessRule { links: Some(links), ..row.bare() }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let (user_id, name) = (req.param("user_id")?, Query::of(&req).given("name"));
    let rows = service::list(&identity, &req.ctx, req.route.policy, user_id, name.as_deref(), &window).await?;
    Ok(page(&req, &window, "application_credentials", rows, |shown| &shown.row.id, |shown| body(&req, shown)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ApplicationCredentialRequest { application_credential } = req.json().await?;
    let user_id = req.param("user_id")?;
    let shown = service::create(&identity, &req.ctx, req.route.policy, user_id, application_credential).await?;
    Ok(one(201, ONE, body(&req, shown)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (user_id, id) = (req.param("user_id")?, req.param("credential_id")?);
    let shown = service::show(&identity, &req.ctx, req.route.policy, user_id, id).await?;
    Ok(one(200, ONE, body(&req, shown)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (user_id, id) = (req.param("user_id")?, req.param("credential_id")?);
    service::delete(&identity, &req.ctx, req.route.policy, user_id, id).await?;
    Ok(no_content())
}

pub(super) async fn list_rules(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let user_id = req.param("user_id")?;
    let rows = service::list_rules(&identity, &req.ctx, req.route.policy, user_id, &window).await?;
    Ok(page(&req, &window, "access_rules", rows, |row| &row.id, |row| rule_body(&req, row)))
}

pub(super) async fn show_rule(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (user_id, id) = (req.param("user_id")?, req.param("rule_id")?);
    let row = service::show_rule(&identity, &req.ctx, req.route.policy, user_id, id).await?;
    Ok(one(200, "access_rule", rule_body(&req, row)))
}

pub(super) async fn delete_rule(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (user_id, id) = (req.param("user_id")?, req.param("rule_id")?);
    service::delete_rule(&identity, &req.ctx, req.route.policy, user_id, id).await?;
    Ok(no_content())
}
