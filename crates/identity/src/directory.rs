//! Roles, what they imply, and the catalog: small, read by every login, changed a few times in a cloud's life. Held in
//! memory, the catalog's JSON written once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use umbel_api::identity::Named;
use umbel_api::identity::auth::{CatalogEndpoint, CatalogService};
use umbel_core::{Error, Result, Timestamp};
use umbel_db::read;

use crate::Identity;
use crate::store;
use crate::store::catalog::{EndpointRow, ServiceRow};
use crate::store::roles::RoleRow;

pub(crate) struct Directory {
    generation: i64,
    read_at: Timestamp,
    roles: HashMap<String, Role>,
    catalog: Vec<CatalogService>,
    /// The catalog as JSON, where no URL depends on who asks.
    plain: Option<Arc<RawValue>>,
}

struct Role {
    name: String,
    /// Good everywhere, and named in tokens; false for a role of a domain.
    global: bool,
    /// Itself and all it implies, over any number of steps.
    gives: Vec<String>,
}

impl Identity {
    /// The directory, not older than `directory_ttl`.
    pub(crate) async fn directory(&self) -> Result<Arc<Directory>> {
        let known = self.directory.read().clone();
        match known {
            Some(known) if self.now().since(known.read_at) < self.config.directory_ttl => Ok(known),
            _ => self.read_directory().await,
        }
    }

    /// The directory as it was when the database's generation was this, or a newer one.
    pub(crate) async fn directory_at(&self, generation: i64) -> Result<Arc<Directory>> {
        let known = self.directory.read().clone();
        match known {
            Some(known) if known.generation >= generation => Ok(known),
            _ => self.read_directory().await,
        }
    }

    /// After a change made here, so that the next answer shows it.
    pub(crate) fn forget_directory(&self) {
        *self.directory.write() = None;
    }

    async fn read_directory(&self) -> Result<Arc<Directory>> {
        let read_at = self.now();
        let directory = read!(self.db, "read the directory", |tx| {
            // First, so that what follows can only be newer than it says.
            let generation = store::directory::generation(tx).await?;
            let roles = store::roles::all(tx).await?;
            let implications = store::roles::implications(tx).await?;
            let services = store::catalog::all_services(tx).await?;
            let endpoints = store::catalog::all_endpoints(tx).await?;
            Directory::new(generation, read_at, roles, &implications, services, endpoints)
        })?;
        let directory = Arc::new(directory);
        let mut known = self.directory.write();
        match &*known {
            Some(newer) if newer.generation > directory.generation => Ok(newer.clone()),
            _ => {
                *known = Some(directory.clone());
                Ok(directory)
            }
        }
    }
}

impl Directory {
    fn new(
        generation: i64,
        read_at: Timestamp,
        roles: Vec<RoleRow>,
        implications: &[(String, String)],
        services: Vec<ServiceRow>,
        endpoints: Vec<EndpointRow>,
    ) -> Result<Self> {
        let roles = roles
            .into_iter()
            .map(|row| {
                let role =
                    Role { gives: reach(&row.id, implications), global: row.domain_id.is_none(), name: row.name };
                (row.id, role)
            })
            .collect();
        let catalog = catalog(services, endpoints);
        let depends = catalog.iter().flat_map(|service| &service.endpoints).any(|endpoint| is_template(&endpoint.url));
        let plain = if depends { None } else { Some(raw(&catalog)?) };
        Ok(Directory { generation, read_at, roles, catalog, plain })
    }

    /// All ids of roles that these give, themselves included; also those of domains.
    pub fn expand(&self, role_ids: impl IntoIterator<Item = impl AsRef<str>>) -> HashSet<String> {
        let given = role_ids.into_iter().filter_map(|id| self.roles.get(id.as_ref()));
        given.flat_map(|role| role.gives.iter().cloned()).collect()
    }

