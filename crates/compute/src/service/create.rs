//! New servers: everything that can be wrong is found before anything is written, and then one transaction writes the
//! build requests, the servers' places in the map (which is what quota counts) and the flows that build them.

use std::collections::BTreeMap;

use umbel_auth::visible;
use umbel_core::{Ctx, Error, GIB, Result, Timestamp};
use umbel_db::tx;

use super::Compute;
use super::block_devices::{Ask as DeviceAsk, Bounds, Disks};
use super::quotas::{Ask, allows};
use crate::flows::{self, SERVER_CREATE, SERVER_CREATE_DEADLINE, SERVER_CREATE_FIRST, ServerCreate, ServerReserve};
use crate::model::{
    BlockDeviceId, CONFIG_DRIVE_BYTES, DiskConfig, DiskPlan, DiskSource, FlavorSnapshot, ImageSnapshot, KeySnapshot,
    Networks, Server, ServerId, ServerSpec,
};
use crate::store::flavors::Flavor;
use crate::store::{build_requests, keypairs, server_map};

/// A request for servers whose form is good.
pub(crate) struct NewServers {
    pub name: String,
    /// All disks, what to boot from among them.
    pub devices: Vec<DeviceAsk>,
    /// Whether the version of the request knows volumes of several servers.
    pub multiattach: bool,
    pub flavor_id: String,
    pub key_name: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tags: Vec<String>,
    pub description: Option<String>,
    /// As asked for; made of the name where it was not.
    pub hostname: Option<String>,
    pub user_data: Option<String>,
    pub config_drive: bool,
    pub zone: Option<String>,
    pub host: Option<String>,
    pub scheduler_hints: serde_json::Map<String, serde_json::Value>,
    pub networks: Networks,
    pub security_groups: Vec<String>,
    pub disk_config: Option<DiskConfig>,
    pub admin_pass: Option<String>,
    pub min_count: u64,
    pub max_count: u64,
}

/// Not `Debug`: it holds the password.
pub(crate) struct CreatedServers {
    pub first: ServerId,
    pub reservation_id: String,
    pub admin_pass: String,
    pub disk_config: DiskConfig,
    pub security_groups: Vec<String>,
}

impl Compute {
    pub(crate) async fn create_servers(&self, ctx: &Ctx, new: NewServers) -> Result<CreatedServers> {
        let Some(project_id) = ctx.project_id() else {
            return Err(Error::forbidden("A server needs a project: ask for a token scoped to one."));
        };
        let (flavor, key, limits) = tokio::try_join!(
            self.flavor_for(ctx, &new.flavor_id),
            self.key_for(ctx, new.key_name.as_deref()),
            self.limits(project_id, None),
        )?;
        if !allows(&limits, "metadata_items", new.metadata.len() as u64) {
            let limit = limits.get("metadata_items").copied().unwrap_or_default();
            return Err(Error::new(
                umbel_core::Kind::OverQuota,
                format!("Maximum number of metadata items exceeds {limit}"),
            ));
        }
        let bounds = Bounds {
            flavor: &snapshot(&flavor),
            local: self.config.max_local_block_devices,
            all: self.config.max_disk_devices,
            servers: new.max_count,
            multiattach: new.multiattach,
        };
        let disks = self.disks(ctx, &new.devices, &bounds).await?;
        if let Some(image) = &disks.image {
            check_size(ctx, &flavor, image)?;
        }
        self.check_place(new.zone.as_deref(), new.host.as_deref()).await?;

        let now = self.clock.now();
        let admin_pass = new.admin_pass.clone().unwrap_or_else(|| self.password());
        let spec = self.spec(ctx, project_id, &new, (&flavor, disks.image.clone(), key), now);
        let servers = self.write_with_volumes(ctx, &new, (&spec, &disks, &admin_pass), now).await?;
        self.nudge.flow();
        let first = servers.first().ok_or_else(|| Error::internal("a create without servers"))?;
        Ok(CreatedServers {
            first: first.id,
            reservation_id: spec.reservation_id,
            admin_pass,
            disk_config: spec.disk_config,
            security_groups: spec.security_groups,
        })
    }

