//! Servers for tests.

use umbel_core::{Generation, Timestamp};
use umbel_placement::HostId;
use uuid::Uuid;

use super::{DiskConfig, FlavorSnapshot, HostRef, Life, Networks, Power, Server, ServerId, ServerSpec};

pub(crate) fn spec() -> ServerSpec {
    ServerSpec {
        project_id: "p".into(),
        user_id: "u".into(),
        project_name: "project".into(),
        created_at: Timestamp(1),
        reservation_id: "r-00000000".into(),
        launch_index: 0,
        request_id: "req-0".into(),
        flavor: FlavorSnapshot {
            id: "1".into(),
            name: "m1.tiny".into(),
            vcpus: 1,
            memory_mib: 512,
            root_gib: 1,
            ephemeral_gib: 0,
            swap_mib: 0,
            extra_specs: Default::default(),
        },
        image: None,
        key: None,
        user_data: None,
        config_drive: false,
        availability_zone: None,
        requested_host: None,
        scheduler_hints: Default::default(),
        networks: Networks::None,
        security_groups: vec![],
        disk_config: DiskConfig::Manual,
        disks: vec![],
    }
}

/// One that was just asked for.
pub(crate) fn server() -> Server {
    let id = ServerId::from_uuid(Uuid::from_u128(0x6f1c_3a52_9f0e_4b7e_8a53_0d8a_1f2b_3c4d));
    Server::new(id, spec(), "vm".into(), "vm".into())
}

/// One that runs on host `h1`.
pub(crate) fn active() -> Server {
    let mut server = server();
    server.state.life = Life::Built;
    server.state.task = None;
    server.state.action = None;
    server.state.power = Some(Power::Running);
    server.state.generation = Generation(1);
    server.state.observed_generation = Generation(1);
    server.state.host = Some(HostRef { id: HostId::from_uuid(Uuid::nil()), name: "h1".into() });
    server.state.zone = Some("nova".into());
    server.state.launched_at = Some(Timestamp(2));
    server
}
