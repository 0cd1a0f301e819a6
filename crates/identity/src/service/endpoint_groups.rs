use serde_json::Value;
use umbel_api::identity::endpoint_groups::{EndpointFilters, EndpointGroupFields};
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::catalog::INTERFACES;
use super::{policy, valid};
use crate::store::catalog::{EndpointFilter, EndpointRow};
use crate::store::endpoint_groups::EndpointGroupRow;
use crate::store::{TextFilter, Window};
use crate::{Identity, store};

const MAX_NAME: usize = 255;

fn not_found(id: &str) -> Error {
    valid::not_found("endpoint group", id)
}

/// Only what an endpoint can be told by, and values that some endpoint can have.
fn filters(given: Value) -> Result<EndpointFilters> {
    let wrong = || {
        let message = "Invalid input for field/attribute filters. One or more of 'interface', 'service_id' and \
                       'region_id' is expected, each a text";
        Error::bad_request(message)
    };
    let filters: EndpointFilters = serde_json::from_value(given).map_err(|error| wrong().because(error.to_string()))?;
    if filters == EndpointFilters::default() {
        return Err(wrong());
    }
    match &filters.interface {
        Some(interface) if !INTERFACES.contains(&interface.as_str()) => {
            Err(valid::invalid("interface", "The value is not one of ['admin', 'internal', 'public']"))
        }
        _ => Ok(filters),
    }
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    name: Option<&TextFilter>,
    window: &Window,
) -> Result<Vec<EndpointGroupRow>> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list endpoint groups", |tx| store::endpoint_groups::list(tx, name, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<EndpointGroupRow> {
    policy::sees_all(ctx, policy)?;
    let found = read!(identity.db, "show endpoint group", |tx| store::endpoint_groups::get(tx, id).await)?;
    found.ok_or_else(|| not_found(id))
}

/// The endpoints that are in it now.
pub(crate) async fn endpoints(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    window: &Window,
) -> Result<Vec<EndpointRow>> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list endpoints of a group", |tx| {
        let group = store::endpoint_groups::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        let EndpointFilters { interface, service_id, region_id } = group.filters;
        store::catalog::list_endpoints(tx, &EndpointFilter { interface, service_id, region_id }, window).await
    })
}

pub(crate) async fn create(identity: &Identity, fields: EndpointGroupFields) -> Result<EndpointGroupRow> {
    let row = EndpointGroupRow {
        id: identity.new_id(),
        generation: Generation::default(),
        name: valid::name(fields.name, "endpoint_group", MAX_NAME)?,
        description: fields.description.flatten(),
        filters: filters(fields.filters.ok_or_else(|| valid::missing("filters", "endpoint_group"))?)?,
    };
    tx!(identity.db, "create endpoint group", |tx| store::endpoint_groups::insert(tx, &row).await)?;
    Ok(row)
}

pub(crate) async fn update(identity: &Identity, id: &str, fields: EndpointGroupFields) -> Result<EndpointGroupRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    let name = fields.name.map(|name| valid::checked_name(name, "name", MAX_NAME)).transpose()?;
    let filters = fields.filters.map(filters).transpose()?;
    tx!(identity.db, "update endpoint group", |tx| {
        let mut row = store::endpoint_groups::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        if let Some(name) = &name {
            row.name.clone_from(name);
        }
        if let Some(description) = &fields.description {
            row.description.clone_from(description);
        }
        if let Some(filters) = &filters {
            row.filters.clone_from(filters);
        }
        store::endpoint_groups::update(tx, &row).await?;
        Ok(row)
    })
}

pub(crate) async fn delete(identity: &Identity, id: &str) -> Result<()> {
    tx!(identity.db, "delete endpoint group", |tx| {
        store::endpoint_groups::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        store::endpoint_groups::delete(tx, id).await
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_are_checked() {
        let check = |given: Value, fits: bool| assert_eq!(filters(given.clone()).is_ok(), fits, "{given}");
        check(json!({"service_id": "x"}), true);
        check(json!({"interface": "public", "region_id": "r"}), true);
        check(json!({"interface": "secret"}), false);
        check(json!({"url": "x"}), false);
        check(json!({"service_id": 1}), false);
        check(json!({}), false);
        check(json!("x"), false);
    }
}
