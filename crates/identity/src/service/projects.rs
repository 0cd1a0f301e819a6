//! Projects and domains. A domain is a project that has no owner; the operations of both meet in [`create`],
//! [`update`] and [`delete`].

use umbel_api::identity::domains::DomainFields;
use umbel_api::identity::projects::ProjectFields;
use umbel_auth::RevocationKind;
use umbel_core::{Ctx, Error, Generation, Result, Scope};
use umbel_db::{read, tx};

use super::policy::{self, forbidden, in_reach};
use super::valid;
use crate::revoke::Pending;
use crate::store::projects::{ProjectFilter, ProjectRow};
use crate::store::{Sees, Tx, Window};
use crate::{Identity, store};

/// Keystone's `max_project_tree_depth`, the domain counted.
const MAX_DEPTH: usize = 5;

const MAX_NAME: usize = 64;
const RESERVED: &[&str] = &["parents", "subtree", "generation"];

/// Which of the two interfaces is used: each shows only its own kind, apart from `GET /projects/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Project,
    Domain,
}

impl As {
    fn word(self) -> &'static str {
        match self {
            As::Project => "project",
            As::Domain => "domain",
        }
    }
}

pub(crate) fn not_found(id: &str) -> Error {
    valid::not_found("project", id)
}

pub(crate) async fn list(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    filter: &ProjectFilter,
    window: &Window,
) -> Result<Vec<ProjectRow>> {
    let sees = policy::sees(ctx, policy)?;
    read!(identity.db, "list projects", |tx| store::projects::list(tx, &sees, filter, window).await)
}

pub(crate) async fn show(identity: &Identity, ctx: &Ctx, policy: &str, id: &str, kind: As) -> Result<ProjectRow> {
    let found = read!(identity.db, "show project", |tx| store::projects::get(tx, id).await)?;
    let found = found.filter(|row| kind == As::Project || row.is_domain);
    if kind == As::Project && ctx.project_id() == Some(id) {
        return found.ok_or_else(|| not_found(id));
    }
    // A token for a domain, or for a project in it, shows that domain.
    let own = match &policy::principal(ctx)?.scope {
        Scope::Domain { id: domain, .. } => domain == id,
        Scope::Project { domain_id, .. } => kind == As::Domain && domain_id == id,
        _ => false,
    };
    let sees = if own { Sees::Domain(id.to_owned()) } else { policy::sees(ctx, policy)? };
    in_reach(found, &sees, ProjectRow::owner, policy, || valid::not_found(kind.word(), id))
}

/// Everything above or below a project, nearest first, of what the caller holds a role on; an administrator sees all.
pub(crate) async fn family(identity: &Identity, row: &ProjectRow) -> Result<Vec<ProjectRow>> {
    let domain_id = row.owner().to_owned();
    read!(identity.db, "read a project tree", |tx| store::projects::of_domain(tx, &domain_id).await)
}

pub(crate) async fn create(identity: &Identity, ctx: &Ctx, policy: &str, fields: ProjectFields) -> Result<ProjectRow> {
    if fields.is_domain == Some(true) {
        let given = [&fields.domain_id, &fields.parent_id].into_iter().any(|id| matches!(id, Some(Some(_))));
        if given {
            return Err(Error::bad_request("A project that acts as a domain has neither domain nor parent."));
        }
        let fields = DomainFields {
            name: fields.name,
            description: fields.description,
            enabled: fields.enabled,
            tags: fields.tags,
            options: fields.options,
            extra: fields.extra,
            ..DomainFields::default()
        };
        return create_domain(identity, ctx, policy, fields).await;
    }
    let manages = policy::manages(ctx, policy)?;
    let name = valid::name(fields.name, "project", MAX_NAME)?;
    let options = fields.options.unwrap_or_default();
    valid::options(&options)?;
    let tags = fields.tags.unwrap_or_default();
    valid::tags(&tags)?;
    let mut row = ProjectRow {
        id: identity.new_id(),
        generation: Generation::default(),
        name,
        domain_id: fields.domain_id.flatten(),
        parent_id: fields.parent_id.flatten(),
        is_domain: false,
        enabled: fields.enabled.unwrap_or(true),
        description: fields.description.flatten().unwrap_or_default(),
        options,
        extra: valid::extra(fields.extra, RESERVED),
        tags,
    };
    let fallback = default_domain(ctx)?;
    let placed = tx!(identity.db, "create project", |tx| {
        let row = place(tx, row.clone(), &fallback).await?;
        if !manages.allows(row.owner()) {
            return Err(forbidden(policy));
        }
        store::projects::insert(tx, &row).await?;
        Ok(row)
    });
    row = placed.map_err(|error| valid::taken(error, "project", &row.name))?;
    Ok(row)
}

