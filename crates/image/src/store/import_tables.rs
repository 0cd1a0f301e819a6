//! Tables of imports, tasks and the cache's lists: version 2 of the schema.

/// `image_stages` is where staged bytes are, and what is known of them: a row exists if and only if the disk is whole.
/// `image_tasks` is what clients see of work; the work itself is a row of `workflows`, of the same id.
pub const IMPORTS: &[&str] = &[
    umbel_workflow::TABLE,
    umbel_workflow::TABLE_INDEX,
    "CREATE TABLE IF NOT EXISTS image_tasks (
        id VARCHAR(36) PRIMARY KEY,
        kind VARCHAR(32) NOT NULL,
        status VARCHAR(16) NOT NULL,
        owner VARCHAR(255),
        user_id VARCHAR(255),
        request_id VARCHAR(64),
        image_id VARCHAR(36),
        input TEXT NOT NULL,
        result TEXT,
        message TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        expires_at BIGINT)",
    "CREATE INDEX IF NOT EXISTS image_tasks_by_image ON image_tasks (image_id, created_at)",
    "CREATE INDEX IF NOT EXISTS image_tasks_by_created ON image_tasks (created_at, id)",
    "CREATE INDEX IF NOT EXISTS image_tasks_by_expiry ON image_tasks (expires_at)",
    "CREATE TABLE IF NOT EXISTS image_stages (
        image_id VARCHAR(36) PRIMARY KEY,
        store VARCHAR(64) NOT NULL,
        disk VARCHAR(255) NOT NULL,
        size BIGINT NOT NULL,
        virtual_size BIGINT,
        checksum VARCHAR(32) NOT NULL,
        hash_value VARCHAR(128) NOT NULL,
        refusal TEXT,
        created_at BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS image_cache (
        image_id VARCHAR(36) PRIMARY KEY,
        size BIGINT NOT NULL,
        created_at BIGINT NOT NULL)",
];