    /// What a token says of roles: those of the whole cloud, in the order of their names.
    pub fn named(&self, role_ids: &HashSet<String>) -> Vec<Named> {
        let mut all: Vec<Named> = role_ids
            .iter()
            .filter_map(|id| self.roles.get(id).map(|role| (id, role)))
            .filter(|(_, role)| role.global)
            .map(|(id, role)| Named { id: id.clone(), name: role.name.clone() })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The other way: ids for the names in a token.
    pub fn by_names(&self, names: &[String]) -> Vec<Named> {
        let ids = self.roles.iter().filter(|(_, role)| role.global && names.contains(&role.name));
        self.named(&ids.map(|(id, _)| id.clone()).collect())
    }

    pub fn is_global(&self, id: &str) -> bool {
        self.roles.get(id).is_some_and(|role| role.global)
    }

    /// The catalog for one caller. An endpoint whose URL needs a project is left out without one.
    pub fn catalog(&self, user_id: &str, project_id: Option<&str>) -> Result<Arc<RawValue>> {
        if let Some(plain) = &self.plain {
            return Ok(plain.clone());
        }
        let mut services = self.catalog.clone();
        for service in &mut services {
            service.endpoints.retain_mut(|endpoint| match fill_in(&endpoint.url, user_id, project_id) {
                Some(url) => {
                    endpoint.url = url;
                    true
                }
                None => false,
            });
        }
        raw(&services)
    }
}

fn raw(services: &[CatalogService]) -> Result<Arc<RawValue>> {
    serde_json::value::to_raw_value(services).map(Arc::from).map_err(Error::internal)
}

/// The role and all it leads to. Rules may run in circles.
fn reach(id: &str, implications: &[(String, String)]) -> Vec<String> {
    let mut all = vec![id.to_owned()];
    let mut at = 0;
    while at < all.len() {
        for (prior, implied) in implications {
            if *prior == all[at] && !all.contains(implied) {
                all.push(implied.clone());
            }
        }
        at += 1;
    }
    all
}

fn catalog(services: Vec<ServiceRow>, endpoints: Vec<EndpointRow>) -> Vec<CatalogService> {
    let mut by_service: BTreeMap<String, Vec<CatalogEndpoint>> = BTreeMap::new();
    for row in endpoints.into_iter().filter(|row| row.enabled) {
        by_service.entry(row.service_id).or_default().push(CatalogEndpoint {
            id: row.id,
            interface: row.interface,
            region: row.region_id.clone(),
            region_id: row.region_id,
            url: row.url,
        });
    }
    let mut all: Vec<CatalogService> = services
        .into_iter()
        .filter(|row| row.enabled)
        .map(|row| {
            let mut endpoints = by_service.remove(&row.id).unwrap_or_default();
            endpoints.sort_by(|a, b| (&a.region, &a.interface, &a.id).cmp(&(&b.region, &b.interface, &b.id)));
            CatalogService { endpoints, id: row.id, service_type: row.kind, name: row.name.unwrap_or_default() }
        })
        .collect();
    all.sort_by(|a, b| (&a.service_type, &a.name, &a.id).cmp(&(&b.service_type, &b.name, &b.id)));
    all
}

/// Both written forms: `$(project_id)s` and `%(project_id)s`.
fn is_template(url: &str) -> bool {
    url.contains("$(") || url.contains("%(")
}

/// None where the URL asks for what is not known.
fn fill_in(url: &str, user_id: &str, project_id: Option<&str>) -> Option<String> {
    let url = url.replace("$(", "%(");
    let mut out = String::with_capacity(url.len() + 32);
    let mut rest = url.as_str();
    while let Some((before, after)) = rest.split_once("%(") {
        let (name, after) = after.split_once(")s")?;
        out.push_str(before);
        out.push_str(match name {
            "project_id" | "tenant_id" => project_id?,
            "user_id" => user_id,
            _ => return None,
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_filled_in() {
        let check = |url: &str, project: Option<&str>, want: Option<&str>| {
            assert_eq!(fill_in(url, "u", project).as_deref(), want, "{url}");
        };
        check("http://a/v3", None, Some("http://a/v3"));
        check("http://a/v3/%(project_id)s/x", Some("p"), Some("http://a/v3/p/x"));
        check("http://a/$(tenant_id)s/%(user_id)s", Some("p"), Some("http://a/p/u"));
        check("http://a/%(project_id)s", None, None);
        check("http://a/%(secret)s", Some("p"), None);
        check("http://a/%(project_id", Some("p"), None);
    }

    #[test]
    fn roles_reach_over_steps_and_circles() {
        let rule = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let rules = [
            rule("admin", "manager"),
            rule("manager", "member"),
            rule("member", "reader"),
            rule("b", "a"),
            rule("a", "b"),
        ];
        assert_eq!(reach("admin", &rules), ["admin", "manager", "member", "reader"]);
        assert_eq!(reach("reader", &rules), ["reader"]);
        assert_eq!(reach("a", &rules), ["a", "b"]);
    }
}
