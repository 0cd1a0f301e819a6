//! Images that are a list of volumes' snapshots: written for a server that boots from a volume, and read when a server is
//! made from one. The list is JSON in a property, in upstream's form.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use umbel_core::{Error, Result};
use uuid::Uuid;

use super::block_devices::{Ask, Destination, Source, bad_mapping};
use crate::flows::{BlankDisk, DrawnSnapshot};
use crate::model::ImageSnapshot;

/// Properties of such an image.
pub(crate) const DEVICES: &str = "block_device_mapping";
pub(crate) const BDM_V2: &str = "bdm_v2";
pub(crate) const ROOT_DEVICE: &str = "root_device_name";

/// A device of the list. Members that are not named here are the hypervisor's to choose.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ImageDevice {
    source_type: Option<String>,
    destination_type: Option<String>,
    snapshot_id: Option<String>,
    volume_id: Option<String>,
    image_id: Option<String>,
    /// GiB.
    #[serde(deserialize_with = "number")]
    volume_size: Option<i64>,
    #[serde(deserialize_with = "number")]
    boot_index: Option<i64>,
    delete_on_termination: Option<bool>,
    device_name: Option<String>,
    device_type: Option<String>,
    disk_bus: Option<String>,
    guest_format: Option<String>,
    no_device: Option<bool>,
    tag: Option<String>,
    volume_type: Option<String>,
}

/// Lists that were written by hand have numbers as texts.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_i64()),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        other => Err(serde::de::Error::custom(format!("{other} is no number"))),
    }
}

/// The properties that make an image of these snapshots.
pub fn devices_of(snapshots: &[DrawnSnapshot], blanks: &[BlankDisk]) -> Result<BTreeMap<String, String>> {
    let of = |DrawnSnapshot { id, device, size_gib }: &DrawnSnapshot| ImageDevice {
        source_type: Some("snapshot".to_owned()),
        destination_type: Some("volume".to_owned()),
        snapshot_id: Some(id.clone()),
        volume_size: i64::try_from(*size_gib).ok(),
        boot_index: device.boot_index.map(i64::from),
        delete_on_termination: Some(device.delete_on_termination),
        device_name: Some(device.device_name.clone()),
        device_type: Some("disk".to_owned()),
        disk_bus: Some("virtio".to_owned()),
        tag: device.tag.clone(),
        ..ImageDevice::default()
    };
    let blank = |disk: &BlankDisk| ImageDevice {
        source_type: Some("blank".to_owned()),
        destination_type: Some("local".to_owned()),
        guest_format: disk.swap.then(|| "swap".to_owned()),
        volume_size: i64::try_from(disk.size).ok(),
        delete_on_termination: Some(true),
        ..ImageDevice::default()
    };
    let list: Vec<ImageDevice> = snapshots.iter().map(of).chain(blanks.iter().map(blank)).collect();
    let root = snapshots.iter().map(|drawn| &drawn.device).find(|device| device.is_root());
    let mut properties = BTreeMap::from([
        (DEVICES.to_owned(), serde_json::to_string(&list).map_err(Error::internal)?),
        (BDM_V2.to_owned(), "True".to_owned()),
    ]);
    properties.extend(root.map(|device| (ROOT_DEVICE.to_owned(), device.device_name.clone())));
    Ok(properties)
}

/// The disks that an image brings, if it is such a list. The one to boot from takes the place of the image itself.
pub(crate) fn devices_in(image: &ImageSnapshot) -> Result<Vec<Ask>> {
    let Some(text) = image.properties.get(DEVICES) else {
        return Ok(Vec::new());
    };
    let bad = |error: serde_json::Error| bad_mapping("the image's list of devices is not understood").because(error);
    let list: Vec<ImageDevice> = serde_json::from_str(text).map_err(bad)?;
    let first_version = image.properties.get(BDM_V2).is_none_or(|text| !text.eq_ignore_ascii_case("true"));
    let root = image.properties.get(ROOT_DEVICE);
    let kept = list.into_iter().filter(|device| device.no_device != Some(true));
    kept.map(|mut device| {
        // Its predecessor knows no order, and names the root device beside the list.
        if first_version && device.boot_index.is_none() && root.is_some() && device.device_name.as_ref() == root {
            device.boot_index = Some(0);
        }
        ask(device)
    })
    .collect()
}

