//! Taking tokens back: rows in the database, and the same in the memory of every role.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use umbel_auth::{PublicKey, Revocation, RevocationKind, Revocations};
use umbel_core::{Error, Principal, Result, Timestamp};
use umbel_db::{Db, read, tx};

use crate::store::Tx;
use crate::store::revocations::RevocationRow;
use crate::{Identity, IdentitySchema, store};

/// Rows are read again for as long: a transaction may commit after a later one was read, and clocks differ.
const OVERLAP: Duration = Duration::from_secs(60);

/// Revocations that a transaction has written; in force here only once it has committed and [`Pending::apply`] ran.
#[must_use]
pub(crate) struct Pending {
    all: Vec<Revocation>,
}

impl Pending {
    pub fn new() -> Self {
        Pending { all: Vec::new() }
    }

    /// All tokens of a kind that were issued up to now.
    pub async fn add(&mut self, identity: &Identity, tx: &mut Tx, kind: RevocationKind, target: &str) -> Result<()> {
        self.add_one(identity, tx, kind, target).await?;
        // A token made of a trust names one of two users; what ends for the other is told by the trust.
        let trusts = match kind {
            RevocationKind::User => store::trusts::ids_of_user(tx, target).await?,
            RevocationKind::Domain => store::trusts::ids_of_domain(tx, target).await?,
            _ => Vec::new(),
        };
        for id in trusts {
            self.add_one(identity, tx, RevocationKind::Credential, &id).await?;
        }
        Ok(())
    }

    async fn add_one(&mut self, identity: &Identity, tx: &mut Tx, kind: RevocationKind, target: &str) -> Result<()> {
        let now = identity.now();
        let last_expiry = now.plus(identity.config.token_ttl).plus(identity.config.allow_expired_window);
        self.write(identity, tx, Revocation::before(kind, target, now, last_expiry)).await
    }

    /// One token, and those that were made from it.
    pub async fn add_token(&mut self, identity: &Identity, tx: &mut Tx, principal: &Principal) -> Result<()> {
        let Some(own) = principal.audit_ids.first() else {
            return Ok(());
        };
        let expiry = principal.expires_at.plus(identity.config.allow_expired_window);
        let token = Revocation::token(own, expiry);
        // Tokens made from a first one name it as their chain; those made from a later one name the first too, so
        // a later one takes back only itself.
        let chain = Revocation { kind: RevocationKind::Chain, ..token.clone() };
        self.write(identity, tx, token).await?;
        self.write(identity, tx, chain).await
    }

    /// Tokens of a user on one target.
    pub async fn add_grant(&mut self, identity: &Identity, tx: &mut Tx, user_id: &str, target_id: &str) -> Result<()> {
        self.add_one(identity, tx, RevocationKind::Grant, &format!("{user_id}/{target_id}")).await?;
        for id in store::trusts::ids_of_grant(tx, user_id, target_id).await? {
            self.add_one(identity, tx, RevocationKind::Credential, &id).await?;
        }
        Ok(())
    }

    async fn write(&mut self, identity: &Identity, tx: &mut Tx, revocation: Revocation) -> Result<()> {
        store::revocations::insert(tx, &identity.new_id(), &revocation, identity.now()).await?;
        self.all.push(revocation);
        Ok(())
    }

    /// Here they cover what was issued up to this moment, and not only up to the transaction: a login may have read in
    /// between what the transaction changed.
    pub fn apply(self, identity: &Identity) {
        let now = identity.now();
        for mut revocation in self.all {
            revocation.issued_before = revocation.issued_before.max(now);
            identity.verifier.revocations().add(revocation);
        }
    }
}

impl Identity {
    /// Reads what other processes have revoked. To be called every second or so where there are any.
    pub async fn poll_revocations(&self) -> Result<()> {
        let since = *self.polled.lock();
        let newest = load_revocations(&self.db, self.verifier.revocations(), since.minus(OVERLAP)).await?;
        let mut polled = self.polled.lock();
        *polled = polled.max(newest);
        Ok(())
    }

    /// Forgets revocations whose tokens have all expired, in the database and in memory. To be called every few
    /// minutes by one process or several.
    pub async fn collect_garbage(&self) -> Result<u64> {
        let now = self.now();
        let gone = tx!(self.db, "forget expired revocations", |tx| store::revocations::delete_expired(tx, now).await)?;
        self.verifier.revocations().forget_expired(now);
        Ok(gone)
    }

    pub(crate) async fn publish_key(&self) -> Result<()> {
        let (key, now) = (self.signer.public(), self.now());
        let encoded = URL_SAFE_NO_PAD.encode(key.as_bytes());
        tx!(self.db, "publish a signing key", |tx| store::revocations::ensure_key(tx, &key, &encoded, now).await)
    }

    /// Revocations that are in force, oldest first.
    pub(crate) async fn revocations(&self) -> Result<Vec<RevocationRow>> {
        read!(self.db, "list revocations", |tx| store::revocations::since(tx, Timestamp(0)).await)
    }
}

/// Adds the revocations made since a moment; the moment of the newest one.
pub async fn load_revocations(
    db: &Db<IdentitySchema>,
    revocations: &Revocations,
    since: Timestamp,
) -> Result<Timestamp> {
    let rows = read!(db, "read revocations", |tx| store::revocations::since(tx, since).await)?;
    let mut newest = since;
    for row in rows {
        newest = newest.max(row.revoked_at);
        revocations.add(row.revocation);
    }
    Ok(newest)
}

/// Every public key that a valid token may be signed with, newest first, for [`umbel_auth::Verifier::set_keys`].
pub async fn load_keys(db: &Db<IdentitySchema>) -> Result<Vec<PublicKey>> {
    let encoded = read!(db, "read signing keys", |tx| store::revocations::keys(tx).await)?;
    encoded
        .iter()
        .map(|text| {
            let bytes =
                URL_SAFE_NO_PAD.decode(text).map_err(|error| Error::internal(error).because("a signing key"))?;
            PublicKey::from_bytes(&bytes)
        })
        .collect()
}
