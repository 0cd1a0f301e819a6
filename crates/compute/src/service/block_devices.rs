//! The disks that a request for a server names: checked against what there is, before anything is written.
//!
//! Refusals have upstream's words, which clients and its test suite know.

use std::borrow::Cow;
use std::collections::BTreeMap;

use umbel_client::{NewVolume, VolumeView};
use umbel_core::{Ctx, Error, GIB, Kind, MIB, Result, Timestamp};
use uuid::Uuid;

use super::Compute;
use super::image_devices::devices_in;
use super::volumes::{MADE_FOR, Who, invalid_volume, of_volume, token};
use crate::model::{
    BlockDevice, BlockDeviceId, FlavorSnapshot, ImageSnapshot, ServerId, VolumeOrigin, VolumeToMake, device_name,
};

/// A block device of a request whose form is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub source: Source,
    pub destination: Destination,
    pub boot_index: Option<u32>,
    pub delete_on_termination: bool,
    /// GiB; MiB for swap.
    pub size: Option<u64>,
    pub tag: Option<String>,
    pub volume_type: Option<String>,
    pub is_swap: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Blank,
    Image(String),
    Snapshot(String),
    Volume(Uuid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Local,
    Volume,
}

/// The disks of a new server, looked up and found good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks {
    /// Without ids of their own: each server of the request gets its own.
    pub volumes: Vec<VolumeAsk>,
    /// Bytes of each blank disk in a pool; what the flavor says where the request says nothing.
    pub ephemeral: Vec<u64>,
    /// Bytes.
    pub swap: Option<u64>,
    /// The image of a server that boots from a disk in a pool.
    pub image: Option<ImageSnapshot>,
}

#[derive(Clone, Debug)]
pub(crate) struct VolumeAsk {
    pub volume_id: Option<Uuid>,
    pub make: Option<VolumeToMake>,
    pub size_bytes: u64,
    pub boot_index: Option<u32>,
    pub delete_on_termination: bool,
    pub tag: Option<String>,
}

/// What bounds a request's disks.
pub(crate) struct Bounds<'a> {
    pub flavor: &'a FlavorSnapshot,
    /// Disks in pools that a request may name.
    pub local: usize,
    /// Disks of all kinds that a server may have.
    pub all: usize,
    /// Servers of the request.
    pub servers: u64,
    /// Whether the version of the request knows volumes of several servers.
    pub multiattach: bool,
}

pub(crate) fn bad_mapping(why: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("Block Device Mapping is Invalid: {why}"))
}

/// The refusal of more disks than a server may have.
pub(crate) fn too_many(limit: usize) -> Error {
    Error::forbidden(format!(
        "The maximum allowed number of disk devices ({limit}) to attach to a single instance has been exceeded."
    ))
}

/// What can be said without asking anybody: order of booting, sizes, numbers. The sizes of ephemeral disks and swap.
pub(crate) fn check(asks: &[Ask], bounds: &Bounds<'_>) -> Result<(Vec<u64>, Option<u64>)> {
    let mut order: Vec<u32> = asks.iter().filter_map(|ask| ask.boot_index).collect();
    order.sort_unstable();
    if order.is_empty() || order.iter().enumerate().any(|(at, index)| usize::try_from(*index) != Ok(at)) {
        return Err(bad_mapping(
            "Boot sequence for the instance and image/block device mapping combination is not valid.",
        ));
    }
    for ask in asks {
        let unsized_volume = ask.destination == Destination::Volume && ask.size.unwrap_or(0) == 0;
        match &ask.source {
            Source::Image(_) if unsized_volume => {
                return Err(bad_mapping(
                    "Images with destination_type 'volume' need to have a non-zero size specified",
                ));
            }
            Source::Blank if unsized_volume => {
                return Err(bad_mapping("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size"));
            }
            Source::Volume(_) if bounds.servers > 1 => {
                return Err(Error::bad_request("Cannot attach one or more volumes to multiple instances"));
            }
            _ => {}
        }
    }
    if asks.iter().filter(|ask| ask.destination == Destination::Local).count() > bounds.local {
        return Err(bad_mapping("You specified more local devices than the limit allows"));
    }
    if asks.len() > bounds.all {
        return Err(too_many(bounds.all));
    }
    local_sizes(asks, bounds.flavor)
}

