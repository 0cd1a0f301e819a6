use umbel_db::{Migration, Schema};
use umbel_placement::InCell;

/// Compute's global database.
pub struct Api;

/// The database of one cell; `cell0` has one too, without hosts.
pub struct Cell;

impl Schema for Api {
    const NAME: &'static str = "api";
    const MIGRATIONS: &'static [Migration] = &[
        Migration { version: 1, name: "servers_on_their_way", statements: MAPS },
        Migration { version: 2, name: "flavors_keypairs_quotas", statements: CATALOG },
        Migration { version: 3, name: "workflows", statements: WORKFLOWS },
    ];
}

impl Schema for Cell {
    const NAME: &'static str = "cell";
    const MIGRATIONS: &'static [Migration] = &[
        Migration { version: 1, name: "placement", statements: umbel_placement::TABLES },
        Migration { version: 2, name: "servers", statements: SERVERS },
        Migration { version: 3, name: "workflows", statements: WORKFLOWS },
        Migration { version: 4, name: "block_devices", statements: BLOCK_DEVICES },
    ];
}

impl InCell for Cell {}

const WORKFLOWS: &[&str] = &[umbel_workflow::TABLE, umbel_workflow::TABLE_INDEX];

const MAPS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS cells (id VARCHAR(36) PRIMARY KEY, name VARCHAR(255) NOT NULL, url TEXT NOT NULL, \
     disabled BIGINT NOT NULL, created_at BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS cells_name ON cells (name)",
    // Where every server is, and what it counts for: quota is the sum over these rows, under a lock per project.
    "CREATE TABLE IF NOT EXISTS server_map (server_id VARCHAR(36) PRIMARY KEY, cell_id VARCHAR(36), \
     project_id VARCHAR(64) NOT NULL, user_id VARCHAR(64) NOT NULL, vcpus BIGINT NOT NULL, memory_mib BIGINT NOT NULL, \
     queued_for_delete BIGINT NOT NULL, created_at BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS server_map_usage \
     ON server_map (project_id, queued_for_delete, vcpus, memory_mib)",
    "CREATE TABLE IF NOT EXISTS build_requests (server_id VARCHAR(36) PRIMARY KEY, project_id VARCHAR(64) NOT NULL, \
     deleted BIGINT NOT NULL, created_at BIGINT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS build_requests_project ON build_requests (project_id)",
];

const CATALOG: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS flavors (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255) NOT NULL, \
     vcpus BIGINT NOT NULL, memory_mib BIGINT NOT NULL, root_gib BIGINT NOT NULL, ephemeral_gib BIGINT NOT NULL, \
     swap_mib BIGINT NOT NULL, rxtx_factor VARCHAR(32) NOT NULL, is_public BIGINT NOT NULL, description TEXT, \
     extra_specs TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT)",
    "CREATE UNIQUE INDEX IF NOT EXISTS flavors_name ON flavors (name)",
    "CREATE TABLE IF NOT EXISTS flavor_projects (flavor_id VARCHAR(255) NOT NULL, project_id VARCHAR(64) NOT NULL, \
     PRIMARY KEY (flavor_id, project_id))",
    "CREATE TABLE IF NOT EXISTS keypairs (user_id VARCHAR(64) NOT NULL, name VARCHAR(255) NOT NULL, \
     number BIGINT NOT NULL, kind VARCHAR(16) NOT NULL, fingerprint VARCHAR(255) NOT NULL, public_key TEXT NOT NULL, \
     created_at BIGINT NOT NULL, PRIMARY KEY (user_id, name))",
    // A row per project, locked while its quota is counted and a server added.
    "CREATE TABLE IF NOT EXISTS quota_locks (project_id VARCHAR(64) PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS quotas (project_id VARCHAR(64) NOT NULL, user_id VARCHAR(64) NOT NULL, \
     resource VARCHAR(64) NOT NULL, hard_limit BIGINT NOT NULL, PRIMARY KEY (project_id, user_id, resource))",
    "CREATE TABLE IF NOT EXISTS quota_classes (class VARCHAR(255) NOT NULL, resource VARCHAR(64) NOT NULL, \
     hard_limit BIGINT NOT NULL, PRIMARY KEY (class, resource))",
];

