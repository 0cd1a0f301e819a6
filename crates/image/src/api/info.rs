use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_api::image::{ImportInfo, ImportMethods, StoreInfo, Stores, UsageReport};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::{Images, SNAPSHOT, Store};

pub async fn import(state: Arc<Images>, _: Req) -> Result<Reply> {
    let import_methods = ImportMethods {
        description: "Import methods available.".into(),
        kind: "array".into(),
        value: state.import_methods().into_iter().map(|method| method.to_owned().into()).collect(),
    };
    Ok(Reply::json(200, &ImportInfo { import_methods }))
}

pub async fn stores(state: Arc<Images>, _: Req) -> Result<Reply> {
    let stores = state.stores.iter().map(|store| state.brief(store)).chain(state.web_store()).collect();
    Ok(Reply::json(200, &Stores { stores }))
}

pub async fn stores_detail(state: Arc<Images>, _: Req) -> Result<Reply> {
    let web = state.web_store().map(|web| StoreInfo {
        kind: Some("http".to_owned()),
        weight: Some(state.weight(&web.id)),
        properties: Some(BTreeMap::new()),
        ..web
    });
    let stores = state.stores.iter().map(|store| state.detail(store)).chain(web).collect();
    Ok(Reply::json(200, &Stores { stores }))
}

pub async fn usage(state: Arc<Images>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &UsageReport { usage: state.usage(&req.ctx).await? }))
}

pub async fn delete_from_store(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.delete_from_store(&req.ctx, req.param("store_id")?, image_id(&req)?).await?;
    Ok(Reply::empty(204))
}

impl Images {
    fn brief(&self, store: &Store) -> StoreInfo {
        let default = self.store(None).is_ok_and(|default| default.name == store.name);
        StoreInfo {
            id: store.name.clone(),
            description: self.config.store_descriptions.get(&store.name).cloned(),
            default: default.then(|| "true".into()),
            ..StoreInfo::default()
        }
    }

    /// The web, where it is a store.
    fn web_store(&self) -> Option<StoreInfo> {
        self.config.web_store.as_ref().map(|name| StoreInfo {
            id: name.clone(),
            description: self.config.store_descriptions.get(name).cloned(),
            read_only: Some("true".into()),
            ..StoreInfo::default()
        })
    }

    /// Type and properties as upstream's RBD store tells them; other kinds likewise. A pool of local files is what
    /// upstream calls `file`.
    fn detail(&self, store: &Store) -> StoreInfo {
        let location = store.pool.location("any", SNAPSHOT);
        let rbd = location.scheme == "rbd";
        let cluster = if rbd { "fsid" } else { "cluster" };
        let kind = if location.scheme == "local" { "file".to_owned() } else { location.scheme };
        let mut properties =
            BTreeMap::from([("pool".to_owned(), location.pool), (cluster.to_owned(), location.cluster)]);
        if rbd {
            // Ranges of zeros are never stored.
            properties.insert("thin_provisioning".to_owned(), "True".to_owned());
        }
        let weight = Some(self.weight(&store.name));
        StoreInfo { kind: Some(kind), weight, properties: Some(properties), ..self.brief(store) }
    }
}