fn local_sizes(asks: &[Ask], flavor: &FlavorSnapshot) -> Result<(Vec<u64>, Option<u64>)> {
    let blank = |swap: bool| {
        let local = asks.iter().filter(move |ask| {
            ask.source == Source::Blank && ask.destination == Destination::Local && ask.is_swap == swap
        });
        local.collect::<Vec<_>>()
    };
    let sizes: Vec<u64> = blank(false).iter().map(|ask| ask.size.unwrap_or(flavor.ephemeral_gib)).collect();
    if sizes.iter().sum::<u64>() > flavor.ephemeral_gib {
        return Err(bad_mapping(
            "Ephemeral disks requested are larger than the instance type allows. If no size is given in one block \
             device mapping, flavor ephemeral size will be used.",
        ));
    }
    let ephemeral = match sizes.is_empty() {
        true => vec![flavor.ephemeral_gib],
        false => sizes,
    };
    let swap = match blank(true)[..] {
        [] => flavor.swap_mib,
        [swap] => swap.size.unwrap_or(flavor.swap_mib),
        _ => return Err(bad_mapping("More than one swap drive requested.")),
    };
    if swap > flavor.swap_mib {
        return Err(bad_mapping("Swap drive requested is larger than instance type allows."));
    }
    let ephemeral = ephemeral.into_iter().filter(|gib| *gib > 0).map(|gib| gib * GIB).collect();
    Ok((ephemeral, (swap > 0).then_some(swap * MIB)))
}

impl Compute {
    /// Looks up everything that the disks are made of. With the caller's token, so that nobody boots what is not theirs.
    pub(super) async fn disks(&self, ctx: &Ctx, asks: &[Ask], bounds: &Bounds<'_>) -> Result<Disks> {
        check(asks, bounds)?;
        let (image, asks) = self.with_image(ctx, asks).await?;
        let (ephemeral, swap) = check(&asks, bounds)?;
        let mut disks = Disks { ephemeral, swap, image, ..Disks::default() };
        for ask in asks.iter() {
            if let Some(wanted) = &ask.volume_type {
                self.check_volume_type(ctx, wanted).await?;
            }
            match (&ask.source, ask.destination) {
                (Source::Image(_) | Source::Blank, Destination::Local) => {}
                _ => disks.volumes.push(self.volume(ctx, ask, bounds).await?),
            }
        }
        Ok(disks)
    }

