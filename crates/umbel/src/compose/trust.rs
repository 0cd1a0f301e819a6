//! What tells a good token from a bad one in a process that is not identity: identity's public keys, and what it revoked.
//!
//! Both are read from identity's database where this process was given it, else asked of identity's API: the keys, which
//! are no secret, without a token, the revocations with the services' own. Whoever could put other keys there could as
//! well answer logins, so nothing is trusted beyond `services.identity` itself; across a network that is an `https` URL.
//!
//! Both are read anew every second. While identity is away, tokens are judged by what was known: new revocations wait,
//! and tokens expire by themselves. Refused: answering nobody meanwhile, which makes identity a single point of failure
//! again, the very thing that tokens verified offline are for.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;
use umbel_api::identity::keys::Key;
use umbel_api::identity::revocations::RevocationEvent;
use umbel_auth::{PublicKey, Revocation, RevocationKind, Verifier};
use umbel_client::TokenTrust;
use umbel_core::{Clock, Error, Result, Timestamp};
use umbel_db::Db;
use umbel_identity::IdentitySchema;

use super::{Behind, Parts, migrated, pause};
use crate::services::ServiceLogin;

/// Between two looks.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// Read again each time: another process's clock, or a transaction that committed late.
const OVERLAP: Duration = Duration::from_secs(60);
/// How long a start waits for identity, which may be starting too.
const PATIENCE: Duration = Duration::from_secs(60);

enum Source {
    Database(Db<IdentitySchema>),
    Service(TokenTrust, Arc<ServiceLogin>),
}

/// Follows identity from now on. Returns once its keys and revocations are known.
pub(super) async fn verifier(parts: &Parts<'_>, behind: &mut Vec<Behind>) -> Result<Arc<Verifier>> {
    let database = &parts.config.database.identity;
    let source = match (database, parts.login.places().identity()) {
        (Some(_), _) => Source::Database(migrated(parts.config, database, "identity").await?),
        (None, Some(url)) => Source::Service(TokenTrust::new(parts.ways.clone(), url), parts.login.clone()),
        (None, None) => return Err(Error::bad_request("services.identity is not set.")),
    };
    let clock = parts.clock.clone();
    let verifier = Arc::new(Verifier::new(Vec::new(), Arc::default(), clock.clone()));
    let mut follower = Follower { source, verifier: verifier.clone(), clock, keys: Vec::new(), since: Timestamp(0) };
    follower.first().await?;
    behind.push(Behind::new(move |stop| follower.follow(stop)));
    Ok(verifier)
}

struct Follower {
    source: Source,
    verifier: Arc<Verifier>,
    clock: Arc<dyn Clock>,
    keys: Vec<PublicKey>,
    /// Revocations made before it are known.
    since: Timestamp,
}

impl Follower {
    async fn first(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut told = false;
        while let Err(error) = self.look().await {
            if tokio::time::Instant::now() > deadline {
                return Err(error.because("identity's keys are needed before anything can be answered"));
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(cause = error.cause(), "waiting for identity: {error}");
            }
            tokio::time::sleep(PERIOD / 2).await;
        }
        Ok(())
    }

    async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        let mut well = true;
        while pause(PERIOD, &mut stop).await {
            let looked = self.look().await;
            match &looked {
                Ok(()) if !well => tracing::info!("revocations are read again"),
                Err(error) if well => {
                    tracing::warn!(
                        cause = error.cause(),
                        "what identity revokes from now on is not known here: {error}"
                    );
                }
                _ => {}
            }
            well = looked.is_ok();
        }
    }

    async fn look(&mut self) -> Result<()> {
        let now = self.clock.now();
        let keys = self.source.keys().await?;
        if keys.is_empty() {
            return Err(Error::unavailable("Identity has published no key yet."));
        }
        if keys != self.keys {
            self.verifier.set_keys(keys.clone());
            self.keys = keys;
        }
        self.source.revocations(&self.verifier, self.since.minus(OVERLAP)).await?;
        self.since = now;
        self.verifier.revocations().forget_expired(now);
        Ok(())
    }
}

