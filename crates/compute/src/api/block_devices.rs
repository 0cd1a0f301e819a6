//! `block_device_mapping_v2` and its predecessor, as the body has them. The command line names the image to boot from
//! twice, by `imageRef` and as a device; other clients do one or the other.

use serde_json::Value;
use umbel_api::compute::server_fields::{BlockDevice, NewServer};
use umbel_core::{Error, Result};
use uuid::Uuid;

use super::input::{boolean, integer, invalid, unexpected, unsigned};
use super::tags::check_tags;
use crate::service::block_devices::{Ask, Destination, Source, bad_mapping};

/// All disks that the request names, and the image to boot from where they do not say what to boot from.
pub(super) fn read(new: &NewServer, minor: u16) -> Result<Vec<Ask>> {
    let image = image_ref(new)?;
    let first = new.block_device_mapping.as_deref().unwrap_or_default();
    let second = new.block_device_mapping_v2.as_deref().unwrap_or_default();
    let root = image.as_ref().map(|id| local_image(id));
    match (first.is_empty(), second.is_empty()) {
        (true, true) => match root {
            Some(root) => Ok(vec![root]),
            None => Err(Error::bad_request("Invalid imageRef provided.")),
        },
        (false, false) => {
            Err(Error::bad_request("Using different block_device_mapping syntaxes is not allowed in the same request."))
        }
        (true, false) => {
            let kept = second.iter().filter(|device| !is_none(device));
            kept.map(|device| second_version(device, image.as_deref(), minor)).collect()
        }
        (false, true) => first_version(first, root),
    }
}

fn image_ref(new: &NewServer) -> Result<Option<String>> {
    let named = match &new.image_ref {
        None | Some(Value::Null) => "",
        Some(Value::String(id)) => id.as_str(),
        Some(other) => return Err(invalid("imageRef", other, "It is not of type 'string'")),
    };
    // Old clients send the image's URL.
    let named = named.rsplit('/').next().unwrap_or(named);
    match named.is_empty() {
        true => Ok(None),
        false if Uuid::try_parse(named).is_err() => Err(Error::bad_request("Invalid imageRef provided.")),
        false => Ok(Some(named.to_owned())),
    }
}

fn local_image(id: &str) -> Ask {
    Ask {
        source: Source::Image(id.to_owned()),
        destination: Destination::Local,
        boot_index: Some(0),
        delete_on_termination: true,
        size: None,
        tag: None,
        volume_type: None,
        is_swap: false,
    }
}

/// A device that says that there is none, of the times when images brought devices.
fn is_none(device: &BlockDevice) -> bool {
    matches!(&device.no_device, Some(value) if *value != Value::Bool(false) && !value.is_null() && *value != "")
}

fn second_version(device: &BlockDevice, image: Option<&str>, minor: u16) -> Result<Ask> {
    check_version(device, minor)?;
    let source = source(device)?;
    let boot_index = match &device.boot_index {
        None | Some(Value::Null) => None,
        // Negative says never, as nothing does.
        Some(value) => u32::try_from(integer("boot_index", value, i64::from(i32::MIN))?).ok(),
    };
    let destination = match device.destination_type.as_deref() {
        Some("local") => Destination::Local,
        Some("volume") => Destination::Volume,
        None if source == Source::Blank => Destination::Local,
        None if matches!(source, Source::Image(_)) && image.is_some() && boot_index == Some(0) => Destination::Local,
        None => Destination::Volume,
        Some(other) => return Err(invalid("destination_type", other, "It is none of ['local', 'volume']")),
    };
    match (&source, destination) {
        (Source::Image(id), Destination::Local) => match image {
            Some(image) if boot_index == Some(0) && image == id => {}
            Some(_) if boot_index == Some(0) => {
                return Err(bad_mapping("the boot disk is made of another image than imageRef names"));
            }
            _ => return Err(bad_mapping("Mapping image to local is not supported.")),
        },
        (Source::Volume(_) | Source::Snapshot(_), Destination::Local) => {
            return Err(bad_mapping("Mapping volume or snapshot to local is not supported."));
        }
        _ => {}
    }
    if destination == Destination::Local && device.volume_type.is_some() {
        return Err(bad_mapping("Specifying a volume_type with destination_type=local is not supported."));
    }
    let is_swap = destination == Destination::Local && device.guest_format.as_deref() == Some("swap");
    Ok(Ask {
        source,
        destination,
        boot_index,
        delete_on_termination: match &device.delete_on_termination {
            None | Some(Value::Null) => false,
            Some(value) => boolean("delete_on_termination", value)?,
        },
        size: size(device.volume_size.as_ref())?,
        tag: device.tag.clone(),
        volume_type: device.volume_type.clone().filter(|name| !name.is_empty()),
        is_swap,
    })
}

