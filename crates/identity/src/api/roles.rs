use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::roles::{Inference, InferenceReply, InferenceRole, Role, RoleRequest};
use umbel_core::{Ctx, Result};
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{here, no_content, one, page, whole, window};
use crate::Identity;
use crate::service::roles as service;
use crate::service::roles::Rule;
use crate::store::roles::RoleRow;

const ONE: &str = "role";

pub(super) fn body(req: &Req, row: RoleRow) -> Role {
    let links = SelfLink::new(&req.root, &format!("roles/{}", row.id));
    Role { links: Some(links), ..bare(row) }
}

/// Without a link, as inside an application credential.
pub(super) fn bare(row: RoleRow) -> Role {
    Role {
        id: row.id,
        name: row.name,
        domain_id: row.domain_id,
        description: row.description,
        options: row.options,
        links: None,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let (domain_id, name) = (query.given("domain_id"), query.text_filter("name"));
    let rows =
        service::list(&identity, &req.ctx, req.route.policy, domain_id.as_deref(), name.as_ref(), &window).await?;
    Ok(page(&req, &window, "roles", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let RoleRequest { role } = req.json().await?;
    let row = service::create(&identity, role).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, &req.ctx, req.route.policy, req.param("role_id")?).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let RoleRequest { role } = req.json().await?;
    let row = service::update(&identity, req.param("role_id")?, role).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, req.param("role_id")?).await?;
    Ok(no_content())
}

fn named(req: &Req, row: &RoleRow) -> InferenceRole {
    let links = SelfLink::new(&req.root, &format!("roles/{}", row.id));
    InferenceRole { id: row.id.clone(), links, name: row.name.clone() }
}

pub(super) async fn list_implied(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let prior_id = req.param("role_id")?;
    let (prior, rules) = service::rules(&identity, &req.ctx, req.route.policy, Some(prior_id)).await?;
    let prior = prior.ok_or_else(|| service::not_found(prior_id))?;
    let implies: Vec<InferenceRole> = rules.iter().map(|rule| named(&req, &rule.implied)).collect();
    let role_inference = Inference { prior_role: named(&req, &prior), implies };
    Ok(Reply::json(200, &InferenceReply { role_inference, links: SelfLink { href: here(&req) } }))
}

async fn find(identity: &Identity, ctx: &Ctx, policy: &str, prior_id: &str, implied_id: &str) -> Result<Rule> {
    let (_, rules) = service::rules(identity, ctx, policy, Some(prior_id)).await?;
    let found = rules.into_iter().find(|rule| rule.implied.id == implied_id);
    found.ok_or_else(|| service::no_rule(prior_id, implied_id))
}

fn rule(req: &Req, status: u16, rule: &Rule) -> Reply {
    let role_inference = Inference { prior_role: named(req, &rule.prior), implies: named(req, &rule.implied) };
    Reply::json(status, &InferenceReply { role_inference, links: SelfLink { href: here(req) } })
}

pub(super) async fn show_implied(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (prior_id, implied_id) = (req.param("role_id")?, req.param("implied_id")?);
    let found = find(&identity, &req.ctx, req.route.policy, prior_id, implied_id).await?;
    Ok(rule(&req, 200, &found))
}

pub(super) async fn check_implied(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (prior_id, implied_id) = (req.param("role_id")?, req.param("implied_id")?);
    find(&identity, &req.ctx, req.route.policy, prior_id, implied_id).await?;
    Ok(no_content())
}

pub(super) async fn create_implied(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let made = service::imply(&identity, req.param("role_id")?, req.param("implied_id")?).await?;
    Ok(rule(&req, 201, &made))
}

pub(super) async fn delete_implied(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::imply_no_more(&identity, req.param("role_id")?, req.param("implied_id")?).await?;
    Ok(no_content())
}

pub(super) async fn list_inferences(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (_, rules) = service::rules(&identity, &req.ctx, req.route.policy, None).await?;
    let mut all: Vec<Inference<Vec<InferenceRole>>> = Vec::new();
    for rule in &rules {
        let implied = named(&req, &rule.implied);
        match all.last_mut().filter(|last| last.prior_role.id == rule.prior.id) {
            Some(last) => last.implies.push(implied),
            None => all.push(Inference { prior_role: named(&req, &rule.prior), implies: vec![implied] }),
        }
    }
    Ok(whole(&req, "role_inferences", all))
}
