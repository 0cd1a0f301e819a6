//! Application credentials: a program's own secret, for a part of a user's roles on one project. It dies with the user,
//! the project, and the grants it passes on.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use umbel_api::identity::Named;
use umbel_api::identity::application_credentials::{AccessRuleFields, ApplicationCredentialFields, RoleRef};
use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Principal, Result, Timestamp};
use umbel_db::{read, tx};

use super::{policy, scopes, valid};
use crate::passwords::hash_random_secret;
use crate::revoke::Pending;
use crate::store::application_credentials::{AccessRuleRow, ApplicationCredentialRow};
use crate::store::login::EntityKey;
use crate::store::roles::RoleRow;
use crate::store::{Tx, Window};
use crate::{Identity, store};

const MAX_NAME: usize = 255;
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

fn not_found(id: &str) -> Error {
    valid::not_found("Application Credential", id)
}

/// A credential with its roles in full.
pub(crate) struct Shown {
    pub row: ApplicationCredentialRow,
    pub roles: Vec<RoleRow>,
    /// Only from [`create`].
    pub secret: Option<String>,
}

async fn with_roles(tx: &mut Tx, rows: Vec<ApplicationCredentialRow>) -> Result<Vec<Shown>> {
    let all = store::roles::all(tx).await?;
    let shown = rows.into_iter().map(|row| {
        let roles = all.iter().filter(|role| row.role_ids.contains(&role.id)).cloned().collect();
        Shown { row, roles, secret: None }
    });
    Ok(shown.collect())
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
    name: Option<&str>,
    window: &Window,
) -> Result<Vec<Shown>> {
    policy::reads_user(ctx, user_id, policy)?;
    read!(identity.db, "list application credentials", |tx| {
        let rows = store::application_credentials::list(tx, user_id, name, window).await?;
        with_roles(tx, rows).await
    })
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, user_id: &str, id: &str) -> Result<Shown> {
    policy::reads_user(ctx, user_id, policy)?;
    read!(identity.db, "show application credential", |tx| {
        let row = store::application_credentials::get(tx, id).await?.filter(|row| row.user_id == user_id);
        let row = row.ok_or_else(|| not_found(id))?;
        with_roles(tx, vec![row]).await?.pop().ok_or_else(|| not_found(id))
    })
}

/// Only by the user it is for, on the project of the token that asks: an administrator who could make one for another
/// could act as them.
pub(crate) async fn create(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
    fields: ApplicationCredentialFields,
) -> Result<Shown> {
    let principal = policy::principal(ctx)?;
    let project_id = match principal.project_id() {
        Some(project_id) if principal.user_id == user_id => project_id,
        _ => return Err(policy::forbidden(policy)),
    };
    policy::unrestricted(ctx, policy)?;
    let directory = identity.directory().await?;
    let name = valid::name(fields.name, "application_credential", MAX_NAME)?;
    let mut own = directory.by_names(&principal.roles);
    if principal.application_credential.is_none() {
        let now = current_roles(identity, user_id, project_id).await?;
        let newer = directory.named(&directory.expand(&now));
        own.extend(newer.into_iter().filter(|role| !principal.roles.contains(&role.name)));
    }
    let role_ids = chosen_roles(principal, own, fields.roles)?;
    let expires_at = fields.expires_at.map(|text| expiry(identity.now(), &text)).transpose()?;
    let rules = fields.access_rules.unwrap_or_default();
    rules.iter().try_for_each(check_rule)?;
    let (secret, secret_hash) = match fields.secret {
        Some(secret) if secret.is_empty() => return Err(valid::invalid("secret", "The value should be non-empty")),
        // Chosen by a person, maybe badly.
        Some(secret) => {
            let hash = identity.passwords.hash(&secret).await?;
            (secret, hash)
        }
        None => {
            let secret = random_secret(identity);
            let hash = hash_random_secret(&secret);
            (secret, hash)
        }
    };
    let row = ApplicationCredentialRow {
        id: identity.new_id(),
        user_id: user_id.to_owned(),
        project_id: project_id.to_owned(),
        name,
        secret_hash,
        description: fields.description,
        expires_at,
        unrestricted: fields.unrestricted.unwrap_or(false),
        role_ids,
        rules: Vec::new(),
    };
    let mut shown = tx!(identity.db, "create application credential", |tx| {
        let mut row = row.clone();
        for rule in &rules {
            row.rules.push(rule_for(identity, tx, user_id, rule).await?);
        }
        row.rules.sort_by(|a, b| a.id.cmp(&b.id));
        row.rules.dedup();
        small_enough(&row.rules)?;
        store::application_credentials::insert(tx, &row).await?;
        with_roles(tx, vec![row]).await?.pop().ok_or_else(|| not_found(user_id))
    })
    .map_err(|error| valid::taken(error, "application_credential", &row.name))?;
    shown.secret = Some(secret);
    Ok(shown)
}

