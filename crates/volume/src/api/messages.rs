use std::sync::Arc;

use umbel_api::Link;
use umbel_api::volume::messages as wire;
use umbel_core::{Error, Result};
use umbel_db::{Direction, read, tx};
use umbel_http::{Page, Reply, Req, Routes, next_link};

use super::view;
use crate::Volumes;
use crate::service::Caller;
use crate::service::messages::{event_id, user_message};
use crate::store::messages::{self, MessageFilter, MessageId, MessageRow, MessageSort};

pub(super) fn mount(routes: Routes<Volumes>) -> Routes<Volumes> {
    routes.on(&wire::LIST, list).on(&wire::SHOW, show).on(&wire::DELETE, delete)
}

fn shown<'a>(req: &Req, row: &'a MessageRow) -> wire::Message<'a> {
    wire::Message {
        id: row.id.to_string(),
        event_id: event_id(row),
        user_message: user_message(row),
        message_level: &row.level,
        created_at: row.created_at.iso_naive(),
        guaranteed_until: row.expires_at.iso_naive(),
        request_id: &row.request_id,
        links: view::links(req, "messages", row.id),
        resource_type: &row.resource_type,
        resource_uuid: &row.resource_uuid,
    }
}

fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("Message {id} could not be found."))
}

fn message_id(req: &Req) -> Result<MessageId> {
    let text = req.param("message_id")?;
    text.parse().map_err(|_| not_found(text))
}

async fn list(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let caller = Caller::of(&req.ctx)?;
    let visible = caller.listed(false);
    let (mut filter, mut sort) = (MessageFilter::default(), vec![(MessageSort::CreatedAt, Direction::Desc)]);
    let mut page = Page { limit: state.config.max_page, marker: None };
    if req.version.at_least(3, 5) {
        page = Page::of(&req, state.config.max_page)?;
        filter = filter_of(&req)?;
        sort = sort_of(&req)?;
    }
    sort.push((MessageSort::Id, sort.last().map_or(Direction::Desc, |(_, direction)| *direction)));
    let rows = read!(state.db, "list messages", |tx| {
        let marker = match &page.marker {
            Some(text) => {
                let row = match text.parse() {
                    Ok(id) => messages::get(tx, &visible, id).await?,
                    Err(_) => None,
                };
                Some(row.ok_or_else(|| not_found(text))?)
            }
            None => None,
        };
        messages::list(tx, &visible, &filter, &sort, (marker.as_ref(), page.limit)).await
    })?;
    let messages_links = match rows.last() {
        Some(last) if rows.len() >= page.limit => {
            vec![Link::new("next", next_link(&req, &req.url(wire::LIST.path), &last.id.to_string()))]
        }
        _ => Vec::new(),
    };
    let messages = rows.iter().map(|row| shown(&req, row)).collect();
    Ok(Reply::json(200, &wire::Messages { messages, messages_links }))
}

fn filter_of(req: &Req) -> Result<MessageFilter> {
    let mut filter = MessageFilter::default();
    for (name, value) in req.query_pairs() {
        match name.as_str() {
            "resource_type" => filter.resource_type = Some(value.to_uppercase()),
            "resource_uuid" => filter.resource_uuid = Some(value),
            "request_id" => filter.request_id = Some(value),
            "message_level" => filter.level = Some(value.to_uppercase()),
            "event_id" => {
                // The resource's type may have underscores, the two numbers have none.
                let mut parts = value.strip_prefix("VOLUME_").unwrap_or_default().rsplitn(3, '_').map(str::to_owned);
                let (detail, action, kind) = (parts.next(), parts.next(), parts.next());
                let [kind, action, detail] = [kind, action, detail].map(Option::unwrap_or_default);
                filter.event = Some((kind, action, detail));
            }
            "limit" | "marker" | "offset" | "sort" | "sort_key" | "sort_dir" => {}
            other if req.version.at_least(3, 31) => {
                return Err(Error::bad_request(format!(
                    "Invalid input received: Invalid filters {other} are found in query options."
                )));
            }
            _ => {}
        }
    }
    Ok(filter)
}

fn sort_of(req: &Req) -> Result<Vec<(MessageSort, Direction)>> {
    let query = req.query_pairs();
    let get = |name: &str| query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let pairs: Vec<(String, String)> = match (get("sort"), get("sort_key")) {
        (Some(sort), _) => sort
            .split(',')
            .map(|part| part.split_once(':').unwrap_or((part, "")))
            .map(|(name, direction)| (name.trim().to_owned(), direction.trim().to_owned()))
            .collect(),
        (None, Some(name)) => vec![(name, get("sort_dir").unwrap_or_default())],
        (None, None) => vec![("created_at".to_owned(), get("sort_dir").unwrap_or_default())],
    };
    let one = |(name, direction): (String, String)| {
        let by = match name.as_str() {
            "id" => MessageSort::Id,
            "created_at" => MessageSort::CreatedAt,
            "guaranteed_until" | "expires_at" => MessageSort::ExpiresAt,
            "request_id" => MessageSort::RequestId,
            "resource_type" => MessageSort::ResourceType,
            "resource_uuid" => MessageSort::ResourceUuid,
            "message_level" => MessageSort::Level,
            other => {
                return Err(Error::bad_request(format!("Invalid input received: Sort key '{other}' is not known.")));
            }
        };
        match direction.as_str() {
            "" | "desc" => Ok((by, Direction::Desc)),
            "asc" => Ok((by, Direction::Asc)),
            other => Err(Error::bad_request(format!(
                "Invalid input received: Unknown sort direction {other}, must be 'desc' or 'asc'"
            ))),
        }
    };
    pairs.into_iter().map(one).collect()
}

async fn show(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (caller, id) = (Caller::of(&req.ctx)?, message_id(&req)?);
    let found = read!(state.db, "show a message", |tx| messages::get(tx, &caller.visible, id).await)?;
    let found = found.ok_or_else(|| not_found(id))?;
    Ok(Reply::json(200, &wire::OneMessage { message: shown(&req, &found) }))
}

async fn delete(state: Arc<Volumes>, req: Req) -> Result<Reply> {
    let (caller, id) = (Caller::of(&req.ctx)?, message_id(&req)?);
    tx!(state.db, "delete a message", |tx| {
        messages::get(tx, &caller.visible, id).await?.ok_or_else(|| not_found(id))?;
        messages::delete(tx, id).await
    })?;
    Ok(Reply::empty(204))
}