/// The domain for what is made without naming one: that of the token's scope.
pub(crate) fn default_domain(ctx: &Ctx) -> Result<String> {
    let principal = policy::principal(ctx)?;
    Ok(match &principal.scope {
        Scope::Project { domain_id, .. } => domain_id.clone(),
        Scope::Domain { id, .. } => id.clone(),
        Scope::System | Scope::Unscoped => "default".to_owned(),
    })
}

/// Finds domain and parent for a new project.
async fn place(tx: &mut Tx, mut row: ProjectRow, fallback: &str) -> Result<ProjectRow> {
    let parent_id = row.parent_id.clone().or_else(|| row.domain_id.clone()).unwrap_or_else(|| fallback.to_owned());
    let parent = store::projects::get(tx, &parent_id).await?;
    let what = if row.parent_id.is_some() { "project" } else { "domain" };
    let parent = parent.filter(|parent| parent.is_domain || what == "project");
    let parent = parent.ok_or_else(|| valid::not_found(what, &parent_id))?;
    let owner = parent.owner().to_owned();
    if row.domain_id.as_ref().is_some_and(|given| *given != owner) {
        return Err(Error::bad_request("The parent is not in the project's domain."));
    }
    if !parent.enabled {
        return Err(Error::forbidden(format!("Cannot create a project below the disabled {parent_id}.")));
    }
    let mut depth = 2;
    let mut above = parent.parent_id.clone();
    while let Some(id) = above {
        depth += 1;
        above = store::projects::get(tx, &id).await?.and_then(|project| project.parent_id);
        if depth > MAX_DEPTH {
            return Err(Error::forbidden(format!("Max hierarchy depth reached for {parent_id} branch.")));
        }
    }
    row.parent_id = Some(parent_id);
    row.domain_id = Some(owner);
    Ok(row)
}

pub(crate) async fn create_domain(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    fields: DomainFields,
) -> Result<ProjectRow> {
    if policy::manages(ctx, policy)? != Sees::All {
        return Err(forbidden(policy));
    }
    let options = fields.options.unwrap_or_default();
    valid::options(&options)?;
    let tags = fields.tags.unwrap_or_default();
    valid::tags(&tags)?;
    let id = match fields.explicit_domain_id {
        Some(id) if id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()) => id,
        Some(_) => return Err(valid::invalid("explicit_domain_id", "The value is not 32 hex digits")),
        None => identity.new_id(),
    };
    let row = ProjectRow {
        id,
        generation: Generation::default(),
        name: valid::name(fields.name, "domain", MAX_NAME)?,
        domain_id: None,
        parent_id: None,
        is_domain: true,
        enabled: fields.enabled.unwrap_or(true),
        description: fields.description.flatten().unwrap_or_default(),
        options,
        extra: valid::extra(fields.extra, RESERVED),
        tags,
    };
    tx!(identity.db, "create domain", |tx| store::projects::insert(tx, &row).await)
        .map_err(|error| valid::taken(error, "domain", &row.name))?;
    Ok(row)
}

/// An update of either kind, as far as both have the attribute.
pub(crate) struct Changes {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub options: Option<umbel_api::identity::Extra>,
    pub extra: umbel_api::identity::Extra,
}

impl Changes {
    /// Of a project; refuses those of attributes that never change.
    pub fn of_project(id: &str, row: &ProjectRow, fields: ProjectFields) -> Result<Self> {
        valid::same_id(fields.id.as_deref(), id)?;
        if fields.is_domain.is_some_and(|is| is != row.is_domain) {
            return Err(Error::bad_request("Update of `is_domain` is not allowed."));
        }
        if fields.domain_id.is_some_and(|domain_id| domain_id != row.domain_id) {
            return Err(Error::bad_request("Cannot change Domain ID"));
        }
        if fields.parent_id.is_some_and(|parent_id| parent_id != row.parent_id) {
            return Err(Error::forbidden("Update of `parent_id` is not allowed."));
        }
        Ok(Changes {
            name: fields.name,
            description: fields.description,
            enabled: fields.enabled,
            tags: fields.tags,
            options: fields.options,
            extra: fields.extra,
        })
    }

    pub fn of_domain(id: &str, fields: DomainFields) -> Result<Self> {
        valid::same_id(fields.id.as_deref(), id)?;
        Ok(Changes {
            name: fields.name,
            description: fields.description,
            enabled: fields.enabled,
            tags: fields.tags,
            options: fields.options,
            extra: fields.extra,
        })
    }

    fn apply(self, row: &mut ProjectRow) -> Result<()> {
        let unlocks = self.options.as_ref().and_then(|options| options.get("immutable"));
        if unlocks.is_none_or(|value| value.as_bool() == Some(true)) {
            valid::mutable("project", &row.id, &row.options)?;
        }
        if let Some(name) = self.name {
            row.name = valid::checked_name(name, "name", MAX_NAME)?;
        }
        if let Some(description) = self.description {
            row.description = description.unwrap_or_default();
        }
        if let Some(tags) = self.tags {
            valid::tags(&tags)?;
            row.tags = tags;
        }
        if let Some(options) = self.options {
            valid::options(&options)?;
            valid::merge_options(&mut row.options, options);
        }
        row.enabled = self.enabled.unwrap_or(row.enabled);
        valid::merge(&mut row.extra, valid::extra(self.extra, RESERVED));
        Ok(())
    }
}

