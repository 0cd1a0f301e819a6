//! What the body of `POST /auth/tokens` asks for and proves itself with, checked for its form: 400 for a body that
//! says nothing clear, 401 for a method that is not ours or a token that is not good.

use std::sync::Arc;

use umbel_api::identity::auth::{
    ApplicationCredentialMethod, Auth, DomainRef, Methods, PasswordMethod, ProjectRef, ScopeField, ScopeObject,
};
use umbel_core::{Error, Principal, Result};

use super::login::unauthorized;
use crate::Identity;
use crate::store::login::{DomainKey, EntityKey};

/// Methods that can be used.
pub(crate) const SUPPORTED: [&str; 3] = ["password", "token", "application_credential"];

pub(crate) struct Ask {
    pub wanted: Wanted,
    /// Methods that were used, those of a token it came with included.
    pub methods: Vec<String>,
    pub password: Option<(EntityKey, String)>,
    pub token: Option<Arc<Principal>>,
    pub credential: Option<(CredentialKey, String)>,
    token_user: Option<EntityKey>,
}

/// The scope that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The user's default project, if that can be.
    Default,
    Unscoped,
    Project(EntityKey),
    Domain(DomainKey),
    System,
    /// The project of a trust, by the trust's id.
    Trust(String),
}

pub(crate) enum CredentialKey {
    Id(String),
    Name(EntityKey, String),
}

impl Ask {
    pub fn read(identity: &Identity, auth: Auth) -> Result<Self> {
        let wanted = wanted(auth.scope)?;
        let Methods { methods, mut password, mut token, mut application_credential } = auth.identity;
        let mut ask =
            Ask { wanted, methods: Vec::new(), password: None, token: None, credential: None, token_user: None };
        if methods.is_empty() {
            return Err(unauthorized("no method"));
        }
        for method in methods {
            if ask.methods.contains(&method) {
                continue;
            }
            match method.as_str() {
                "password" => {
                    let data = password.take().ok_or_else(|| expecting("password", "identity"))?;
                    ask.password = Some(password_proof(data)?);
                }
                "token" => {
                    let data = token.take().ok_or_else(|| expecting("token", "identity"))?;
                    // Keystone's answer, by which clients tell a token that is no good from a wrong password.
                    let lost = |error: Error| Error::not_found("Could not find token.").because(error.for_log());
                    let principal = identity.verifier.verify(&data.id).map_err(lost)?;
                    if principal.application_credential.as_ref().is_some_and(|from| from.trust.is_some()) {
                        return Err(Error::forbidden(
                            "Using trust-scoped token to create another token. Create a new trust-scoped token instead.",
                        ));
                    }
                    ask.token_user = Some(EntityKey::Id(principal.user_id.clone()));
                    ask.token = Some(principal);
                }
                "application_credential" => {
                    let data =
                        application_credential.take().ok_or_else(|| expecting("application_credential", "identity"))?;
                    ask.credential = Some(credential_proof(data)?);
                }
                _ => return Err(Error::unauthorized("Attempted to authenticate with an unsupported method.")),
            }
            ask.methods.push(method);
        }
        if ask.credential.is_some() && ask.wanted != Wanted::Default {
            return Err(unauthorized("an application credential cannot ask for a scope"));
        }
        if let Some(token) = &ask.token {
            let earlier = token.methods.iter().filter(|method| !ask.methods.contains(method)).cloned();
            let earlier: Vec<String> = earlier.collect();
            ask.methods.extend(earlier);
        }
        Ok(ask)
    }

    /// How the request names its user; None where only a credential's id leads there.
    pub fn user_key(&self) -> Option<&EntityKey> {
        if let Some((key, _)) = &self.password {
            return Some(key);
        }
        if let Some((CredentialKey::Name(key, _), _)) = &self.credential {
            return Some(key);
        }
        self.token_user.as_ref()
    }
}

fn expecting(attribute: &str, target: &str) -> Error {
    Error::bad_request(format!(
        "Expecting to find {attribute} in {target}. The server could not comply with the request since it is either \
         malformed or otherwise incorrect. The client is assumed to be in error."
    ))
}

