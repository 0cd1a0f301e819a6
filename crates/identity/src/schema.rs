use umbel_db::{Migration, Schema};

/// The tables of identity. Domains are rows of `projects` with `is_domain`, as upstream keeps them: a domain and a
/// project share ids, tags, options and the rule that a name is taken once per owner.
///
/// What may be absent in a unique key is the empty text instead of null (a domain's own `domain_id`, that of a role
/// for the whole cloud), because the engines let any number of nulls stand beside each other.
pub struct IdentitySchema;

impl Schema for IdentitySchema {
    const NAME: &'static str = "identity";
    const MIGRATIONS: &'static [Migration] = &[
        Migration { version: 1, name: "first tables", statements: FIRST },
        Migration { version: 2, name: "trusts", statements: TRUSTS },
        Migration { version: 3, name: "consumers, endpoint groups, domain options", statements: EXTENSIONS },
        Migration { version: 4, name: "security compliance", statements: COMPLIANCE },
    ];
}

const FIRST: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS projects (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        name VARCHAR(64) NOT NULL,
        domain_id VARCHAR(64) NOT NULL,
        parent_id VARCHAR(64) NOT NULL,
        is_domain BIGINT NOT NULL,
        enabled BIGINT NOT NULL,
        description TEXT NOT NULL,
        options TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS projects_name ON projects (domain_id, name)",
    "CREATE INDEX IF NOT EXISTS projects_parent ON projects (parent_id)",
    "CREATE TABLE IF NOT EXISTS project_tags (
        project_id VARCHAR(64) NOT NULL,
        name VARCHAR(255) NOT NULL,
        PRIMARY KEY (project_id, name))",
    "CREATE TABLE IF NOT EXISTS users (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        name VARCHAR(255) NOT NULL,
        domain_id VARCHAR(64) NOT NULL,
        enabled BIGINT NOT NULL,
        password_hash TEXT,
        password_expires_at BIGINT,
        default_project_id VARCHAR(64),
        options TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS users_name ON users (domain_id, name)",
    "CREATE INDEX IF NOT EXISTS users_default_project ON users (default_project_id)",
    "CREATE TABLE IF NOT EXISTS user_groups (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        name VARCHAR(64) NOT NULL,
        domain_id VARCHAR(64) NOT NULL,
        description TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS user_groups_name ON user_groups (domain_id, name)",
    "CREATE TABLE IF NOT EXISTS memberships (
        group_id VARCHAR(64) NOT NULL,
        user_id VARCHAR(64) NOT NULL,
        PRIMARY KEY (group_id, user_id))",
    "CREATE INDEX IF NOT EXISTS memberships_user ON memberships (user_id)",
    "CREATE TABLE IF NOT EXISTS roles (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        name VARCHAR(255) NOT NULL,
        domain_id VARCHAR(64) NOT NULL,
        description TEXT,
        options TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS roles_name ON roles (domain_id, name)",
    "CREATE TABLE IF NOT EXISTS implied_roles (
        prior_id VARCHAR(64) NOT NULL,
        implied_id VARCHAR(64) NOT NULL,
        PRIMARY KEY (prior_id, implied_id))",
    // The actor is a user or a group, the target a project, a domain or the system, whose id is 'system'.
    "CREATE TABLE IF NOT EXISTS assignments (
        actor_id VARCHAR(64) NOT NULL,
        target_id VARCHAR(64) NOT NULL,
        role_id VARCHAR(64) NOT NULL,
        inherited BIGINT NOT NULL,
        actor_kind VARCHAR(8) NOT NULL,
        target_kind VARCHAR(8) NOT NULL,
        PRIMARY KEY (actor_id, target_id, role_id, inherited))",
    "CREATE INDEX IF NOT EXISTS assignments_target ON assignments (target_id)",
    "CREATE INDEX IF NOT EXISTS assignments_role ON assignments (role_id)",
    "CREATE TABLE IF NOT EXISTS regions (
        id VARCHAR(255) PRIMARY KEY,
        generation BIGINT NOT NULL,
        parent_id VARCHAR(255),
        description TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS services (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        kind VARCHAR(255) NOT NULL,
        name VARCHAR(255),
        enabled BIGINT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS endpoints (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        service_id VARCHAR(64) NOT NULL,
        interface VARCHAR(8) NOT NULL,
        region_id VARCHAR(255),
        url TEXT NOT NULL,
        enabled BIGINT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS endpoints_service ON endpoints (service_id)",
    // One row, whose generation grows with every change of roles and catalog, so that a copy in memory knows its age.
    "CREATE TABLE IF NOT EXISTS directory (id BIGINT PRIMARY KEY, generation BIGINT NOT NULL)",
    "INSERT IGNORE INTO directory (id, generation) VALUES (1, 1)",
    "CREATE TABLE IF NOT EXISTS credentials (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        user_id VARCHAR(64) NOT NULL,
        project_id VARCHAR(64),
        kind VARCHAR(255) NOT NULL,
        content TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS credentials_user ON credentials (user_id)",
    "CREATE TABLE IF NOT EXISTS policies (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        kind VARCHAR(255) NOT NULL,
        content TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS application_credentials (
        id VARCHAR(64) PRIMARY KEY,
        user_id VARCHAR(64) NOT NULL,
        project_id VARCHAR(64) NOT NULL,
        name VARCHAR(255) NOT NULL,
        secret_hash TEXT NOT NULL,
        description TEXT,
        expires_at BIGINT,
        unrestricted BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS application_credentials_name ON application_credentials (user_id, name)",
    "CREATE TABLE IF NOT EXISTS application_credential_roles (
        credential_id VARCHAR(64) NOT NULL,
        role_id VARCHAR(64) NOT NULL,
        PRIMARY KEY (credential_id, role_id))",
    "CREATE TABLE IF NOT EXISTS access_rules (
        id VARCHAR(64) PRIMARY KEY,
        user_id VARCHAR(64) NOT NULL,
        service VARCHAR(64) NOT NULL,
        path VARCHAR(128) NOT NULL,
        method VARCHAR(16) NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS access_rules_whole ON access_rules (user_id, service, path, method)",
    "CREATE TABLE IF NOT EXISTS application_credential_rules (
        credential_id VARCHAR(64) NOT NULL,
        rule_id VARCHAR(64) NOT NULL,
        PRIMARY KEY (credential_id, rule_id))",
    "CREATE TABLE IF NOT EXISTS revocations (
        id VARCHAR(64) PRIMARY KEY,
        kind VARCHAR(16) NOT NULL,
        target VARCHAR(255) NOT NULL,
        issued_before BIGINT NOT NULL,
        revoked_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS revocations_revoked ON revocations (revoked_at)",
    "CREATE INDEX IF NOT EXISTS revocations_expires ON revocations (expires_at)",
    // Public halves only; the secret one never is in a database.
    "CREATE TABLE IF NOT EXISTS signing_keys (
        id VARCHAR(64) PRIMARY KEY,
        public_key VARCHAR(64) NOT NULL,
        created_at BIGINT NOT NULL)",
];

