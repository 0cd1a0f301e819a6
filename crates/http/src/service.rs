use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{RawPathParams, Request};
use axum::response::Response;
use umbel_api::{Method, Microversion, Route};
use umbel_auth::{Verifier, authorize};
use umbel_core::{Ctx, Error, Kind, Result, Rng};

use crate::reply::ReplyBody;
use crate::{FaultStyle, Reply, Req, Versions};

type Handled = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
type Handler = Arc<dyn Fn(Req) -> Handled + Send + Sync>;

/// Routes and what answers them, on their way into a [`Service`].
pub struct Routes<S> {
    state: Arc<S>,
    mounted: Vec<(&'static Route, Handler)>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    pub fn new(state: Arc<S>) -> Self {
        Routes { state, mounted: Vec::new() }
    }

    #[must_use]
    pub fn on<F, Fut>(mut self, route: &'static Route, handler: F) -> Self
    where
        F: Fn(Arc<S>, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send + 'static,
    {
        let state = self.state.clone();
        self.mounted.push((route, Arc::new(move |req| Box::pin(handler(state.clone(), req)))));
        self
    }
}

/// One OpenStack service: its routes and the manner in which it speaks.
pub struct Service {
    /// Where it stands on the shared port: `/compute`. Empty for none.
    pub prefix: &'static str,
    pub fault: FaultStyle,
    pub versions: Option<Versions>,
    /// Largest JSON body in bytes.
    pub max_json: usize,
    mounted: Vec<(&'static Route, Handler)>,
}

impl Service {
    pub fn new(prefix: &'static str, fault: FaultStyle) -> Self {
        Service { prefix, fault, versions: None, max_json: 112 * 1024, mounted: Vec::new() }
    }

    #[must_use]
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = Some(versions);
        self
    }

    #[must_use]
    pub fn routes<S>(mut self, routes: Routes<S>) -> Self {
        self.mounted.extend(routes.mounted);
        self
    }

    /// All routes, for the tests that hold for every one of them.
    pub fn table(&self) -> Vec<&'static Route> {
        self.mounted.iter().map(|(route, _)| *route).collect()
    }
}

/// What every service shares: who verifies tokens and where ids come from.
#[derive(Clone)]
pub struct App {
    pub verifier: Arc<Verifier>,
    pub rng: Arc<dyn Rng>,
}

struct Mount {
    app: App,
    prefix: &'static str,
    fault: FaultStyle,
    versions: Option<Versions>,
    max_json: usize,
}

impl App {
    /// All services on one port, each below its prefix.
    pub fn router(&self, services: Vec<Service>) -> axum::Router {
        services.into_iter().fold(axum::Router::new(), |router, service| {
            let prefix = service.prefix;
            router.merge(self.service_router(service, prefix))
        })
    }

    /// One service on a port of its own, without prefix.
    pub fn alone(&self, service: Service) -> axum::Router {
        self.service_router(service, "")
    }

    fn service_router(&self, service: Service, prefix: &'static str) -> axum::Router {
        let mount = Arc::new(Mount {
            app: self.clone(),
            prefix,
            fault: service.fault,
            versions: service.versions,
            max_json: service.max_json,
        });
        let mut by_path: BTreeMap<&'static str, Vec<(&'static Route, Handler)>> = BTreeMap::new();
        for (route, handler) in service.mounted {
            by_path.entry(route.path).or_default().push((route, handler));
        }
        let mut router = axum::Router::new();
        for (path, routes) in by_path {
            let (mount, routes) = (mount.clone(), Arc::new(routes));
            let handler = axum::routing::any(move |params: RawPathParams, request: Request| {
                let (mount, routes) = (mount.clone(), routes.clone());
                async move { mount.answer(&routes, params, request).await }
            });
            for full in spellings(prefix, path) {
                router = router.route(&full, handler.clone());
            }
        }
        let lost = axum::routing::any(move || {
            let mount = mount.clone();
            async move { mount.lost() }
        });
        match prefix {
            "" => router.fallback(lost),
            _ => router.route(&format!("{prefix}/{{*rest}}"), lost),
        }
    }
}

/// A path is reached with and without a slash at its end.
fn spellings(prefix: &str, path: &str) -> Vec<String> {
    let bare = format!("{prefix}{}", path.trim_end_matches('/'));
    match bare.as_str() {
        "" => vec!["/".to_owned()],
        _ if path.contains("{*") => vec![bare],
        _ => vec![format!("{bare}/"), bare],
    }
}

