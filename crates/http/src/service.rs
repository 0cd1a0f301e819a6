use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use umbel_api::Route;
use umbel_auth::Verifier;
use umbel_core::{Result, Rng};

use crate::mount::{InPath, Mount, Mounted};
use crate::reply::name_of;
use crate::version::Label;
use crate::{FaultStyle, Reply, Req, Versions, metrics};

pub(crate) type Handled = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Req) -> Handled + Send + Sync>;

/// Routes and what answers them, on their way into a [`Service`].
pub struct Routes<S> {
    state: Arc<S>,
    mounted: Vec<(&'static Route, Handler)>,
}

impl<S: Send + Sync + 'static> Routes<S> {
    pub fn new(state: Arc<S>) -> Self {
        Routes { state, mounted: Vec::new() }
    }

    /// What answers a route. A handler that reads (GET, HEAD) ends where its client goes away; any other runs to its
    /// end whether somebody waits or not, so that what it began it also finishes or cleans up.
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
    bare: bool,
    /// A second header that carries the request's id, as clients of old services look for it there:
    /// `x-compute-request-id` of compute and volume, whose faults have the same form; none of the others.
    pub legacy_request_id: Option<&'static str>,
    /// The version (`/v3`) below which every path may also be written with the token's project behind it, as clients
    /// with an old catalog do: `/v3/{project_id}/volumes`.
    pub project_below: Option<&'static str>,
    on_behalf: bool,
    mounted: Vec<(&'static Route, Handler)>,
}

impl Service {
    pub fn new(prefix: &'static str, fault: FaultStyle) -> Self {
        let legacy_request_id = match fault {
            FaultStyle::Compute => Some("x-compute-request-id"),
            _ => None,
        };
        Service {
            prefix,
            fault,
            versions: None,
            max_json: 112 * 1024,
            bare: false,
            legacy_request_id,
            project_below: None,
            on_behalf: false,
            mounted: Vec::new(),
        }
    }

    #[must_use]
    pub fn versions(mut self, versions: Versions) -> Self {
        self.versions = Some(versions);
        self
    }

    #[must_use]
    pub fn project_below(mut self, version: &'static str) -> Self {
        self.project_below = Some(version);
        self
    }

    /// Other services may work here for a user whose token they have not kept: with a service's token alone, and the
    /// names of user and project beside it ([`umbel_core::OnBehalf`]). Such a request has the rights of a member of
    /// that project and no others.
    ///
    /// Refused: tokens kept in the rows of work that outlasts its request. They are good for all services and, until
    /// they expire, for whoever reads the database or its backups.
    #[must_use]
    pub fn on_behalf(mut self) -> Self {
        self.on_behalf = true;
        self
    }

    #[must_use]
    pub fn routes<S>(mut self, routes: Routes<S>) -> Self {
        self.mounted.extend(routes.mounted);
        self
    }

    /// A slash at the end of a path is not the same path without it, but one with an empty id, which is 404: as
    /// upstream's volume service has it, and unlike its others.
    #[must_use]
    pub fn without_slashes(mut self) -> Self {
        self.bare = true;
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

    /// What this process's routers have answered, in Prometheus' text format. Of the process rather than of this
    /// `App`, as a collector reads processes.
    ///
    /// * `umbel_http_requests_total{service,method,route,status}`; method and route are empty where no route fits.
    ///   Status 499 counts clients that went away before their answer.
    /// * `umbel_http_request_duration_seconds{service,method,route}`: a histogram, up to the first byte of the answer.
    /// * `umbel_http_connections`: how many are open now.
    pub fn metrics(&self) -> String {
        metrics::render()
    }

    /// `GET /metrics`, for a port of its own: without a token, as a collector has none. It tells routes, counts and
    /// durations, nothing of anybody's things, but those are the operator's to know.
    pub fn metrics_router() -> axum::Router {
        App::metrics_router_with(Arc::new(String::new))
    }

    /// As [`App::metrics_router`], with what else the process measures behind it: whole lines of the same format.
    pub fn metrics_router_with(more: Arc<dyn Fn() -> String + Send + Sync>) -> axum::Router {
        let metrics = axum::routing::get(async move || {
            ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], metrics::render() + &more())
        });
        axum::Router::new().route("/metrics", metrics)
    }