fn wanted(scope: Option<ScopeField>) -> Result<Wanted> {
    let scope = match scope {
        None => return Ok(Wanted::Default),
        Some(ScopeField::Word(word)) if word == "unscoped" => return Ok(Wanted::Unscoped),
        Some(ScopeField::Word(_)) => return Err(expecting("system, project, domain or unscoped", "scope")),
        Some(ScopeField::Object(scope)) => *scope,
    };
    match scope {
        ScopeObject { project: Some(project), domain: None, system: None, unscoped: None, trust: None } => {
            Ok(Wanted::Project(project_key(project)?))
        }
        ScopeObject { project: None, domain: Some(domain), system: None, unscoped: None, trust: None } => {
            Ok(Wanted::Domain(domain_key(Some(domain), "scope")?))
        }
        ScopeObject { project: None, domain: None, system: Some(_), unscoped: None, trust: None } => Ok(Wanted::System),
        ScopeObject { project: None, domain: None, system: None, unscoped: Some(_), trust: None } => {
            Ok(Wanted::Unscoped)
        }
        ScopeObject { project: None, domain: None, system: None, unscoped: None, trust: Some(trust) } => {
            trust.id.map(Wanted::Trust).ok_or_else(|| expecting("trust_id", "trust"))
        }
        _ => Err(expecting("system, project, domain, OS-TRUST:trust or unscoped", "scope")),
    }
}

fn project_key(project: ProjectRef) -> Result<EntityKey> {
    entity_key(project.id, project.name, project.domain, "project")
}

/// An id alone, or a name with its domain.
fn entity_key(
    id: Option<String>,
    name: Option<String>,
    domain: Option<DomainRef>,
    target: &'static str,
) -> Result<EntityKey> {
    match (id, name) {
        (Some(id), _) => Ok(EntityKey::Id(id)),
        (None, Some(name)) => Ok(EntityKey::Name(name, domain_key(domain, target)?)),
        (None, None) => Err(expecting("id or name", target)),
    }
}

fn domain_key(domain: Option<DomainRef>, target: &'static str) -> Result<DomainKey> {
    match domain {
        Some(DomainRef { id: Some(id), .. }) => Ok(DomainKey::Id(id)),
        Some(DomainRef { id: None, name: Some(name) }) => Ok(DomainKey::Name(name)),
        Some(DomainRef { id: None, name: None }) => Err(expecting("id or name", "domain")),
        None => Err(expecting("domain", target)),
    }
}

fn password_proof(data: PasswordMethod) -> Result<(EntityKey, String)> {
    let user = data.user;
    let key = entity_key(user.id, user.name, user.domain, "user")?;
    let password = user.password.ok_or_else(|| unauthorized("no password was sent"))?;
    Ok((key, password))
}

fn credential_proof(data: ApplicationCredentialMethod) -> Result<(CredentialKey, String)> {
    let key = match (data.id, data.name, data.user) {
        (Some(id), _, _) => CredentialKey::Id(id),
        (None, Some(name), Some(user)) => {
            CredentialKey::Name(entity_key(user.id, user.name, user.domain, "user")?, name)
        }
        (None, Some(_), None) => return Err(expecting("user", "application_credential")),
        (None, None, _) => return Err(expecting("id or name", "application_credential")),
    };
    Ok((key, data.secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read() {
        let check = |text: &str, want: Result<Wanted, u16>| {
            let scope: Option<ScopeField> = serde_json::from_str(text).unwrap();
            assert_eq!(wanted(scope).map_err(|error| error.kind().status()), want, "{text}");
        };
        let by_name = |name: &str, domain| Wanted::Project(EntityKey::Name(name.into(), domain));
        check("null", Ok(Wanted::Default));
        check(r#""unscoped""#, Ok(Wanted::Unscoped));
        check(r#"{"unscoped": {}}"#, Ok(Wanted::Unscoped));
        check(r#"{"system": {"all": true}}"#, Ok(Wanted::System));
        check(r#"{"project": {"id": "p"}}"#, Ok(Wanted::Project(EntityKey::Id("p".into()))));
        check(r#"{"project": {"name": "p", "domain": {"id": "d"}}}"#, Ok(by_name("p", DomainKey::Id("d".into()))));
        check(r#"{"project": {"name": "p", "domain": {"name": "d"}}}"#, Ok(by_name("p", DomainKey::Name("d".into()))));
        check(r#"{"domain": {"name": "d"}}"#, Ok(Wanted::Domain(DomainKey::Name("d".into()))));
        check(r#"{"OS-TRUST:trust": {"id": "t"}}"#, Ok(Wanted::Trust("t".into())));
        check(r#"{"OS-TRUST:trust": {}}"#, Err(400));
        check(r#"{"project": {"name": "p"}}"#, Err(400));
        check(r#"{"project": {}}"#, Err(400));
        check(r#"{"domain": {}}"#, Err(400));
        check(r#"{"project": {"id": "p"}, "domain": {"id": "d"}}"#, Err(400));
        check(r#"{}"#, Err(400));
        check(r#""everything""#, Err(400));
    }
}
