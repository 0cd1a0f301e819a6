//! Tables of attachments and transfers: version 3 of the schema.

/// An attachment is its volume's: whoever sees the one sees the other, so it has no project. What a host needs to reach
/// the volume is not kept, it follows from where the volume is when somebody asks.
///
/// Of a transfer's key only a hash is kept.
pub(super) const ATTACHMENTS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS volume_attachments (
        id VARCHAR(36) PRIMARY KEY,
        volume_id VARCHAR(36) NOT NULL,
        status VARCHAR(32) NOT NULL,
        instance_id VARCHAR(255),
        host VARCHAR(255),
        mountpoint VARCHAR(255),
        attach_mode VARCHAR(8),
        connector TEXT,
        created_at BIGINT NOT NULL,
        attached_at BIGINT)",
    "CREATE INDEX IF NOT EXISTS volume_attachments_by_volume ON volume_attachments (volume_id, created_at)",
    "CREATE INDEX IF NOT EXISTS volume_attachments_by_instance ON volume_attachments (instance_id)",
    "CREATE TABLE IF NOT EXISTS volume_transfers (
        id VARCHAR(36) PRIMARY KEY,
        volume_id VARCHAR(36) NOT NULL,
        name VARCHAR(255),
        salt VARCHAR(64) NOT NULL,
        key_hash VARCHAR(128) NOT NULL,
        no_snapshots BIGINT NOT NULL,
        source_project_id VARCHAR(255) NOT NULL,
        created_at BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS volume_transfers_by_volume ON volume_transfers (volume_id)",
    "CREATE INDEX IF NOT EXISTS volume_transfers_by_project ON volume_transfers (source_project_id, created_at)",
];
