//! What a cloud needs before anyone can log in. Can be run at every start: what stands is left as it is, apart from
//! endpoints' URLs (the port may be another one) and the administrator, who is let in again. That makes it the way back
//! for an operator who is locked out.

use umbel_api::identity::Extra;
use umbel_auth::RevocationKind;
use umbel_core::{Error, Generation, Kind, Principal, Result, Scope};
use umbel_db::{read, tx};

use crate::compliance;
use crate::passwords::Verdict;
use crate::revoke::Pending;
use crate::service::accounts;
use crate::store::assignments::{ActorKind, AssignmentRow, SYSTEM, TargetKind};
use crate::store::catalog::{EndpointRow, ServiceRow};
use crate::store::projects::ProjectRow;
use crate::store::regions::RegionRow;
use crate::store::roles::RoleRow;
use crate::store::users::UserRow;
use crate::store::{Tx, Window};
use crate::{Identity, store};

/// What to make.
#[derive(Clone)]
pub struct BootstrapSpec {
    /// Of `admin`, whose password becomes this one.
    pub admin_password: String,
    /// Of `service`, as which services log in to each other; without one that user cannot log in by password, which
    /// is right where all run in one process ([`Identity::service_token`]).
    pub service_password: Option<String>,
    /// `RegionOne`, by custom.
    pub region: String,
    pub endpoints: Vec<EndpointSpec>,
    /// A project and user without rights over others, to try things out.
    pub demo: Option<DemoSpec>,
}

/// One service of the catalog, with its three interfaces in the region.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// `compute`, `image`, `volumev3`, …
    pub service_type: String,
    /// `nova`, `glance`, …
    pub service_name: String,
    pub description: String,
    pub public_url: String,
    pub internal_url: String,
    pub admin_url: String,
}

impl EndpointSpec {
    /// With one URL for all three interfaces.
    pub fn new(service_type: &str, service_name: &str, description: &str, url: &str) -> Self {
        EndpointSpec {
            service_type: service_type.to_owned(),
            service_name: service_name.to_owned(),
            description: description.to_owned(),
            public_url: url.to_owned(),
            internal_url: url.to_owned(),
            admin_url: url.to_owned(),
        }
    }
}

/// Project `demo` and user `demo`, a member of it.
#[derive(Clone)]
pub struct DemoSpec {
    pub password: String,
}

/// Ids of what stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrapped {
    pub admin_user_id: String,
    pub admin_project_id: String,
    pub service_user_id: String,
    pub service_project_id: String,
    pub demo_project_id: Option<String>,
}

pub(crate) const DEFAULT_DOMAIN: &str = "default";
const EVERYTHING: Window = Window { limit: 10_000, after: None };

/// Each implies the next; `service` stands by itself.
const ROLES: [&str; 4] = ["admin", "manager", "member", "reader"];
const SERVICE: &str = "service";

/// A password as it is to be stored, hashed before the transaction begins.
struct Wanted<'a> {
    user: &'a str,
    /// None to leave it as it is, or without one.
    hash: Option<String>,
}

impl Identity {
    pub async fn bootstrap(&self, spec: &BootstrapSpec) -> Result<Bootstrapped> {
        match self.bootstrap_once(spec).await {
            // Another process made the same at the same moment; now it stands.
            Err(error) if error.is(Kind::Conflict) => self.bootstrap_once(spec).await,
            done => done,
        }
    }

    async fn bootstrap_once(&self, spec: &BootstrapSpec) -> Result<Bootstrapped> {
        let demo = spec.demo.as_ref().map(|demo| demo.password.as_str());
        let admin = self.wanted("admin", Some(&spec.admin_password)).await?;
        let service = self.wanted(SERVICE, spec.service_password.as_deref()).await?;
        let demo = match demo {
            Some(password) => Some(self.wanted("demo", Some(password)).await?),
            None => None,
        };
        let (done, pending) = tx!(self.db, "bootstrap", |tx| {
            let mut pending = Pending::new();
            self.ensure_domain(tx).await?;
            let roles = self.ensure_roles(tx).await?;
            let role = |name: &str| role_id(&roles, name);
            let admin_project_id = self.ensure_project(tx, "admin", "Project of the administrators.").await?;
            let service_project_id = self.ensure_project(tx, SERVICE, "Project of the cloud's own services.").await?;
            let admin_user_id = self.ensure_user(tx, &admin, &mut pending).await?;
            let service_user_id = self.ensure_user(tx, &service, &mut pending).await?;
            grant(tx, &admin_user_id, TargetKind::Project, &admin_project_id, &role("admin")?).await?;
            grant(tx, &admin_user_id, TargetKind::System, SYSTEM, &role("admin")?).await?;
            // `service` opens what is for services; `member` what users call too, as the download of an image.
            for name in [SERVICE, "member"] {
                grant(tx, &service_user_id, TargetKind::Project, &service_project_id, &role(name)?).await?;
            }
            let mut demo_project_id = None;
            if let Some(demo) = &demo {
                let project_id = self.ensure_project(tx, "demo", "Project to try things out in.").await?;
                let user_id = self.ensure_user(tx, demo, &mut pending).await?;
                grant(tx, &user_id, TargetKind::Project, &project_id, &role("member")?).await?;
                grant(tx, &admin_user_id, TargetKind::Project, &project_id, &role("admin")?).await?;
                demo_project_id = Some(project_id);
            }
            if store::regions::get(tx, &spec.region).await?.is_none() {
                store::regions::insert(tx, &RegionRow::named(&spec.region)).await?;
            }
            for endpoint in &spec.endpoints {
                self.ensure_endpoints(tx, &spec.region, endpoint).await?;
            }
            let done =
                Bootstrapped { admin_user_id, admin_project_id, service_user_id, service_project_id, demo_project_id };
            Ok((done, pending))
        })?;
        self.forget_directory();
        pending.apply(self);
        Ok(done)
    }