impl Source {
    async fn keys(&self) -> Result<Vec<PublicKey>> {
        match self {
            Source::Database(db) => umbel_identity::load_keys(db).await,
            Source::Service(trust, _) => {
                let keys = trust.keys().await?;
                keys.iter().filter(|key| key.kty == "OKP" && key.crv == "Ed25519").map(public_key).collect()
            }
        }
    }

    async fn revocations(&self, verifier: &Verifier, since: Timestamp) -> Result<()> {
        let known = verifier.revocations();
        match self {
            Source::Database(db) => umbel_identity::load_revocations(db, known, since).await.map(drop),
            Source::Service(trust, login) => {
                let since = since.max(Timestamp(0)).iso_micros();
                for event in trust.revocations(&login.token().await?, &since).await? {
                    known.add(revocation(event)?);
                }
                Ok(())
            }
        }
    }
}

fn public_key(key: &Key) -> Result<PublicKey> {
    let bytes = URL_SAFE_NO_PAD.decode(&key.x).map_err(|error| Error::internal(error).because("a public key"))?;
    PublicKey::from_bytes(&bytes)
}

/// What identity's API wrote, read back. An event that nobody here understands is an error: to pass it over would be to
/// take tokens that were taken back.
fn revocation(event: RevocationEvent) -> Result<Revocation> {
    let (kind, target) = match event {
        RevocationEvent { user_id: Some(user), scope_id: Some(scope), .. } => {
            (RevocationKind::Grant, format!("{user}/{scope}"))
        }
        RevocationEvent { audit_id: Some(id), .. } => (RevocationKind::Audit, id),
        RevocationEvent { audit_chain_id: Some(id), .. } => (RevocationKind::Chain, id),
        RevocationEvent { user_id: Some(id), .. } => (RevocationKind::User, id),
        RevocationEvent { role_name: Some(name), .. } => (RevocationKind::Role, name),
        RevocationEvent { project_id: Some(id), .. } => (RevocationKind::Project, id),
        RevocationEvent { domain_id: Some(id), .. } => (RevocationKind::Domain, id),
        RevocationEvent { application_credential_id: Some(id), .. } => (RevocationKind::Credential, id),
        _ => return Err(Error::internal("identity told of a revocation of an unknown kind")),
    };
    let (issued_before, expires_at) = (Timestamp::parse(&event.issued_before)?, Timestamp::parse(&event.expires_at)?);
    Ok(Revocation { kind, target, issued_before, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_is_read_back() {
        let text = |value: &str| Some(value.to_owned());
        let check = |event: RevocationEvent, kind: RevocationKind, target: &str| {
            let now = Timestamp::from_secs(1_000).iso_micros();
            let event = RevocationEvent { issued_before: now.clone(), expires_at: now, ..event };
            let read = revocation(event).unwrap();
            assert_eq!((read.kind, read.target.as_str()), (kind, target));
            assert_eq!(read.issued_before, Timestamp::from_secs(1_000));
        };
        let none = RevocationEvent::default;
        check(RevocationEvent { audit_id: text("a"), ..none() }, RevocationKind::Audit, "a");
        check(RevocationEvent { audit_chain_id: text("a"), ..none() }, RevocationKind::Chain, "a");
        check(RevocationEvent { user_id: text("u"), ..none() }, RevocationKind::User, "u");
        check(RevocationEvent { user_id: text("u"), scope_id: text("p"), ..none() }, RevocationKind::Grant, "u/p");
        check(RevocationEvent { role_name: text("r"), ..none() }, RevocationKind::Role, "r");
        check(RevocationEvent { project_id: text("p"), ..none() }, RevocationKind::Project, "p");
        check(RevocationEvent { domain_id: text("d"), ..none() }, RevocationKind::Domain, "d");
        check(RevocationEvent { application_credential_id: text("c"), ..none() }, RevocationKind::Credential, "c");
        assert!(revocation(none()).is_err());
    }
}
