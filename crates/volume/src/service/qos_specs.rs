//! QoS specs: their keys, and the types that have them.

use std::collections::BTreeMap;

use umbel_core::{Error, Id, Result};
use umbel_db::tx;

use crate::Volumes;
use crate::store::qos_specs::{self, Qos, QosId};
use crate::store::types::{self, VolumeTypeId};

const CONSUMERS: &[&str] = &["front-end", "back-end", "both"];

impl Volumes {
    pub(crate) async fn create_qos(
        &self,
        name: String,
        consumer: Option<String>,
        specs: BTreeMap<String, String>,
    ) -> Result<Qos> {
        let consumer = consumer.unwrap_or_else(|| "back-end".to_owned());
        check_consumer(&consumer)?;
        let now = self.clock.now();
        let new = Qos { id: Id::random(&*self.rng), name, consumer, specs, created_at: now, updated_at: None };
        tx!(self.db, "create QoS specs", |tx| qos_specs::insert(tx, &new).await)?;
        Ok(new)
    }

    /// Adds to the keys. A key without a value keeps what it has.
    pub(crate) async fn update_qos(&self, id: QosId, keys: &BTreeMap<String, Option<String>>) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "update QoS specs", |tx| {
            let mut qos = qos_specs::lock(tx, id).await?;
            for (name, value) in keys {
                match (name.as_str(), value) {
                    ("consumer", Some(value)) => {
                        check_consumer(value)?;
                        qos.consumer.clone_from(value);
                    }
                    (_, Some(value)) => {
                        qos.specs.insert(name.clone(), value.clone());
                    }
                    (_, None) => {}
                }
            }
            qos.updated_at = Some(now);
            qos_specs::update(tx, &qos).await
        })
    }

    /// 400 for keys that are not there; none is removed then.
    pub(crate) async fn remove_qos_keys(&self, id: QosId, keys: &[String]) -> Result<()> {
        let now = self.clock.now();
        tx!(self.db, "remove keys of QoS specs", |tx| {
            let mut qos = qos_specs::lock(tx, id).await?;
            for key in keys {
                if qos.specs.remove(key).is_none() {
                    return Err(Error::not_found(format!("QoS spec {id} has no spec with key {key}.")));
                }
            }
            qos.updated_at = Some(now);
            qos_specs::update(tx, &qos).await
        })
    }

    /// 400 while types have them, unless it is forced.
    pub(crate) async fn delete_qos(&self, id: QosId, force: bool) -> Result<()> {
        tx!(self.db, "delete QoS specs", |tx| {
            qos_specs::lock(tx, id).await?;
            if !force && !qos_specs::types(tx, id).await?.is_empty() {
                return Err(Error::bad_request("Qos specs still in use."));
            }
            qos_specs::leave_all_types(tx, id).await?;
            qos_specs::delete(tx, id).await
        })
    }

    pub(crate) async fn associate_qos(&self, id: QosId, of: VolumeTypeId) -> Result<()> {
        tx!(self.db, "associate QoS specs", |tx| {
            qos_specs::lock(tx, id).await?;
            let mut volume_type = types::lock(tx, of).await?;
            match volume_type.qos_specs_id {
                Some(other) if other != id => Err(Error::bad_request(format!(
                    "Invalid volume type: Type {of} is already associated with another qos specs: {other}"
                ))),
                _ => {
                    volume_type.qos_specs_id = Some(id);
                    types::update(tx, &volume_type).await
                }
            }
        })
    }

    /// Without a type, from all of them.
    pub(crate) async fn disassociate_qos(&self, id: QosId, of: Option<VolumeTypeId>) -> Result<()> {
        tx!(self.db, "disassociate QoS specs", |tx| {
            qos_specs::lock(tx, id).await?;
            let Some(of) = of else {
                return qos_specs::leave_all_types(tx, id).await;
            };
            let mut volume_type = types::lock(tx, of).await?;
            if volume_type.qos_specs_id == Some(id) {
                volume_type.qos_specs_id = None;
                types::update(tx, &volume_type).await?;
            }
            Ok(())
        })
    }
}

fn check_consumer(consumer: &str) -> Result<()> {
    match CONSUMERS.contains(&consumer) {
        true => Ok(()),
        false => Err(Error::bad_request(format!(
            "Invalid qos specs: Valid consumer of QoS specs are: {}",
            CONSUMERS.join(", ")
        ))),
    }
}