/// `changes` sees the row as it stands, and may run more than once.
pub(crate) async fn update(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    id: &str,
    kind: As,
    changes: impl Fn(&ProjectRow) -> Result<Changes> + Sync,
) -> Result<ProjectRow> {
    let manages = policy::manages(ctx, policy)?;
    let done = tx!(identity.db, "update project", |tx| {
        let found = store::projects::get(tx, id).await?.filter(|row| kind == As::Project || row.is_domain);
        let mut row = in_reach(found, &manages, ProjectRow::owner, policy, || valid::not_found(kind.word(), id))?;
        if row.is_domain && manages != Sees::All {
            return Err(forbidden(policy));
        }
        let was_enabled = row.enabled;
        changes(&row)?.apply(&mut row)?;
        let mut pending = Pending::new();
        if was_enabled && !row.enabled {
            if !row.is_domain && store::projects::has_enabled_children(tx, id).await? {
                return Err(Error::forbidden(format!(
                    "Cannot disable project {id} since its subtree contains enabled projects."
                )));
            }
            let revoked = if row.is_domain { RevocationKind::Domain } else { RevocationKind::Project };
            pending.add(identity, tx, revoked, id).await?;
        }
        store::projects::update(tx, &row).await.map_err(|error| valid::taken(error, kind.word(), &row.name))?;
        Ok((row, pending))
    });
    let (row, pending) = done?;
    pending.apply(identity);
    Ok(row)
}

/// A leaf of the tree; a domain as [`delete_domain`] does it.
pub(crate) async fn delete(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<()> {
    let manages = policy::manages(ctx, policy)?;
    let pending = tx!(identity.db, "delete project", |tx| {
        let found = store::projects::get(tx, id).await?;
        let row = in_reach(found, &manages, ProjectRow::owner, policy, || not_found(id))?;
        if row.is_domain {
            return match manages {
                Sees::All => remove_domain(identity, tx, &row).await,
                Sees::Domain(_) => Err(forbidden(policy)),
            };
        }
        valid::mutable("project", id, &row.options)?;
        if store::projects::has_children(tx, id).await? {
            return Err(Error::forbidden(format!(
                "Cannot delete the project {id} since it is not a leaf in the hierarchy."
            )));
        }
        let mut pending = Pending::new();
        pending.add(identity, tx, RevocationKind::Project, id).await?;
        store::projects::delete(tx, id).await?;
        Ok(pending)
    })?;
    identity.forget_directory();
    pending.apply(identity);
    Ok(())
}

pub(crate) async fn delete_domain(identity: &Identity, ctx: &Ctx, policy: &str, id: &str) -> Result<()> {
    if policy::manages(ctx, policy)? != Sees::All {
        return Err(forbidden(policy));
    }
    let pending = tx!(identity.db, "delete domain", |tx| {
        let row = store::projects::get(tx, id).await?.filter(|row| row.is_domain);
        let row = row.ok_or_else(|| valid::not_found("domain", id))?;
        remove_domain(identity, tx, &row).await
    })?;
    identity.forget_directory();
    pending.apply(identity);
    Ok(())
}

/// With everything in it. Only a disabled one, so that nobody deletes a living domain by one wrong word.
async fn remove_domain(identity: &Identity, tx: &mut Tx, row: &ProjectRow) -> Result<Pending> {
    let id = row.id.as_str();
    if row.enabled {
        return Err(Error::forbidden("Cannot delete a domain that is enabled, please disable it first."));
    }
    valid::mutable("domain", id, &row.options)?;
    let mut pending = Pending::new();
    pending.add(identity, tx, RevocationKind::Domain, id).await?;
    for user_id in store::users::ids_of_domain(tx, id).await? {
        pending.add(identity, tx, RevocationKind::User, &user_id).await?;
        store::users::delete(tx, &user_id).await?;
    }
    for group_id in store::groups::ids_of_domain(tx, id).await? {
        super::groups::revoke_members(identity, tx, &mut pending, &group_id).await?;
        store::groups::delete(tx, &group_id).await?;
    }
    for project in store::projects::of_domain(tx, id).await? {
        pending.add(identity, tx, RevocationKind::Project, &project.id).await?;
        store::projects::delete(tx, &project.id).await?;
    }
    for role_id in store::roles::ids_of_domain(tx, id).await? {
        store::roles::delete(tx, &role_id).await?;
    }
    store::domain_config::delete(tx, id, None, None).await?;
    store::projects::delete(tx, id).await?;
    Ok(pending)
}
