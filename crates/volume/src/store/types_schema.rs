//! Tables of types, QoS specs, quotas, services, group types and messages.
//!
//! A name is unique among types, among QoS specs and among group types, deleted ones aside: what is deleted leaves no
//! row here. The type `__DEFAULT__` comes with the tables, as upstream's migrations bring it. Extra specs and the like are rows rather than a document, because a client changes them one by one.

pub(super) const TYPES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS volume_types (
        id VARCHAR(36) PRIMARY KEY,
        name VARCHAR(255) NOT NULL,
        description TEXT,
        is_public BIGINT NOT NULL,
        qos_specs_id VARCHAR(36),
        created_at BIGINT NOT NULL,
        updated_at BIGINT)",
    "CREATE UNIQUE INDEX IF NOT EXISTS volume_types_by_name ON volume_types (name)",
    "CREATE INDEX IF NOT EXISTS volume_types_by_qos ON volume_types (qos_specs_id)",
    "CREATE TABLE IF NOT EXISTS volume_type_extra_specs (
        volume_type_id VARCHAR(36) NOT NULL,
        name VARCHAR(255) NOT NULL,
        value TEXT,
        PRIMARY KEY (volume_type_id, name))",
    "CREATE TABLE IF NOT EXISTS volume_type_projects (
        volume_type_id VARCHAR(36) NOT NULL,
        project_id VARCHAR(255) NOT NULL,
        created_at BIGINT NOT NULL,
        PRIMARY KEY (volume_type_id, project_id))",
    "CREATE TABLE IF NOT EXISTS volume_type_encryption (
        volume_type_id VARCHAR(36) PRIMARY KEY,
        encryption_id VARCHAR(36) NOT NULL,
        provider VARCHAR(255) NOT NULL,
        control_location VARCHAR(32) NOT NULL,
        cipher VARCHAR(255),
        key_size BIGINT,
        created_at BIGINT NOT NULL,
        updated_at BIGINT)",
    "CREATE TABLE IF NOT EXISTS default_volume_types (
        project_id VARCHAR(255) PRIMARY KEY,
        volume_type_id VARCHAR(36) NOT NULL)",
    "CREATE INDEX IF NOT EXISTS default_volume_types_by_type ON default_volume_types (volume_type_id)",
    "CREATE TABLE IF NOT EXISTS qos_specs (
        id VARCHAR(36) PRIMARY KEY,
        name VARCHAR(255) NOT NULL,
        consumer VARCHAR(32) NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT)",
    "CREATE UNIQUE INDEX IF NOT EXISTS qos_specs_by_name ON qos_specs (name)",
    "CREATE TABLE IF NOT EXISTS qos_spec_keys (
        qos_specs_id VARCHAR(36) NOT NULL,
        name VARCHAR(255) NOT NULL,
        value VARCHAR(255) NOT NULL,
        PRIMARY KEY (qos_specs_id, name))",
    "CREATE TABLE IF NOT EXISTS quotas (
        project_id VARCHAR(255) NOT NULL,
        resource VARCHAR(300) NOT NULL,
        hard_limit BIGINT NOT NULL,
        PRIMARY KEY (project_id, resource))",
    "CREATE TABLE IF NOT EXISTS quota_classes (
        class_name VARCHAR(255) NOT NULL,
        resource VARCHAR(300) NOT NULL,
        hard_limit BIGINT NOT NULL,
        PRIMARY KEY (class_name, resource))",
    "CREATE TABLE IF NOT EXISTS quota_locks (project_id VARCHAR(255) PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS services (
        host VARCHAR(255) NOT NULL,
        binary_name VARCHAR(64) NOT NULL,
        disabled BIGINT NOT NULL,
        disabled_reason TEXT,
        frozen BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        modified_at BIGINT,
        seen_at BIGINT NOT NULL,
        PRIMARY KEY (host, binary_name))",
    "CREATE TABLE IF NOT EXISTS group_types (
        id VARCHAR(36) PRIMARY KEY,
        name VARCHAR(255) NOT NULL,
        description TEXT,
        is_public BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT)",
    "CREATE UNIQUE INDEX IF NOT EXISTS group_types_by_name ON group_types (name)",
    "CREATE TABLE IF NOT EXISTS group_type_specs (
        group_type_id VARCHAR(36) NOT NULL,
        name VARCHAR(255) NOT NULL,
        value TEXT,
        PRIMARY KEY (group_type_id, name))",
    "CREATE TABLE IF NOT EXISTS messages (
        id VARCHAR(36) PRIMARY KEY,
        project_id VARCHAR(255) NOT NULL,
        request_id VARCHAR(255) NOT NULL,
        resource_type VARCHAR(40) NOT NULL,
        resource_uuid VARCHAR(36) NOT NULL,
        action_id VARCHAR(10) NOT NULL,
        detail_id VARCHAR(10) NOT NULL,
        message_level VARCHAR(16) NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS messages_by_project ON messages (project_id, created_at, id)",
    "CREATE INDEX IF NOT EXISTS messages_by_expiry ON messages (expires_at)",
    "INSERT IGNORE INTO volume_types (id, name, description, is_public, created_at)
        VALUES ('a3d5b7c9-1e2f-4a6b-8c0d-5e7f9a1b3c5d', '__DEFAULT__', 'Default Volume Type', 1, 0)",
];