    /// A token of the user `service` on the project `service`, for this process's own calls to other services.
    pub async fn service_token(&self) -> Result<String> {
        let found = read!(self.db, "find the service user", |tx| {
            let user = store::users::find(tx, DEFAULT_DOMAIN, SERVICE).await?;
            let project = store::projects::find(tx, DEFAULT_DOMAIN, SERVICE).await?;
            let domain = store::projects::get(tx, DEFAULT_DOMAIN).await?;
            Ok(user.zip(project).zip(domain))
        })?;
        let Some(((user, project), domain)) = found.filter(|((user, project), _)| user.enabled && project.enabled)
        else {
            return Err(Error::unavailable("The service user is missing or disabled; bootstrap identity again."));
        };
        let now = self.now();
        let principal = Principal {
            user_id: user.id,
            user_name: user.name,
            user_domain_id: domain.id.clone(),
            user_domain_name: domain.name.clone(),
            scope: Scope::Project {
                id: project.id,
                name: project.name,
                domain_id: domain.id,
                domain_name: domain.name,
            },
            roles: vec![SERVICE.to_owned()],
            audit_ids: vec![self.new_id()],
            methods: vec!["password".to_owned()],
            issued_at: now,
            expires_at: now.plus(self.config.token_ttl),
            application_credential: None,
        };
        self.signer.sign(&principal)
    }

