use umbel_db::Schema;

/// A schema whose migrations include [`TABLES`].
pub trait InCell: Schema {}

/// Statements of one migration.
///
/// `hosts.room_vcpus`, `hosts.room_memory_mib` and `pools.room` are the totals after reservation and ratio, in the same
/// unit as what is used: stored, so that a claim compares two columns and no engine multiplies past 64 bits.
pub const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS hosts (id VARCHAR(36) PRIMARY KEY, name VARCHAR(255) NOT NULL, \
     zone VARCHAR(255) NOT NULL, facts TEXT NOT NULL, \
     vcpus BIGINT NOT NULL, vcpus_used BIGINT NOT NULL, cpu_ratio BIGINT NOT NULL, room_vcpus BIGINT NOT NULL, \
     memory_mib BIGINT NOT NULL, memory_mib_used BIGINT NOT NULL, memory_reserved_mib BIGINT NOT NULL, \
     memory_ratio BIGINT NOT NULL, room_memory_mib BIGINT NOT NULL, \
     disabled BIGINT NOT NULL, disabled_reason TEXT, forced_down BIGINT NOT NULL, last_seen BIGINT NOT NULL, \
     generation BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS hosts_name ON hosts (name)",
    // `scope` is the id of the one host whose disk it is, or empty for a pool that many hosts share.
    "CREATE TABLE IF NOT EXISTS pools (id VARCHAR(36) PRIMARY KEY, name VARCHAR(255) NOT NULL, \
     scope VARCHAR(36) NOT NULL, driver VARCHAR(64) NOT NULL, tier VARCHAR(64) NOT NULL, \
     total BIGINT NOT NULL, free BIGINT NOT NULL, ratio BIGINT NOT NULL, room BIGINT NOT NULL, used BIGINT NOT NULL, \
     updated_at BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS pools_name ON pools (name, scope)",
    "CREATE TABLE IF NOT EXISTS pool_hosts (pool_id VARCHAR(36) NOT NULL, host_id VARCHAR(36) NOT NULL, \
     PRIMARY KEY (pool_id, host_id))",
    "CREATE TABLE IF NOT EXISTS claims (consumer_id VARCHAR(36) NOT NULL, host_id VARCHAR(36) NOT NULL, \
     vcpus BIGINT NOT NULL, memory_mib BIGINT NOT NULL, created_at BIGINT NOT NULL, \
     PRIMARY KEY (consumer_id, host_id))",
    "CREATE INDEX IF NOT EXISTS claims_host ON claims (host_id)",
    "CREATE TABLE IF NOT EXISTS disk_claims (consumer_id VARCHAR(36) NOT NULL, pool_id VARCHAR(36) NOT NULL, \
     bytes BIGINT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (consumer_id, pool_id))",
    "CREATE INDEX IF NOT EXISTS disk_claims_pool ON disk_claims (pool_id)",
];
