//! One request, from the router to its answer.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::response::Response;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use sync_wrapper::SyncWrapper;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use umbel_api::{Method, Microversion, Route};
use umbel_auth::authorize;
use umbel_core::{Ctx, Error, Kind, OnBehalf, Principal, Result, Scope};

use crate::exchange::Exchange;
use crate::fault::Reader;
use crate::metrics::{self, Meter};
use crate::reply::ReplyBody;
use crate::service::Handler;
use crate::version::Label;
use crate::{App, FaultStyle, Reply, Req, Versions, origin};

/// A service as the router sees it.
pub(crate) struct Mount {
    pub app: App,
    /// Its name, as its prefix has it: `compute`.
    pub service: &'static str,
    pub prefix: &'static str,
    pub fault: FaultStyle,
    pub versions: Option<(Versions, Label)>,
    pub max_json: usize,
    /// See [`crate::Service::on_behalf`].
    pub on_behalf: bool,
    /// Under which names an answer carries the request's id.
    pub request_id_headers: Vec<HeaderName>,
    /// Counts what no route fits.
    pub unrouted: Arc<Meter>,
}

/// A route with what answers it.
pub(crate) struct Mounted {
    pub route: &'static Route,
    handler: Handler,
    /// Of the path's parameters, in its order.
    names: Vec<&'static str>,
    meter: Arc<Meter>,
}

impl Mounted {
    pub(crate) fn new(service: &'static str, route: &'static Route, handler: Handler) -> Self {
        let braced = |segment: &'static str| segment.strip_prefix('{')?.strip_suffix('}');
        let names = route.path.split('/').filter_map(braced).map(|name| name.trim_start_matches('*')).collect();
        Mounted { route, handler, names, meter: metrics::meter(service, route.method.name(), route.path) }
    }

    /// Reading leaves nothing half done, so it ends where nobody waits for the answer any more.
    fn reads(&self) -> bool {
        matches!(self.route.method, Method::Get | Method::Head)
    }
}

/// What stands in a path beside the route's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InPath {
    Nothing,
    /// The project, before the route's parameters.
    Project,
}

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// What a path says, as it was matched.
struct Values {
    beside: InPath,
    params: Params,
}

impl Values {
    /// The route's parameters. A project in the path must be the one that the token is for; administrators may name any.
    fn of(self, ctx: &Ctx) -> Result<Vec<String>> {
        let params = self
            .params
            .map_err(|error| Error::bad_request("The path is not valid UTF-8.").because(error.body_text()))?;
        let mut values: Vec<String> = params.iter().map(|(_, value)| value.to_owned()).collect();
        if self.beside == InPath::Project && !values.is_empty() {
            let named = values.remove(0);
            let own = ctx.project_id();
            if ctx.principal.is_some() && own != Some(&*named) && !ctx.is_admin() && !ctx.is_service() {
                let own = own.unwrap_or("None");
                let message = format!(
                    "Malformed request URL: URL's project_id '{named}' doesn't match Context's project_id '{own}'"
                );
                return Err(Error::bad_request(message));
            }
        }
        Ok(values)
    }
}

