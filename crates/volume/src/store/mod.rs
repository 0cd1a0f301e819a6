//! The tables. Functions take a transaction; those that read a project's things take a [`umbel_auth::Visible`].

pub mod attachments;
mod attachments_schema;
pub mod audit;
mod backup_schema;
pub mod backups;
pub mod core_schema;
pub mod encryption;
pub mod group_snapshots;
pub mod group_types;
pub mod groups;
pub mod messages;
pub mod metadata;
pub mod pages;
pub mod qos_specs;
pub mod quotas;
pub mod services;
pub mod snapshots;
pub mod transfers;
pub mod types;
mod types_schema;
pub mod unmanaged;
pub mod volumes;

use umbel_db::{Migration, Schema};

/// The volume service's database.
pub struct Volume;

impl Schema for Volume {
    const NAME: &'static str = "volume";
    const MIGRATIONS: &'static [Migration] = &[
        Migration { version: 1, name: "volumes", statements: core_schema::STATEMENTS },
        Migration { version: 2, name: "types", statements: types_schema::TYPES },
        Migration { version: 3, name: "attachments", statements: attachments_schema::ATTACHMENTS },
        Migration { version: 4, name: "backups", statements: backup_schema::BACKUPS_AND_GROUPS },
        Migration { version: 5, name: "unmanaged", statements: unmanaged::STATEMENTS },
    ];
}