/// Tags came with 2.32, went by an oversight with 2.33, and are back since 2.42.
fn check_version(device: &BlockDevice, minor: u16) -> Result<()> {
    if device.tag.is_some() && minor != 32 && minor < 42 {
        return Err(unexpected("tag"));
    }
    if device.volume_type.is_some() && minor < 67 {
        return Err(unexpected("volume_type"));
    }
    match &device.tag {
        Some(tag) => check_tags(std::slice::from_ref(tag)),
        None => Ok(()),
    }
}

fn source(device: &BlockDevice) -> Result<Source> {
    let id = device.uuid.as_deref().filter(|id| !id.is_empty());
    let missing = || bad_mapping("Missing device UUID.");
    match (device.source_type.as_deref(), id) {
        (Some("blank"), None) => Ok(Source::Blank),
        (Some("blank"), Some(_)) => Err(bad_mapping("Invalid device UUID.")),
        (Some("image"), Some(id)) => Ok(Source::Image(id.to_owned())),
        (Some("snapshot"), Some(id)) => Ok(Source::Snapshot(id.to_owned())),
        (Some("volume"), Some(id)) => volume(id),
        (Some("image" | "snapshot" | "volume"), None) => Err(missing()),
        (Some(other), _) => {
            Err(invalid("source_type", other, "It is none of ['volume', 'image', 'snapshot', 'blank']"))
        }
        (None, _) => Err(bad_mapping("the source_type is missing")),
    }
}

fn volume(id: &str) -> Result<Source> {
    match Uuid::try_parse(id) {
        Ok(id) => Ok(Source::Volume(id)),
        Err(_) => Err(bad_mapping(format!("failed to get volume {id}."))),
    }
}

fn size(value: Option<&Value>) -> Result<Option<u64>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => unsigned("volume_size", value, 0).map(Some),
    }
}

