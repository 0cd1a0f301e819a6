//! Who is it, and may they: from what a request proves to a [`Principal`]. Every refusal looks the same to the caller;
//! the log says why.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use umbel_api::identity::auth::Auth;
use umbel_api::identity::{Extra, Named};
use umbel_core::{AppCredential, Error, Principal, Result, Rng, Scope};
use umbel_db::{read, tx};

use super::auth_request::{Ask, CredentialKey, SUPPORTED, Wanted};
use super::{scopes, valid};
use crate::directory::Directory;
use crate::passwords::Verdict;
use crate::store::Tx;
use crate::store::application_credentials::LoginCredential;
use crate::store::login::{EntityKey, Held, LoginUser, ScopeDomain, ScopeProject};
use crate::{Identity, store};

pub(crate) fn unauthorized(cause: &'static str) -> Error {
    Error::unauthorized("The request you have made requires authentication.").because(cause)
}

/// A login that is good.
pub(crate) struct LoggedIn {
    pub principal: Principal,
    pub directory: Arc<Directory>,
    pub credential_name: Option<String>,
    pub password_expires_at: Option<String>,
}

/// Everything a login reads from the database.
struct Facts {
    user: Option<LoginUser>,
    credential: Option<LoginCredential>,
    /// None where the scope does not exist, or is disabled.
    found: Option<Found>,
}

/// What a scope turned out to be, with the ids of the roles that are held on it.
enum Found {
    Unscoped,
    Project(ScopeProject, HashSet<String>),
    Domain(ScopeDomain, HashSet<String>),
    System(HashSet<String>),
}

pub(crate) async fn log_in(identity: &Identity, auth: Auth) -> Result<LoggedIn> {
    // A password changed while this login runs revokes what was issued before the change: so the token bears the moment
    // before anything was read.
    let now = identity.now();
    let ask = Ask::read(identity, auth)?;
    let facts = read!(identity.db, "log in", |tx| facts(tx, &ask).await)?;
    // In any case, so that the time it takes says nothing about what was found.
    verify(identity, &ask, &facts).await?;
    let user = facts.user.ok_or_else(|| unauthorized("no such user"))?;
    admit(identity, &ask, &user, facts.credential.as_ref())?;
    let directory = identity.directory_at(user.directory_generation).await?;
    let found = facts.found.ok_or_else(|| unauthorized("no such scope, or it is disabled"))?;
    let (scope, roles) = settle(&directory, found, facts.credential.as_ref(), ask.wanted == Wanted::Default)?;
    let mut principal = Principal {
        user_id: user.id,
        user_name: user.name,
        user_domain_id: user.domain_id,
        user_domain_name: user.domain_name,
        scope,
        roles: roles.into_iter().map(|role| role.name).collect(),
        audit_ids: vec![audit_id(&*identity.rng)],
        methods: ask.methods,
        issued_at: now,
        expires_at: now.plus(identity.config.token_ttl),
        application_credential: None,
    };
    if let Some(source) = &ask.token {
        // A chain of tokens does not outlive the first, whose proof it stands on.
        principal.expires_at = principal.expires_at.min(source.expires_at);
        principal.audit_ids.extend(source.audit_ids.last().cloned());
    }
    if let Some(credential) = &facts.credential {
        principal.expires_at = credential.expires_at.map_or(principal.expires_at, |at| at.min(principal.expires_at));
        principal.application_credential =
            Some(AppCredential { id: credential.id.clone(), unrestricted: credential.unrestricted });
    }
    Ok(LoggedIn {
        principal,
        directory,
        credential_name: facts.credential.map(|credential| credential.name),
        password_expires_at: user.password_expires_at.map(|at| at.iso_micros()),
    })
}