    /// The image that is cloned to the root disk; and the disks, with those that the image brings. One that brings a disk
    /// to boot from is no root disk itself.
    async fn with_image<'a>(&self, ctx: &Ctx, asks: &'a [Ask]) -> Result<(Option<ImageSnapshot>, Cow<'a, [Ask]>)> {
        let local = asks.iter().enumerate().find_map(|(at, ask)| match (&ask.source, ask.destination) {
            (Source::Image(id), Destination::Local) => Some((at, id)),
            _ => None,
        });
        let Some((at, id)) = local else {
            return Ok((None, asks.into()));
        };
        let image = self.image(ctx, id).await?;
        let brought = devices_in(&image)?;
        if brought.is_empty() {
            return Ok((Some(image), asks.into()));
        }
        let mut all = asks.to_vec();
        let has_root = brought.iter().any(|ask| ask.boot_index == Some(0));
        if has_root {
            all.remove(at);
        }
        all.extend(brought);
        Ok(((!has_root).then_some(image), all.into()))
    }

    async fn volume(&self, ctx: &Ctx, ask: &Ask, bounds: &Bounds<'_>) -> Result<VolumeAsk> {
        let is_root = ask.boot_index == Some(0);
        let make =
            |of: VolumeOrigin, size_gib: u64| Some(VolumeToMake { of, size_gib, volume_type: ask.volume_type.clone() });
        let size = ask.size.unwrap_or(0);
        let (volume_id, make) = match &ask.source {
            Source::Blank => (None, make(VolumeOrigin::Blank, size)),
            Source::Image(id) => {
                let image =
                    self.image(ctx, id).await.map_err(|error| match error.is(Kind::BadRequest) && !is_root {
                        true => bad_mapping(format!("failed to get image {id}.")).because(error.for_log()),
                        false => error,
                    })?;
                if is_root {
                    check_root(bounds.flavor, image.min_ram_mib, image.min_disk_gib, size)?;
                }
                (None, make(VolumeOrigin::Image(id.clone()), size))
            }
            Source::Snapshot(id) => {
                let snapshot = self.volumes.show_snapshot(Who::Caller(token(ctx)), id).await;
                let snapshot = snapshot.map_err(|error| failed_to_get("snapshot", id, error))?;
                (None, make(VolumeOrigin::Snapshot(id.clone()), size.max(snapshot.size)))
            }
            Source::Volume(id) => {
                let volume = self.existing_volume(ctx, *id, bounds.multiattach).await?;
                if is_root {
                    check_root_volume(bounds.flavor, &volume)?;
                }
                return Ok(VolumeAsk { size_bytes: volume.size * GIB, ..ask_of(ask, Some(*id), None) });
            }
        };
        Ok(ask_of(ask, volume_id, make))
    }

    async fn existing_volume(&self, ctx: &Ctx, id: Uuid, multiattach: bool) -> Result<VolumeView> {
        let id = id.to_string();
        let volume = self.volumes.show(Who::Caller(token(ctx)), &id).await;
        let volume = volume.map_err(|error| failed_to_get("volume", &id, error))?;
        may_attach(&volume, multiattach)?;
        Ok(volume)
    }

    async fn check_volume_type(&self, ctx: &Ctx, wanted: &str) -> Result<()> {
        // All that the caller may name: an administrator the private ones of other projects too.
        let known = self.volumes.raw(token(ctx), umbel_api::Method::Get, "/types?is_public=None", None).await?;
        let types = known["volume_types"].as_array().map_or(&[][..], Vec::as_slice);
        match types.iter().any(|known| known["name"] == wanted || known["id"] == wanted) {
            true => Ok(()),
            false => Err(Error::bad_request(format!("Volume type {wanted} could not be found."))),
        }
    }

    /// Reserves the volumes that exist. On a refusal nothing stays reserved.
    pub(super) async fn reserve(&self, ctx: &Ctx, id: ServerId, disks: &Disks) -> Result<BTreeMap<Uuid, String>> {
        let mut reserved = BTreeMap::new();
        for volume in disks.volumes.iter().filter_map(|ask| ask.volume_id) {
            let asked = self.volumes.reserve(Who::Caller(token(ctx)), &volume.to_string(), id).await;
            match asked {
                Ok(attachment) => {
                    reserved.insert(volume, attachment.id);
                }
                Err(error) => {
                    self.let_go(&reserved).await;
                    return Err(of_volume(&volume.to_string(), error));
                }
            }
        }
        Ok(reserved)
    }

    /// What cannot be let go now is found by the guard of the request; see [`crate::flows::SERVER_RESERVE`].
    pub(super) async fn let_go(&self, reserved: &BTreeMap<Uuid, String>) {
        for (volume, attachment) in reserved {
            if let Err(error) = self.volumes.release(attachment).await {
                tracing::warn!(%volume, attachment, cause = error.cause(), "a volume stays reserved for now: {error}");
            }
        }
    }
}

fn ask_of(ask: &Ask, volume_id: Option<Uuid>, make: Option<VolumeToMake>) -> VolumeAsk {
    VolumeAsk {
        volume_id,
        size_bytes: make.as_ref().map_or(0, |make| make.size_gib * GIB),
        make,
        boot_index: ask.boot_index,
        delete_on_termination: ask.delete_on_termination,
        tag: ask.tag.clone(),
    }
}

fn failed_to_get(what: &str, id: &str, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound | Kind::BadRequest | Kind::Forbidden => {
            bad_mapping(format!("failed to get {what} {id}.")).because(error.for_log())
        }
        _ => error,
    }
}