    async fn flavor_for(&self, ctx: &Ctx, id: &str) -> Result<Flavor> {
        self.flavor(id, &visible(ctx)?).await.map_err(|error| match error.is(umbel_core::Kind::NotFound) {
            true => Error::bad_request(format!("Flavor {id} could not be found.")),
            false => error,
        })
    }

    async fn key_for(&self, ctx: &Ctx, name: Option<&str>) -> Result<Option<KeySnapshot>> {
        let Some(name) = name else {
            return Ok(None);
        };
        let user = ctx.user_id().unwrap_or_default();
        let key = umbel_db::read!(self.db, "find key", |tx| keypairs::get(tx, user, name).await)?;
        let key = key.ok_or_else(|| Error::bad_request("Invalid key_name provided."))?;
        Ok(Some(KeySnapshot { name: key.name, kind: key.kind, public_key: key.public_key }))
    }

    fn spec(
        &self,
        ctx: &Ctx,
        project_id: &str,
        new: &NewServers,
        (flavor, image, key): (&Flavor, Option<ImageSnapshot>, Option<KeySnapshot>),
        now: Timestamp,
    ) -> ServerSpec {
        let project_name = match ctx.principal.as_ref().map(|principal| &principal.scope) {
            Some(umbel_core::Scope::Project { name, .. }) => name.clone(),
            _ => String::new(),
        };
        let asks =
            |image: &ImageSnapshot| image.properties.get("img_config_drive").is_some_and(|value| value == "mandatory");
        let mandatory = image.as_ref().is_some_and(asks);
        ServerSpec {
            project_id: project_id.to_owned(),
            user_id: ctx.user_id().unwrap_or_default().to_owned(),
            project_name,
            created_at: now,
            reservation_id: self.reservation_id(),
            launch_index: 0,
            request_id: ctx.request_id.to_string(),
            flavor: snapshot(flavor),
            image,
            key,
            user_data: new.user_data.clone(),
            config_drive: new.config_drive || mandatory || self.config.force_config_drive,
            availability_zone: new.zone.clone().or_else(|| self.config.default_schedule_zone.clone()),
            requested_host: new.host.clone(),
            scheduler_hints: new.scheduler_hints.clone(),
            networks: new.networks,
            security_groups: new.security_groups.clone(),
            disk_config: new.disk_config.unwrap_or(DiskConfig::Manual),
            disks: Vec::new(),
        }
    }

    /// Volumes that exist are reserved first, so that a refusal is the answer to the request. A process that dies in
    /// between has left a guard, by which they are let go again.
    async fn write_with_volumes(
        &self,
        ctx: &Ctx,
        new: &NewServers,
        (spec, disks, admin_pass): (&ServerSpec, &Disks, &str),
        now: Timestamp,
    ) -> Result<Vec<Server>> {
        let first = ServerId::random(&*self.rng);
        let mut maker = Maker { first, reserved: BTreeMap::new() };
        if disks.volumes.iter().any(|ask| ask.volume_id.is_some()) {
            self.guard(first, &spec.request_id, now).await?;
            maker.reserved = self.reserve(ctx, first, disks).await?;
        }
        let written = self.write(new, (spec, disks, admin_pass), &maker, now).await;
        if written.is_err() {
            self.let_go(&maker.reserved).await;
        }
        written
    }

    async fn guard(&self, server_id: ServerId, request_id: &str, now: Timestamp) -> Result<()> {
        tx!(self.db, "guard reservations", |tx| {
            let guard = umbel_workflow::NewFlow {
                id: &server_id.to_string(),
                kind: flows::SERVER_RESERVE,
                first_step: flows::SERVER_RESERVE_FIRST,
                state: &ServerReserve { server_id },
                request_id,
                now,
                deadline: now.plus(flows::FOREVER),
            };
            umbel_workflow::enqueue(tx, guard).await
        })
    }

