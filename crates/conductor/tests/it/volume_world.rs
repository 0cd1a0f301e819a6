//! What the API does to the volumes of servers, and what must be true of them.

use umbel_compute::flows::{self, VolumeChange};
use umbel_compute::model::*;
use umbel_compute::store::{actions, block_devices, servers};
use umbel_compute::{VolumeCatalog, Who};
use umbel_conductor::Conductor;
use umbel_core::{Clock, SystemClock};
use umbel_db::{read, tx};
use umbel_driver::{Hypervisor, Pool};
use umbel_workflow::{NewFlow, enqueue};
use uuid::Uuid;

use crate::world::{World, until};

pub const GIB: u64 = 1 << 30;

/// A volume that is made with its server.
pub fn made(boot_index: Option<u32>, delete_on_termination: bool) -> BlockDevice {
    let id = BlockDeviceId::from_uuid(Uuid::new_v4());
    let make = VolumeToMake { of: VolumeOrigin::Image("image".into()), size_gib: 1, volume_type: None };
    BlockDevice {
        make: Some(make),
        boot_index,
        delete_on_termination,
        ..BlockDevice::planned(id, None, GIB, SystemClock.now())
    }
}

fn serial(volume: Uuid) -> String {
    volume.to_string()[..20].to_owned()
}

impl World {
    /// A volume that is there, reserved for the server as the API does it.
    pub async fn reserved(&self, server: &Server) -> BlockDevice {
        let volume = self.volumes.add(1, |_| {}).await;
        self.reserved_volume(server.id, volume).await
    }

    async fn reserved_volume(&self, server: ServerId, volume: Uuid) -> BlockDevice {
        let attachment = self.volumes.reserve(Who::Compute, &volume.to_string(), server).await.unwrap();
        let id = BlockDeviceId::from_uuid(Uuid::new_v4());
        let mut device = BlockDevice::planned(id, Some(volume), GIB, SystemClock.now());
        (device.attachment_id, device.phase) = (Some(attachment.id), Phase::Reserved);
        device
    }

    /// `POST /servers/{id}/os-volume_attachments`.
    pub async fn attach(&self, conductor: &Conductor, id: ServerId, volume: Uuid) -> BlockDeviceId {
        let device = self.reserved_volume(id, volume).await;
        let device_id = device.id;
        self.change_volume(conductor, flows::VOLUME_ATTACH, id, device_id, Some(device)).await;
        device_id
    }

    /// The first half of it.
    pub async fn plan(&self, conductor: &Conductor, id: ServerId, device: BlockDevice) {
        self.change_volume(conductor, flows::VOLUME_ATTACH, id, device.id, Some(device)).await;
    }

    /// `DELETE /servers/{id}/os-volume_attachments/{volume}`.
    pub async fn detach(&self, conductor: &Conductor, id: ServerId, device: BlockDeviceId) {
        self.change_volume(conductor, flows::VOLUME_DETACH, id, device, None).await;
    }

    async fn change_volume(
        &self,
        conductor: &Conductor,
        kind: &'static str,
        id: ServerId,
        device: BlockDeviceId,
        new: Option<BlockDevice>,
    ) {
        let now = SystemClock.now();
        let request_id = format!("req-{}", Uuid::new_v4());
        let first = if new.is_some() { flows::VOLUME_ATTACH_FIRST } else { flows::VOLUME_DETACH_FIRST };
        tx!(self.cell.db, "change volume", |tx| {
            let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
            server.state.volumes.extend(new.clone());
            servers::update_volumes(tx, &mut server).await?;
            let row = actions::ActionRow {
                server_id: id,
                request_id: request_id.clone(),
                action: kind.into(),
                user_id: "u".into(),
                project_id: "p".into(),
                started_at: now,
                finished_at: None,
                updated_at: now,
                message: None,
            };
            actions::start(tx, &row).await?;
            let flow = NewFlow {
                id: &device.to_string(),
                kind,
                first_step: first,
                state: &VolumeChange { server_id: id, device },
                request_id: &request_id,
                now,
                deadline: now.plus(flows::VOLUME_DEADLINE),
            };
            enqueue(tx, flow).await
        })
        .unwrap();
        conductor.cell(crate::world::CELL).unwrap().changed(id).await.unwrap();
    }

    /// `DELETE /servers/{id}` of one that is on no host and has volumes.
    pub async fn vacate(&self, conductor: &Conductor, id: ServerId) {
        let now = SystemClock.now();
        let cell = self.mapped(id).await.unwrap().cell.unwrap();
        tx!(self.db(cell), "vacate", |tx| {
            let mut server = servers::get_many(tx, &[id]).await?.pop().unwrap();
            server.state = vacated(&server, now);
            servers::update(tx, &mut server).await?;
            flows::release_volumes(tx, id, "req-delete", now).await
        })
        .unwrap();
        tx!(self.api.db, "vacate", |tx| umbel_compute::store::server_map::queue_for_delete(tx, id).await).unwrap();
        conductor.cell(cell).unwrap().changed(id).await.unwrap();
    }

    /// Waits until the volume is so.
    pub async fn volume_is(&self, volume: Uuid, status: &str) {
        until(status, async || (self.volumes.status(volume).as_deref() == Some(status)).then_some(())).await;
    }

    /// Every attachment is a server's, every server's volume is attached, and its guest has it; and the other way round.
    pub async fn assert_volumes_agree(&self, host: &str, context: &str) {
        let mut held: Vec<String> = self.volumes.attachments().into_iter().map(|one| one.id).collect();
        held.sort();
        let mut rows = Vec::new();
        let mut should = Vec::new();
        for cell in self.cells.all() {
            let (all, here) = read!(cell.db, "block devices", |tx| Ok((
                block_devices::all(tx).await?,
                servers::on_host(tx, host).await?
            )))
            .unwrap();
            rows.extend(all.into_iter().map(|row| row.attachment_id));
            for server in here {
                should.extend(server.state.volumes.iter().map(|device| (server.id, serial(device.volume_id.unwrap()))));
            }
        }
        rows.sort();
        assert_eq!(held, rows, "{context}: attachments and block devices");
        let mut has = Vec::new();
        for guest in self.hypervisor(host).list().await.unwrap() {
            let known: Vec<String> = self.volumes.all().iter().map(|volume| volume.id[..20].to_owned()).collect();
            let disks = self.hypervisor(host).disks(guest.id).await.unwrap();
            let volumes = disks.into_iter().filter(|disk| known.contains(disk));
            has.extend(volumes.map(|disk| (ServerId::from_uuid(guest.id), disk)));
        }
        has.sort();
        should.sort();
        assert_eq!(has, should, "{context}: volumes of guests and of servers");
        assert!(!self.volume_pool.list().await.unwrap().is_empty() || self.volumes.all().is_empty(), "{context}");
    }

    pub async fn action(&self, id: ServerId, name: &str) -> (actions::ActionRow, Vec<actions::EventRow>) {
        let all = self.actions(id).await;
        all.into_iter().find(|(action, _)| action.action == name).unwrap()
    }
}