/// Whether the volume's state and kind allow one more server.
pub(crate) fn may_attach(volume: &VolumeView, multiattach: bool) -> Result<()> {
    if volume.multiattach && !multiattach {
        return Err(Error::bad_request(
            "Multiattach volumes are only supported starting with compute API version 2.60.",
        ));
    }
    match (volume.status.as_str(), volume.multiattach) {
        ("available", _) | ("in-use", true) => Ok(()),
        (status, true) => Err(invalid_volume(format!(
            "volume '{}' status must be 'available' or 'in-use'. Currently in '{status}' status",
            volume.id
        ))),
        (status, false) => Err(invalid_volume(format!(
            "volume '{}' status must be 'available'. Currently in '{status}' status",
            volume.id
        ))),
    }
}

fn check_root_volume(flavor: &FlavorSnapshot, volume: &VolumeView) -> Result<()> {
    if !volume.is_bootable() {
        return Err(Error::bad_request(format!("Block Device {} is not bootable.", volume.id)));
    }
    let number = |name: &str| {
        let value = volume.volume_image_metadata.get(name);
        value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())).unwrap_or(0)
    };
    check_root(flavor, number("min_ram"), number("min_disk"), volume.size)
}

fn check_root(flavor: &FlavorSnapshot, min_ram_mib: u64, min_disk_gib: u64, size_gib: u64) -> Result<()> {
    if min_ram_mib > flavor.memory_mib {
        return Err(Error::bad_request("Flavor's memory is too small for requested image."));
    }
    if min_disk_gib > size_gib {
        return Err(Error::bad_request(format!(
            "Volume is smaller than the minimum size specified in image metadata. Volume size is {} bytes, minimum size \
             is {} bytes.",
            size_gib * GIB,
            min_disk_gib * GIB
        )));
    }
    Ok(())
}

impl Disks {
    pub fn is_volume_backed(&self) -> bool {
        self.volumes.iter().any(|ask| ask.boot_index == Some(0))
    }

    /// The volumes as one server of the request has them. `local`: disks of it in pools that have a name.
    pub fn block_devices(
        &self,
        mut new_id: impl FnMut() -> BlockDeviceId,
        reserved: &BTreeMap<Uuid, String>,
        local: usize,
        now: Timestamp,
    ) -> Vec<BlockDevice> {
        let mut devices: Vec<BlockDevice> = Vec::new();
        let rooted = local + usize::from(self.is_volume_backed());
        for ask in &self.volumes {
            let mut device = BlockDevice::planned(new_id(), ask.volume_id, ask.size_bytes, now);
            device.make = ask.make.clone();
            device.boot_index = ask.boot_index;
            device.delete_on_termination = ask.delete_on_termination;
            device.tag = ask.tag.clone();
            device.attachment_id = ask.volume_id.and_then(|id| reserved.get(&id).cloned());
            if device.attachment_id.is_some() {
                device.phase = crate::model::Phase::Reserved;
            }
            device.device_name = match device.is_root() {
                true => device_name(&[], 0),
                false => device_name(&devices, rooted),
            };
            devices.push(device);
        }
        devices
    }
}

