use std::sync::Arc;

use serde_json::Value;
use umbel_api::compute::flavors::{
    CREATE, CreateRequest, DELETE, DETAIL, Flavor as Shown, Flavors, LIST, NewFlavor, OneFlavor, SHOW, Size, Swap,
    UPDATE, UpdateRequest,
};
use umbel_api::compute::{Links, NextLink};
use umbel_auth::visible;
use umbel_core::{Error, Result};
use umbel_db::Direction;
use umbel_http::{Reply, Req, Routes, next_link};

use super::input::{self, boolean, invalid, parameter, truth, unexpected, unsigned};
use crate::Compute;
use crate::store::flavors::{Flavor, FlavorFilter, FlavorSort};

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes
        .on(&LIST, list)
        .on(&DETAIL, detail)
        .on(&SHOW, show)
        .on(&CREATE, create)
        .on(&UPDATE, update)
        .on(&DELETE, delete)
}

fn view<'a>(flavor: &'a Flavor, root: &'a str, detail: bool) -> Shown<'a> {
    let size = detail.then(|| Size {
        ram: flavor.memory_mib,
        disk: flavor.root_gib,
        vcpus: flavor.vcpus,
        swap: Swap::MiB(flavor.swap_mib),
        ephemeral: flavor.ephemeral_gib,
        disabled: false,
        is_public: flavor.is_public,
        rxtx_factor: flavor.rxtx_factor.parse().unwrap_or(1.0),
        extra_specs: Some(&flavor.extra_specs),
    });
    Shown {
        id: &flavor.id,
        name: &flavor.name,
        links: Links::pair(root, "flavors", &flavor.id),
        description: Some(flavor.description.as_deref()),
        size,
    }
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    page(&state, req, false).await
}

async fn detail(state: Arc<Compute>, req: Req) -> Result<Reply> {
    page(&state, req, true).await
}

async fn page(state: &Compute, req: Req, detail: bool) -> Result<Reply> {
    let mut filter = filter(&req, state.config.max_limit)?;
    let limit = filter.limit;
    filter.limit += 1;
    let mut found = state.list_flavors(&filter).await?;
    let mut flavors_links = Vec::new();
    if found.len() > limit {
        found.truncate(limit);
        let last = found.last().map(|flavor| flavor.id.as_str()).unwrap_or_default();
        flavors_links = NextLink::to(next_link(&req, &req.url(req.route.path), last));
    }
    let flavors = found.iter().map(|flavor| view(flavor, &req.root, detail)).collect();
    Ok(Reply::versioned(200, req.version, Flavors { flavors, flavors_links }))
}

fn filter(req: &Req, max: usize) -> Result<FlavorFilter> {
    let pairs = req.query_pairs();
    let bad = |name: &str, value: &str| {
        Error::bad_request(format!("Invalid input for query parameters {name}. Value: {value}."))
    };
    let number = |name: &str| -> Result<u64> {
        parameter(&pairs, name).map_or(Ok(0), |text| text.parse().map_err(|_| bad(name, &text)))
    };
    // Administrators choose; others see what is public, and what was opened to their project.
    let asked = parameter(&pairs, "is_public").filter(|_| req.ctx.is_admin());
    let own = req.ctx.project_id().unwrap_or_default().to_owned();
    let (is_public, project_id) = match asked.as_deref() {
        None => (None, Some(own)),
        Some(text) if text.eq_ignore_ascii_case("none") => (None, None),
        Some(text) => match truth(text).ok_or_else(|| bad("is_public", text))? {
            true => (None, Some(own)),
            false => (Some(false), None),
        },
    };
    let by = parameter(&pairs, "sort_key");
    let by = match by.as_deref().unwrap_or("flavorid") {
        "flavorid" | "id" => FlavorSort::Id,
        "name" => FlavorSort::Name,
        "vcpus" => FlavorSort::Vcpus,
        "memory_mb" => FlavorSort::Memory,
        "root_gb" => FlavorSort::Root,
        "ephemeral_gb" => FlavorSort::Ephemeral,
        "swap" => FlavorSort::Swap,
        "created_at" | "updated_at" | "description" | "disabled" | "is_public" | "rxtx_factor" | "vcpu_weight" => {
            FlavorSort::Created
        }
        other => return Err(bad("sort_key", other)),
    };
    let direction = parameter(&pairs, "sort_dir").unwrap_or_default().to_ascii_lowercase();
    let direction = match direction.as_str() {
        "" | "asc" => Direction::Asc,
        "desc" => Direction::Desc,
        other => return Err(bad("sort_dir", other)),
    };
    let limit = match usize::try_from(number("limit")?).unwrap_or(max) {
        0 => max,
        limit => limit.min(max),
    };
    Ok(FlavorFilter {
        is_public,
        project_id,
        min_memory_mib: number("minRam")?,
        min_root_gib: number("minDisk")?,
        sort: (by, direction),
        marker: parameter(&pairs, "marker").filter(|marker| !marker.is_empty()),
        limit,
    })
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let flavor = state.flavor(req.param("flavor_id")?, &visible(&req.ctx)?).await?;
    Ok(Reply::versioned(200, req.version, OneFlavor { flavor: view(&flavor, &req.root, true) }))
}

