use umbel_auth::Visible;
use umbel_core::{Ctx, Error, Result, Scope};
use umbel_db::Tx;

use super::{snapshot_not_found, volume_not_found};
use crate::model::{SnapshotId, SnapshotRow, VolumeId, VolumeRow};
use crate::store::{Volume, snapshots, volumes};

/// Who asks, as far as volumes are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose things it can reach by their id.
    pub visible: Visible,
    /// Which volume types it may name. All without a token: a service asks then, which has looked the type up with its
    /// user's token before, and whose user may have been an administrator.
    pub types: Visible,
    /// None for an administrator without one.
    pub project_id: Option<String>,
    pub user_id: String,
    /// An administrator, or one of our services that asks for itself.
    pub admin: bool,
    pub request_id: String,
}

impl Caller {
    /// A service's token beside a user's widens nothing: compute looks a volume up with both, and must find only what
    /// its user would. A service that asks for itself sees all.
    pub fn of(ctx: &Ctx) -> Result<Caller> {
        let Some(principal) = &ctx.principal else {
            return Err(Error::unauthorized("The request you have made requires authentication."));
        };
        let admin = principal.is_admin() || principal.has_role("service");
        let visible = match &principal.scope {
            _ if admin => Visible::All,
            Scope::Project { id, .. } => Visible::Project(id.clone()),
            _ => return Err(Error::forbidden("A token scoped to a project is needed.")),
        };
        Ok(Caller {
            types: if ctx.token.is_some() { visible.clone() } else { Visible::All },
            visible,
            project_id: principal.project_id().map(str::to_owned),
            user_id: principal.user_id.clone(),
            admin,
            request_id: ctx.request_id.to_string(),
        })
    }

    /// What a list shows: the caller's own project's, unless it asks for all and may.
    pub fn listed(&self, all_tenants: bool) -> Visible {
        match (&self.project_id, self.admin && all_tenants) {
            (Some(project), false) => Visible::Project(project.clone()),
            _ => self.visible.clone(),
        }
    }

    /// The project in which the caller makes things.
    pub fn project(&self) -> Result<&str> {
        let project = self.project_id.as_deref();
        project.ok_or_else(|| Error::forbidden("A token scoped to a project is needed."))
    }

    /// 403 in upstream's words unless the caller is an administrator or a service.
    pub fn must_be_admin(&self, policy: &str) -> Result<()> {
        match self.admin {
            true => Ok(()),
            false => Err(Error::forbidden(format!("Policy doesn't allow {policy} to be performed."))),
        }
    }

    /// 404 if the caller does not see it.
    pub async fn volume(&self, tx: &mut Tx<Volume>, id: VolumeId) -> Result<VolumeRow> {
        volumes::get(tx, &self.visible, id).await?.ok_or_else(|| volume_not_found(id))
    }

    /// As [`Caller::volume`], held against other changes until the transaction ends.
    pub async fn lock_volume(&self, tx: &mut Tx<Volume>, id: VolumeId) -> Result<VolumeRow> {
        volumes::lock(tx, &self.visible, id).await?.ok_or_else(|| volume_not_found(id))
    }

    pub async fn snapshot(&self, tx: &mut Tx<Volume>, id: SnapshotId) -> Result<SnapshotRow> {
        snapshots::get(tx, &self.visible, id).await?.ok_or_else(|| snapshot_not_found(id))
    }

    pub async fn lock_snapshot(&self, tx: &mut Tx<Volume>, id: SnapshotId) -> Result<SnapshotRow> {
        snapshots::lock(tx, &self.visible, id).await?.ok_or_else(|| snapshot_not_found(id))
    }
}
