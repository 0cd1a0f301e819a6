use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_api::image::{ImportInfo, ImportMethods, StoreInfo, Stores};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use crate::{Images, SNAPSHOT, Store};

/// None yet: data come by upload.
pub const IMPORT_METHODS: &[&str] = &[];

pub async fn import(_: Arc<Images>, _: Req) -> Result<Reply> {
    let import_methods = ImportMethods {
        description: "Import methods available.".into(),
        kind: "array".into(),
        value: IMPORT_METHODS.iter().map(|method| (*method).into()).collect(),
    };
    Ok(Reply::json(200, &ImportInfo { import_methods }))
}

pub async fn stores(state: Arc<Images>, _: Req) -> Result<Reply> {
    let stores = state.stores.iter().map(|store| state.brief(store)).collect();
    Ok(Reply::json(200, &Stores { stores }))
}

pub async fn stores_detail(state: Arc<Images>, _: Req) -> Result<Reply> {
    let stores = state.stores.iter().map(|store| state.detail(store)).collect();
    Ok(Reply::json(200, &Stores { stores }))
}

impl Images {
    fn brief(&self, store: &Store) -> StoreInfo {
        let default = self.store(None).is_ok_and(|default| default.name == store.name);
        StoreInfo { id: store.name.clone(), default: default.then(|| "true".into()), ..StoreInfo::default() }
    }

    /// Type and properties as upstream's RBD store tells them; other kinds likewise.
    fn detail(&self, store: &Store) -> StoreInfo {
        let location = store.pool.location("any", SNAPSHOT);
        let cluster = if location.scheme == "rbd" { "fsid" } else { "cluster" };
        let properties = BTreeMap::from([("pool".to_owned(), location.pool), (cluster.to_owned(), location.cluster)]);
        StoreInfo { kind: Some(location.scheme), weight: Some(0), properties: Some(properties), ..self.brief(store) }
    }
}