/// 22 characters, as upstream's.
fn audit_id(rng: &dyn Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn facts(tx: &mut Tx, ask: &Ask) -> Result<Facts> {
    let mut credential = match (&ask.credential, &ask.token) {
        (Some((CredentialKey::Id(id), _)), _) => store::application_credentials::for_login(tx, id).await?,
        (None, Some(token)) => match &token.application_credential {
            Some(from) => store::application_credentials::for_login(tx, &from.id).await?,
            None => None,
        },
        _ => None,
    };
    let user = match (ask.user_key(), &credential) {
        (Some(key), _) => store::login::user(tx, key).await?,
        (None, Some(credential)) => store::login::user(tx, &EntityKey::Id(credential.user_id.clone())).await?,
        (None, None) => None,
    };
    let Some(user) = user else {
        return Ok(Facts { user: None, credential, found: None });
    };
    if let Some((CredentialKey::Name(_, name), _)) = &ask.credential {
        credential = store::application_credentials::named_for_login(tx, &user.id, name).await?;
    }
    let found = scope(tx, ask, &user, credential.as_ref()).await?;
    Ok(Facts { user: Some(user), credential, found })
}

async fn scope(
    tx: &mut Tx,
    ask: &Ask,
    user: &LoginUser,
    credential: Option<&LoginCredential>,
) -> Result<Option<Found>> {
    let wanted = match credential {
        // An application credential is for its project and nothing else, also by a token that came of it.
        Some(credential) => {
            let own = Wanted::Project(EntityKey::Id(credential.project_id.clone()));
            let fits = ask.wanted == own || (ask.wanted == Wanted::Default);
            if !fits {
                return Ok(None);
            }
            own
        }
        None => ask.wanted.clone(),
    };
    let held = match wanted {
        Wanted::Unscoped => return Ok(Some(Found::Unscoped)),
        Wanted::Default if user.default_project_id.is_none() => return Ok(Some(Found::Unscoped)),
        _ => store::login::held(tx, &user.id).await?,
    };
    match wanted {
        Wanted::Project(key) => on_project(tx, &key, &held).await,
        Wanted::Default => {
            let key = EntityKey::Id(user.default_project_id.clone().unwrap_or_default());
            let found = on_project(tx, &key, &held).await?;
            let found = found.filter(|found| matches!(found, Found::Project(_, roles) if !roles.is_empty()));
            Ok(Some(found.unwrap_or(Found::Unscoped)))
        }
        Wanted::Domain(key) => {
            let domain = store::login::domain(tx, &key).await?.filter(|domain| domain.enabled);
            Ok(domain.map(|domain| {
                let roles = scopes::on_domain(&held, &domain);
                Found::Domain(domain, roles)
            }))
        }
        Wanted::System => Ok(Some(Found::System(scopes::on_system(&held)))),
        Wanted::Unscoped => Ok(Some(Found::Unscoped)),
    }
}

async fn on_project(tx: &mut Tx, key: &EntityKey, held: &[Held]) -> Result<Option<Found>> {
    let project = store::login::project(tx, key).await?.filter(|project| project.enabled && project.domain_enabled);
    let Some(project) = project else {
        return Ok(None);
    };
    let ancestors = match scopes::inherits_from_projects(held) {
        true => store::login::ancestors(tx, &project.parent_id, &project.domain_id).await?,
        false => Vec::new(),
    };
    let roles = scopes::on_project(held, &project, &ancestors);
    Ok(Some(Found::Project(project, roles)))
}

/// Every secret that was sent, each at its full cost.
async fn verify(identity: &Identity, ask: &Ask, facts: &Facts) -> Result<()> {
    if let Some((_, password)) = &ask.password {
        let user = facts.user.as_ref();
        let stored = user.and_then(|user| user.password_hash.as_deref());
        let owner = user.map_or("", |user| &user.id);
        match (identity.passwords.verify(owner, stored, password).await?, stored) {
            (Verdict::Wrong, _) => return Err(unauthorized("wrong password")),
            (Verdict::FitsOld, Some(stored)) => renew(identity, owner, stored, password).await?,
            _ => {}
        }
    }
    if let Some((_, secret)) = &ask.credential {
        let stored = facts.credential.as_ref().map(|credential| credential.secret_hash.as_str());
        let owner = facts.credential.as_ref().map_or("", |credential| &credential.id);
        if identity.passwords.verify(owner, stored, secret).await? == Verdict::Wrong {
            return Err(unauthorized("wrong secret of an application credential"));
        }
    }
    Ok(())
}

/// Replaces a hash of another kind while the password is at hand.
async fn renew(identity: &Identity, user_id: &str, old: &str, password: &str) -> Result<()> {
    let new = identity.passwords.hash(password).await?;
    tracing::info!(user_id, "a password's hash was renewed");
    tx!(identity.db, "renew a password's hash", |tx| store::users::rehash(tx, user_id, old, &new).await)
}

fn admit(identity: &Identity, ask: &Ask, user: &LoginUser, credential: Option<&LoginCredential>) -> Result<()> {
    let now = identity.now();
    let refused = |cause| Err(unauthorized(cause));
    if !user.enabled || !user.domain_enabled {
        return refused("the user or its domain is disabled");
    }
    if ask.password.is_some() && user.password_expires_at.is_some_and(|at| at <= now) {
        return refused("the password has expired");
    }
    if ask.token.as_ref().is_some_and(|token| token.user_id != user.id) {
        return refused("the token is another user's");
    }
    let needs_credential =
        ask.credential.is_some() || ask.token.as_ref().is_some_and(|token| token.application_credential.is_some());
    match credential {
        None if needs_credential => return refused("the application credential is gone"),
        Some(credential) if credential.user_id != user.id => return refused("the credential is another user's"),
        Some(credential) if credential.expires_at.is_some_and(|at| at <= now) => {
            return refused("the application credential has expired");
        }
        // Nothing behind a token would hold it to them; a token for everything is not what the owner asked for.
        Some(credential) if credential.has_access_rules => {
            return refused("access rules cannot be enforced yet");
        }
        _ => {}
    }
    match mfa_satisfied(&user.options, &ask.methods) {
        true => Ok(()),
        false => refused("the user's rules ask for more methods"),
    }
}

/// The scope and the roles that the token shall have.
fn settle(
    directory: &Directory,
    found: Found,
    credential: Option<&LoginCredential>,
    may_be_unscoped: bool,
) -> Result<(Scope, Vec<Named>)> {
    let (scope, held) = match found {
        Found::Unscoped => return Ok((Scope::Unscoped, Vec::new())),
        Found::Project(project, held) => {
            let ScopeProject { id, name, domain_id, domain_name, .. } = project;
            (Scope::Project { id, name, domain_id, domain_name }, held)
        }
        Found::Domain(domain, held) => (Scope::Domain { id: domain.id, name: domain.name }, held),
        Found::System(held) => (Scope::System, held),
    };
    let mut role_ids = directory.expand(&held);
    if let Some(credential) = credential {
        let given = directory.expand(&credential.role_ids);
        role_ids.retain(|id| given.contains(id));
    }
    let roles = directory.named(&role_ids);
    match roles.is_empty() {
        false => Ok((scope, roles)),
        true if may_be_unscoped && credential.is_none() => Ok((Scope::Unscoped, Vec::new())),
        true => Err(unauthorized("no role on the scope")),
    }
}

const MFA_RULES: &str = "multi_factor_auth_rules";

/// Whether the methods fulfil one of the user's rules. Methods that this service does not have are taken out of a
/// rule, and rules of only such are passed over, as upstream does: else one wrong word locks a user out.
fn mfa_satisfied(options: &Extra, methods: &[String]) -> bool {
    if options.get("multi_factor_auth_enabled").and_then(serde_json::Value::as_bool) == Some(false) {
        return true;
    }
    let rules: Vec<Vec<String>> =
        options.get(MFA_RULES).and_then(|rules| serde_json::from_value(rules.clone()).ok()).unwrap_or_default();
    let mut usable = rules
        .into_iter()
        .map(|rule| rule.into_iter().filter(|method| SUPPORTED.contains(&method.as_str())).collect::<Vec<_>>())
        .filter(|rule| !rule.is_empty())
        .peekable();
    usable.peek().is_none() || usable.any(|rule| rule.iter().all(|method| methods.contains(method)))
}

/// 400 for rules that could not be read when they matter.
pub(crate) fn mfa_rules(options: &Extra) -> Result<()> {
    match options.get(MFA_RULES) {
        None | Some(serde_json::Value::Null) => Ok(()),
        Some(rules) => serde_json::from_value::<Vec<Vec<String>>>(rules.clone())
            .map(|_| ())
            .map_err(|_| valid::invalid(MFA_RULES, "The value is not a list of lists of methods")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_counted() {
        let check = |options: &str, methods: &[&str], fits: bool| {
            let methods: Vec<String> = methods.iter().map(|method| method.to_string()).collect();
            assert_eq!(mfa_satisfied(&serde_json::from_str(options).unwrap(), &methods), fits, "{options}");
        };
        let both = r#"{"multi_factor_auth_rules": [["password", "application_credential"]]}"#;
        check("{}", &["password"], true);
        check(both, &["password"], false);
        check(both, &["password", "application_credential"], true);
        check(r#"{"multi_factor_auth_enabled": false, "multi_factor_auth_rules": [["token"]]}"#, &["password"], true);
        check(r#"{"multi_factor_auth_rules": [["retina"]]}"#, &["password"], true);
        check(r#"{"multi_factor_auth_rules": []}"#, &["password"], true);
    }
}