impl Mount {
    /// Answers a request to a path at which `routes` live, by method and version; none where the path is nobody's.
    pub(crate) async fn answer(
        &self,
        routes: &[Mounted],
        beside: InPath,
        params: Params,
        request: Request,
    ) -> Response {
        let (mut parts, body) = request.into_parts();
        let head = parts.method == http::Method::HEAD;
        let request_id = self.request_id();
        let reader = Reader::of(self.fault, &parts.headers, request_id.clone());
        let tasks = parts.extensions.remove::<TaskTracker>();
        let (version, found) = self.find(routes, &parts);
        let (meter, path) = match &found {
            Ok(mounted) => (&mounted.meter, mounted.route.path),
            Err(_) => (&self.unrouted, ""),
        };
        let exchange = Exchange::begin(meter, path, &request_id, &parts);
        let span = exchange.span().clone();
        let work = async {
            let admitted = found.and_then(|mounted| {
                let version = version.unwrap_or(UNVERSIONED);
                let values = Values { beside, params };
                Ok((mounted, self.admit(mounted, values, parts, body, version, request_id.clone())?))
            });
            match admitted {
                Ok((mounted, req)) => self.run(mounted, req, reader, tasks).await,
                Err(error) => {
                    let reply = reader.fault(&error);
                    match error.kind() {
                        Kind::MethodNotAllowed => reply.header("allow", allowed(routes, version)),
                        _ => reply,
                    }
                }
            }
        };
        let mut reply = work.instrument(span.clone()).await;
        exchange.end(reply.status());
        if head {
            reply = reply.without_body();
        }
        if let (Some((_, label)), Some(version)) = (&self.versions, version) {
            label.put(&mut reply, version);
        }
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            for name in &self.request_id_headers {
                reply.headers.insert(name, id.clone());
            }
        }
        respond(reply, span)
    }

    fn request_id(&self) -> Arc<str> {
        let mut buffer = *b"req-00000000-0000-0000-0000-000000000000";
        self.app.rng.uuid().hyphenated().encode_lower(&mut buffer[4..]);
        std::str::from_utf8(&buffer).unwrap_or_default().into()
    }

    /// The version to speak, if the two sides have one in common, and the route.
    fn find<'r>(&self, routes: &'r [Mounted], parts: &Parts) -> (Option<Microversion>, Result<&'r Mounted>) {
        let version = match &self.versions {
            Some((versions, _)) => versions.negotiate(&parts.headers),
            None => Ok(UNVERSIONED),
        };
        match version {
            Ok(version) => (Some(version), pick(routes, parts.method.as_str(), version)),
            Err(error) => (None, Err(error)),
        }
    }

    /// Lets a caller in, or not.
    fn admit(
        &self,
        mounted: &Mounted,
        values: Values,
        parts: Parts,
        body: axum::body::Body,
        version: Microversion,
        request_id: Arc<str>,
    ) -> Result<Req> {
        let route = mounted.route;
        let mut ctx = self.context(&parts.headers, request_id)?;
        self.hold_to_rules(&mut ctx, &parts);
        authorize(route.rule, route.policy, &ctx)?;
        let values = values.of(&ctx)?;
        Ok(Req {
            ctx,
            version,
            route,
            root: origin::of(&parts, self.prefix),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            params: mounted.names.iter().copied().zip(values).collect(),
            headers: parts.headers,
            body: SyncWrapper::new(body),
            max_json: self.max_json,
        })
    }

    /// Who asks. A user's token that is no good is the same as none: enough for a public route, 401 on any other.
    /// (Identity's routes about tokens look at such a token themselves.) A service's must be good wherever it is sent.
    fn context(&self, headers: &HeaderMap, request_id: Arc<str>) -> Result<Ctx> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let mut ctx = Ctx::anonymous(request_id);
        if let Some(token) = text("x-auth-token") {
            match self.app.verifier.verify(token) {
                Ok(principal) => {
                    ctx.principal = Some(principal);
                    ctx.token = Some(token.into());
                }
                Err(error) => tracing::debug!(cause = error.cause(), "a token was refused"),
            }
        }
        if let Some(token) = text("x-service-token") {
            ctx.service = Some(self.app.verifier.verify(token)?);
        }
        let named = (text(OnBehalf::PROJECT), text(OnBehalf::USER));
        if let (true, None, (Some(project), Some(user))) = (self.on_behalf, text("x-auth-token"), named) {
            // From here on the request is that user's, and has no service's rights.
            ctx.principal =
                ctx.service.take().filter(|by| by.has_role("service")).map(|by| stand_in(&by, project, user));
        }
        Ok(ctx)
    }

    /// A token that is not for this request is as good as none. What a service passes on for a user was held to the
    /// rules where it came in.
    fn hold_to_rules(&self, ctx: &mut Ctx, parts: &Parts) {
        let rules = ctx.principal.as_deref().map_or(&[][..], umbel_auth::rules_of);
        let passed_on = ctx.service.as_ref().is_some_and(|by| by.has_role("service"));
        if rules.is_empty() || passed_on {
            return;
        }
        if !umbel_auth::permits(rules, self.service, parts.method.as_str(), parts.uri.path()) {
            tracing::debug!("a token's access rules do not allow the request");
            (ctx.principal, ctx.token) = (None, None);
        }
    }

    /// Calls the handler. What writes gets a task of its own: a connection that breaks drops the future that answers
    /// it, and would stop the handler between any two steps, its cleaning up included.
    async fn run(&self, mounted: &Mounted, req: Req, reader: Reader, tasks: Option<TaskTracker>) -> Reply {
        let handler = mounted.handler.clone();
        let guarded = AssertUnwindSafe(async move { handler(req).await }).catch_unwind();
        let finished = async move {
            match guarded.await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => reader.fault(&error),
                Err(panic) => reader.fault(&Error::internal(text_of(&*panic)).because("a handler panicked")),
            }
        };
        if mounted.reads() {
            return finished.await;
        }
        let finished = finished.in_current_span();
        let task = match tasks {
            Some(tasks) => tasks.spawn(finished),
            None => tokio::spawn(finished),
        };
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request's task ended without an answer");
            Reply::empty(500)
        })
    }
}

