use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::groups::Group;
use umbel_api::identity::users::{PasswordRequest, User, UserRequest};
use umbel_core::{Error, Result, Timestamp};
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{groups, no_content, one, page, projects, whole, window};
use crate::Identity;
use crate::service::{scopes, users as service};
use crate::store::groups::GroupFilter;
use crate::store::users::{Order, UserFilter, UserRow};

const ONE: &str = "user";

/// The hash stays behind.
pub(super) fn body(req: &Req, row: UserRow) -> User {
    User {
        links: SelfLink::new(&req.root, &format!("users/{}", row.id)),
        id: row.id,
        name: row.name,
        domain_id: row.domain_id,
        enabled: row.enabled,
        default_project_id: row.default_project_id,
        password_expires_at: row.password_expires_at.map(|at| at.iso_micros()),
        options: row.options,
        extra: row.extra,
    }
}

pub(super) fn filter(query: &Query) -> Result<UserFilter> {
    Ok(UserFilter {
        domain_id: query.given("domain_id"),
        name: query.text_filter("name"),
        enabled: query.truth("enabled"),
        password_expires: query.given("password_expires_at").as_deref().map(expiry).transpose()?,
        group_id: None,
    })
}

/// `lt:2026-11-06T15:32:17Z`; without an operator that very second.
fn expiry(text: &str) -> Result<(Order, Timestamp)> {
    // A time alone has its first colon further behind.
    let (operator, at) = text.split_once(':').filter(|(operator, _)| operator.len() < 4).unwrap_or(("eq", text));
    let at = Timestamp::parse(at).map_err(|error| {
        Error::bad_request(
            "Timestamp not in expected format. The server could not comply with the request since it is either \
             malformed or otherwise incorrect. The client is assumed to be in error.",
        )
        .because(error.message().to_owned())
    })?;
    let order = match operator {
        "lt" => Order::Before,
        "lte" => Order::UntilThen,
        "eq" => Order::Then,
        "neq" => Order::NotThen,
        "gte" => Order::FromThen,
        "gt" => Order::After,
        _ => {
            return Err(Error::bad_request(format!(
                "The given operator {operator} is not valid. It must be one of the following: 'eq', 'neq', 'lt', 'lte', \
                 'gt', or 'gte'."
            )));
        }
    };
    Ok((order, at))
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let filter = filter(&Query::of(&req))?;
    let rows = service::list(&identity, &req.ctx, req.route.policy, &filter, &window).await?;
    Ok(page(&req, &window, "users", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let UserRequest { user } = req.json().await?;
    let row = service::create(&identity, &req.ctx, req.route.policy, user).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let row = service::show(&identity, &req.ctx, req.route.policy, req.param("user_id")?).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let UserRequest { user } = req.json().await?;
    let row = service::update(&identity, &req.ctx, req.route.policy, req.param("user_id")?, user).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, &req.ctx, req.route.policy, req.param("user_id")?).await?;
    Ok(no_content())
}

pub(super) async fn change_password(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let PasswordRequest { user } = req.json().await?;
    service::change_password(&identity, req.param("user_id")?, user).await?;
    Ok(no_content())
}

pub(super) async fn projects(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let query = Query::of(&req);
    let mut rows = scopes::projects_of(&identity, &req.ctx, req.route.policy, req.param("user_id")?).await?;
    let (enabled, name, domain_id) = (query.truth("enabled"), query.given("name"), query.given("domain_id"));
    rows.retain(|row| {
        enabled.is_none_or(|enabled| row.enabled == enabled)
            && name.as_ref().is_none_or(|name| row.name == *name)
            && domain_id.as_ref().is_none_or(|domain_id| row.owner() == domain_id)
    });
    Ok(whole(&req, "projects", rows.into_iter().map(|row| projects::body(&req, row)).collect()))
}

pub(super) async fn groups(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let window = window(&identity, &req)?;
    let filter = GroupFilter { name: Query::of(&req).text_filter("name"), ..GroupFilter::default() };
    let user_id = req.param("user_id")?;
    let rows = crate::service::groups::of_user(&identity, &req.ctx, req.route.policy, user_id, filter, &window).await?;
    Ok(page(
        &req,
        &window,
        "groups",
        rows,
        |row| &row.id,
        |row| Group { membership_expires_at: Some(None), ..groups::body(&req, row) },
    ))
}