    /// Hashes the password unless the user has it already: a changed one revokes all tokens.
    async fn wanted<'a>(&self, user: &'a str, password: Option<&str>) -> Result<Wanted<'a>> {
        let Some(password) = password else {
            return Ok(Wanted { user, hash: None });
        };
        let row = read!(self.db, "find a user", |tx| store::users::find(tx, DEFAULT_DOMAIN, user).await)?;
        if let Some((id, stored)) = row.and_then(|row| Some((row.id, row.password_hash?)))
            && self.passwords.verify(&id, Some(&stored), password).await? == Verdict::Fits
        {
            return Ok(Wanted { user, hash: None });
        }
        Ok(Wanted { user, hash: Some(self.passwords.hash(password).await?) })
    }

    async fn ensure_domain(&self, tx: &mut Tx) -> Result<()> {
        if store::projects::get(tx, DEFAULT_DOMAIN).await?.is_some() {
            return Ok(());
        }
        let row = ProjectRow {
            id: DEFAULT_DOMAIN.to_owned(),
            name: "Default".to_owned(),
            description: "The default domain".to_owned(),
            domain_id: None,
            parent_id: None,
            is_domain: true,
            ..new_project()
        };
        store::projects::insert(tx, &row).await
    }

    async fn ensure_project(&self, tx: &mut Tx, name: &str, description: &str) -> Result<String> {
        if let Some(row) = store::projects::find(tx, DEFAULT_DOMAIN, name).await? {
            return Ok(row.id);
        }
        let row = ProjectRow {
            id: self.new_id(),
            name: name.to_owned(),
            description: description.to_owned(),
            ..new_project()
        };
        store::projects::insert(tx, &row).await?;
        Ok(row.id)
    }

    async fn ensure_user(&self, tx: &mut Tx, wanted: &Wanted<'_>, pending: &mut Pending) -> Result<String> {
        // What a person's account must comply with would end in a cloud without services, and anyone could bring it about.
        let exempt = if wanted.user == SERVICE { compliance::exempt() } else { Extra::default() };
        let Some(mut row) = store::users::find(tx, DEFAULT_DOMAIN, wanted.user).await? else {
            let row = UserRow {
                id: self.new_id(),
                generation: Generation::default(),
                name: wanted.user.to_owned(),
                domain_id: DEFAULT_DOMAIN.to_owned(),
                enabled: true,
                password_hash: wanted.hash.clone(),
                password_expires_at: None,
                default_project_id: None,
                options: exempt,
                extra: Extra::default(),
                active_at: None,
            };
            store::users::insert(tx, &row).await?;
            return Ok(row.id);
        };
        // Whoever can start the cloud gets into it, however long nobody did and whatever was guessed.
        accounts::enable(self, tx, &row.id).await?;
        let missing: Extra = exempt.into_iter().filter(|(name, _)| !row.options.contains_key(name)).collect();
        if wanted.hash.is_none() && row.enabled && missing.is_empty() {
            return Ok(row.id);
        }
        row.options.extend(missing);
        row.enabled = true;
        if let Some(hash) = &wanted.hash {
            tracing::info!(user = wanted.user, "bootstrap sets a new password");
            row.password_hash = Some(hash.clone());
            row.password_expires_at = None;
            pending.add(self, tx, RevocationKind::User, &row.id).await?;
        }
        store::users::update(tx, &row).await?;
        Ok(row.id)
    }

    async fn ensure_roles(&self, tx: &mut Tx) -> Result<Vec<(String, String)>> {
        let mut all: Vec<(String, String)> = Vec::new();
        for name in ROLES.into_iter().chain([SERVICE]) {
            let id = match store::roles::find(tx, "", name).await? {
                Some(row) => row.id,
                None => {
                    let row = RoleRow {
                        id: self.new_id(),
                        generation: Generation::default(),
                        name: name.to_owned(),
                        domain_id: None,
                        description: None,
                        options: Extra::from_iter([("immutable".to_owned(), true.into())]),
                        extra: Extra::default(),
                    };
                    store::roles::insert(tx, &row).await?;
                    row.id
                }
            };
            all.push((name.to_owned(), id));
        }
        let rules = store::roles::implications(tx).await?;
        for pair in ROLES.windows(2) {
            let rule = (role_id(&all, pair[0])?, role_id(&all, pair[1])?);
            if !rules.contains(&rule) {
                store::roles::imply(tx, &rule.0, &rule.1).await?;
            }
        }
        Ok(all)
    }

    async fn ensure_endpoints(&self, tx: &mut Tx, region: &str, spec: &EndpointSpec) -> Result<()> {
        let known = store::catalog::list_services(tx, Some(&spec.service_type), None, &EVERYTHING).await?;
        let service_id = match known.into_iter().find(|row| row.name.as_ref() == Some(&spec.service_name)) {
            Some(row) => row.id,
            None => {
                let description = ("description".to_owned(), spec.description.clone().into());
                let row = ServiceRow {
                    id: self.new_id(),
                    generation: Generation::default(),
                    kind: spec.service_type.clone(),
                    name: Some(spec.service_name.clone()),
                    enabled: true,
                    extra: Extra::from_iter([description]),
                };
                store::catalog::insert_service(tx, &row).await?;
                row.id
            }
        };
        let all = store::catalog::all_endpoints(tx).await?;
        let urls = [("public", &spec.public_url), ("internal", &spec.internal_url), ("admin", &spec.admin_url)];
        for (interface, url) in urls {
            let mut here = all.iter().filter(|row| {
                row.service_id == service_id && row.interface == interface && row.region_id.as_deref() == Some(region)
            });
            match here.next() {
                Some(row) if row.url == *url => {}
                Some(row) => {
                    store::catalog::update_endpoint(tx, &EndpointRow { url: url.clone(), ..row.clone() }).await?
                }
                None => {
                    let row = EndpointRow {
                        id: self.new_id(),
                        generation: Generation::default(),
                        service_id: service_id.clone(),
                        interface: interface.to_owned(),
                        region_id: Some(region.to_owned()),
                        url: url.clone(),
                        enabled: true,
                        extra: Extra::default(),
                    };
                    store::catalog::insert_endpoint(tx, &row).await?;
                }
            }
        }
        Ok(())
    }
}

fn role_id(roles: &[(String, String)], name: &str) -> Result<String> {
    let found = roles.iter().find(|(known, _)| known == name);
    found.map(|(_, id)| id.clone()).ok_or_else(|| Error::internal(format!("bootstrap made no role {name}")))
}

/// An enabled one right below the default domain.
fn new_project() -> ProjectRow {
    ProjectRow {
        id: String::new(),
        generation: Generation::default(),
        name: String::new(),
        domain_id: Some(DEFAULT_DOMAIN.to_owned()),
        parent_id: Some(DEFAULT_DOMAIN.to_owned()),
        is_domain: false,
        enabled: true,
        description: String::new(),
        options: Extra::default(),
        extra: Extra::default(),
        tags: Vec::new(),
    }
}

async fn grant(tx: &mut Tx, user_id: &str, target_kind: TargetKind, target_id: &str, role_id: &str) -> Result<()> {
    let row = AssignmentRow {
        actor_kind: ActorKind::User,
        actor_id: user_id.to_owned(),
        target_kind,
        target_id: target_id.to_owned(),
        role_id: role_id.to_owned(),
        inherited: false,
    };
    store::assignments::insert(tx, &row).await
}
