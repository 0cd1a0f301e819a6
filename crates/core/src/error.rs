use std::borrow::Cow;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a program reacts to. Everything else about a failure is text.
///
/// The kinds are those an OpenStack API can answer with; [`Kind::status`] is the HTTP status that a service uses unless
/// its reference says otherwise (compute, for one, answers 403 where image answers 413 for quota).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    Conflict,
    Gone,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    OverQuota,
    /// Worth trying again as it is: a lost race, a busy database, a leader that moved.
    Busy,
    /// The storage or host has no room for it.
    NoSpace,
    NotImplemented,
    Unavailable,
    Timeout,
    Internal,
}

impl Kind {
    pub const fn status(self) -> u16 {
        match self {
            Kind::BadRequest => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden | Kind::OverQuota => 403,
            Kind::NotFound => 404,
            Kind::MethodNotAllowed => 405,
            Kind::NotAcceptable => 406,
            Kind::Conflict => 409,
            Kind::Gone => 410,
            Kind::PreconditionFailed => 412,
            Kind::TooLarge => 413,
            Kind::UnsupportedMediaType => 415,
            Kind::RangeNotSatisfiable => 416,
            Kind::NotImplemented => 501,
            Kind::Busy | Kind::Unavailable | Kind::Timeout => 503,
            Kind::NoSpace | Kind::Internal => 500,
        }
    }
}

/// A failure with two halves that never mix: what the caller may read, and what only the operator may.
///
/// The internal half has no `Display` and is not part of the message, so it cannot reach a response by accident; it is
/// read with [`Error::internal`] where an error is logged, once, at the place that handles it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    internal: Option<Box<str>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, message: message.into(), internal: None }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unauthorized, message)
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Forbidden, message)
    }

    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// A failure the caller can do nothing about. The caller reads a fixed sentence; `cause` is for the log.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Internal, "An unexpected internal error occurred.").because(cause)
    }

    /// Adds to the internal half, the newest cause first.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        let text = match self.internal.take() {
            Some(before) => format!("{cause}: {before}"),
            None => cause.to_string(),
        };
        self.internal = Some(text.into_boxed_str());
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The half that the caller may read.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The half for the log only.
    pub fn cause(&self) -> Option<&str> {
        self.internal.as_deref()
    }

    /// Both halves, for a log line or an operator's terminal; never for a response.
    pub fn for_log(&self) -> String {
        match &self.internal {
            Some(cause) => format!("{} ({cause})", self.message),
            None => self.message.to_string(),
        }
    }

    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }
}

/// The external half only.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internal_half_is_not_displayed() {
        let error = Error::internal("password=hunter2").because("opening the database");
        assert_eq!(error.to_string(), "An unexpected internal error occurred.");
        assert_eq!(error.cause(), Some("opening the database: password=hunter2"));
    }
}