fn ask(device: ImageDevice) -> Result<Ask> {
    let volume = |id: &str| Uuid::try_parse(id).map_err(|_| bad_mapping(format!("failed to get volume {id}.")));
    let source = match (device.source_type.as_deref(), device.snapshot_id, device.volume_id, device.image_id) {
        (Some("snapshot") | None, Some(id), ..) => Source::Snapshot(id),
        (Some("volume") | None, _, Some(id), _) => Source::Volume(volume(&id)?),
        (Some("image"), .., Some(id)) => Source::Image(id),
        (Some("blank"), ..) => Source::Blank,
        _ => return Err(bad_mapping("a device of the image has no source")),
    };
    let destination = match device.destination_type.as_deref() {
        Some("local") => Destination::Local,
        None if source == Source::Blank => Destination::Local,
        _ => Destination::Volume,
    };
    if destination == Destination::Local && source != Source::Blank {
        return Err(bad_mapping("a device of the image is of a kind that no host makes"));
    }
    Ok(Ask {
        is_swap: destination == Destination::Local && device.guest_format.as_deref() == Some("swap"),
        source,
        destination,
        boot_index: device.boot_index.and_then(|index| u32::try_from(index).ok()),
        delete_on_termination: device.delete_on_termination.unwrap_or(false),
        size: device.volume_size.and_then(|size| u64::try_from(size).ok()),
        tag: device.tag,
        volume_type: device.volume_type.filter(|name| !name.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use umbel_core::Timestamp;

    use super::*;
    use crate::model::{BlockDevice, BlockDeviceId};

    fn image(properties: &[(&str, &str)]) -> ImageSnapshot {
        ImageSnapshot {
            id: "i".into(),
            name: None,
            disk_format: "raw".into(),
            container_format: "bare".into(),
            size: Some(0),
            virtual_size: Some(0),
            min_disk_gib: 0,
            min_ram_mib: 0,
            properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            locations: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut device = BlockDevice::planned(BlockDeviceId::from_uuid(Uuid::nil()), None, 1 << 30, Timestamp(1));
        (device.boot_index, device.delete_on_termination) = (Some(0), true);
        device.device_name = "/dev/vda".into();
        let drawn = DrawnSnapshot { id: "s".into(), device, size_gib: 3 };
        let blanks = [BlankDisk { swap: false, size: 2 }, BlankDisk { swap: true, size: 64 }];
        let properties = devices_of(&[drawn], &blanks).unwrap();
        assert_eq!(properties[ROOT_DEVICE], "/dev/vda");
        let image = ImageSnapshot { properties, ..image(&[]) };
        let asks = devices_in(&image).unwrap();
        let blank: Vec<_> = asks[1..].iter().map(|ask| (&ask.source, ask.destination, ask.is_swap, ask.size)).collect();
        let local = |swap, size| (&Source::Blank, Destination::Local, swap, Some(size));
        assert_eq!(blank, [local(false, 2), local(true, 64)]);
        assert_eq!((&asks[0].source, asks[0].destination), (&Source::Snapshot("s".into()), Destination::Volume));
        assert_eq!((asks[0].boot_index, asks[0].size, asks[0].delete_on_termination), (Some(0), Some(3), true));
    }

    #[test]
    fn lists_of_others_are_read_too() {
        assert_eq!(devices_in(&image(&[])).unwrap(), []);
        let first = [
            (ROOT_DEVICE, "vda"),
            (
                DEVICES,
                r#"[{"device_name": "vdb", "no_device": true}, {"device_name": "vda", "volume_size": "3", "snapshot_id": "s"}]"#,
            ),
        ];
        let asks = devices_in(&image(&first)).unwrap();
        assert_eq!((asks.len(), asks[0].boot_index, asks[0].size), (1, Some(0), Some(3)));
        for bad in ["{", r#"[{"source_type": "tape"}]"#, r#"[{"source_type": "image", "destination_type": "local"}]"#] {
            let error = devices_in(&image(&[(DEVICES, bad), (BDM_V2, "True")])).unwrap_err();
            assert_eq!(error.kind().status(), 400, "{bad}");
        }
    }
}
