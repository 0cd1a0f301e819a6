//! Who is it, and may they: from what a request proves to a [`Principal`]. Every refusal looks the same to the caller;
//! the log says why. But that a password has expired is said to who knows it, who can change it then.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use umbel_api::identity::auth::Auth;
use umbel_api::identity::{Extra, Named};
use umbel_core::{AccessRule, AppCredential, Error, Principal, Result, Rng, Scope, Timestamp, Trust};
use umbel_db::{read, tx};

use super::auth_request::{Ask, CredentialKey, SUPPORTED, Wanted};
use super::{accounts, scopes, valid};
use crate::directory::Directory;
use crate::passwords::Verdict;
use crate::store::Tx;
use crate::store::application_credentials::{AccessRuleRow, LoginCredential};
use crate::store::login::{EntityKey, Held, LoginUser, ScopeDomain, ScopeProject};
use crate::store::trusts::TrustRow;
use crate::{Identity, store};

pub(crate) fn unauthorized(cause: &'static str) -> Error {
    Error::unauthorized("The request you have made requires authentication.").because(cause)
}

/// A login that is good.
pub(crate) struct LoggedIn {
    pub principal: Principal,
    pub directory: Arc<Directory>,
    /// What its reply tells of the application credential.
    pub credential: Option<Told>,
    pub password_expires_at: Option<String>,
}

/// What is said of an application credential beside a token that was made from it.
pub(crate) struct Told {
    pub name: String,
    pub rules: Vec<AccessRuleRow>,
}

impl From<LoginCredential> for Told {
    fn from(credential: LoginCredential) -> Self {
        Told { name: credential.name, rules: credential.rules }
    }
}

