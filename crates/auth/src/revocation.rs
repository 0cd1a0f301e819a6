use std::collections::HashMap;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use umbel_core::{Principal, Scope, Timestamp};

/// One reason why tokens that look good are not. Forgotten once every token it covers has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What it covers: `audit`, `chain`, `user`, `grant`, `role`, `project`, `domain`, `credential`.
    pub kind: RevocationKind,
    pub target: String,
    /// Tokens issued up to this moment are covered.
    pub issued_before: Timestamp,
    /// When the last covered token has expired by itself.
    pub expires_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationKind {
    /// One token, by its own audit id.
    Audit,
    /// A token and all made from it.
    Chain,
    /// All tokens of a user: password changed, disabled, deleted.
    User,
    /// All tokens of a user on one project or domain, as `<user>/<scope id>`: a role was taken away.
    Grant,
    /// All tokens that carry a role, by its name: the role was deleted, renamed, or implies less than before.
    Role,
    /// All tokens on a project that was disabled or deleted.
    Project,
    /// All tokens on a domain, or of its users.
    Domain,
    /// Tokens made from an application credential that was deleted.
    Credential,
}

impl Revocation {
    pub fn token(audit_id: &str, expires_at: Timestamp) -> Self {
        let issued_before = Timestamp(i64::MAX);
        Revocation { kind: RevocationKind::Audit, target: audit_id.to_owned(), issued_before, expires_at }
    }

    pub fn before(kind: RevocationKind, target: impl Into<String>, now: Timestamp, expires_at: Timestamp) -> Self {
        Revocation { kind, target: target.into(), issued_before: now, expires_at }
    }
}

/// What is revoked, in memory in every role: a handful of look-ups per request, however many there are.
#[derive(Default)]
pub struct Revocations {
    by_target: RwLock<HashMap<(RevocationKind, String), Revocation>>,
}

impl Revocations {
    pub fn add(&self, revocation: Revocation) {
        let key = (revocation.kind, revocation.target.clone());
        let mut all = self.by_target.write();
        match all.get_mut(&key) {
            Some(known) => {
                known.issued_before = known.issued_before.max(revocation.issued_before);
                known.expires_at = known.expires_at.max(revocation.expires_at);
            }
            None => {
                all.insert(key, revocation);
            }
        }
    }

    pub fn forget_expired(&self, now: Timestamp) {
        self.by_target.write().retain(|_, revocation| revocation.expires_at > now);
    }

    pub fn covers(&self, principal: &Principal) -> bool {
        let all = self.by_target.read();
        if all.is_empty() {
            return false;
        }
        let hit = |kind: RevocationKind, target: &str| {
            all.get(&(kind, target.to_owned()))
                .is_some_and(|revocation| principal.issued_at <= revocation.issued_before)
        };
        let own = principal.audit_ids.first().is_some_and(|id| hit(RevocationKind::Audit, id));
        let chain = principal.audit_ids.last().is_some_and(|id| hit(RevocationKind::Chain, id));
        let credential = principal.application_credential.as_ref();
        own || chain
            || hit(RevocationKind::User, &principal.user_id)
            || hit(RevocationKind::Domain, &principal.user_domain_id)
            || credential.is_some_and(|credential| hit(RevocationKind::Credential, &credential.id))
            || principal.roles.iter().any(|role| hit(RevocationKind::Role, role))
            || match &principal.scope {
                Scope::Project { id, domain_id, .. } => {
                    hit(RevocationKind::Project, id)
                        || hit(RevocationKind::Domain, domain_id)
                        || hit(RevocationKind::Grant, &format!("{}/{id}", principal.user_id))
                }
                Scope::Domain { id, .. } => {
                    hit(RevocationKind::Domain, id)
                        || hit(RevocationKind::Grant, &format!("{}/{id}", principal.user_id))
                }
                Scope::System => hit(RevocationKind::Grant, &format!("{}/system", principal.user_id)),
                Scope::Unscoped => false,
            }
    }
}
