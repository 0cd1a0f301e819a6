//! Which backend a new volume goes to.

use umbel_core::{Error, Kind, Result};
use umbel_db::{Tx, tx};
use umbel_driver::Location;

use super::capabilities;
use crate::flows::create::Source;
use crate::flows::start::held;
use crate::model::VolumeRow;
use crate::store::types::VolumeType;
use crate::store::{Volume, types, volumes};
use crate::{Backend, Volumes};

/// How many times its room a pool may promise: upstream's default.
const OVER_SUBSCRIPTION: u64 = 20;

/// What a backend that does what is asked for has, the better the larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Room {
    /// Whether its pool does at all. What is free is not known if not.
    pub answers: bool,
    /// Bytes.
    pub free: u64,
}

/// Why a backend will not do.
enum Unfit {
    Full,
    /// It does not do what the type asks for, or has promised all it may.
    Other,
}

/// A backend that would do, the better the larger. One that does not answer is taken if no other will do: the creation
/// waits for it, or fails with its reason.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    answers: bool,
    /// It can clone what the volume is made from.
    clones: bool,
    default: bool,
    free: u64,
}

impl Volumes {
    /// Chooses and writes it down. Backends that do what the type asks for and have room; among them those that can
    /// clone the source, then the default, then the emptiest. A choice that was made before stands.
    pub(crate) async fn place(&self, row: &VolumeRow, source: &Source) -> Result<String> {
        if let Some(backend) = &row.backend {
            return Ok(backend.clone());
        }
        let (kind, allocated) = tx!(self.db, "look where a volume can go", |tx| {
            let mut allocated = Vec::new();
            for backend in &self.backends {
                allocated.push(volumes::allocated(tx, &backend.name).await?);
            }
            Ok((type_of(tx, row).await?, allocated))
        })?;
        let closed = self.closed_backends().await?;
        let (mut fit, mut full): (Vec<(&Backend, Room)>, Vec<&str>) = (Vec::new(), Vec::new());
        for (backend, allocated) in self.backends.iter().zip(allocated) {
            if closed.contains(&backend.name) {
                continue;
            }
            match self.look_for_room(backend, kind.as_ref(), allocated, row.size_gib).await {
                Ok(room) => fit.push((backend, room)),
                Err(unfit) => full.extend(matches!(unfit, Unfit::Full).then_some(backend.name.as_str())),
            }
        }
        // Where there is no choice nobody is asked what could be cloned.
        let data = if fit.len() > 1 { self.data_of(source).await? } else { Vec::new() };
        let mut best: Option<(Rank, &Backend)> = None;
        for (backend, Room { answers, free }) in fit {
            let clones = answers && can_clone(backend, &data).await;
            let rank = Rank { answers, clones, default: backend.name == self.default_backend().name, free };
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, backend));
            }
        }
        let (_, chosen) = best.ok_or_else(|| {
            let none = "No valid backend was found.";
            let error = match full.is_empty() {
                true => Error::bad_request(format!("{none} No weighed backends available")),
                false => Error::new(Kind::NoSpace, format!("{none} Storage pool {} is full.", full.join(", "))),
            };
            error.because(format!("{} GiB of type {:?}", row.size_gib, kind.map(|kind| kind.name)))
        })?;
        let now = self.clock.now();
        tx!(self.db, "place a volume", |tx| {
            let row = held(tx, row.id).await?;
            let after = VolumeRow { backend: Some(chosen.name.clone()), ..row.clone() };
            volumes::update(tx, &row, &after, now).await.map(drop)
        })?;
        Ok(chosen.name.clone())
    }

    /// What the backend has, if it will do.
    pub(super) async fn room(
        &self,
        backend: &Backend,
        kind: Option<&VolumeType>,
        allocated: u64,
        size: u64,
    ) -> Option<Room> {
        self.look_for_room(backend, kind, allocated, size).await.ok()
    }

    async fn look_for_room(
        &self,
        backend: &Backend,
        kind: Option<&VolumeType>,
        allocated: u64,
        size: u64,
    ) -> Result<Room, Unfit> {
        // Who does not want this backend is not held up by it.
        let fits = |capacity| {
            let abilities = capabilities::of(backend, capacity, allocated, self.clock.now());
            kind.is_none_or(|kind| capabilities::satisfy(&abilities, &kind.extra_specs))
        };
        let measured = |name: &String| name.contains("capacity") || name.contains("backend_state");
        if !kind.is_some_and(|kind| kind.extra_specs.keys().any(measured)) && !fits(None) {
            return Err(Unfit::Other);
        }
        let capacity = match backend.pool.capacity().await {
            Ok(capacity) => capacity,
            Err(error) => {
                tracing::warn!(backend = backend.name, cause = error.cause(), "a backend does not answer: {error}");
                return if fits(None) { Ok(Room { answers: false, free: 0 }) } else { Err(Unfit::Other) };
            }
        };
        let promised = allocated.saturating_add(size).saturating_mul(umbel_core::GIB);
        if !fits(Some(capacity)) || promised > capacity.total.saturating_mul(OVER_SUBSCRIPTION) {
            return Err(Unfit::Other);
        }
        if capacity.free == 0 { Err(Unfit::Full) } else { Ok(Room { answers: true, free: capacity.free }) }
    }

    /// Where the source's bytes are.
    async fn data_of(&self, source: &Source) -> Result<Vec<Location>> {
        Ok(match source {
            Source::Nothing => Vec::new(),
            Source::Image { id } => {
                let format = self.images.show(None, id).await?.disk_format.unwrap_or_default();
                self.raw_data(id, &format).await
            }
            Source::Disk { backend, disk, snapshot, .. } => {
                self.backend(backend).map(|from| from.pool.location(disk, snapshot)).into_iter().collect()
            }
        })
    }

    /// What the type says of I/O, for a disk that was just made.
    pub(crate) async fn limit_new(&self, row: &VolumeRow, backend: &Backend) -> Result<()> {
        let limits = tx!(self.db, "find a volume's limits", |tx| {
            let kind = type_of(tx, row).await?;
            self.limits_of(tx, kind.as_ref(), row.size_gib).await
        })?;
        match limits == umbel_driver::Limits::default() {
            true => Ok(()),
            false => backend.pool.limit(&row.disk, &limits).await,
        }
    }
}

/// Whether the backend's pool can make clones of any of these.
async fn can_clone(backend: &Backend, data: &[Location]) -> bool {
    for at in data {
        if backend.pool.can_clone(at).await.is_ok() {
            return true;
        }
    }
    false
}

/// None for a volume without a type.
pub(crate) async fn type_of(tx: &mut Tx<Volume>, row: &VolumeRow) -> Result<Option<VolumeType>> {
    match row.volume_type_id.as_deref().map(str::parse).transpose()? {
        Some(id) => types::get(tx, &umbel_auth::Visible::All, id).await,
        None => Ok(None),
    }
}