/// Everything a login reads from the database.
struct Facts {
    user: Option<LoginUser>,
    credential: Option<LoginCredential>,
    /// The trust whose project is asked for, with its trustor.
    lent: Option<(TrustRow, LoginUser)>,
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
    let facts = read!(identity.db, "log in", |tx| facts(tx, &ask, now).await)?;
    // In any case, so that the time it takes says nothing about what was found.
    verify(identity, &ask, &facts).await?;
    let user = facts.user.ok_or_else(|| unauthorized("no such user"))?;
    admit(identity, &ask, &user, facts.credential.as_ref())?;
    if let Some((trust, trustor)) = &facts.lent {
        admit_trust(identity, &user, trust, trustor)?;
    }
    let directory = identity.directory_at(user.directory_generation).await?;
    let found = facts.found.ok_or_else(|| unauthorized("no such scope, or it is disabled"))?;
    let (scope, roles) = settle(&directory, found, &facts.credential, &facts.lent, ask.wanted == Wanted::Default)?;
    accounts::seen(identity, &user).await?;
    let password_expires_at = user.password_expires_at.map(|at| at.iso_micros());
    let appears = match facts.lent {
        Some((ref trust, ref trustor)) if trust.impersonation => trustor.clone(),
        _ => user,
    };
    let mut principal = Principal {
        user_id: appears.id,
        user_name: appears.name,
        user_domain_id: appears.domain_id,
        user_domain_name: appears.domain_name,
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
    let ends = [
        facts.credential.as_ref().and_then(|credential| credential.expires_at),
        facts.lent.as_ref().and_then(|(trust, _)| trust.expires_at),
    ];
    principal.expires_at = ends.into_iter().flatten().fold(principal.expires_at, Timestamp::min);
    if let Some(credential) = &facts.credential {
        let (id, unrestricted) = (credential.id.clone(), credential.unrestricted);
        principal.application_credential =
            Some(AppCredential { id, unrestricted, trust: None, access_rules: bare(&credential.rules) });
    }
    if let Some((trust, _)) = facts.lent {
        principal.application_credential = Some(borrow(identity, trust).await?);
    }
    Ok(LoggedIn { principal, directory, credential: facts.credential.map(Told::from), password_expires_at })
}

/// Counts the use of a trust, and says of the token whose roles it carries.
async fn borrow(identity: &Identity, trust: TrustRow) -> Result<AppCredential> {
    if trust.remaining_uses.is_some() {
        let left = tx!(identity.db, "use a trust", |tx| store::trusts::use_once(tx, &trust.id).await)?;
        if !left {
            return Err(unauthorized("the trust has no uses left"));
        }
    }
    let TrustRow { id, trustor_user_id, trustee_user_id, impersonation, .. } = trust;
    let trust = Some(Trust { trustor_user_id, trustee_user_id, impersonation });
    Ok(AppCredential { id, unrestricted: false, trust, access_rules: Vec::new() })
}

fn bare(rules: &[AccessRuleRow]) -> Vec<AccessRule> {
    let bare = |rule: &AccessRuleRow| AccessRule {
        service: rule.service.clone(),
        method: rule.method.clone(),
        path: rule.path.clone(),
    };
    rules.iter().map(bare).collect()
}

/// 22 characters, as upstream's.
fn audit_id(rng: &dyn Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn facts(tx: &mut Tx, ask: &Ask, now: Timestamp) -> Result<Facts> {
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
        return Ok(Facts { user: None, credential, lent: None, found: None });
    };
    if let Some((CredentialKey::Name(_, name), _)) = &ask.credential {
        credential = store::application_credentials::named_for_login(tx, &user.id, name).await?;
    }
    let lent = match &ask.wanted {
        Wanted::Trust(id) => lent(tx, id, now).await?,
        _ => None,
    };
    let found = scope(tx, ask, &user, credential.as_ref(), lent.as_ref()).await?;
    Ok(Facts { user: Some(user), credential, lent, found })
}

async fn lent(tx: &mut Tx, id: &str, now: Timestamp) -> Result<Option<(TrustRow, LoginUser)>> {
    let Some(trust) = store::trusts::get(tx, id, now).await? else {
        return Ok(None);
    };
    let trustor = store::login::user(tx, &EntityKey::Id(trust.trustor_user_id.clone())).await?;
    Ok(trustor.map(|trustor| (trust, trustor)))
}

async fn scope(
    tx: &mut Tx,
    ask: &Ask,
    user: &LoginUser,
    credential: Option<&LoginCredential>,
    lent: Option<&(TrustRow, LoginUser)>,
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
    let held = match &wanted {
        Wanted::Unscoped => return Ok(Some(Found::Unscoped)),
        Wanted::Default if user.default_project_id.is_none() => return Ok(Some(Found::Unscoped)),
        Wanted::Trust(_) => match lent {
            Some((_, trustor)) => store::login::held(tx, &trustor.id).await?,
            None => return Ok(None),
        },
        _ => store::login::held(tx, &user.id).await?,
    };
    match wanted {
        Wanted::Trust(_) => {
            let key = EntityKey::Id(lent.map(|(trust, _)| trust.project_id.clone()).unwrap_or_default());
            on_project(tx, &key, &held).await
        }
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
        let verdict = identity.passwords.verify(owner, stored, password).await?;
        match (accounts::judge(identity, user, verdict).await?, stored) {
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
    if !accounts::is_open(identity, user) {
        return refused("the user or its domain is disabled");
    }
    if ask.password.is_some() {
        accounts::current(user, now)?;
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
        _ => {}
    }
    match mfa_satisfied(&user.options, &ask.methods) {
        true => Ok(()),
        false => refused("the user's rules ask for more methods"),
    }
}

fn admit_trust(identity: &Identity, user: &LoginUser, trust: &TrustRow, trustor: &LoginUser) -> Result<()> {
    if trust.trustee_user_id != user.id {
        return Err(unauthorized("the trust is for another user"));
    }
    match accounts::is_open(identity, trustor) {
        true => Ok(()),
        false => Err(unauthorized("the trustor or its domain is disabled")),
    }
}

/// The scope and the roles that the token shall have.
fn settle(
    directory: &Directory,
    found: Found,
    credential: &Option<LoginCredential>,
    lent: &Option<(TrustRow, LoginUser)>,
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
    if let Some((trust, _)) = lent {
        // All or nothing: a trustee that counts on its roles should see that one is gone.
        let given = directory.expand(&trust.role_ids);
        if given.is_empty() || !given.is_subset(&role_ids) {
            return Err(unauthorized("the trustor no longer holds what was lent"));
        }
        role_ids = given;
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