/// 512 bits, as upstream's.
fn random_secret(identity: &Identity) -> String {
    let mut bytes = [0; 64];
    identity.rng.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Roles that were granted after the token was made, too: a user asks for what it has.
pub(super) async fn current_roles(identity: &Identity, user_id: &str, project_id: &str) -> Result<HashSet<String>> {
    let key = EntityKey::Id(project_id.to_owned());
    read!(identity.db, "read a user's roles", |tx| {
        let held = store::login::held(tx, user_id).await?;
        let Some(project) = store::login::project(tx, &key).await? else {
            return Ok(HashSet::new());
        };
        let above = store::login::ancestors(tx, &project.parent_id, &project.domain_id).await?;
        Ok(scopes::on_project(&held, &project, &above))
    })
}

/// Ids of the roles asked for, all of them the user's own; all of the token's where none were.
fn chosen_roles(principal: &Principal, own: Vec<Named>, given: Option<Vec<RoleRef>>) -> Result<Vec<String>> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        let of_token = own.into_iter().filter(|role| principal.roles.contains(&role.name));
        return Ok(of_token.map(|role| role.id).collect());
    };
    given
        .iter()
        .map(|wanted| {
            let found = own.iter().find(|role| match (&wanted.id, &wanted.name) {
                (Some(id), _) => role.id == *id,
                (None, Some(name)) => role.name == *name,
                (None, None) => false,
            });
            found.map(|role| role.id.clone()).ok_or_else(|| {
                Error::bad_request(
                    "Invalid application credential: Cannot create an application credential with unassigned role",
                )
            })
        })
        .collect()
}

fn expiry(now: Timestamp, text: &str) -> Result<Timestamp> {
    let at = Timestamp::parse(text)?;
    match at > now {
        true => Ok(at),
        false => Err(Error::bad_request("The 'expires_at' must not be before now.")),
    }
}

fn check_rule(rule: &AccessRuleFields) -> Result<()> {
    if rule.id.is_some() {
        return Ok(());
    }
    for (attribute, value, max) in [("service", &rule.service, 64), ("path", &rule.path, 128)] {
        let value = value.clone().ok_or_else(|| valid::missing(attribute, "access_rules"))?;
        valid::checked_name(value, attribute, max)?;
    }
    if !rule.path.as_ref().is_some_and(|path| path.starts_with('/')) {
        return Err(valid::invalid("path", "The value does not start with a slash"));
    }
    match &rule.method {
        Some(method) if METHODS.contains(&method.as_str()) => Ok(()),
        Some(_) => Err(valid::invalid("method", "The value is no HTTP method")),
        None => Err(valid::missing("method", "access_rules")),
    }
}

/// Rules travel in each token that is made from the credential, and clients, proxies and servers take a header of 16 KiB
/// at the most.
const MAX_RULES: usize = 6 * 1024;

fn small_enough(rules: &[AccessRuleRow]) -> Result<()> {
    // With the names of the three.
    let size = |rule: &AccessRuleRow| rule.service.len() + rule.method.len() + rule.path.len() + 40;
    match rules.iter().map(size).sum::<usize>() <= MAX_RULES {
        true => Ok(()),
        false => {
            Err(valid::invalid("access_rules", "The rules are too many for a token; patterns can stand for several"))
        }
    }
}

/// The user's rule that is named or spelled out.
async fn rule_for(identity: &Identity, tx: &mut Tx, user_id: &str, rule: &AccessRuleFields) -> Result<AccessRuleRow> {
    if let Some(id) = &rule.id {
        let found = store::application_credentials::get_rule(tx, user_id, id).await?;
        return found.ok_or_else(|| valid::not_found("Access Rule", id));
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let new = AccessRuleRow {
        id: identity.new_id(),
        user_id: user_id.to_owned(),
        service: text(&rule.service),
        path: text(&rule.path),
        method: text(&rule.method),
    };
    store::application_credentials::ensure_rule(tx, new).await
}

pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, user_id: &str, id: &str) -> Result<()> {
    policy::owns(ctx, user_id, policy)?;
    policy::unrestricted(ctx, policy)?;
    let pending = tx!(identity.db, "delete application credential", |tx| {
        let row = store::application_credentials::get(tx, id).await?.filter(|row| row.user_id == user_id);
        row.ok_or_else(|| not_found(id))?;
        let mut pending = Pending::new();
        pending.add(identity, tx, RevocationKind::Credential, id).await?;
        store::application_credentials::delete(tx, id).await?;
        Ok(pending)
    })?;
    pending.apply(identity);
    Ok(())
}

pub(crate) async fn list_rules(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
    window: &Window,
) -> Result<Vec<AccessRuleRow>> {
    policy::reads_user(ctx, user_id, policy)?;
    read!(identity.db, "list access rules", |tx| {
        store::application_credentials::list_rules(tx, user_id, window).await
    })
}

pub(crate) async fn show_rule(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    user_id: &str,
    id: &str,
) -> Result<AccessRuleRow> {
    policy::reads_user(ctx, user_id, policy)?;
    let found = read!(identity.db, "show access rule", |tx| {
        store::application_credentials::get_rule(tx, user_id, id).await
    })?;
    found.ok_or_else(|| valid::not_found("Access Rule", id))
}

pub(crate) async fn delete_rule(identity: &Identity, ctx: &Ctx, policy: &str, user_id: &str, id: &str) -> Result<()> {
    policy::owns(ctx, user_id, policy)?;
    policy::unrestricted(ctx, policy)?;
    tx!(identity.db, "delete access rule", |tx| {
        let found = store::application_credentials::get_rule(tx, user_id, id).await?;
        found.ok_or_else(|| valid::not_found("Access Rule", id))?;
        if store::application_credentials::rule_in_use(tx, id).await? {
            return Err(Error::forbidden("May not delete access rule in use"));
        }
        store::application_credentials::delete_rule(tx, id).await
    })
}
