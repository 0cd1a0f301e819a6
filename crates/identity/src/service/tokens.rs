//! Tokens as the API shows them.

use std::sync::Arc;

use umbel_api::identity::Named;
use umbel_api::identity::auth::{
    Auth, Token, TokenApplicationCredential, TokenProject, TokenReply, TokenTrust, TokenUser, UserId,
};
use umbel_core::{Ctx, Error, Principal, Result, Scope, SystemScope, Trust};
use umbel_db::{read, tx};

use super::login::{self, Told};
use super::policy;
use crate::directory::Directory;
use crate::revoke::Pending;
use crate::store::application_credentials::AccessRuleRow;
use crate::{Identity, store};

/// A new token, and what is to be said of it.
pub(crate) async fn create(identity: &Identity, auth: Auth, with_catalog: bool) -> Result<(String, TokenReply)> {
    let logged_in = login::log_in(identity, auth).await?;
    let token = identity.signer.sign(&logged_in.principal)?;
    let mut reply = describe(&logged_in.directory, &logged_in.principal, logged_in.credential, with_catalog)?;
    reply.token.user.password_expires_at = logged_in.password_expires_at;
    Ok((token, reply))
}

/// Another token, or one's own. 404 for one that is not good, 403 for one that is not the caller's business.
pub(crate) async fn show(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    subject: &str,
    with_catalog: bool,
    allow_expired: bool,
) -> Result<TokenReply> {
    let principal = subject_token(identity, ctx, policy, subject, allow_expired)?;
    let directory = identity.directory().await?;
    let credential = match &principal.application_credential {
        Some(from) if from.trust.is_none() => {
            let found = read!(identity.db, "read a credential's name", |tx| {
                store::application_credentials::for_login(tx, &from.id).await
            })?;
            Some(found.ok_or_else(|| no_token().because("its application credential is gone"))?.into())
        }
        _ => None,
    };
    describe(&directory, &principal, credential, with_catalog)
}

fn no_token() -> Error {
    Error::not_found("Failed to validate token")
}

fn subject_token(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    subject: &str,
    allow_expired: bool,
) -> Result<Arc<Principal>> {
    let verified = match allow_expired {
        true => identity.verifier.verify_expired(subject),
        false => identity.verifier.verify(subject),
    };
    let principal = verified.map_err(|error| no_token().because(error.for_log()))?;
    if principal.expires_at.plus(identity.config.allow_expired_window) <= identity.now() {
        return Err(no_token().because("expired too long ago"));
    }
    policy::reads_user(ctx, &principal.user_id, policy)?;
    Ok(principal)
}

pub(crate) async fn revoke(identity: &Identity, ctx: &Ctx, policy: &str, subject: &str) -> Result<()> {
    let principal = identity.verifier.verify(subject).map_err(|error| no_token().because(error.for_log()))?;
    policy::owns(ctx, &principal.user_id, policy)?;
    let pending = tx!(identity.db, "revoke a token", |tx| {
        let mut pending = Pending::new();
        pending.add_token(identity, tx, &principal).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}

fn token_trust(id: String, trust: &Trust) -> TokenTrust {
    TokenTrust {
        id,
        trustor_user: UserId { id: trust.trustor_user_id.clone() },
        trustee_user: UserId { id: trust.trustee_user_id.clone() },
        impersonation: trust.impersonation,
    }
}

fn describe(
    directory: &Directory,
    principal: &Principal,
    credential: Option<Told>,
    with_catalog: bool,
) -> Result<TokenReply> {
    let named = |id: &str, name: &str| Named { id: id.to_owned(), name: name.to_owned() };
    let scoped = principal.scope != Scope::Unscoped;
    let mut audit_ids = principal.audit_ids.clone();
    audit_ids.dedup();
    let mut token = Token {
        methods: principal.methods.clone(),
        user: TokenUser {
            domain: named(&principal.user_domain_id, &principal.user_domain_name),
            id: principal.user_id.clone(),
            name: principal.user_name.clone(),
            password_expires_at: None,
        },
        audit_ids,
        expires_at: principal.expires_at.iso_micros(),
        issued_at: principal.issued_at.iso_micros(),
        domain: None,
        project: None,
        is_domain: None,
        system: None,
        roles: scoped.then(|| directory.by_names(&principal.roles)),
        catalog: None,
        application_credential: None,
        trust: None,
    };
    match &principal.scope {
        Scope::Unscoped => {}
        Scope::Project { id, name, domain_id, domain_name } => {
            let domain = named(domain_id, domain_name);
            token.project = Some(TokenProject { domain, id: id.clone(), name: name.clone() });
            token.is_domain = Some(false);
        }
        Scope::Domain { id, name } => token.domain = Some(named(id, name)),
        Scope::System => token.system = Some(SystemScope { all: true }),
    }
    if scoped && with_catalog {
        token.catalog = Some(directory.catalog(&principal.user_id, principal.project_id())?);
    }
    if let Some(from) = &principal.application_credential {
        let id = from.id.clone();
        match &from.trust {
            Some(trust) => token.trust = Some(token_trust(id, trust)),
            None => {
                let (name, rules) = credential.map(|told| (told.name, told.rules)).unwrap_or_default();
                let access_rules = rules.into_iter().map(AccessRuleRow::bare).collect();
                let restricted = !from.unrestricted;
                token.application_credential = Some(TokenApplicationCredential { id, name, restricted, access_rules });
            }
        }
    }
    Ok(TokenReply { token })
}
