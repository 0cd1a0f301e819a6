//! Which roles are in this process, and what they need of other processes. A key that is missing is found here, before
//! anything starts, rather than by the first request that fails.

use umbel_core::{Error, Result};

use crate::cli::Role;
use crate::config::Config;

/// The roles of a process.
#[derive(Clone, Debug)]
pub struct Roles(Vec<Role>);

/// Roles that talk to other services, as the services' user.
const CALLERS: [Role; 4] = [Role::Image, Role::Volume, Role::Compute, Role::Conductor];

impl Roles {
    /// With the configuration that fits them.
    pub fn new(roles: &[Role], config: &Config) -> Result<Roles> {
        let roles = Roles(roles.to_vec());
        roles.check(config)?;
        Ok(roles)
    }

    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    fn any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.has(*role))
    }

    /// Whether something here calls services with a token of its own.
    pub fn calls_services(&self) -> bool {
        self.any(&CALLERS)
    }

    /// Whether an API is served here.
    pub fn serves(&self) -> bool {
        self.any(&[Role::Identity, Role::Image, Role::Volume, Role::Compute])
    }

    pub fn uses_pools(&self) -> bool {
        self.any(&[Role::Image, Role::Volume, Role::Agent])
    }

    fn check(&self, config: &Config) -> Result<()> {
        let (compute, conductor) = (self.has(Role::Compute), self.has(Role::Conductor));
        let agent = self.has(Role::Agent);
        let (services, bus, database) = (&config.services, &config.bus, &config.database);
        let missing = |key: &str, why: &str| Err(Error::bad_request(format!("{key} is not set: {why}")));
        if self.calls_services() && !self.has(Role::Identity) && services.identity.is_none() {
            return missing(
                "services.identity",
                "it says where identity answers, http://HOST:PORT/identity, as it is not in this process.",
            );
        }
        if (compute || agent) && !conductor && bus.conductors.is_empty() {
            return missing("bus.conductors", "it says where the conductors are, as none is in this process.");
        }
        if conductor && !(compute && agent) && bus.listen.is_none() {
            return missing("bus.listen", "agents and compute's API of other processes find this conductor there.");
        }
        if compute != conductor {
            let cells = database.cells.iter().find(|(_, url)| url.is_none()).map(|(name, _)| format!("cells.{name}"));
            let here = database.api.is_none().then(|| "api".to_owned());
            let zero = || database.cell0.is_none().then(|| "cell0".to_owned());
            if let Some(key) = here.or_else(zero).or(cells) {
                let key = format!("database.{key}");
                return missing(&key, "compute and conductor work on the same databases, and are not in one process.");
            }
        }
        if self.has(Role::Volume) && self.0.len() < Role::ALL.len() && config.volume_pools().is_empty() {
            return missing(
                "volume.pools",
                "it names the pools for volumes, as there is none that is called 'volumes'.",
            );
        }
        self.check_pools(config)
    }

    fn check_pools(&self, config: &Config) -> Result<()> {
        if self.has(Role::Image) {
            config.check_pool("image.pool", &config.image.pool)?;
        }
        if self.has(Role::Agent) {
            config.compute.pools.iter().try_for_each(|pool| config.check_pool("compute.pools", pool))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |roles: &[Role], config: &Config, key: &str| {
            let error = Roles::new(roles, config).unwrap_err();
            assert!(error.message().starts_with(&format!("{key} is not set: ")), "{roles:?}: {error}");
        };
        let none = Config::default();
        check(&[Role::Image], &none, "services.identity");
        check(&[Role::Agent], &none, "bus.conductors");
        let known = config(|config| config.services.identity = Some("http://i/identity".into()));
        check(&[Role::Compute], &known, "bus.conductors");
        check(&[Role::Conductor], &known, "bus.listen");
        check(&[Role::Compute, Role::Conductor], &known, "bus.listen");
        let apart = config(|config| {
            config.services.identity = Some("http://i/identity".into());
            config.bus.conductors = vec!["c:1".into()];
            config.database.api = Some("postgres://api".into());
            config.database.cell0 = Some("postgres://cell0".into());
        });
        check(&[Role::Compute], &apart, "database.cells.cell1");
        let images = config(|config| {
            config.services.identity = Some("http://i/identity".into());
            config.pools = Config::parse("[[pools]]\nname = 'images'\ndriver = 'local'\n").unwrap().0.pools;
        });
        check(&[Role::Volume], &images, "volume.pools");
        Roles::new(&[Role::Image], &images).unwrap();
        let error = Roles::new(&Role::ALL, &images).unwrap_err();
        assert!(error.message().contains("compute.pools names the pool 'vms'"), "{error}");
    }

    #[test]
    fn what_one_process_holds_needs_nothing() {
        Roles::new(&Role::ALL, &Config::default()).unwrap();
        Roles::new(&[Role::Identity, Role::Image], &Config::default()).unwrap();
        let known = config(|config| config.services.identity = Some("http://i/identity".into()));
        Roles::new(&[Role::Compute, Role::Conductor, Role::Agent], &known).unwrap();
        let agent = config(|config| config.bus.conductors = vec!["c:1".into()]);
        Roles::new(&[Role::Agent], &agent).unwrap();
    }
}
