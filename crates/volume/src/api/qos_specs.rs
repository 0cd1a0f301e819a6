use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use umbel_api::volume::qos_specs as wire;
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes};

use super::input::flag;
use super::lists::{self, Key};
use super::view;
use crate::Volumes;
use crate::store::qos_specs::{self, Qos, QosId};
use crate::store::types::{self, VolumeTypeId};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::LIST, list)
        .on(&wire::CREATE, create)
        .on(&wire::SHOW, show)
        .on(&wire::UPDATE, update)
        .on(&wire::DELETE, delete)
        .on(&wire::DELETE_KEYS, delete_keys)
        .on(&wire::ASSOCIATIONS, associations)
        .on(&wire::ASSOCIATE, associate)
        .on(&wire::DISASSOCIATE, disassociate)
        .on(&wire::DISASSOCIATE_ALL, disassociate_all)
}

fn qos_id(req: &Req) -> Result<QosId> {
    let text = req.param("qos_id")?;
    text.parse().map_err(|_| qos_specs::not_found(text))
}

fn parameter(req: &Req, name: &str) -> Option<String> {
    req.query_pairs().into_iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn shown(qos: &Qos) -> wire::Qos<'_> {
    wire::Qos { id: qos.id.to_string(), name: &qos.name, consumer: &qos.consumer, specs: &qos.specs }
}

fn one(req: &Req, qos: &Qos) -> Reply {
    Reply::json(200, &wire::OneQos { qos_specs: shown(qos), links: view::links(req, "qos-specs", qos.id) })
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let mut all = read!(state.db, "list QoS specs", |tx| qos_specs::list(tx).await)?;
    for (name, value) in req.query_pairs() {
        all.retain(|qos| match name.as_str() {
            "id" => qos.id.to_string() == value,
            "name" => qos.name == value,
            "consumer" => qos.consumer == value,
            _ => true,
        });
    }
    let (page, qos_specs_links) = lists::page(&req, wire::LIST.path, state.config.max_page, all, |qos, name| {
        Some(match name {
            "id" => Key::Text(qos.id.to_string()),
            "name" => Key::Text(qos.name.clone()),
            "consumer" => Key::Text(qos.consumer.clone()),
            "created_at" => Key::Number(qos.created_at.0),
            "updated_at" => Key::Number(qos.updated_at.map_or(0, |at| at.0)),
            _ => return None,
        })
    })?;
    Ok(Reply::json(200, &wire::QosList { qos_specs: page.iter().map(shown).collect(), qos_specs_links }))
}

/// Values may be numbers and truths: they are kept as texts.
fn text(name: &str, value: Value) -> Result<String> {
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => {
            return Err(Error::bad_request(format!("Invalid input for field/attribute {name}. Value: {other}.")));
        }
    };
    Ok(text)
}

async fn create(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let mut members = req.json::<wire::CreateRequest>().await?.qos_specs;
    let Some(Value::String(name)) = members.remove("name") else {
        return Err(Error::bad_request("Invalid input received: The 'name' can not be None."));
    };
    let name = lists::name(name.trim().to_owned())?;
    let consumer = members.remove("consumer").map(|value| text("consumer", value)).transpose()?;
    let mut specs = BTreeMap::new();
    for (name, value) in members {
        let value = text(&name, value)?;
        specs.insert(name, value);
    }
    lists::specs(specs.iter().map(|(name, value)| (name, Some(value))), true)?;
    let qos = state.create_qos(name, consumer, specs).await?;
    Ok(one(&req, &qos))
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let id = qos_id(&req)?;
    let found = read!(state.db, "show QoS specs", |tx| qos_specs::get(tx, id).await)?;
    Ok(one(&req, &found.ok_or_else(|| qos_specs::not_found(id))?))
}

async fn update(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let id = qos_id(&req)?;
    let body: wire::KeysBody = req.json().await?;
    lists::specs(body.qos_specs.iter().map(|(name, value)| (name, value.as_ref())), true)?;
    state.update_qos(id, &body.qos_specs).await?;
    Ok(Reply::json(200, &body))
}

async fn delete_keys(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let keys = req.json::<wire::DeleteKeysRequest>().await?.keys;
    state.remove_qos_keys(qos_id(&req)?, &keys).await?;
    Ok(Reply::empty(202))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let force = parameter(&req, "force").map_or(Ok(false), |value| flag("force", &value.into()))?;
    state.delete_qos(qos_id(&req)?, force).await?;
    Ok(Reply::empty(202))
}

async fn associations(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let id = qos_id(&req)?;
    let types = read!(state.db, "list what has QoS specs", |tx| {
        qos_specs::get(tx, id).await?.ok_or_else(|| qos_specs::not_found(id))?;
        qos_specs::types(tx, id).await
    })?;
    let one = |(id, name): (VolumeTypeId, String)| wire::Association {
        association_type: "volume_type",
        id: id.to_string(),
        name,
    };
    Ok(Reply::json(200, &wire::Associations { qos_associations: types.into_iter().map(one).collect() }))
}

fn asked_type(req: &Req) -> Result<VolumeTypeId> {
    let text = parameter(req, "vol_type_id").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::bad_request("Volume Type id must not be None."))?;
    text.parse().map_err(|_| types::not_found(text))
}

async fn associate(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.associate_qos(qos_id(&req)?, asked_type(&req)?).await?;
    Ok(Reply::empty(202))
}

async fn disassociate(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.disassociate_qos(qos_id(&req)?, Some(asked_type(&req)?)).await?;
    Ok(Reply::empty(202))
}

async fn disassociate_all(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    state.disassociate_qos(qos_id(&req)?, None).await?;
    Ok(Reply::empty(202))
}