    async fn write(
        &self,
        new: &NewServers,
        (spec, disks, admin_pass): (&ServerSpec, &Disks, &str),
        maker: &Maker,
        now: Timestamp,
    ) -> Result<Vec<Server>> {
        let flavor = &spec.flavor;
        let one = Ask { instances: 1, cores: flavor.vcpus.into(), memory_mib: flavor.memory_mib };
        tx!(self.db, "create servers", |tx| {
            let count = self.admit(tx, &spec.project_id, one, (new.min_count, new.max_count)).await?;
            let mut servers = Vec::new();
            for index in 0..u32::try_from(count).unwrap_or(u32::MAX) {
                let server = self.server(new, (spec, disks, admin_pass), maker, index);
                build_requests::insert(tx, &server).await?;
                server_map::insert(tx, &server).await?;
                let flow = umbel_workflow::NewFlow {
                    id: &server.id.to_string(),
                    kind: SERVER_CREATE,
                    first_step: SERVER_CREATE_FIRST,
                    state: &ServerCreate { server_id: server.id },
                    request_id: &spec.request_id,
                    now,
                    deadline: now.plus(SERVER_CREATE_DEADLINE),
                };
                umbel_workflow::enqueue(tx, flow).await?;
                servers.push(server);
            }
            Ok(servers)
        })
    }

    fn server(
        &self,
        new: &NewServers,
        (spec, disks, admin_pass): (&ServerSpec, &Disks, &str),
        maker: &Maker,
        index: u32,
    ) -> Server {
        let id = if index == 0 { maker.first } else { ServerId::random(&*self.rng) };
        let many = new.max_count > 1;
        let numbered = |text: &str| if many { format!("{text}-{}", index + 1) } else { text.to_owned() };
        let name = numbered(&new.name);
        let hostname = match &new.hostname {
            Some(hostname) => numbered(hostname),
            None => hostname(&name, id),
        };
        let mut spec = spec.clone();
        spec.launch_index = index;
        spec.disks = disk_plans(&spec, disks, id);
        let local = spec.disks.iter().filter(|disk| disk.source != DiskSource::ConfigDrive).count();
        let created_at = spec.created_at;
        let mut server = Server::new(id, spec, name, hostname);
        server.state.description = new.description.clone();
        server.state.metadata = new.metadata.clone();
        server.state.tags = new.tags.clone();
        server.state.admin_pass = Some(admin_pass.to_owned());
        let new_id = || BlockDeviceId::random(&*self.rng);
        server.state.volumes = disks.block_devices(new_id, &maker.reserved, local, created_at);
        server
    }

    fn reservation_id(&self) -> String {
        format!("r-{}", self.word(b"abcdefghijklmnopqrstuvwxyz0123456789", 8))
    }

    /// Letters and digits that cannot be mistaken for each other.
    fn password(&self) -> String {
        self.word(b"23456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", 12)
    }

    fn word(&self, letters: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(letters[self.rng.below(letters.len())])).collect()
    }
}

/// What the servers of a request are made with beside what they have in common.
struct Maker {
    /// Id of the first, which volumes are reserved for.
    first: ServerId,
    /// Attachments by volume.
    reserved: BTreeMap<uuid::Uuid, String>,
}

fn snapshot(flavor: &Flavor) -> FlavorSnapshot {
    FlavorSnapshot {
        id: flavor.id.clone(),
        name: flavor.name.clone(),
        vcpus: flavor.vcpus,
        memory_mib: flavor.memory_mib,
        root_gib: flavor.root_gib,
        ephemeral_gib: flavor.ephemeral_gib,
        swap_mib: flavor.swap_mib,
        extra_specs: flavor.extra_specs.clone(),
    }
}

/// The image has to fit into the flavor.
fn check_size(ctx: &Ctx, flavor: &Flavor, image: &ImageSnapshot) -> Result<()> {
    if image.min_ram_mib > flavor.memory_mib {
        return Err(Error::bad_request("Flavor's memory is too small for requested image."));
    }
    if flavor.root_gib == 0 {
        // Any size of image would come on a disk that nobody counts.
        return match ctx.is_admin() {
            true => Ok(()),
            false => Err(Error::forbidden("Only volume-backed servers are allowed for flavors with zero disk.")),
        };
    }
    let root = flavor.root_gib * GIB;
    let needed = image_bytes(image);
    if needed > root {
        return Err(Error::bad_request(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {root} bytes, image is {needed} bytes."
        )));
    }
    if image.min_disk_gib * GIB > root {
        return Err(Error::bad_request(format!(
            "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is {root} bytes, \
             minimum size is {} bytes.",
            image.min_disk_gib * GIB
        )));
    }
    Ok(())
}

