use std::sync::Arc;

use umbel_api::identity::trusts::{Trust, TrustRequest};
use umbel_api::identity::{CollectionLinks, SelfLink};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, roles, whole, window};
use crate::Identity;
use crate::service::trusts as service;
use crate::service::trusts::Shown;
use crate::store::trusts::{TrustFilter, TrustRow};

const ONE: &str = "trust";

/// Without roles, as in a list.
fn bare(req: &Req, row: TrustRow) -> Trust {
    Trust {
        links: SelfLink::new(&req.root, &format!("OS-TRUST/trusts/{}", row.id)),
        id: row.id,
        trustor_user_id: row.trustor_user_id,
        trustee_user_id: row.trustee_user_id,
        project_id: row.project_id,
        impersonation: row.impersonation,
        expires_at: row.expires_at.map(|at| at.iso_micros()),
        remaining_uses: row.remaining_uses,
        deleted_at: None,
        redelegated_trust_id: None,
        redelegation_count: 0,
        roles: None,
        roles_links: None,
    }
}

fn body(req: &Req, shown: Shown) -> Trust {
    let href = req.url(&format!("/v3/OS-TRUST/trusts/{}/roles", shown.row.id));
    let roles = shown.roles.into_iter().map(|role| roles::body(req, role)).collect();
    Trust {
        roles: Some(roles),
        roles_links: Some(CollectionLinks { next: None, href, previous: None }),
        ..bare(req, shown.row)
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let filter = TrustFilter {
        trustor_user_id: query.given("trustor_user_id"),
        trustee_user_id: query.given("trustee_user_id"),
    };
    let rows = service::list(&identity, &req.ctx, req.route.policy, &filter, &window).await?;
    Ok(page(&req, &window, "trusts", rows, |row| &row.id, |row| bare(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let TrustRequest { trust } = req.json().await?;
    let shown = service::create(&identity, &req.ctx, req.route.policy, trust).await?;
    Ok(one(201, ONE, body(&req, shown)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let shown = service::show(&identity, &req.ctx, req.route.policy, req.param("trust_id")?).await?;
    Ok(one(200, ONE, body(&req, shown)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, &req.ctx, req.route.policy, req.param("trust_id")?).await?;
    Ok(no_content())
}

pub(super) async fn list_roles(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let shown = service::show(&identity, &req.ctx, req.route.policy, req.param("trust_id")?).await?;
    Ok(whole(&req, "roles", shown.roles.into_iter().map(|role| roles::body(&req, role)).collect()))
}

pub(super) async fn show_role(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (trust_id, role_id) = (req.param("trust_id")?, req.param("role_id")?);
    let shown = service::show(&identity, &req.ctx, req.route.policy, trust_id).await?;
    let found = shown.roles.into_iter().find(|role| role.id == role_id);
    let found = found.ok_or_else(|| crate::service::roles::not_found(role_id))?;
    Ok(one(200, "role", roles::body(&req, found)))
}