/// Volumes and snapshots by device name. Without an image the one called `vda` is booted from, else the first.
fn first_version(devices: &[Value], root: Option<Ask>) -> Result<Vec<Ask>> {
    let mut asks: Vec<Ask> = Vec::new();
    let mut named_root = None;
    for device in devices {
        let text = |name: &str| device.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if device.get("no_device").is_some_and(|value| *value == true) {
            continue;
        }
        let source = match (text("volume_id"), text("snapshot_id"), text("virtual_name")) {
            (Some(id), ..) => volume(id)?,
            (None, Some(id), _) => Source::Snapshot(id.to_owned()),
            (None, None, Some(_)) => Source::Blank,
            (None, None, None) => return Err(bad_mapping("Unrecognized legacy format.")),
        };
        let destination = if source == Source::Blank { Destination::Local } else { Destination::Volume };
        if text("device_name").is_some_and(|name| name.rsplit('/').next() == Some("vda")) {
            named_root = Some(asks.len());
        }
        asks.push(Ask {
            destination,
            boot_index: None,
            delete_on_termination: match device.get("delete_on_termination") {
                None | Some(Value::Null) => false,
                Some(value) => boolean("delete_on_termination", value)?,
            },
            size: size(device.get("volume_size"))?,
            tag: None,
            volume_type: None,
            is_swap: text("virtual_name") == Some("swap"),
            source,
        });
    }
    match root {
        Some(root) => asks.insert(0, root),
        None => {
            let first = asks.iter().position(|ask| ask.destination == Destination::Volume);
            if let Some(ask) = named_root.or(first).and_then(|at| asks.get_mut(at)) {
                ask.boot_index = Some(0);
            }
        }
    }
    Ok(asks)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use umbel_api::compute::server_fields::CreateRequest;

    use super::*;

    const IMAGE: &str = "70a599e0-31e7-49b7-b260-868f441e862b";
    const OTHER: &str = "11111111-2222-3333-4444-555555555555";

    fn asked(members: Value, minor: u16) -> Result<Vec<Ask>> {
        let mut server = json!({"name": "vm", "flavorRef": "1"});
        server.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let request: CreateRequest = serde_json::from_value(json!({ "server": server })).unwrap();
        read(&request.server, minor)
    }

    fn refused(members: Value, minor: u16, says: &str) {
        let error = asked(members.clone(), minor).unwrap_err();
        assert!(error.message().contains(says), "{members}: {}", error.message());
        assert_eq!(error.kind().status(), 400);
    }

    #[test]
    fn the_image_is_named_once_or_twice() {
        let device = json!({"uuid": IMAGE, "boot_index": 0, "source_type": "image", "destination_type": "local"});
        let once = asked(json!({"imageRef": IMAGE}), 100).unwrap();
        let twice = asked(json!({"imageRef": IMAGE, "block_device_mapping_v2": [device]}), 100).unwrap();
        assert_eq!((once[0].source.clone(), once[0].boot_index), (twice[0].source.clone(), twice[0].boot_index));
        refused(json!({}), 100, "Invalid imageRef provided.");
        refused(json!({"imageRef": OTHER, "block_device_mapping_v2": [device]}), 100, "another image");
        refused(json!({"block_device_mapping_v2": [device]}), 100, "Mapping image to local is not supported.");
    }

    #[test]
    fn every_kind_of_device_is_read() {
        let devices = json!({"imageRef": "", "block_device_mapping_v2": [
            {"uuid": OTHER, "source_type": "volume", "destination_type": "volume", "boot_index": "0",
             "delete_on_termination": "true", "tag": "root", "device_name": "/dev/vda", "disk_bus": "virtio",
             "device_type": "disk"},
            {"uuid": IMAGE, "source_type": "image", "destination_type": "volume", "boot_index": -1,
             "volume_size": "3", "volume_type": "fast"},
            {"uuid": "s", "source_type": "snapshot", "boot_index": null},
            {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 64},
            {"source_type": "blank", "destination_type": "volume", "volume_size": 1},
            {"no_device": true, "device_name": "vdc"},
        ]});
        let asks = asked(devices, 100).unwrap();
        assert_eq!(asks.len(), 5);
        assert_eq!(
            (asks[0].boot_index, asks[0].delete_on_termination, asks[0].tag.as_deref()),
            (Some(0), true, Some("root"))
        );
        assert_eq!((asks[1].boot_index, asks[1].size, asks[1].volume_type.as_deref()), (None, Some(3), Some("fast")));
        assert_eq!((&asks[2].source, asks[2].destination), (&Source::Snapshot("s".into()), Destination::Volume));
        assert_eq!((asks[3].is_swap, asks[3].destination, asks[3].size), (true, Destination::Local, Some(64)));
        assert_eq!((asks[4].is_swap, asks[4].destination), (false, Destination::Volume));
    }

    #[test]
    fn what_is_wrong_with_a_device_is_said() {
        let check = |device: Value, minor: u16, says: &str| {
            refused(json!({"imageRef": "", "block_device_mapping_v2": [device]}), minor, says);
        };
        check(json!({"source_type": "volume"}), 100, "Missing device UUID.");
        check(json!({"source_type": "blank", "uuid": OTHER}), 100, "Invalid device UUID.");
        check(json!({"source_type": "tape", "uuid": OTHER}), 100, "source_type");
        check(json!({"source_type": "volume", "uuid": OTHER, "destination_type": "local"}), 100, "to local");
        check(json!({"source_type": "volume", "uuid": OTHER, "destination_type": "tape"}), 100, "destination_type");
        check(json!({"source_type": "blank", "destination_type": "local", "volume_type": "x"}), 100, "volume_type");
        check(json!({"source_type": "blank", "volume_type": "x"}), 66, "volume_type");
        check(json!({"source_type": "blank", "tag": "x"}), 41, "tag");
        check(json!({"source_type": "blank", "tag": "a/b"}), 42, "tag");
        check(json!({"source_type": "blank", "volume_size": "much"}), 42, "volume_size");
        check(json!({"source_type": "blank", "boot_index": "first"}), 42, "boot_index");
        refused(
            json!({"block_device_mapping": [{"volume_id": OTHER}], "block_device_mapping_v2": [{"source_type": "blank"}]}),
            100,
            "Using different block_device_mapping syntaxes",
        );
    }

    #[test]
    fn the_first_version_boots_from_vda_or_from_the_first() {
        let devices =
            json!([{"device_name": "vdb", "snapshot_id": "s"}, {"device_name": "/dev/vda", "volume_id": OTHER}]);
        let asks = asked(json!({"block_device_mapping": devices}), 1).unwrap();
        assert_eq!((asks[0].boot_index, asks[1].boot_index), (None, Some(0)));
        let asks = asked(json!({"block_device_mapping": [{"volume_id": OTHER}]}), 1).unwrap();
        assert_eq!(asks[0].boot_index, Some(0));
        let asks = asked(json!({"imageRef": IMAGE, "block_device_mapping": [{"volume_id": OTHER}]}), 1).unwrap();
        assert_eq!((asks.len(), asks[0].boot_index, asks[1].boot_index), (2, Some(0), None));
    }
}
