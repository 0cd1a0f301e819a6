//! From a server's rows to the document that its agent gets.

use umbel_bus::{ConfigDrive, Desired, Disk, DiskRef, DiskSource, Domain, ImageSource, Limited, Target, Volume, Want};
use umbel_compute::model::{self, BlockDevice, Server};
use umbel_compute::store::disks::DiskRow;
use umbel_core::{Error, Generation, Result};

use crate::metadata;

/// What should be of a server on its host.
pub(crate) fn desired(server: &Server, disks: &[DiskRow]) -> Result<Desired> {
    let power = match server.state.want {
        model::Want::Absent => return Ok(absent(server, server.state.generation, refs(disks))),
        model::Want::On => Target::On,
        model::Want::Off => Target::Off,
        model::Want::Paused => Target::Paused,
    };
    Ok(document(server, server.state.generation, Want::Present(Box::new(domain(server, power, disks)?))))
}

/// Whether its host is told nothing for now: it alone knows where a volume of the guest is, and would forget it with the
/// guest.
pub(crate) fn is_held_back(server: &Server) -> bool {
    server.state.want == model::Want::Absent && server.has_moving_volumes()
}

/// That nothing of a server should be on a host.
pub(crate) fn absent(server: &Server, generation: Generation, disks: Vec<DiskRef>) -> Desired {
    Desired { reached: Generation(0), ..document(server, generation, Want::Absent { disks }) }
}

pub(crate) fn refs(disks: &[DiskRow]) -> Vec<DiskRef> {
    disks.iter().map(at).collect()
}

fn document(server: &Server, generation: Generation, want: Want) -> Desired {
    let request_id = server.state.action.as_ref().unwrap_or(&server.spec.request_id);
    Desired {
        server_id: server.id.uuid(),
        generation,
        reached: server.state.observed_generation,
        request_id: request_id.clone(),
        want,
    }
}

fn domain(server: &Server, power: Target, rows: &[DiskRow]) -> Result<Domain> {
    let (mut disks, mut config_drive) = (Vec::new(), None);
    for row in rows {
        let source = match row.source {
            model::DiskSource::Blank => DiskSource::Blank,
            model::DiskSource::Image => DiskSource::Image(image(server)?),
            model::DiskSource::ConfigDrive => {
                config_drive = Some(ConfigDrive { at: at(row), files: metadata::files(server)? });
                continue;
            }
        };
        disks.push(Disk {
            at: at(row),
            size_bytes: row.size_bytes,
            source,
            boot_index: row.boot_index,
            serial: serial(row),
        });
    }
    let flavor = &server.spec.flavor;
    let limits = limits(server, &disks);
    Ok(Domain {
        power,
        first_start: server.state.launched_at.is_none(),
        restart: server.state.restart,
        name: server.instance_name(),
        vcpus: flavor.vcpus,
        memory_mib: flavor.memory_mib,
        disks,
        volumes: server.state.volumes.iter().filter_map(volume).collect(),
        config_drive,
        limits,
    })
}

fn limits(server: &Server, disks: &[Disk]) -> Vec<Limited> {
    let of_flavor = server.spec.flavor.disk_limits();
    let own = disks.iter().map(|disk| Limited { at: disk.at.clone(), limits: of_flavor.clone() });
    let of_type = |device: &BlockDevice| {
        let limits = device.connection.as_ref()?.limits.clone();
        Some(Limited { at: volume(device)?.at, limits })
    };
    let volumes = server.state.volumes.iter().filter_map(of_type);
    own.chain(volumes).filter(|limited| !limited.limits.is_empty()).collect()
}

/// None for one that the guest does not get yet, or has no more.
fn volume(device: &BlockDevice) -> Option<Volume> {
    let at = device.connection.as_ref().filter(|_| device.is_wanted())?;
    Some(Volume {
        volume_id: device.volume_id?,
        seen_as: device.seen_as,
        to: device.moving.as_ref().map(|moving| DiskRef { pool: moving.to.pool.clone(), name: moving.to.disk.clone() }),
        at: DiskRef { pool: at.pool.clone(), name: at.disk.clone() },
        size_bytes: device.size_bytes,
        boot_index: device.boot_index,
        read_only: at.read_only,
    })
}

fn at(row: &DiskRow) -> DiskRef {
    DiskRef { pool: row.pool.clone(), name: row.name.clone() }
}

fn image(server: &Server) -> Result<ImageSource> {
    let image = server.spec.image.as_ref();
    let image = image.ok_or_else(|| Error::internal(format!("server {} has a disk of no image", server.id)))?;
    Ok(ImageSource {
        image_id: image.id.clone(),
        locations: image.locations.clone(),
        disk_format: image.disk_format.clone(),
        container_format: image.container_format.clone(),
        size: image.size,
        virtual_size: image.virtual_size,
    })
}

/// `root`, `eph0`, `swap`: by what its guest can tell disks apart, within the 20 characters of a virtio disk.
fn serial(row: &DiskRow) -> String {
    match row.name.rsplit_once("_disk.") {
        Some((_, part)) => part.chars().take(20).collect(),
        None => "root".to_owned(),
    }
}
