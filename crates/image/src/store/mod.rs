//! The tables. Functions take a transaction; those that read a project's images take a [`umbel_auth::Visible`].

pub mod audit;
pub mod cache;
pub mod claims;
pub mod images;
mod import_tables;
pub mod locations;
pub mod members;
pub mod metadefs;
pub(crate) mod parts;
pub mod stages;
pub mod tasks;
pub mod twins;
pub mod web_places;

use umbel_db::{Migration, Schema};

pub use crate::model::{Claim, Data, ImageId, Meta, Place, Record};

/// The image service's database.
pub struct Image;

impl Schema for Image {
    const NAME: &'static str = "image";
    const MIGRATIONS: &'static [Migration] = &[
        Migration { version: 1, name: "images", statements: IMAGES },
        Migration { version: 2, name: "imports", statements: import_tables::IMPORTS },
        Migration { version: 3, name: "twins", statements: twins::TWINS },
        Migration { version: 4, name: "metadefs", statements: metadefs::METADEFS },
        Migration { version: 5, name: "web", statements: web_places::WEB_PLACES },
    ];
}

/// A place belongs to one image: the unique index keeps a service from registering a disk twice, since deleting one of
/// the images would take the other's data.
///
/// `upload_*` is the claim of the upload under way; `upload_store` stays until its disk is known to be gone or used.
const IMAGES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS images (
        id VARCHAR(36) PRIMARY KEY,
        generation BIGINT NOT NULL,
        name VARCHAR(255),
        owner VARCHAR(255),
        status VARCHAR(32) NOT NULL,
        visibility VARCHAR(16) NOT NULL,
        protected BIGINT NOT NULL,
        os_hidden BIGINT NOT NULL,
        container_format VARCHAR(32),
        disk_format VARCHAR(32),
        min_disk BIGINT NOT NULL,
        min_ram BIGINT NOT NULL,
        size BIGINT,
        virtual_size BIGINT,
        checksum VARCHAR(32),
        hash_algorithm VARCHAR(64),
        hash_value VARCHAR(128),
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        upload_token VARCHAR(36),
        upload_store VARCHAR(64),
        upload_expires_at BIGINT,
        upload_bytes BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS images_by_created ON images (created_at, id)",
    "CREATE INDEX IF NOT EXISTS images_by_owner ON images (owner, created_at)",
    "CREATE INDEX IF NOT EXISTS images_by_name ON images (name)",
    "CREATE INDEX IF NOT EXISTS images_by_status ON images (status, upload_expires_at)",
    "CREATE TABLE IF NOT EXISTS image_properties (
        image_id VARCHAR(36) NOT NULL,
        name VARCHAR(255) NOT NULL,
        value TEXT,
        PRIMARY KEY (image_id, name))",
    "CREATE TABLE IF NOT EXISTS image_tags (
        image_id VARCHAR(36) NOT NULL,
        tag VARCHAR(255) NOT NULL,
        PRIMARY KEY (image_id, tag))",
    "CREATE INDEX IF NOT EXISTS image_tags_by_tag ON image_tags (tag)",
    "CREATE TABLE IF NOT EXISTS image_members (
        image_id VARCHAR(36) NOT NULL,
        member_id VARCHAR(255) NOT NULL,
        status VARCHAR(16) NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        PRIMARY KEY (image_id, member_id))",
    "CREATE INDEX IF NOT EXISTS image_members_by_member ON image_members (member_id)",
    "CREATE TABLE IF NOT EXISTS image_locations (
        image_id VARCHAR(36) NOT NULL,
        store VARCHAR(64) NOT NULL,
        disk VARCHAR(255) NOT NULL,
        url TEXT NOT NULL,
        format VARCHAR(32),
        created_at BIGINT NOT NULL,
        PRIMARY KEY (store, disk))",
    "CREATE INDEX IF NOT EXISTS image_locations_by_image ON image_locations (image_id)",
];
