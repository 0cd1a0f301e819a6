use std::sync::Arc;

use umbel_api::volume::info as wire;
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes};

use crate::Volumes;

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes
        .on(&wire::EXTENSIONS, extensions)
        .on(&wire::EXTENSION, extension)
        .on(&wire::FILTERS, filters)
        .on(&wire::CLUSTERS, clusters)
        .on(&wire::CLUSTERS_DETAIL, clusters)
        .on(&wire::CLUSTER, cluster)
        .on(&wire::CLUSTER_ENABLE, change_cluster)
        .on(&wire::CLUSTER_DISABLE, change_cluster)
        .on(&wire::WORKERS_CLEANUP, cleanup)
}

/// `(name, alias, what it is for)`, as clients look for them.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("AdminActions", "os-admin-actions", "Enable admin actions."),
    ("AvailabilityZones", "os-availability-zone", "Describe availability zones."),
    ("Backups", "backups", "Backups support."),
    ("Capabilities", "capabilities", "Capabilities support."),
    ("ExtendedServices", "os-extended-services", "Extended services support."),
    ("ExtendedSnapshotAttributes", "os-extended-snapshot-attributes", "Extended snapshot attributes support."),
    ("Hosts", "os-hosts", "Admin-only host administration."),
    ("Qos_specs_manage", "qos-specs", "QoS specs support."),
    ("QuotaClasses", "os-quota-class-sets", "Quota classes management support."),
    ("Quotas", "os-quota-sets", "Quota management support."),
    ("SchedulerHints", "OS-SCH-HNT", "Pass arbitrary key/value pairs to the scheduler."),
    ("Scheduler_stats", "scheduler-stats", "Scheduler stats support."),
    ("Services", "os-services", "Services support."),
    ("SnapshotActions", "os-snapshot-actions", "Enable snapshot manager actions."),
    ("SnapshotManage", "os-snapshot-manage", "Allows existing backend storage to be 'managed' by Cinder."),
    ("TypesExtraSpecs", "os-types-extra-specs", "Type extra specs support."),
    ("TypesManage", "os-types-manage", "Types manage support."),
    ("UsedLimits", "os-used-limits", "Provide data on limited resource usage."),
    ("VolumeActions", "os-volume-actions", "Enable volume actions."),
    ("VolumeEncryptionMetadata", "os-volume-encryption-metadata", "Volume encryption metadata retrieval support."),
    ("VolumeHostAttribute", "os-vol-host-attr", "Expose host as an attribute of a volume."),
    ("VolumeImageMetadata", "os-vol-image-meta", "Show image metadata associated with the volume."),
    ("VolumeManage", "os-volume-manage", "Allows existing backend storage to be 'managed' by Cinder."),
    ("VolumeMigStatusAttribute", "os-vol-mig-status-attr", "Expose migration_status as an attribute of a volume."),
    ("VolumeTenantAttribute", "os-vol-tenant-attr", "Expose the internal project_id as an attribute of a volume."),
    ("VolumeTransfer", "os-volume-transfer", "Volume transfer management support."),
    ("VolumeTypeAccess", "os-volume-type-access", "Volume type access support."),
    ("VolumeTypeEncryption", "encryption", "Encryption support for volume types."),
    ("VolumeUnmanage", "os-volume-unmanage", "Enable volume unmanage operation."),
];

fn shown((name, alias, description): &(&'static str, &'static str, &'static str)) -> wire::Extension {
    wire::Extension { name, alias, description, updated: "2017-01-01T00:00:00+00:00", links: [] }
}

async fn extensions(_: Arc<Volumes>, _req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &wire::Extensions { extensions: EXTENSIONS.iter().map(shown).collect() }))
}

async fn extension(_: Arc<Volumes>, req: Req) -> Result<Reply> {
    let alias = req.param("alias")?;
    let found = EXTENSIONS.iter().find(|(_, known, _)| *known == alias);
    let found = found.ok_or_else(|| Error::not_found("The resource could not be found."))?;
    Ok(Reply::json(200, &wire::OneExtension { extension: shown(found) }))
}

/// What users may filter lists by.
const FILTERS: &[(&str, &[&str])] = &[
    (
        "volume",
        &[
            "name",
            "status",
            "metadata",
            "bootable",
            "migration_status",
            "availability_zone",
            "group_id",
            "size",
            "created_at",
            "updated_at",
            "consumes_quota",
        ],
    ),
    ("backup", &["name", "status", "volume_id"]),
    ("snapshot", &["name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"]),
    ("group", &["name"]),
    ("group_snapshot", &["name", "status", "group_id"]),
    ("attachment", &["volume_id", "status", "instance_id", "attach_status"]),
    ("message", &["resource_uuid", "resource_type", "event_id", "request_id", "message_level"]),
    ("pool", &["name", "volume_type"]),
    ("volume_type", &["is_public", "extra_specs"]),
];

async fn filters(_: Arc<Volumes>, req: Req) -> Result<Reply> {
    let wanted = req.query_pairs().into_iter().find(|(name, _)| name == "resource").map(|(_, value)| value);
    let known = FILTERS.iter().filter(|(resource, _)| wanted.as_ref().is_none_or(|wanted| wanted == resource));
    let resource_filters = known.map(|(resource, filters)| wire::ResourceFilters { resource, filters }).collect();
    Ok(Reply::json(200, &wire::Filters { resource_filters }))
}

async fn clusters(_: Arc<Volumes>, _req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &wire::Clusters { clusters: [] }))
}

fn no_cluster(name: &str) -> Error {
    Error::not_found(format!("Cluster {name} could not be found."))
}

async fn cluster(_: Arc<Volumes>, req: Req) -> Result<Reply> {
    Err(no_cluster(req.param("name")?))
}

async fn change_cluster(_: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    Err(no_cluster(&req.json::<wire::ClusterChange>().await?.name))
}

/// Nothing waits for an operator's word to be cleaned up: another process goes on with what one left.
async fn cleanup(_: Arc<Volumes>, mut req: Req) -> Result<Reply> {
    let body = req.bytes().await?;
    if !body.is_empty() {
        serde_json::from_slice::<wire::CleanupRequest>(&body)
            .map_err(|error| Error::bad_request(format!("Invalid input: {error}.")))?;
    }
    Ok(Reply::json(202, &wire::Cleanup { cleaning: [], unavailable: [] }))
}