impl Mount {
    async fn answer(&self, routes: &[(&'static Route, Handler)], params: RawPathParams, request: Request) -> Response {
        let request_id: Arc<str> = format!("req-{}", self.app.rng.uuid()).into();
        let head = request.method() == http::Method::HEAD;
        let version = match &self.versions {
            Some(versions) => versions.negotiate(request.headers()),
            None => Ok(Microversion::new(0, 0)),
        };
        let answered = match &version {
            Ok(version) => self.call(routes, params, request, *version, request_id.clone()).await,
            Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
        };
        let mut reply = answered.unwrap_or_else(|error| self.failed(&error, &request_id));
        if let (Some(versions), Ok(version)) = (&self.versions, version) {
            reply = versions.label(reply, version);
        }
        if head {
            reply.body = match reply.body {
                ReplyBody::Bytes(bytes) => {
                    reply.headers.push((http::header::CONTENT_LENGTH, bytes.len().into()));
                    ReplyBody::Empty
                }
                _ => ReplyBody::Empty,
            };
        }
        respond(reply, &request_id)
    }

    async fn call(
        &self,
        routes: &[(&'static Route, Handler)],
        params: RawPathParams,
        request: Request,
        version: Microversion,
        request_id: Arc<str>,
    ) -> Result<Reply> {
        let (parts, body) = request.into_parts();
        let (route, handler) = pick(routes, parts.method.as_str(), version)?;
        let ctx = self.context(&parts.headers, request_id)?;
        authorize(route.rule, route.policy, &ctx)?;
        let req = Req {
            ctx,
            version,
            route,
            root: self.root(&parts.headers),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            params: params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            headers: parts.headers,
            body,
            max_json: self.max_json,
        };
        handler(req).await
    }

    /// Who asks. A token that is there must be good, also where none is needed; but identity's own routes look at
    /// theirs themselves, since a bad token there is a 404 or 401 of its own.
    fn context(&self, headers: &http::HeaderMap, request_id: Arc<str>) -> Result<Ctx> {
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
        Ok(ctx)
    }

    /// The URL by which the client reached us, for the links in answers.
    fn root(&self, headers: &http::HeaderMap) -> String {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("x-forwarded-host").or_else(|| text("host")).unwrap_or("localhost");
        let scheme = text("x-forwarded-proto").unwrap_or("http");
        format!("{scheme}://{host}{}", self.prefix)
    }

    fn failed(&self, error: &Error, request_id: &str) -> Reply {
        if error.kind().status() >= 500 {
            tracing::error!(request_id, cause = error.cause(), "{error}");
        } else {
            tracing::debug!(request_id, cause = error.cause(), "{error}");
        }
        self.fault.reply(error, request_id)
    }

    fn lost(&self) -> Response {
        let request_id = format!("req-{}", self.app.rng.uuid());
        let reply = self.failed(&Error::not_found("The resource could not be found."), &request_id);
        respond(reply, &request_id)
    }
}

/// The route for this method at this version; 405 where the path has other methods only.
fn pick<'r>(
    routes: &'r [(&'static Route, Handler)],
    method: &str,
    version: Microversion,
) -> Result<(&'static Route, &'r Handler)> {
    let at = |method: &str| {
        routes.iter().find(|(route, _)| route.method.name() == method && route.versions.contains(version))
    };
    // What can be read can be asked for without its body.
    let found = at(method).or_else(|| if method == Method::Head.name() { at(Method::Get.name()) } else { None });
    if let Some((route, handler)) = found {
        return Ok((route, handler));
    }
    match routes.iter().any(|(route, _)| route.versions.contains(version) && route.method.name() != method) {
        true if !routes.iter().any(|(route, _)| route.method.name() == method) => {
            Err(Error::new(Kind::MethodNotAllowed, "The method is not allowed for this resource."))
        }
        _ => Err(Error::not_found("The resource could not be found.")),
    }
}

fn respond(reply: Reply, request_id: &str) -> Response {
    let reply = reply.header("x-openstack-request-id", request_id).header("x-compute-request-id", request_id);
    let body = match reply.body {
        ReplyBody::Empty => axum::body::Body::empty(),
        ReplyBody::Bytes(bytes) => axum::body::Body::from(bytes),
        ReplyBody::Stream(stream) => axum::body::Body::from_stream(CauseLogged(stream)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// A stream that breaks ends the connection, which is all HTTP can say then; the reason goes to the log.
struct CauseLogged(crate::ByteStream);

impl futures_util::Stream for CauseLogged {
    type Item = std::result::Result<bytes::Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map(|item| {
            item.map(|chunk| {
                chunk.map_err(|error| {
                    tracing::error!(cause = error.cause(), "a download broke off: {error}");
                    std::io::Error::other(error.to_string())
                })
            })
        })
    }
}