/// Bytes of the disk in the image, as far as is known.
fn image_bytes(image: &ImageSnapshot) -> u64 {
    image.virtual_size.or(image.size).unwrap_or(0)
}

/// The disks in pools. A server that boots from a volume has no root disk there, whatever its flavor says.
fn disk_plans(spec: &ServerSpec, disks: &Disks, id: ServerId) -> Vec<DiskPlan> {
    let flavor = &spec.flavor;
    let tier = flavor.extra_specs.get("storage:tier").cloned();
    let plan = |suffix: &str, size_bytes: u64, source: DiskSource, boot_index: Option<u32>| DiskPlan {
        name: format!("{id}_disk{suffix}"),
        size_bytes,
        source,
        boot_index,
        tier: tier.clone(),
    };
    let root = match flavor.root_gib {
        0 => spec.image.as_ref().map_or(0, image_bytes),
        gib => gib * GIB,
    };
    let mut plans = Vec::new();
    if !disks.is_volume_backed() {
        plans.push(plan("", root, DiskSource::Image, Some(0)));
    }
    for (number, bytes) in disks.ephemeral.iter().enumerate() {
        plans.push(plan(&format!(".eph{number}"), *bytes, DiskSource::Blank, None));
    }
    if let Some(bytes) = disks.swap {
        plans.push(plan(".swap", bytes, DiskSource::Blank, None));
    }
    if spec.config_drive {
        plans.push(plan(".config", CONFIG_DRIVE_BYTES, DiskSource::ConfigDrive, None));
    }
    plans
}

/// A name that a host can have, made of one that a server has: letters, digits and hyphens, at most 63.
pub(crate) fn hostname(name: &str, id: ServerId) -> String {
    let text: String = name
        .chars()
        .filter_map(|c| match c {
            ' ' | '_' | '.' => Some('-'),
            c if c.is_ascii_alphanumeric() || c == '-' => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    let text = text.trim_matches('-');
    let cut = text.get(..63).unwrap_or(text).trim_end_matches('-');
    match cut.is_empty() {
        true => format!("server-{id}"),
        false => cut.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use umbel_core::MIB;

    use super::*;

    #[test]
    fn a_hostname_is_made_of_a_name() {
        let id = ServerId::from_uuid(uuid::Uuid::nil());
        let check = |name: &str, want: &str| assert_eq!(hostname(name, id), want, "{name}");
        check("Web_1", "web-1");
        check("db.example", "db-example");
        check("-x-", "x");
        check("名前", "server-00000000-0000-0000-0000-000000000000");
        check(&"a".repeat(80), &"a".repeat(63));
    }

    #[test]
    fn disks_follow_the_flavor() {
        let mut spec = crate::model::testing::spec();
        spec.flavor.ephemeral_gib = 2;
        spec.flavor.swap_mib = 64;
        spec.config_drive = true;
        spec.flavor.extra_specs.insert("storage:tier".into(), "ssd".into());
        let id = ServerId::from_uuid(uuid::Uuid::nil());
        let disks = Disks { ephemeral: vec![2 * GIB], swap: Some(64 * MIB), ..Disks::default() };
        let plans = disk_plans(&spec, &disks, id);
        let got: Vec<_> = plans
            .iter()
            .map(|disk| (disk.name.strip_prefix(&format!("{id}_disk")).unwrap(), disk.size_bytes, disk.boot_index))
            .collect();
        assert_eq!(
            got,
            [("", GIB, Some(0)), (".eph0", 2 * GIB, None), (".swap", 64 * MIB, None), (".config", 4 * MIB, None)]
        );
        assert!(plans.iter().all(|disk| disk.tier.as_deref() == Some("ssd")));
    }
}
