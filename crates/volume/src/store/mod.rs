//! The tables. Functions take a transaction; those that read a project's things take a [`umbel_auth::Visible`].

pub mod core_schema;
pub mod metadata;
pub mod quotas;
pub mod snapshots;
pub mod volumes;

use umbel_db::{Migration, Schema};

/// The volume service's database.
pub struct Volume;

impl Schema for Volume {
    const NAME: &'static str = "volume";
    const MIGRATIONS: &'static [Migration] =
        &[Migration { version: 1, name: "volumes", statements: core_schema::STATEMENTS }];
}
