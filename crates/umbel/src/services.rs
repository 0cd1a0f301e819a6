//! What services of this cloud ask each other, over the public APIs and with a token of their own: in this process
//! without a socket, elsewhere by HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use umbel_agent::ImageStore;
use umbel_api::Method;
use umbel_bus::ImageBytes;
use umbel_client::{
    Body, ByteStream, Cloud, CloudConfig, HttpTransport, ImageLocation, ImageView, Images, NewImage, Transport,
};
use umbel_compute::{ImageCatalog, Who};
use umbel_core::{Clock, Error, Kind, Result};

use crate::cli::Role;
use crate::config::Config;
use crate::inprocess::InProcess;
use crate::roles::Roles;

/// A token is renewed when this much of its life is over; the shortest life an operator may choose is longer. With it
/// the catalog is read again, and a service that moved is found.
const RENEW: Duration = Duration::from_secs(240);

/// Between two logins that fail, while the token is still good.
const AGAIN: Duration = Duration::from_secs(10);

/// What a token must have left to be used for a call.
const SPARE: Duration = Duration::from_secs(30);

/// For another process's answer to begin. A client of ours has given up by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// Host of the URLs that lead into this process. No name that resolves has a hyphen and no dot.
const HERE: &str = "in-process";

/// Roles that serve an API: the role, its path, its type in the catalog.
const SERVED: [(Role, &str, &str); 4] = [
    (Role::Identity, "identity", "identity"),
    (Role::Image, "image", "image"),
    (Role::Volume, "volume", "block-storage"),
    (Role::Compute, "compute", "compute"),
];

/// Where services answer, by their type in the catalog; one that is not here is in the catalog.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<&'static str, String>);

impl Places {
    pub fn new(roles: &Roles, config: &Config) -> Places {
        let mut places = BTreeMap::new();
        for (role, path, kind) in SERVED {
            let place = match roles.has(role) {
                true => Some(format!("http://{HERE}/{path}")),
                false => configured(config, kind).cloned(),
            };
            places.extend(place.map(|place| (kind, place.trim_end_matches('/').to_owned())));
        }
        Places(places)
    }

    /// Root of identity, which nobody can look up.
    pub fn identity(&self) -> Option<&str> {
        self.0.get("identity").map(String::as_str)
    }
}

/// Where the configuration says that a service is, by its type in the catalog.
pub fn configured<'a>(config: &'a Config, kind: &str) -> Option<&'a String> {
    let services = &config.services;
    match kind {
        "identity" => services.identity.as_ref(),
        "image" => services.image.as_ref(),
        "block-storage" => services.volume.as_ref(),
        "compute" => services.compute.as_ref(),
        _ => None,
    }
}

/// Into this process's router, or over a socket, by the host in a request's URL.
#[derive(Default)]
pub struct Ways {
    here: InProcess,
    /// Made when it is needed first: a process that is a whole cloud never does.
    outside: OnceLock<HttpTransport>,
    /// PEM of whom to believe outside, beside the system's authorities.
    authorities: Option<PathBuf>,
}

impl Ways {
    pub fn new(authorities: Option<PathBuf>) -> Ways {
        Ways { authorities, ..Ways::default() }
    }

    pub fn set(&self, router: umbel_http::Router) {
        self.here.set(router);
    }

    fn outside(&self) -> Result<&HttpTransport> {
        if let Some(made) = self.outside.get() {
            return Ok(made);
        }
        let made = match &self.authorities {
            Some(authorities) => HttpTransport::trusting(authorities)?,
            None => HttpTransport::new(false)?,
        };
        Ok(self.outside.get_or_init(|| made))
    }
}

#[async_trait]
impl Transport for Ways {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        if request.uri().host() == Some(HERE) {
            return self.here.send(request).await;
        }
        // What streams takes as long as it takes.
        let streams = matches!(request.body(), Body::Stream(_));
        let answer = self.outside()?.send(request);
        match streams {
            true => answer.await,
            false => tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(silent())),
        }
    }
}

fn silent() -> Error {
    Error::new(Kind::Timeout, "A service did not answer in time.")
}

/// The services' own user, logged in.
pub struct ServiceLogin {
    /// None where no role of this process calls others.
    config: Option<CloudConfig>,
    places: Places,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    /// With when to renew it.
    session: Mutex<Option<(Cloud, Instant)>>,
}

impl ServiceLogin {
    pub fn new(
        config: Option<CloudConfig>,
        places: Places,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        ServiceLogin { config, places, transport, clock, session: Mutex::new(None) }
    }

    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A token with the role `service`. Callers wait for one login rather than each make its own.
    pub async fn token(&self) -> Result<String> {
        Ok(self.session().await?.token().to_owned())
    }

    /// Root of a service by its type in the catalog, as the catalog has it where it is neither here nor configured.
    pub async fn endpoint(&self, kind: &str) -> Result<String> {
        match self.places.0.get(kind) {
            Some(place) => Ok(place.clone()),
            None => self.session().await?.endpoint(kind).map(str::to_owned).map_err(|error| {
                let known = Error::unavailable(format!("Nobody knows where the service '{kind}' is."));
                known.because(error.for_log()).because("looked in [services] and in the catalog")
            }),
        }
    }