/// Derived from the volumes in the servers' states, for those who come from the volume. `attachment_id` is empty until the
/// volume is reserved.
const BLOCK_DEVICES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS block_devices (id VARCHAR(36) PRIMARY KEY, server_id VARCHAR(36) NOT NULL, \
     volume_id VARCHAR(36) NOT NULL, attachment_id VARCHAR(64) NOT NULL)",
    "CREATE INDEX IF NOT EXISTS block_devices_server ON block_devices (server_id)",
    "CREATE INDEX IF NOT EXISTS block_devices_volume ON block_devices (volume_id)",
];

/// `spec` and `state` are the truth; the other columns of `servers`, `server_metadata` and `server_tags` are derived
/// from them for filters and order, in one place (`store::servers`). None is null, so that keyset paging works on each.
const SERVERS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS servers (id VARCHAR(36) PRIMARY KEY, version BIGINT NOT NULL, \
     project_id VARCHAR(64) NOT NULL, user_id VARCHAR(64) NOT NULL, reservation_id VARCHAR(64) NOT NULL, \
     launch_index BIGINT NOT NULL, image_id VARCHAR(36) NOT NULL, flavor_id VARCHAR(255) NOT NULL, \
     key_name VARCHAR(255) NOT NULL, config_drive BIGINT NOT NULL, \
     name VARCHAR(255) NOT NULL, description TEXT NOT NULL, hostname VARCHAR(255) NOT NULL, host VARCHAR(255) NOT NULL, \
     zone VARCHAR(255) NOT NULL, want VARCHAR(16) NOT NULL, vm_state VARCHAR(32) NOT NULL, \
     task_state VARCHAR(32) NOT NULL, power_state BIGINT NOT NULL, locked BIGINT NOT NULL, \
     behind BIGINT NOT NULL, deleted BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, \
     launched_at BIGINT NOT NULL, terminated_at BIGINT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS servers_project ON servers (project_id, deleted, created_at)",
    "CREATE INDEX IF NOT EXISTS servers_created ON servers (deleted, created_at)",
    "CREATE INDEX IF NOT EXISTS servers_updated ON servers (updated_at)",
    "CREATE INDEX IF NOT EXISTS servers_host ON servers (host, deleted)",
    // Servers whose agent has not reached what is wanted: what a conductor sweeps.
    "CREATE INDEX IF NOT EXISTS servers_behind ON servers (behind)",
    "CREATE TABLE IF NOT EXISTS server_metadata (server_id VARCHAR(36) NOT NULL, item VARCHAR(255) NOT NULL, \
     content VARCHAR(255) NOT NULL, PRIMARY KEY (server_id, item))",
    "CREATE TABLE IF NOT EXISTS server_tags (server_id VARCHAR(36) NOT NULL, tag VARCHAR(80) NOT NULL, \
     PRIMARY KEY (server_id, tag))",
    "CREATE INDEX IF NOT EXISTS server_tags_tag ON server_tags (tag)",
    "CREATE TABLE IF NOT EXISTS disks (server_id VARCHAR(36) NOT NULL, name VARCHAR(255) NOT NULL, \
     pool_id VARCHAR(36) NOT NULL, pool VARCHAR(255) NOT NULL, size_bytes BIGINT NOT NULL, source VARCHAR(32) NOT NULL, \
     boot_index BIGINT, created_at BIGINT NOT NULL, PRIMARY KEY (server_id, name))",
    "CREATE INDEX IF NOT EXISTS disks_pool ON disks (pool_id)",
    "CREATE TABLE IF NOT EXISTS actions (server_id VARCHAR(36) NOT NULL, request_id VARCHAR(64) NOT NULL, \
     action VARCHAR(64) NOT NULL, user_id VARCHAR(64) NOT NULL, project_id VARCHAR(64) NOT NULL, \
     started_at BIGINT NOT NULL, finished_at BIGINT, updated_at BIGINT NOT NULL, message TEXT, \
     PRIMARY KEY (server_id, request_id))",
    "CREATE TABLE IF NOT EXISTS action_events (server_id VARCHAR(36) NOT NULL, request_id VARCHAR(64) NOT NULL, \
     name VARCHAR(64) NOT NULL, started_at BIGINT NOT NULL, finished_at BIGINT, ok BIGINT, host VARCHAR(255) NOT NULL, \
     details TEXT, PRIMARY KEY (server_id, request_id, name, started_at))",
];
