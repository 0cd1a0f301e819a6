//! Metadata of volumes and of snapshots: the same six operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use umbel_api::volume::volumes::{MetaBody, MetadataBody};
use umbel_api::volume::{snapshots as of_snapshots, volumes as of_volumes};
use umbel_core::{Error, Result};
use umbel_db::read;
use umbel_http::{Reply, Req, Routes};

use crate::Volumes;
use crate::model::{SnapshotId, VolumeId};
use crate::service::Caller;
use crate::store::metadata::Kind;

type Metadata = BTreeMap<String, String>;

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&of_volumes::METADATA_SHOW, show::<VolumeId>)
        .on(&of_volumes::METADATA_ADD, add::<VolumeId>)
        .on(&of_volumes::METADATA_SET, set::<VolumeId>)
        .on(&of_volumes::ITEM_SHOW, show_item::<VolumeId>)
        .on(&of_volumes::ITEM_SET, set_item::<VolumeId>)
        .on(&of_volumes::ITEM_DELETE, delete_item::<VolumeId>)
        .on(&of_snapshots::METADATA_SHOW, show::<SnapshotId>)
        .on(&of_snapshots::METADATA_ADD, add::<SnapshotId>)
        .on(&of_snapshots::METADATA_SET, set::<SnapshotId>)
        .on(&of_snapshots::ITEM_SHOW, show_item::<SnapshotId>)
        .on(&of_snapshots::ITEM_SET, set_item::<SnapshotId>)
        .on(&of_snapshots::ITEM_DELETE, delete_item::<SnapshotId>)
}

/// What has metadata.
trait Owner: Sized + Send + Sync + Copy + 'static {
    const WHAT: &'static str;

    fn of(req: &Req) -> Result<Self>;

    fn read(self, state: &Volumes, caller: &Caller) -> impl Future<Output = Result<Metadata>> + Send;

    fn change(
        self,
        state: &Volumes,
        caller: &Caller,
        change: impl Fn(&mut Metadata) -> Result<()> + Send + Sync,
    ) -> impl Future<Output = Result<Metadata>> + Send;
}

impl Owner for VolumeId {
    const WHAT: &'static str = "Volume";

    fn of(req: &Req) -> Result<Self> {
        req.id("volume_id", Self::WHAT)
    }

    async fn read(self, state: &Volumes, caller: &Caller) -> Result<Metadata> {
        Ok(read!(state.db, "show a volume's metadata", |tx| caller.volume(tx, self).await)?.metadata)
    }

    async fn change(
        self,
        state: &Volumes,
        caller: &Caller,
        change: impl Fn(&mut Metadata) -> Result<()> + Send + Sync,
    ) -> Result<Metadata> {
        state.change_metadata(caller, self, Kind::User, change).await
    }
}

impl Owner for SnapshotId {
    const WHAT: &'static str = "Snapshot";

    fn of(req: &Req) -> Result<Self> {
        req.id("snapshot_id", Self::WHAT)
    }

    async fn read(self, state: &Volumes, caller: &Caller) -> Result<Metadata> {
        Ok(read!(state.db, "show a snapshot's metadata", |tx| caller.snapshot(tx, self).await)?.metadata)
    }

    async fn change(
        self,
        state: &Volumes,
        caller: &Caller,
        change: impl Fn(&mut Metadata) -> Result<()> + Send + Sync,
    ) -> Result<Metadata> {
        state.change_snapshot_metadata(caller, self, change).await
    }
}

fn no_key<I: Owner + std::fmt::Display>(id: I, key: &str) -> Error {
    Error::not_found(format!("{} {id} has no metadata with key {key}.", I::WHAT))
}

async fn show<I: Owner>(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let metadata = I::of(&req)?.read(&state, &Caller::of(&req.ctx)?).await?;
    Ok(Reply::json(200, &MetadataBody { metadata }))
}

async fn add<I: Owner>(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let (id, caller) = (I::of(&req)?, Caller::of(&req.ctx)?);
    let new = req.json::<MetadataBody>().await?.metadata;
    let change = |all: &mut Metadata| {
        all.extend(new.clone());
        Ok(())
    };
    let metadata = id.change(&state, &caller, change).await?;
    Ok(Reply::json(200, &MetadataBody { metadata }))
}

async fn set<I: Owner>(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let (id, caller) = (I::of(&req)?, Caller::of(&req.ctx)?);
    let new = req.json::<MetadataBody>().await?.metadata;
    let change = |all: &mut Metadata| {
        *all = new.clone();
        Ok(())
    };
    let metadata = id.change(&state, &caller, change).await?;
    Ok(Reply::json(200, &MetadataBody { metadata }))
}

async fn show_item<I: Owner + std::fmt::Display>(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (id, key) = (I::of(&req)?, req.param("key")?.to_owned());
    let all = id.read(&state, &Caller::of(&req.ctx)?).await?;
    let value = all.get(&key).cloned().ok_or_else(|| no_key(id, &key))?;
    Ok(Reply::json(200, &MetaBody { meta: [(key, value)].into() }))
}

async fn set_item<I: Owner>(state: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let (id, caller, key) = (I::of(&req)?, Caller::of(&req.ctx)?, req.param("key")?.to_owned());
    let meta = req.json::<MetaBody>().await?.meta;
    let Some(value) = meta.get(&key) else {
        return Err(Error::bad_request("Request body and URI mismatch"));
    };
    if meta.len() > 1 {
        return Err(Error::bad_request("Request body contains too many items"));
    }
    let change = |all: &mut Metadata| {
        all.insert(key.clone(), value.clone());
        Ok(())
    };
    id.change(&state, &caller, change).await?;
    Ok(Reply::json(200, &MetaBody { meta }))
}

async fn delete_item<I: Owner + std::fmt::Display>(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (id, caller, key) = (I::of(&req)?, Caller::of(&req.ctx)?, req.param("key")?.to_owned());
    let change = |all: &mut Metadata| all.remove(&key).map(drop).ok_or_else(|| no_key(id, &key));
    id.change(&state, &caller, change).await?;
    Ok(Reply::empty(200))
}