    async fn session(&self) -> Result<Cloud> {
        let Some(config) = &self.config else {
            return Err(Error::internal("this process has no user of its own"));
        };
        let mut held = self.session.lock().await;
        if let Some((cloud, renew)) = &*held
            && Instant::now() < *renew
        {
            return Ok(cloud.clone());
        }
        match Cloud::connect(config, self.transport.clone()).await {
            Ok(cloud) => {
                *held = Some((cloud.clone(), Instant::now() + RENEW));
                Ok(cloud)
            }
            Err(error) => match &mut *held {
                // Identity is away, and a token of an hour has most of it left.
                Some((cloud, renew)) if cloud.expires_at > self.clock.now().plus(SPARE) => {
                    *renew = Instant::now() + AGAIN;
                    Ok(cloud.clone())
                }
                _ => {
                    let refused = Error::new(Kind::Unavailable, "Identity does not let the service in.");
                    Err(refused.because(error.for_log()))
                }
            },
        }
    }
}

/// The way to services for calls with a caller's token. Where that one has access rules, which allow what the caller asked
/// for here and hardly what follows from it there, our own goes along and says that it was held to them. Elsewhere it
/// stays behind: a service's token opens more than a user's.
#[async_trait]
impl Transport for ServiceLogin {
    async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Body>> {
        let token = request.headers().get("x-auth-token").and_then(|token| token.to_str().ok());
        if token.is_some_and(umbel_auth::bears_rules) {
            let own = http::HeaderValue::from_str(&self.token().await?).map_err(Error::internal)?;
            request.headers_mut().insert("x-service-token", own);
        }
        self.transport.send(request).await
    }
}

/// The image service, for agents that import and for compute, which wants to know what it boots.
pub struct ImageService {
    login: Arc<ServiceLogin>,
}

impl ImageService {
    pub fn new(login: Arc<ServiceLogin>) -> Self {
        ImageService { login }
    }

    async fn images(&self) -> Result<Images> {
        Ok(Images::new(self.login.clone(), &self.login.endpoint("image").await?))
    }

    /// The service as somebody asks it, and the token to do so with.
    async fn of(&self, who: Who<'_>) -> Result<(Images, String)> {
        let images = self.images().await?;
        Ok(match who {
            Who::Caller(token) => (images, token.to_owned()),
            Who::For(user) => (images.on_behalf(user.clone()), self.login.token().await?),
            Who::Compute => (images, self.login.token().await?),
        })
    }
}

#[async_trait]
impl ImageStore for ImageService {
    async fn open(&self, image_id: &str) -> Result<ImageBytes> {
        let data = self.images().await?.download(&self.login.token().await?, image_id).await?;
        Ok(ImageBytes { disk_format: data.disk_format, bytes: data.bytes })
    }

    async fn upload(&self, image_id: &str, size: u64, bytes: ByteStream) -> Result<()> {
        let (images, token) = (self.images().await?, self.login.token().await?);
        match images.upload(&token, image_id, Some(size), bytes).await {
            // It was sent before, and the answer lost.
            Err(error) if error.is(Kind::Conflict) => {
                let image = images.show(&self.login.token().await?, image_id).await?;
                if image.status == "active" && image.size == Some(size) { Ok(()) } else { Err(error) }
            }
            outcome => outcome,
        }
    }
}

#[async_trait]
impl ImageCatalog for ImageService {
    async fn show(&self, token: &str, id: &str) -> Result<ImageView> {
        self.images().await?.show(token, id).await
    }

    async fn locations(&self, id: &str) -> Result<Vec<ImageLocation>> {
        self.images().await?.locations(&self.login.token().await?, id).await
    }

    async fn state(&self, id: &str) -> Result<ImageView> {
        self.images().await?.show(&self.login.token().await?, id).await
    }

    async fn find(&self, who: Who<'_>, having: &[(&str, &str)]) -> Result<Vec<ImageView>> {
        let (images, token) = self.of(who).await?;
        images.find(&token, having).await
    }

    async fn create(&self, token: &str, new: &NewImage) -> Result<ImageView> {
        self.images().await?.create(token, new).await
    }

    async fn set_properties(&self, who: Who<'_>, id: &str, properties: &BTreeMap<String, String>) -> Result<()> {
        let (images, token) = self.of(who).await?;
        images.set_properties(&token, id, properties).await
    }

    async fn complete_empty(&self, who: Who<'_>, id: &str) -> Result<()> {
        let (images, token) = self.of(who).await?;
        images.upload(&token, id, Some(0), Box::pin(futures_util::stream::empty())).await
    }

    async fn add_location(&self, id: &str, url: &str) -> Result<()> {
        self.images().await?.add_location(&self.login.token().await?, id, url).await
    }

    async fn delete(&self, who: Who<'_>, id: &str) -> Result<()> {
        let (images, token) = self.of(who).await?;
        images.delete(&token, id).await
    }

    async fn raw(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        self.images().await?.raw(token, method, path, body).await
    }
}
