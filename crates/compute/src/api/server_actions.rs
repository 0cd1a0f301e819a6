use std::sync::Arc;

use serde_json::{Map, Value, json};
use umbel_api::compute::server_actions::{ActionPolicy, find};
use umbel_auth::authorize;
use umbel_core::{Ctx, Error, Result};
use umbel_http::{Reply, Req};

use super::input::{self, integer, invalid, unexpected};
use super::server_images;
use crate::Compute;
use crate::model::{Action, Restart, ServerId};

/// The body has one member, whose name is the action and whose value its arguments.
pub(super) async fn action(state: Arc<Compute>, mut req: Req) -> Result<Reply> {
    let id = input::server_id(&req)?;
    let body: Map<String, Value> = req.json().await?;
    let mut members = body.into_iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return Err(Error::bad_request("A request for an action has exactly one member, its name."));
    };
    let Some(known) = find(&name, req.version.minor) else {
        return Err(Error::bad_request(format!("There is no such action: {name}.")));
    };
    authorize(known.rule, known.policy, &req.ctx)?;
    if !known.supported {
        return refuse(&state, &req.ctx, id, known).await;
    }
    match name.as_str() {
        "os-getConsoleOutput" => console(&state, &req.ctx, id, &value).await,
        "createImage" => server_images::create_image(&state, &req, id, &value).await,
        "createBackup" => server_images::create_backup(&state, &req, id, &value).await,
        "lock" => done(state.lock(&req.ctx, id, lock_reason(&value, req.version.minor)?).await),
        "unlock" => done(state.unlock(&req.ctx, id).await),
        "os-resetState" => done(state.reset_state(&req.ctx, id, to_error(&value)?).await),
        "forceDelete" => done(state.delete_server(&req.ctx, id).await),
        _ => done(state.act(&req.ctx, id, power(&name, &value)?).await),
    }
}

fn done(result: Result<()>) -> Result<Reply> {
    result.map(|()| Reply::empty(202))
}

/// 404 comes before what cannot be done to it.
async fn refuse(state: &Compute, ctx: &Ctx, id: ServerId, action: &ActionPolicy) -> Result<Reply> {
    state.server_of(ctx, id).await?;
    Err(Error::conflict(format!("Action '{}' is not supported yet.", action.name)))
}

fn power(name: &str, value: &Value) -> Result<Action> {
    Ok(match name {
        "os-start" => Action::Start,
        "os-stop" => Action::Stop,
        "pause" => Action::Pause,
        "unpause" => Action::Unpause,
        "reboot" => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
            Action::Reboot(match kind.to_ascii_uppercase().as_str() {
                "SOFT" => Restart::Soft,
                "HARD" => Restart::Hard,
                _ => return Err(invalid("type", value, "It is none of ['HARD', 'SOFT']")),
            })
        }
        other => return Err(Error::internal(format!("action {other} is listed and not implemented"))),
    })
}

fn to_error(value: &Value) -> Result<bool> {
    match value.get("state").and_then(Value::as_str) {
        Some("error") => Ok(true),
        Some("active") => Ok(false),
        _ => Err(invalid("state", value, "It is none of ['active', 'error']")),
    }
}

fn lock_reason(value: &Value, minor: u16) -> Result<Option<String>> {
    Ok(match value {
        Value::Null => None,
        Value::Object(members) if minor < 73 || members.is_empty() => None,
        Value::Object(members) => match (members.get("locked_reason"), members.len()) {
            (Some(Value::String(reason)), 1) if (1..=255).contains(&reason.chars().count()) => Some(reason.clone()),
            (Some(reason), 1) => return Err(invalid("locked_reason", reason, "It is no text of 1 to 255 characters")),
            _ => return Err(unexpected("lock")),
        },
        other => return Err(invalid("lock", other, "It is not of type 'object'")),
    })
}

async fn console(state: &Compute, ctx: &Ctx, id: ServerId, value: &Value) -> Result<Reply> {
    let lines = match value.get("length") {
        None | Some(Value::Null) => None,
        // -1 is all, as is nothing.
        Some(length) => usize::try_from(integer("length", length, -1)?).ok(),
    };
    let output = state.console(ctx, id, lines).await?;
    Ok(Reply::json(200, &json!({ "output": output })))
}
