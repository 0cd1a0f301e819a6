use std::sync::Arc;

use umbel_api::compute::empty::{
    AGGREGATES, Aggregates, MIGRATIONS, Migrations, SERVER_GROUPS, SERVER_MIGRATIONS, ServerGroups,
};
use umbel_api::compute::extensions::{Extension, Extensions, LIST, OneExtension, SHOW};
use umbel_api::compute::gone::GONE;
use umbel_core::{Error, Kind, Result};
use umbel_http::{Reply, Req, Routes};

use super::input::server_id;
use crate::Compute;

pub(super) fn mount(mut routes: Routes<Compute>) -> Routes<Compute> {
    for route in GONE {
        routes = routes.on(route, gone);
    }
    routes
        .on(&LIST, list)
        .on(&SHOW, show)
        .on(&AGGREGATES, aggregates)
        .on(&SERVER_GROUPS, server_groups)
        .on(&MIGRATIONS, migrations)
        .on(&SERVER_MIGRATIONS, server_migrations)
}

async fn aggregates(_: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &Aggregates::default()))
}

async fn server_groups(_: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &ServerGroups::default()))
}

async fn migrations(_: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &Migrations::default()))
}

async fn server_migrations(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.server_of(&req.ctx, server_id(&req)?).await?;
    Ok(Reply::json(200, &Migrations::default()))
}

async fn gone(_: Arc<Compute>, _: Req) -> Result<Reply> {
    Err(Error::new(Kind::Gone, "This API is no longer available."))
}

/// Alias and name of what a client may look for before it uses it.
const EXTENSIONS: &[(&str, &str)] = &[
    ("NMN", "Multinic"),
    ("OS-DCF", "DiskConfig"),
    ("OS-EXT-AZ", "ExtendedAvailabilityZone"),
    ("OS-EXT-SRV-ATTR", "ExtendedServerAttributes"),
    ("OS-EXT-STS", "ExtendedStatus"),
    ("OS-FLV-DISABLED", "FlavorDisabled"),
    ("OS-FLV-EXT-DATA", "FlavorExtraData"),
    ("OS-SCH-HNT", "SchedulerHints"),
    ("OS-SRV-USG", "ServerUsage"),
    ("os-availability-zone", "AvailabilityZone"),
    ("os-config-drive", "ConfigDrive"),
    ("os-console-output", "ConsoleOutput"),
    ("os-extended-volumes", "ExtendedVolumes"),
    ("os-flavor-access", "FlavorAccess"),
    ("os-flavor-extra-specs", "FlavorExtraSpecs"),
    ("os-flavor-manage", "FlavorManage"),
    ("os-hypervisors", "Hypervisors"),
    ("os-instance-actions", "InstanceActions"),
    ("os-keypairs", "Keypairs"),
    ("os-lock-server", "LockServer"),
    ("os-multiple-create", "MultipleCreate"),
    ("os-pause-server", "PauseServer"),
    ("os-quota-class-sets", "QuotaClasses"),
    ("os-quota-sets", "Quotas"),
    ("os-server-diagnostics", "ServerDiagnostics"),
    ("os-server-external-events", "ServerExternalEvents"),
    ("os-services", "Services"),
    ("os-user-data", "UserData"),
    ("os-volumes", "Volumes"),
];

fn view((alias, name): (&'static str, &'static str)) -> Extension {
    Extension {
        alias,
        name,
        description: name,
        links: [],
        namespace: "http://docs.openstack.org/compute/ext/fake_xml",
        updated: "2014-12-03T00:00:00Z",
    }
}

async fn list(_: Arc<Compute>, _: Req) -> Result<Reply> {
    Ok(Reply::json(200, &Extensions { extensions: EXTENSIONS.iter().copied().map(view).collect() }))
}

async fn show(_: Arc<Compute>, req: Req) -> Result<Reply> {
    let alias = req.param("alias")?;
    let known = EXTENSIONS.iter().copied().find(|(known, _)| *known == alias);
    let known = known.ok_or_else(|| Error::not_found("The resource could not be found."))?;
    Ok(Reply::json(200, &OneExtension { extension: view(known) }))
}
