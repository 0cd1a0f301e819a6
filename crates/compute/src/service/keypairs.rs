use umbel_core::{Error, Kind, Result};
use umbel_db::{read, tx};

use super::Compute;
use super::quotas::allows;
use crate::store::keypairs::{self, Keypair};

fn not_found(user_id: &str, name: &str) -> Error {
    Error::not_found(format!("Keypair {name} not found for user {user_id}"))
}

impl Compute {
    pub(crate) async fn keypair(&self, user_id: &str, name: &str) -> Result<Keypair> {
        let found = read!(self.db, "show keypair", |tx| keypairs::get(tx, user_id, name).await)?;
        found.ok_or_else(|| not_found(user_id, name))
    }

    pub(crate) async fn list_keypairs(
        &self,
        user_id: &str,
        marker: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Keypair>> {
        let found = read!(self.db, "list keypairs", |tx| keypairs::list(tx, user_id, marker, limit).await)?;
        found.ok_or_else(|| Error::bad_request(format!("marker [{}] not found", marker.unwrap_or_default())))
    }

    pub(crate) async fn create_keypair(&self, key: &Keypair, project_id: &str) -> Result<()> {
        let limits = self.limits(project_id, Some(&key.user_id)).await?;
        tx!(self.db, "create keypair", |tx| {
            if !allows(&limits, "key_pairs", keypairs::count(tx, &key.user_id).await? + 1) {
                return Err(Error::new(Kind::OverQuota, "Quota exceeded, too many key pairs."));
            }
            keypairs::insert(tx, key).await
        })
    }

    pub(crate) async fn delete_keypair(&self, user_id: &str, name: &str) -> Result<()> {
        match tx!(self.db, "delete keypair", |tx| keypairs::delete(tx, user_id, name).await)? {
            true => Ok(()),
            false => Err(not_found(user_id, name)),
        }
    }
}
