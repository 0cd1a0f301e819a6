//! Whose identity objects a caller may see and change.
//!
//! * `admin` in any scope: everything, as the default policies of all services have it;
//! * `reader` on the system, and services: everything, to read;
//! * `reader` on a domain: that domain's projects, users, groups and grants, to read;
//! * `manager` on a domain: the same, to change, with the roles of [`MANAGED_ROLES`] only;
//! * anyone: themselves, the project they are scoped to, and their own credentials.
//!
//! Others are answered 403 whether the thing exists or not, so that no id can be probed.

use umbel_core::{Ctx, Error, Principal, Result, Scope};

use crate::store::Sees;

/// What a domain's manager may give and take.
pub(crate) const MANAGED_ROLES: [&str; 3] = ["manager", "member", "reader"];

pub(crate) fn principal(ctx: &Ctx) -> Result<&Principal> {
    let principal = ctx.principal.as_deref();
    principal.ok_or_else(|| Error::unauthorized("The request you have made requires authentication."))
}

pub(crate) fn forbidden(policy: &str) -> Error {
    Error::forbidden(format!("You are not authorized to perform the requested action: {policy}."))
}

/// What the caller may read beyond their own.
pub(crate) fn sees(ctx: &Ctx, policy: &str) -> Result<Sees> {
    let principal = principal(ctx)?;
    match &principal.scope {
        _ if principal.is_admin() || principal.has_role("service") => Ok(Sees::All),
        Scope::System if principal.has_role("reader") => Ok(Sees::All),
        Scope::Domain { id, .. } if principal.has_role("reader") => Ok(Sees::Domain(id.clone())),
        _ => Err(forbidden(policy)),
    }
}

pub(crate) fn sees_all(ctx: &Ctx, policy: &str) -> Result<()> {
    match sees(ctx, policy)? {
        Sees::All => Ok(()),
        Sees::Domain(_) => Err(forbidden(policy)),
    }
}

/// What the caller may change.
pub(crate) fn manages(ctx: &Ctx, policy: &str) -> Result<Sees> {
    let principal = principal(ctx)?;
    match &principal.scope {
        _ if principal.is_admin() => Ok(Sees::All),
        Scope::Domain { id, .. } if principal.has_role("manager") => Ok(Sees::Domain(id.clone())),
        _ => Err(forbidden(policy)),
    }
}

/// A thing that is `None`, or not in reach. An administrator reads that it does not exist, anyone else that they may
/// not.
pub(crate) fn in_reach<T>(
    found: Option<T>,
    reach: &Sees,
    owner: impl FnOnce(&T) -> &str,
    policy: &str,
    missing: impl FnOnce() -> Error,
) -> Result<T> {
    match (found, reach) {
        (Some(found), _) if reach.allows(owner(&found)) => Ok(found),
        (None, Sees::All) => Err(missing()),
        _ => Err(forbidden(policy)),
    }
}

pub(crate) fn is_self(ctx: &Ctx, user_id: &str) -> bool {
    ctx.user_id() == Some(user_id)
}

/// The user's own things, or anyone's for who may read them all.
pub(crate) fn reads_user(ctx: &Ctx, user_id: &str, policy: &str) -> Result<()> {
    match is_self(ctx, user_id) {
        true => Ok(()),
        false => sees_all(ctx, policy),
    }
}

/// The user's own things, or anyone's for an administrator.
pub(crate) fn owns(ctx: &Ctx, user_id: &str, policy: &str) -> Result<()> {
    match is_self(ctx, user_id) || principal(ctx)?.is_admin() {
        true => Ok(()),
        false => Err(forbidden(policy)),
    }
}

/// Refuses tokens of application credentials that may not make or take away further secrets.
pub(crate) fn unrestricted(ctx: &Ctx, policy: &str) -> Result<()> {
    match &principal(ctx)?.application_credential {
        Some(credential) if !credential.unrestricted => Err(forbidden(policy)),
        _ => Ok(()),
    }
}
