use std::sync::Arc;

use umbel_api::compute::NextLink;
use umbel_api::compute::keypairs::{
    CREATE, CreateRequest, DELETE, Keypair as Shown, KeypairRow, Keypairs, LIST, NewKeypair, OneKeypair, SHOW,
};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req, Routes, next_link};

use super::input::{invalid, need_admin, parameter, unexpected};
use crate::Compute;
use crate::service::keygen::{fingerprint, generate};
use crate::store::keypairs::Keypair;

pub(super) fn mount(routes: Routes<Compute>) -> Routes<Compute> {
    routes.on(&LIST, list).on(&CREATE, create).on(&SHOW, show).on(&DELETE, delete)
}

fn view(key: Keypair) -> Shown {
    Shown {
        name: key.name,
        public_key: key.public_key,
        fingerprint: key.fingerprint,
        kind: Some(key.kind),
        user_id: None,
        private_key: None,
        row: None,
    }
}

/// Whose keys: the caller's, or from 2.10 another user's for an administrator.
fn user(req: &Req, asked: Option<String>) -> Result<String> {
    let own = req.ctx.user_id().unwrap_or_default();
    match asked.filter(|_| req.version.minor >= 10) {
        Some(other) if other != own => need_admin(&req.ctx, req.route.policy).map(|()| other),
        _ => Ok(own.to_owned()),
    }
}

async fn list(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let pairs = req.query_pairs();
    let user = user(&req, parameter(&pairs, "user_id"))?;
    let max = state.config.max_limit;
    let paged = req.version.minor >= 35;
    let limit = match parameter(&pairs, "limit").filter(|_| paged) {
        None => max,
        Some(text) => {
            let bad = || Error::bad_request(format!("Invalid input for query parameters limit. Value: {text}."));
            match text.parse::<usize>().map_err(|_| bad())? {
                0 => max,
                limit => limit.min(max),
            }
        }
    };
    let marker = parameter(&pairs, "marker").filter(|_| paged);
    let mut keys = state.list_keypairs(&user, marker.as_deref(), limit + 1).await?;
    let mut keypairs_links = Vec::new();
    if keys.len() > limit {
        keys.truncate(limit);
        let last = keys.last().map(|key| key.name.as_str()).unwrap_or_default();
        keypairs_links = NextLink::to(next_link(&req, &req.url(req.route.path), last));
    }
    let keypairs = keys.into_iter().map(|key| OneKeypair { keypair: view(key) }).collect();
    Ok(Reply::versioned(200, req.version, Keypairs { keypairs, keypairs_links }))
}

async fn create(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let new = req.json::<CreateRequest>().await?.keypair;
    let minor = req.version.minor;
    if new.kind.is_some() && minor < 2 {
        return Err(unexpected("type"));
    }
    if new.user_id.is_some() && minor < 10 {
        return Err(unexpected("user_id"));
    }
    check(&new, minor)?;
    let user_id = user(&req, new.user_id)?;
    let (public_key, private_key) = match new.public_key {
        Some(key) => (key.trim().to_owned(), None),
        None if minor >= 92 => return Err(Error::bad_request("'public_key' is a required property")),
        None => {
            let pair = generate(&*state.rng)?;
            (pair.public_key, Some(pair.private_key))
        }
    };
    let now = state.clock.now();
    let key = Keypair {
        user_id: user_id.clone(),
        name: new.name,
        // Any number that no other key has: a key is never found by it.
        number: now.0 / 1_000 % i64::from(i32::MAX),
        kind: "ssh".to_owned(),
        fingerprint: fingerprint(&public_key)?,
        public_key,
        created_at: now,
    };
    state.create_keypair(&key, req.ctx.project_id().unwrap_or_default()).await?;
    let mut keypair = view(key);
    keypair.user_id = Some(user_id);
    keypair.private_key = private_key;
    let status = if minor >= 2 { 201 } else { 200 };
    Ok(Reply::versioned(status, req.version, OneKeypair { keypair }))
}

fn check(new: &NewKeypair, minor: u16) -> Result<()> {
    match new.kind.as_deref() {
        None | Some("ssh") => {}
        Some("x509") => return Err(Error::bad_request("Key pairs of type x509 are not supported.")),
        Some(other) => return Err(invalid("type", other, "It is none of ['ssh', 'x509']")),
    }
    let name = new.name.as_str();
    let allowed = |c: char| c.is_ascii_alphanumeric() || " -_".contains(c) || (minor >= 92 && "@.".contains(c));
    match name.is_empty() || name.len() > 255 || name.trim() != name || !name.chars().all(allowed) {
        true => Err(Error::bad_request(
            "Keypair data is invalid: Keypair name must be string and between 1 and 255 characters long, and of letters, \
             digits, spaces, '-' and '_'",
        )),
        false => Ok(()),
    }
}

async fn show(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let user = user(&req, parameter(&req.query_pairs(), "user_id"))?;
    let key = state.keypair(&user, req.param("keypair_name")?).await?;
    let row = KeypairRow {
        id: key.number,
        created_at: key.created_at.iso_naive(),
        updated_at: None,
        deleted: false,
        deleted_at: None,
    };
    let mut keypair = view(key);
    keypair.user_id = Some(user);
    keypair.row = Some(row);
    Ok(Reply::versioned(200, req.version, OneKeypair { keypair }))
}

async fn delete(state: Arc<Compute>, req: Req) -> Result<Reply> {
    let user = user(&req, parameter(&req.query_pairs(), "user_id"))?;
    state.delete_keypair(&user, req.param("keypair_name")?).await?;
    Ok(Reply::empty(if req.version.minor >= 2 { 204 } else { 202 }))
}
