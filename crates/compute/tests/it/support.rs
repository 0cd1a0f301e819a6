//! Servers and flavors to fill databases with.

use umbel_compute::model::*;
use umbel_compute::store::flavors::Flavor;
use umbel_core::{Generation, Timestamp};
use umbel_placement::HostId;
use uuid::Uuid;

pub fn server_id(number: u128) -> ServerId {
    ServerId::from_uuid(Uuid::from_u128(number))
}

/// One that was just asked for, by user `u` of the project, at second `number`.
pub fn server(number: u128, project: &str) -> Server {
    let spec = ServerSpec {
        project_id: project.into(),
        user_id: "u".into(),
        project_name: project.into(),
        created_at: Timestamp::from_secs(number as i64),
        reservation_id: "r-00000000".into(),
        launch_index: 0,
        request_id: format!("req-{number}"),
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
    };
    Server::new(server_id(number), spec, format!("vm{number}"), format!("vm{number}"))
}

/// One that runs on the host.
pub fn running(number: u128, project: &str, host: &str) -> Server {
    let mut server = server(number, project);
    server.state = place(
        &server,
        HostRef { id: HostId::from_uuid(Uuid::from_u128(1)), name: host.into() },
        "nova".into(),
        server.spec.created_at,
    );
    server.state.life = Life::Built;
    server.state.power = Some(Power::Running);
    server.state.task = None;
    server.state.action = None;
    server.state.observed_generation = server.state.generation;
    server.state.launched_at = Some(server.spec.created_at);
    assert_eq!(server.state.generation, Generation(1));
    server
}

pub fn flavor(id: &str, memory_mib: u64) -> Flavor {
    Flavor {
        id: id.into(),
        name: format!("flavor {id}"),
        vcpus: 1,
        memory_mib,
        root_gib: 1,
        ephemeral_gib: 0,
        swap_mib: 0,
        rxtx_factor: "1.0".into(),
        is_public: true,
        description: None,
        extra_specs: Default::default(),
        created_at: Timestamp(1),
        updated_at: None,
    }
}
