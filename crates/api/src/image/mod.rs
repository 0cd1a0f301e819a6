//! The image service: Glance's API v2, one module per noun with its routes and bodies.
//!
//! Image has no microversion header: what a client may use it reads from the version list, so no body here is patched.
//! A custom property is a member of the image object itself, beside the base attributes; it travels in
//! [`Image::properties`].

mod actions;
mod cache;
mod data;
mod images;
mod imports;
mod info;
mod locations;
mod members;
pub mod metadefs;
mod schemas;
mod tags;
mod tasks;
mod values;
mod versions;

pub use actions::{DEACTIVATE, REACTIVATE};
pub use cache::{CACHE_IMAGE, CLEAR_CACHE, CLEAR_TARGET, Cache, CachedImage, SHOW_CACHE, UNCACHE_IMAGE};
pub use data::{DOWNLOAD, UPLOAD};
pub use images::{CREATE, DELETE, DELETE_NONE, Image, ImageList, LIST, SHOW, ShownLocation, UPDATE};
pub use imports::{IMPORT, IMPORT_METHOD_NAMES, ImportMethod, ImportRequest, STAGE};
pub use info::{
    DELETE_FROM_STORE, ImportInfo, ImportMethods, SHOW_IMPORT, SHOW_STORES, SHOW_STORES_DETAIL, SHOW_USAGE, StoreInfo,
    Stores, Usage, UsageEntry, UsageReport,
};
pub use locations::{CREATE_LOCATION, ImageLocation, LIST_LOCATIONS, LocationMetadata, NewLocation, ValidationData};
pub use members::{
    CREATE_MEMBER, DELETE_MEMBER, LIST_MEMBERS, Member, MemberList, MemberStatus, NewMember, SHOW_MEMBER,
    UPDATE_MEMBER, UpdateMember,
};
pub use schemas::SHOW_SCHEMA;
pub use tags::{CREATE_TAG, DELETE_TAG};
pub use tasks::{
    CREATE_TASK, ImageTasks, LIST_IMAGE_TASKS, LIST_TASKS, NewTask, NewTaskInput, SHOW_TASK, Task, TaskList,
    TaskStatus, TaskType,
};
pub use values::{ContainerFormat, DiskFormat, ImageStatus, Visibility};
pub use versions::{LIST_V2, LIST_VERSIONS, ROOT, Version, VersionList};
