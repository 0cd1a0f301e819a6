use umbel_auth::Visible;
use umbel_core::{Error, Result};
use umbel_db::{read, tx};

use super::Compute;
use crate::store::flavors::{self, Flavor, FlavorFilter};

fn not_found(id: &str) -> Error {
    Error::not_found(format!("Flavor {id} could not be found."))
}

/// A private flavor is only there for the projects that may use it.
fn project(visible: &Visible) -> Option<&str> {
    match visible {
        Visible::All => None,
        Visible::Project(project) => Some(project),
    }
}

impl Compute {
    pub(crate) async fn flavor(&self, id: &str, visible: &Visible) -> Result<Flavor> {
        let found = read!(self.db, "show flavor", |tx| flavors::get(tx, id, project(visible)).await)?;
        found.ok_or_else(|| not_found(id))
    }

    pub(crate) async fn list_flavors(&self, filter: &FlavorFilter) -> Result<Vec<Flavor>> {
        let found = read!(self.db, "list flavors", |tx| flavors::list(tx, filter).await)?;
        found.ok_or_else(|| {
            Error::bad_request(format!("marker [{}] not found", filter.marker.as_deref().unwrap_or_default()))
        })
    }

    pub(crate) async fn create_flavor(&self, flavor: &Flavor) -> Result<()> {
        tx!(self.db, "create flavor", |tx| flavors::insert(tx, flavor).await)
    }

    pub(crate) async fn delete_flavor(&self, id: &str) -> Result<()> {
        match tx!(self.db, "delete flavor", |tx| flavors::delete(tx, id).await)? {
            true => Ok(()),
            false => Err(not_found(id)),
        }
    }

    /// Changes description or extra specs.
    pub(crate) async fn change_flavor(&self, id: &str, change: impl Fn(&mut Flavor) -> Result<()>) -> Result<Flavor> {
        let now = self.clock.now();
        tx!(self.db, "change flavor", |tx| {
            let mut flavor = flavors::get(tx, id, None).await?.ok_or_else(|| not_found(id))?;
            change(&mut flavor)?;
            flavors::update(tx, &flavor, now).await?;
            Ok(flavor)
        })
    }

    pub(crate) async fn flavor_projects(&self, id: &str) -> Result<Vec<String>> {
        read!(self.db, "flavor access", |tx| {
            let flavor = flavors::get(tx, id, None).await?.ok_or_else(|| not_found(id))?;
            if flavor.is_public {
                return Err(Error::not_found("Access list not available for public flavors."));
            }
            flavors::projects(tx, id).await
        })
    }

    pub(crate) async fn add_flavor_project(&self, id: &str, project_id: &str) -> Result<Vec<String>> {
        tx!(self.db, "add flavor access", |tx| {
            let flavor = flavors::get(tx, id, None).await?.ok_or_else(|| not_found(id))?;
            if flavor.is_public {
                return Err(Error::conflict("Can not add access to a public flavor."));
            }
            if !flavors::add_project(tx, id, project_id).await? {
                return Err(Error::conflict(format!(
                    "Flavor access already exists for flavor {id} and project {project_id} combination."
                )));
            }
            flavors::projects(tx, id).await
        })
    }

    pub(crate) async fn remove_flavor_project(&self, id: &str, project_id: &str) -> Result<Vec<String>> {
        tx!(self.db, "remove flavor access", |tx| {
            flavors::get(tx, id, None).await?.ok_or_else(|| not_found(id))?;
            if !flavors::remove_project(tx, id, project_id).await? {
                return Err(Error::not_found(format!("Flavor access not found for {id} / {project_id} combination.")));
            }
            flavors::projects(tx, id).await
        })
    }
}