impl VolumeToMake {
    /// As the volume service is asked for it.
    pub fn request(&self, device: BlockDeviceId) -> NewVolume {
        let (image_id, snapshot_id) = match &self.of {
            VolumeOrigin::Blank => (None, None),
            VolumeOrigin::Image(id) => (Some(id.clone()), None),
            VolumeOrigin::Snapshot(id) => (None, Some(id.clone())),
        };
        NewVolume {
            name: String::new(),
            size: self.size_gib,
            image_id,
            snapshot_id,
            volume_type: self.volume_type.clone(),
            availability_zone: None,
            metadata: BTreeMap::from([(MADE_FOR.to_owned(), device.to_string())]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(source: Source, destination: Destination, boot_index: Option<u32>, size: Option<u64>) -> Ask {
        let (tag, volume_type) = (None, None);
        Ask { source, destination, boot_index, delete_on_termination: false, size, tag, volume_type, is_swap: false }
    }

    fn image() -> Source {
        Source::Image("i".into())
    }

    fn says(asks: &[Ask], servers: u64, want: &str) {
        let mut flavor = crate::model::testing::spec().flavor;
        (flavor.ephemeral_gib, flavor.swap_mib) = (2, 64);
        let bounds = Bounds { flavor: &flavor, local: 3, all: 5, servers, multiattach: true };
        let got = check(asks, &bounds).err().map(|error| error.message().to_owned()).unwrap_or_default();
        assert!(got.contains(want) && got.is_empty() == want.is_empty(), "{asks:?}: {got}");
    }

    #[test]
    fn a_mapping_is_refused_in_upstreams_words() {
        use Destination::{Local, Volume};
        let root = ask(image(), Local, Some(0), None);
        let blank = |size| ask(Source::Blank, Local, None, size);
        let swap = |size| Ask { is_swap: true, ..blank(size) };
        let volume = ask(Source::Volume(Uuid::nil()), Volume, None, None);
        says(std::slice::from_ref(&root), 1, "");
        says(&[], 1, "Boot sequence");
        says(std::slice::from_ref(&volume), 1, "Boot sequence");
        says(&[root.clone(), root.clone()], 1, "Boot sequence");
        says(&[root.clone(), Ask { boot_index: Some(2), ..volume.clone() }], 1, "Boot sequence");
        says(&[Ask { boot_index: Some(1), ..volume.clone() }, root.clone()], 1, "");
        says(&[ask(image(), Volume, Some(0), None)], 1, "Images with destination_type 'volume'");
        says(&[root.clone(), ask(Source::Blank, Volume, None, Some(0))], 1, "Blank volumes");
        says(&[root.clone(), ask(Source::Snapshot("s".into()), Volume, None, None)], 1, "");
        says(&[root.clone(), volume.clone()], 2, "multiple instances");
        says(&[root.clone(), blank(Some(1)), blank(Some(1))], 1, "");
        says(&[root.clone(), blank(None), blank(Some(1))], 1, "Ephemeral disks requested are larger");
        says(&[root.clone(), swap(Some(64))], 1, "");
        says(&[root.clone(), swap(Some(65))], 1, "Swap drive requested is larger");
        says(&[root.clone(), swap(Some(1)), swap(Some(1))], 1, "More than one swap");
        says(&[root.clone(), blank(Some(1)), blank(Some(1)), swap(None)], 1, "more local devices");
        let mut many = vec![root];
        many.extend(vec![volume; 5]);
        says(&many, 1, "(5) to attach to a single instance");
    }

    #[test]
    fn sizes_come_from_the_flavor_where_the_request_has_none() {
        let mut flavor = crate::model::testing::spec().flavor;
        (flavor.ephemeral_gib, flavor.swap_mib) = (2, 64);
        let root = ask(image(), Destination::Local, Some(0), None);
        assert_eq!(local_sizes(std::slice::from_ref(&root), &flavor).unwrap(), (vec![2 * GIB], Some(64 * MIB)));
        let small = ask(Source::Blank, Destination::Local, None, Some(1));
        assert_eq!(local_sizes(&[root, small], &flavor).unwrap(), (vec![GIB], Some(64 * MIB)));
    }

    #[test]
    fn the_root_volume_is_the_first_disk() {
        let volume = |id: u128, boot_index| VolumeAsk {
            volume_id: Some(Uuid::from_u128(id)),
            make: None,
            size_bytes: GIB,
            boot_index,
            delete_on_termination: false,
            tag: None,
        };
        let disks = Disks { volumes: vec![volume(1, None), volume(2, Some(0))], ..Disks::default() };
        let devices = disks.block_devices(|| BlockDeviceId::from_uuid(Uuid::nil()), &BTreeMap::new(), 1, Timestamp(1));
        let names: Vec<_> = devices.iter().map(|device| device.device_name.as_str()).collect();
        assert_eq!(names, ["/dev/vdc", "/dev/vda"]);
    }
}