    fn service_router(&self, service: Service, prefix: &'static str) -> axum::Router {
        let name = service.prefix.trim_matches('/');
        let mut by_shape: BTreeMap<String, Vec<Mounted>> = BTreeMap::new();
        for (route, handler) in service.mounted {
            by_shape.entry(shape(route.path)).or_default().push(Mounted::new(name, route, handler));
        }
        let ids = [Some("x-openstack-request-id"), service.legacy_request_id];
        let mount = Arc::new(Mount {
            app: self.clone(),
            service: name,
            prefix,
            fault: service.fault,
            versions: service.versions.map(|versions| (versions, Label::of(&versions))),
            max_json: service.max_json,
            on_behalf: service.on_behalf,
            request_id_headers: ids.into_iter().flatten().filter_map(name_of).collect(),
            unrouted: metrics::meter(name, "", ""),
        });
        let mut router = self.lost_router(&mount, by_shape.contains_key("/"), by_shape.contains_key("/{*}"));
        for (_, routes) in by_shape {
            let Some(path) = routes.first().map(|first| first.route.path) else { continue };
            let routes: Arc<[Mounted]> = routes.into();
            let handler = |project: InPath| {
                let (mount, routes) = (mount.clone(), routes.clone());
                axum::routing::any(move |params, request: Request| {
                    let (mount, routes) = (mount.clone(), routes.clone());
                    async move { mount.answer(&routes, project, params, request).await }
                })
            };
            for path in spellings(prefix, path, service.bare) {
                router = router.route(&path, handler(InPath::Nothing));
            }
            let below = service.project_below.and_then(|version| Some((version, path.strip_prefix(version)?)));
            if let Some((version, rest)) = below.filter(|(_, rest)| rest.len() > 1) {
                for path in spellings(prefix, &format!("{version}/{{project_in_path}}{rest}"), service.bare) {
                    router = router.route(&path, handler(InPath::Project));
                }
            }
        }
        router
    }

    /// What answers below the prefix where no route does, in the service's own words.
    fn lost_router(&self, mount: &Arc<Mount>, has_root: bool, has_rest: bool) -> axum::Router {
        let owned = mount.clone();
        let lost = axum::routing::any(move |params, request: Request| {
            let mount = owned.clone();
            async move { mount.answer(&[], InPath::Nothing, params, request).await }
        });
        let prefix = mount.prefix;
        let mut router = axum::Router::new();
        if prefix.is_empty() {
            return router.fallback(lost);
        }
        if !has_root {
            router = router.route(prefix, lost.clone()).route(&format!("{prefix}/"), lost.clone());
        }
        if !has_rest {
            router = router.route(&format!("{prefix}/{{*rest}}"), lost);
        }
        router
    }
}

/// A path without the names of its parameters and the slash at its end: what two routes have in common that one request
/// can mean. They may name a parameter differently (`/x/{id}`, `/x/{name}`).
fn shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        shape.push('/');
        shape.push_str(match segment {
            _ if segment.starts_with("{*") => "{*}",
            _ if segment.starts_with('{') => "{}",
            _ => segment,
        });
    }
    match shape.is_empty() {
        true => "/".to_owned(),
        false => shape,
    }
}

/// A path is reached with and without a slash at its end; where services mind it, if its route has one.
fn spellings(prefix: &str, path: &str, bare_only: bool) -> Vec<String> {
    let bare = format!("{prefix}{}", path.trim_end_matches('/'));
    match bare.as_str() {
        "" => vec!["/".to_owned()],
        _ if path.contains("{*") || (bare_only && !path.ends_with('/')) => vec![bare],
        _ => vec![format!("{bare}/"), bare],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_forgets_names_and_the_last_slash() {
        let check = |path: &str, want: &str| assert_eq!(shape(path), want, "{path}");
        check("/", "/");
        check("/v3/", "/v3");
        check("/v3/users/{id}", "/v3/users/{}");
        check("/v1/{account}/{*object}", "/v1/{}/{*}");
    }
}