const TRUSTS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS trusts (
        id VARCHAR(64) PRIMARY KEY,
        trustor_user_id VARCHAR(64) NOT NULL,
        trustee_user_id VARCHAR(64) NOT NULL,
        project_id VARCHAR(64) NOT NULL,
        impersonation BIGINT NOT NULL,
        expires_at BIGINT,
        remaining_uses BIGINT)",
    "CREATE INDEX IF NOT EXISTS trusts_trustor ON trusts (trustor_user_id)",
    "CREATE INDEX IF NOT EXISTS trusts_trustee ON trusts (trustee_user_id)",
    "CREATE TABLE IF NOT EXISTS trust_roles (
        trust_id VARCHAR(64) NOT NULL,
        role_id VARCHAR(64) NOT NULL,
        PRIMARY KEY (trust_id, role_id))",
];

const EXTENSIONS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS consumers (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        description TEXT,
        secret TEXT NOT NULL,
        extra TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS endpoint_groups (
        id VARCHAR(64) PRIMARY KEY,
        generation BIGINT NOT NULL,
        name VARCHAR(255) NOT NULL,
        description TEXT,
        filters TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS domain_options (
        domain_id VARCHAR(64) NOT NULL,
        group_name VARCHAR(64) NOT NULL,
        option_name VARCHAR(64) NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (domain_id, group_name, option_name))",
];

const COMPLIANCE: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS user_guards (
        user_id VARCHAR(64) PRIMARY KEY,
        active_at BIGINT,
        failed_count BIGINT NOT NULL,
        failed_at BIGINT,
        password_at BIGINT,
        self_service BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS past_passwords (
        id VARCHAR(64) PRIMARY KEY,
        user_id VARCHAR(64) NOT NULL,
        password_hash TEXT NOT NULL,
        replaced_at BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS past_passwords_user ON past_passwords (user_id)",
];