async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new = req.json::<CreateRequest>().await?.flavor;
    if new.description.is_some() && req.version.minor < 55 {
        return Err(unexpected("description"));
    }
    let flavor = read(&state, new)?;
    state.create_flavor(&flavor).await?;
    // A private one is at once of use to whoever made it.
    if let (false, Some(project)) = (flavor.is_public, req.ctx.project_id()) {
        state.add_flavor_project(&flavor.id, project).await?;
    }
    Ok(Reply::versioned(200, req.version, OneFlavor { flavor: view(&flavor, &req.root, true) }))
}

fn read(state: &Compute, new: NewFlavor) -> Result<Flavor> {
    input::name("name", &new.name)?;
    if let Some(text) = &new.description {
        flavor_description(text)?;
    }
    let id = match &new.id {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(invalid("id", other, "It is no text")),
    };
    let id = match id.as_str() {
        "" | "auto" => state.rng.uuid().to_string(),
        id => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
            if id.len() > 255 || id.trim() != id || !id.chars().all(allowed) {
                return Err(invalid("id", id, "It does not match '^(?! )[a-zA-Z0-9. _-]+(?<! )$'"));
            }
            id.to_owned()
        }
    };
    let size = |name: &str, value: &Option<Value>| value.as_ref().map_or(Ok(0), |value| unsigned(name, value, 0));
    Ok(Flavor {
        id,
        name: new.name,
        vcpus: u32::try_from(unsigned("vcpus", &new.vcpus, 1)?).unwrap_or(u32::MAX),
        memory_mib: unsigned("ram", &new.ram, 1)?,
        root_gib: unsigned("disk", &new.disk, 0)?,
        ephemeral_gib: size("OS-FLV-EXT-DATA:ephemeral", &new.ephemeral)?,
        swap_mib: size("swap", &new.swap)?,
        rxtx_factor: rxtx_factor(new.rxtx_factor.as_ref())?,
        is_public: new.is_public.as_ref().map_or(Ok(true), |value| boolean("os-flavor-access:is_public", value))?,
        description: new.description,
        extra_specs: Default::default(),
        created_at: state.clock.now(),
        updated_at: None,
    })
}

fn rxtx_factor(value: Option<&Value>) -> Result<String> {
    let number = match value {
        None => Some(1.0),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    match number {
        Some(number) if number > 0.0 && number <= 3.4e38 => Ok(number.to_string()),
        _ => Err(invalid("rxtx_factor", value.unwrap_or(&Value::Null), "It is no positive number")),
    }
}

fn flavor_description(text: &str) -> Result<()> {
    match text.chars().count() > 65_535 || text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)) {
        true => Err(invalid("description", text, "It is too long or has unprintable characters")),
        false => Ok(()),
    }
}

async fn update(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let change = req.json::<UpdateRequest>().await?.flavor;
    if let Some(text) = &change.description {
        flavor_description(text)?;
    }
    let changed = state.change_flavor(req.param("flavor_id")?, |flavor| {
        flavor.description.clone_from(&change.description);
        Ok(())
    });
    let flavor = changed.await?;
    Ok(Reply::versioned(200, req.version, OneFlavor { flavor: view(&flavor, &req.root, true) }))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    state.delete_flavor(req.param("flavor_id")?).await?;
    Ok(Reply::empty(202))
}
