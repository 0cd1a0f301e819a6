use crate::{Microversion, VersionRange};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// Who may call a route. Says which token is good enough; whose things it then sees is decided where they are read.
///
/// The roles are the three that identity's bootstrap makes, each implying the next: admin, member, reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No token needed: version documents, and asking for a token.
    Public,
    /// Any valid token, whatever its scope.
    Authenticated,
    /// `reader` in a project; `admin` in any scope.
    Reader,
    /// `member` in a project; `admin` in any scope.
    Member,
    /// `admin`, in any scope.
    Admin,
    /// One of our services, by its own token or beside the user's; or `admin`.
    Service,
}

/// One operation: what the router, the policy check, the documentation and the authorization test are made from.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    /// Below the service's root; `{name}` takes one segment, `{*name}` the rest.
    pub path: &'static str,
    /// Name of the policy, as upstream's policy files have it.
    pub policy: &'static str,
    pub rule: Rule,
    pub versions: VersionRange,
}

impl Route {
    pub const fn new(method: Method, path: &'static str, policy: &'static str, rule: Rule) -> Self {
        Route { method, path, policy, rule, versions: VersionRange::ALL }
    }

    /// From this version on; before it the path does not exist.
    #[must_use]
    pub const fn since(mut self, major: u16, minor: u16) -> Self {
        self.versions.min = Microversion::new(major, minor);
        self
    }

    /// Up to and including this version.
    #[must_use]
    pub const fn until(mut self, major: u16, minor: u16) -> Self {
        self.versions.max = Microversion::new(major, minor);
        self
    }
}
