//! Services and endpoints: what the catalog in tokens is made of.

use umbel_api::identity::endpoints::EndpointFields;
use umbel_api::identity::services::ServiceFields;
use umbel_core::{Ctx, Error, Generation, Result};
use umbel_db::{read, tx};

use super::{policy, valid};
use crate::store::catalog::{EndpointFilter, EndpointRow, ServiceRow};
use crate::store::regions::RegionRow;
use crate::store::{TextFilter, Tx, Window};
use crate::{Identity, store};

pub(super) const INTERFACES: [&str; 3] = ["admin", "internal", "public"];
const MAX_NAME: usize = 255;

/// Keystone's own limit of a URL.
const MAX_URL: usize = 225;
const RESERVED: &[&str] = &["generation", "legacy_endpoint_id"];

fn no_service(id: &str) -> Error {
    valid::not_found("service", id)
}

fn no_endpoint(id: &str) -> Error {
    valid::not_found("endpoint", id)
}

pub(crate) async fn list_services(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    kind: Option<&str>,
    name: Option<&TextFilter>,
    window: &Window,
) -> Result<Vec<ServiceRow>> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list services", |tx| store::catalog::list_services(tx, kind, name, window).await)
}

pub(crate) async fn show_service(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<ServiceRow> {
    policy::sees_all(ctx, policy)?;
    let found = read!(identity.db, "show service", |tx| store::catalog::get_service(tx, id).await)?;
    found.ok_or_else(|| no_service(id))
}

pub(crate) async fn create_service(identity: &Identity, fields: ServiceFields) -> Result<ServiceRow> {
    let kind = fields.service_type.ok_or_else(|| valid::missing("type", "service"))?;
    let name = fields.name.map(|name| valid::checked_name(name, "name", MAX_NAME)).transpose()?;
    let row = ServiceRow {
        id: identity.new_id(),
        generation: Generation::default(),
        kind: valid::checked_name(kind, "type", MAX_NAME)?,
        name,
        enabled: fields.enabled.unwrap_or(true),
        extra: valid::extra(fields.extra, RESERVED),
    };
    tx!(identity.db, "create service", |tx| store::catalog::insert_service(tx, &row).await)?;
    identity.forget_directory();
    Ok(row)
}

pub(crate) async fn update_service(identity: &Identity, id: &str, fields: ServiceFields) -> Result<ServiceRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    let kind = fields.service_type.map(|kind| valid::checked_name(kind, "type", MAX_NAME)).transpose()?;
    let name = fields.name.map(|name| valid::checked_name(name, "name", MAX_NAME)).transpose()?;
    let extra = valid::extra(fields.extra, RESERVED);
    let row = tx!(identity.db, "update service", |tx| {
        let mut row = store::catalog::get_service(tx, id).await?.ok_or_else(|| no_service(id))?;
        if let Some(kind) = &kind {
            row.kind.clone_from(kind);
        }
        if name.is_some() {
            row.name.clone_from(&name);
        }
        row.enabled = fields.enabled.unwrap_or(row.enabled);
        valid::merge(&mut row.extra, extra.clone());
        store::catalog::update_service(tx, &row).await?;
        Ok(row)
    })?;
    identity.forget_directory();
    Ok(row)
}

pub(crate) async fn delete_service(identity: &Identity, id: &str) -> Result<()> {
    tx!(identity.db, "delete service", |tx| {
        store::catalog::get_service(tx, id).await?.ok_or_else(|| no_service(id))?;
        store::catalog::delete_service(tx, id).await
    })?;
    identity.forget_directory();
    Ok(())
}

pub(crate) async fn list_endpoints(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    filter: &EndpointFilter,
    window: &Window,
) -> Result<Vec<EndpointRow>> {
    policy::sees_all(ctx, policy)?;
    read!(identity.db, "list endpoints", |tx| store::catalog::list_endpoints(tx, filter, window).await)
}

