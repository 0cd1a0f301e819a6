use std::sync::Arc;

use umbel_api::identity::projects::{Family, Project, ProjectEntry, ProjectRequest};
use umbel_api::identity::{Extra, SelfLink};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};

use super::query::Query;
use super::{no_content, one, page, window};
use crate::Identity;
use crate::service::projects as service;
use crate::service::projects::{As, Changes};
use crate::service::scopes;
use crate::store::projects::{ProjectFilter, ProjectRow};

const ONE: &str = "project";

pub(super) fn body(req: &Req, row: ProjectRow) -> Project {
    Project {
        links: SelfLink::new(&req.root, &format!("projects/{}", row.id)),
        id: row.id,
        name: row.name,
        domain_id: row.domain_id,
        description: row.description,
        enabled: row.enabled,
        parent_id: row.parent_id,
        is_domain: row.is_domain,
        tags: row.tags,
        options: row.options,
        parents: None,
        subtree: None,
        extra: row.extra,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (query, window) = (Query::of(&req), window(&identity, &req)?);
    let filter = ProjectFilter {
        is_domain: query.flag("is_domain"),
        name: query.text_filter("name"),
        domain_id: query.given("domain_id"),
        parent_id: query.given("parent_id"),
        enabled: query.truth("enabled"),
        tags: query.words("tags"),
        tags_any: query.words("tags-any"),
        not_tags: query.words("not-tags"),
        not_tags_any: query.words("not-tags-any"),
    };
    let rows = service::list(&identity, &req.ctx, req.route.policy, &filter, &window).await?;
    Ok(page(&req, &window, "projects", rows, |row| &row.id, |row| body(&req, row)))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ProjectRequest { project } = req.json().await?;
    let row = service::create(&identity, &req.ctx, req.route.policy, project).await?;
    Ok(one(201, ONE, body(&req, row)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let id = req.param("project_id")?;
    let row = service::show(&identity, &req.ctx, req.route.policy, id, As::Project).await?;
    let asked = Relatives::asked(&Query::of(&req))?;
    let mut project = body(&req, row.clone());
    if asked.any() {
        let domain = service::family(&identity, &row).await?;
        // A list shows what the caller holds a role on; ids show the shape of the tree.
        let own = scopes::projects_of(&identity, &req.ctx, req.route.policy, req.ctx.user_id().unwrap_or_default());
        let own: Vec<String> = own.await?.into_iter().map(|row| row.id).collect();
        let entries = |rows: Vec<&ProjectRow>| {
            let rows = rows.into_iter().filter(|row| own.contains(&row.id));
            Family::List(rows.map(|row| ProjectEntry { project: body(&req, row.clone()) }).collect())
        };
        project.parents = match asked.parents {
            Some(Shape::List) => Some(entries(above(&row, &domain))),
            Some(Shape::Ids) => Some(Family::Ids(parent_ids(&row, &domain))),
            None => None,
        };
        project.subtree = match asked.subtree {
            Some(Shape::List) => Some(entries(scopes::below(&row.id, &domain))),
            Some(Shape::Ids) => Some(Family::Ids(subtree_ids(&row.id, &domain))),
            None => None,
        };
    }
    Ok(one(200, ONE, project))
}

#[derive(Clone, Copy)]
enum Shape {
    List,
    Ids,
}

struct Relatives {
    parents: Option<Shape>,
    subtree: Option<Shape>,
}

impl Relatives {
    fn asked(query: &Query) -> Result<Self> {
        let shape = |name: &str| match (query.flag(&format!("{name}_as_list")), query.flag(&format!("{name}_as_ids"))) {
            (true, true) => Err(Error::bad_request(format!("Cannot use {name}_as_list and {name}_as_ids together."))),
            (true, false) => Ok(Some(Shape::List)),
            (false, true) => Ok(Some(Shape::Ids)),
            (false, false) => Ok(None),
        };
        Ok(Relatives { parents: shape("parents")?, subtree: shape("subtree")? })
    }

    fn any(&self) -> bool {
        self.parents.is_some() || self.subtree.is_some()
    }
}

/// Projects above one, nearest first, without the domain.
fn above<'a>(row: &ProjectRow, domain: &'a [ProjectRow]) -> Vec<&'a ProjectRow> {
    let mut found = Vec::new();
    let mut next = row.parent_id.as_deref();
    while let Some(parent) = next.and_then(|id| domain.iter().find(|row| row.id == id)) {
        found.push(parent);
        next = parent.parent_id.as_deref();
    }
    found
}

/// From the parent up to the domain, each inside the one before.
fn parent_ids(row: &ProjectRow, domain: &[ProjectRow]) -> Option<Extra> {
    let parent_id = row.parent_id.as_ref()?;
    let inner = domain.iter().find(|row| row.id == *parent_id).and_then(|parent| parent_ids(parent, domain));
    Some(Extra::from_iter([(parent_id.clone(), inner.map_or(serde_json::Value::Null, Into::into))]))
}

fn subtree_ids(id: &str, domain: &[ProjectRow]) -> Option<Extra> {
    let children = domain.iter().filter(|row| row.parent_id.as_deref() == Some(id));
    let all: Extra = children
        .map(|child| (child.id.clone(), subtree_ids(&child.id, domain).map_or(serde_json::Value::Null, Into::into)))
        .collect();
    Some(all).filter(|all| !all.is_empty())
}

pub(super) async fn update(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let ProjectRequest { project } = req.json().await?;
    let id = req.param("project_id")?;
    let changes = |row: &ProjectRow| Changes::of_project(id, row, project.clone());
    let row = service::update(&identity, &req.ctx, req.route.policy, id, As::Project, changes).await?;
    Ok(one(200, ONE, body(&req, row)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    service::delete(&identity, &req.ctx, req.route.policy, req.param("project_id")?).await?;
    Ok(no_content())
}