/// Of a service without microversions.
const UNVERSIONED: Microversion = Microversion::new(0, 0);

/// The route for this method at this version; 405 where the path has other methods only.
fn pick<'r>(routes: &'r [Mounted], method: &str, version: Microversion) -> Result<&'r Mounted> {
    let at = |method: &str| {
        routes.iter().find(|mounted| mounted.route.method.name() == method && mounted.route.versions.contains(version))
    };
    // What can be read can be asked for without its body.
    let found = at(method).or_else(|| if method == Method::Head.name() { at(Method::Get.name()) } else { None });
    if let Some(mounted) = found {
        return Ok(mounted);
    }
    // A method that the path has at another version is one that does not exist at this one, as compute has it.
    let elsewhen = routes.iter().any(|mounted| mounted.route.method.name() == method);
    let others = routes.iter().any(|mounted| mounted.route.versions.contains(version));
    match others && !elsewhen {
        true => Err(Error::new(Kind::MethodNotAllowed, "The method is not allowed for this resource.")),
        false => Err(Error::not_found("The resource could not be found.")),
    }
}

/// A member of the project, whatever else the user may be: a service's token must not become an administrator's.
fn stand_in(by: &Principal, project: &str, user: &str) -> Arc<Principal> {
    let scope = Scope::Project {
        id: project.to_owned(),
        name: String::new(),
        domain_id: String::new(),
        domain_name: String::new(),
    };
    Arc::new(Principal {
        user_id: user.to_owned(),
        user_name: String::new(),
        user_domain_id: String::new(),
        user_domain_name: String::new(),
        scope,
        roles: vec!["member".into(), "reader".into()],
        application_credential: None,
        ..by.clone()
    })
}

/// The methods of a path, as a refusal must name them.
fn allowed(routes: &[Mounted], version: Option<Microversion>) -> String {
    let spoken = routes.iter().filter(|mounted| version.is_some_and(|at| mounted.route.versions.contains(at)));
    let mut names: Vec<&str> = spoken.map(|mounted| mounted.route.method.name()).collect();
    if names.contains(&Method::Get.name()) {
        names.push(Method::Head.name());
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("for a reason that is no text").to_owned()
}

fn respond(reply: Reply, span: tracing::Span) -> Response {
    let body = match reply.body {
        ReplyBody::Empty => axum::body::Body::empty(),
        ReplyBody::Bytes(bytes) => axum::body::Body::from(bytes),
        ReplyBody::Stream(stream) => axum::body::Body::from_stream(crate::reply::CauseLogged { stream, span }),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}
