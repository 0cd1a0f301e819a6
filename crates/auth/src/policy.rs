use umbel_api::Rule;
use umbel_core::{Ctx, Error, Result, Scope};

/// Whether the caller may use a route at all: 401 without a token where one is needed, 403 with one too weak.
pub fn authorize(rule: Rule, policy: &str, ctx: &Ctx) -> Result<()> {
    if rule == Rule::Public {
        return Ok(());
    }
    let Some(principal) = &ctx.principal else {
        return Err(Error::unauthorized("The request you have made requires authentication."));
    };
    let in_project =
        |role: &str| principal.is_admin() || (principal.project_id().is_some() && principal.has_role(role));
    let allowed = match rule {
        Rule::Public | Rule::Authenticated => true,
        Rule::Reader => in_project("reader"),
        Rule::Member => in_project("member"),
        Rule::Admin => principal.is_admin(),
        Rule::Service => principal.is_admin() || ctx.is_service(),
    };
    match allowed {
        true => Ok(()),
        false => Err(Error::forbidden(format!("Policy doesn't allow {policy} to be performed."))),
    }
}

/// Whose things a request may see. Every store function that reads a tenant's rows takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    All,
    Project(String),
}

impl Visible {
    pub fn allows(&self, project_id: &str) -> bool {
        match self {
            Visible::All => true,
            Visible::Project(own) => own == project_id,
        }
    }
}

/// What a request on one thing may see: an administrator or a service that asks for itself everything, anyone else their
/// project's. A service's token beside a user's widens nothing: what it passes on must find only what its user would. A
/// list starts from the project too and widens only where the caller asks for all and is allowed to.
pub fn visible(ctx: &Ctx) -> Result<Visible> {
    let Some(principal) = &ctx.principal else {
        return Err(Error::unauthorized("The request you have made requires authentication."));
    };
    match &principal.scope {
        _ if principal.is_admin() || principal.has_role("service") => Ok(Visible::All),
        Scope::Project { id, .. } => Ok(Visible::Project(id.clone())),
        _ => Err(Error::forbidden("A token scoped to a project is needed.")),
    }
}