pub(crate) async fn show_endpoint(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<EndpointRow> {
    policy::sees_all(ctx, policy)?;
    let found = read!(identity.db, "show endpoint", |tx| store::catalog::get_endpoint(tx, id).await)?;
    found.ok_or_else(|| no_endpoint(id))
}

/// What a request gives of an endpoint, checked by itself.
struct Given {
    interface: Option<String>,
    url: Option<String>,
    service_id: Option<String>,
    enabled: Option<bool>,
    /// Of a region that must stand.
    region_id: Option<Option<String>>,
    /// Of a region that is made where it does not.
    region: Option<String>,
    extra: umbel_api::identity::Extra,
}

impl Given {
    fn read(fields: EndpointFields) -> Result<Self> {
        if let Some(interface) = &fields.interface
            && !INTERFACES.contains(&interface.as_str())
        {
            return Err(valid::invalid("interface", "The value is not one of ['admin', 'internal', 'public']"));
        }
        if let Some(url) = &fields.url {
            check_url(url)?;
        }
        let region = fields.region.flatten();
        for id in fields.region_id.iter().flatten().chain(&region) {
            valid::id(id, "region_id", MAX_NAME)?;
        }
        Ok(Given {
            interface: fields.interface,
            url: fields.url,
            service_id: fields.service_id,
            enabled: fields.enabled,
            region: region.filter(|_| fields.region_id.is_none()),
            region_id: fields.region_id,
            extra: valid::extra(fields.extra, RESERVED),
        })
    }

    /// Onto a row, with what it names.
    async fn apply(&self, tx: &mut Tx, row: &mut EndpointRow) -> Result<()> {
        if let Some(id) = &self.service_id {
            let found = store::catalog::get_service(tx, id).await?;
            found.ok_or_else(|| {
                Error::bad_request(format!("Expecting to find endpoint service_id in service table: {id}."))
            })?;
            row.service_id.clone_from(id);
        }
        if let Some(Some(id)) = &self.region_id {
            let found = store::regions::get(tx, id).await?;
            found.ok_or_else(|| {
                Error::bad_request(format!("Expecting to find endpoint region_id in region table: {id}."))
            })?;
        }
        if let Some(id) = &self.region {
            if store::regions::get(tx, id).await?.is_none() {
                store::regions::insert(tx, &RegionRow::named(id)).await?;
            }
            row.region_id = Some(id.clone());
        }
        if let Some(region_id) = &self.region_id {
            row.region_id.clone_from(region_id);
        }
        for (column, value) in [(&mut row.interface, &self.interface), (&mut row.url, &self.url)] {
            if let Some(value) = value {
                column.clone_from(value);
            }
        }
        row.enabled = self.enabled.unwrap_or(row.enabled);
        valid::merge(&mut row.extra, self.extra.clone());
        Ok(())
    }
}

fn check_url(url: &str) -> Result<()> {
    let scheme = url.split_once(':').filter(|(scheme, rest)| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
        !scheme.is_empty() && scheme.chars().all(known) && !rest.is_empty()
    });
    match scheme {
        Some(_) if url.chars().count() <= MAX_URL => Ok(()),
        Some(_) => Err(valid::invalid("url", &format!("The value is longer than {MAX_URL} characters"))),
        None => Err(valid::invalid("url", "The value does not match '^[a-zA-Z0-9+.-]+:.+'")),
    }
}

pub(crate) async fn create_endpoint(identity: &Identity, fields: EndpointFields) -> Result<EndpointRow> {
    let given = Given::read(fields)?;
    for (attribute, value) in [("interface", &given.interface), ("url", &given.url), ("service_id", &given.service_id)]
    {
        if value.is_none() {
            return Err(valid::missing(attribute, "endpoint"));
        }
    }
    let empty = EndpointRow {
        id: identity.new_id(),
        generation: Generation::default(),
        service_id: String::new(),
        interface: String::new(),
        region_id: None,
        url: String::new(),
        enabled: true,
        extra: Default::default(),
    };
    let row = tx!(identity.db, "create endpoint", |tx| {
        let mut row = empty.clone();
        given.apply(tx, &mut row).await?;
        store::catalog::insert_endpoint(tx, &row).await?;
        Ok(row)
    })?;
    identity.forget_directory();
    Ok(row)
}

pub(crate) async fn update_endpoint(identity: &Identity, id: &str, fields: EndpointFields) -> Result<EndpointRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    let given = Given::read(fields)?;
    let row = tx!(identity.db, "update endpoint", |tx| {
        let mut row = store::catalog::get_endpoint(tx, id).await?.ok_or_else(|| no_endpoint(id))?;
        given.apply(tx, &mut row).await?;
        store::catalog::update_endpoint(tx, &row).await?;
        Ok(row)
    })?;
    identity.forget_directory();
    Ok(row)
}

pub(crate) async fn delete_endpoint(identity: &Identity, id: &str) -> Result<()> {
    tx!(identity.db, "delete endpoint", |tx| {
        store::catalog::get_endpoint(tx, id).await?.ok_or_else(|| no_endpoint(id))?;
        store::catalog::delete_endpoint(tx, id).await
    })?;
    identity.forget_directory();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        let check = |url: &str, fits: bool| assert_eq!(check_url(url).is_ok(), fits, "{url}");
        check("http://host:8774/v2.1/%(project_id)s", true);
        check("rbd:x", true);
        check("host", false);
        check(":x", false);
        check("http:", false);
        check("ht tp:x", false);
        check(&format!("http://{}", "x".repeat(300)), false);
    }
}
