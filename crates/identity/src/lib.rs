//! The identity service: Keystone's v3 API over `Db<IdentitySchema>`.
//!
//! * **Tokens are statements, not look-ups.** A token is a signed [`umbel_core::Principal`]: every role verifies it by
//!   itself. What must end before its time is a row in `revocations`, told to all ([`Identity::poll_revocations`]).
//!   The alternative, asking identity about each token as upstream does, makes identity the bottleneck of the cloud.
//! * **Roles in a token are already expanded** by implication, so that nobody else needs the rules; a rule that is
//!   taken back revokes the tokens of the role it hung on.
//! * **Roles and catalog are held in memory** (`directory`), with a generation in the database that each login
//!   reads along: a login never uses rules another process has changed, and pays no statement to know that.
//!
//! Layers: `api` (extract, call, reply), `service` (rules), `store` (statements).

mod api;
mod bootstrap;
mod compliance;
mod config;
mod directory;
mod passwords;
mod revoke;
mod schema;
mod sealed;
mod service;
mod store;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use umbel_auth::{Signer, Verifier};
use umbel_core::{Clock, Id, Result, Rng, Timestamp};
use umbel_db::Db;

pub use api::service;
pub use bootstrap::{BootstrapSpec, Bootstrapped, DemoSpec, EndpointSpec};
pub use compliance::SecurityCompliance;
pub use config::{Config, CredentialKey};
pub use revoke::{load_keys, load_revocations};
pub use schema::IdentitySchema;

use compliance::Strength;
use directory::Directory;
use passwords::Passwords;
use sealed::Sealer;

/// The service's state: one per process that has the role.
pub struct Identity {
    db: Db<IdentitySchema>,
    signer: Signer,
    verifier: Arc<Verifier>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    config: Config,
    passwords: Passwords,
    sealer: Sealer,
    /// What passwords must be like, where the operator asks for something.
    strength: Option<Strength>,
    directory: RwLock<Option<Arc<Directory>>>,
    /// Up to when revocations of other processes were read.
    polled: Mutex<Timestamp>,
}

impl Identity {
    /// Over a migrated database. Makes the signer's public key known there, and reads the revocations that hold into
    /// the verifier, which should be the one that this process's routers ask.
    pub async fn new(
        db: Db<IdentitySchema>,
        signer: Signer,
        verifier: Arc<Verifier>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        config: Config,
    ) -> Result<Self> {
        let passwords =
            Passwords::new(rng.clone(), clock.clone(), config.password_cache_ttl, config.password_cache_size)?;
        let sealer = Sealer::new(config.credential_key.as_ref())?;
        let strength = config.compliance.strength()?;
        let identity = Identity {
            db,
            signer,
            verifier,
            clock,
            rng,
            config,
            passwords,
            sealer,
            strength,
            directory: RwLock::default(),
            polled: Mutex::default(),
        };
        identity.publish_key().await?;
        identity.poll_revocations().await?;
        Ok(identity)
    }

    fn rules(&self) -> &SecurityCompliance {
        &self.config.compliance
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// 32 hex digits, as identity writes its ids.
    fn new_id(&self) -> String {
        Id::<()>::random(&*self.rng).simple()
    }
}
