use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::compute::flavors::{SPEC_DELETE, SPEC_SHOW, SPEC_UPDATE, SPECS_CREATE, SPECS_LIST, Specs, SpecsRequest};
use umbel_auth::visible;
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use super::input::invalid;
use crate::Compute;
use crate::service::extra_specs::{check_form, check_meaning};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&SPECS_LIST, list)
        .on(&SPECS_CREATE, create)
        .on(&SPEC_SHOW, show)
        .on(&SPEC_UPDATE, update)
        .on(&SPEC_DELETE, delete)
}

/// The specs of a request as texts, all of them good at this version.
fn texts(specs: BTreeMap<String, Value>, minor: u16) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for (name, value) in specs {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => return Err(invalid(&name, other, "It is not of type 'string'")),
        };
        check_form(&name, &text)?;
        if minor >= 86 {
            check_meaning(&name, &text)?;
        }
        texts.insert(name, text);
    }
    Ok(texts)
}

fn no_spec(flavor: &str, name: &str) -> Error {
    Error::not_found(format!("Flavor {flavor} has no extra specs with key {name}."))
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let flavor = state.flavor(req.param("flavor_id")?, &visible(&req.ctx)?).await?;
    Ok(Reply::json(200, &Specs { extra_specs: &flavor.extra_specs }))
}

async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let body: SpecsRequest = req.json().await?;
    let new = texts(body.extra_specs, req.version.minor)?;
    let changed = state.change_flavor(req.param("flavor_id")?, |flavor| {
        flavor.extra_specs.extend(new.clone());
        Ok(())
    });
    changed.await?;
    Ok(Reply::json(200, &Specs { extra_specs: &new }))
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let (id, name) = (req.param("flavor_id")?, req.param("spec")?);
    let flavor = state.flavor(id, &visible(&req.ctx)?).await?;
    let value = flavor.extra_specs.get(name).ok_or_else(|| no_spec(id, name))?;
    Ok(Reply::json(200, &BTreeMap::from([(name, value)])))
}

async fn update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let body: BTreeMap<String, Value> = req.json().await?;
    let new = texts(body, req.version.minor)?;
    let (id, name) = (req.param("flavor_id")?, req.param("spec")?);
    let Some(value) = new.get(name).filter(|_| new.len() == 1) else {
        return Err(Error::bad_request("Request body and URI mismatch"));
    };
    let changed = state.change_flavor(id, |flavor| {
        flavor.extra_specs.insert(name.to_owned(), value.clone());
        Ok(())
    });
    changed.await?;
    Ok(Reply::json(200, &new))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let (id, name) = (req.param("flavor_id")?, req.param("spec")?);
    let changed =
        state.change_flavor(id, |flavor| flavor.extra_specs.remove(name).map(drop).ok_or_else(|| no_spec(id, name)));
    changed.await?;
    Ok(Reply::empty(200))
}
