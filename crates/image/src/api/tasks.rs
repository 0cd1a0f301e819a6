use std::sync::Arc;

use umbel_api::image::{self as wire, ImageTasks, NewTask, TaskList};
use umbel_core::Result;
use umbel_http::{Reply, Req, next_link};

use super::images::{first_link, image_id};
use crate::Images;
use crate::model::Task;

const TASKS: &str = "/v2/tasks";

pub async fn list(state: Arc<Images>, req: Req) -> Result<Reply> {
    let (tasks, more) = state.tasks(&req.query_pairs()).await?;
    let next = match tasks.last() {
        Some(last) if more => Some(next_link(&req, TASKS, &last.id)),
        _ => None,
    };
    let body = TaskList {
        tasks: tasks.iter().map(brief).collect(),
        first: first_link(&req, TASKS),
        next,
        schema: "/v2/schemas/tasks".into(),
    };
    Ok(Reply::json(200, &body))
}

pub async fn show(state: Arc<Images>, req: Req) -> Result<Reply> {
    Ok(Reply::json(200, &view(&state.task(req.param("task_id")?).await?)))
}

pub async fn create(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let body: NewTask = req.json().await?;
    let task = state.create_task(&req.ctx, body).await?;
    let location = req.url(&format!("{TASKS}/{}", task.id));
    Ok(Reply::json(201, &view(&task)).header("location", location))
}

pub async fn of_image(state: Arc<Images>, req: Req) -> Result<Reply> {
    let tasks = state.image_tasks(&req.ctx, image_id(&req)?).await?;
    Ok(Reply::json(200, &ImageTasks { tasks: tasks.iter().map(view).collect() }))
}

fn view(task: &Task) -> wire::Task {
    wire::Task {
        input: Some(task.input.clone()),
        result: task.result.clone(),
        message: Some(task.message.clone()),
        ..brief(task)
    }
}

/// As lists have it.
fn brief(task: &Task) -> wire::Task {
    wire::Task {
        id: task.id.clone(),
        kind: task.kind,
        status: task.status,
        owner: task.owner.clone(),
        input: None,
        result: None,
        message: None,
        image_id: task.image,
        request_id: task.request.clone(),
        user_id: task.user.clone(),
        created_at: task.created_at.iso(),
        updated_at: task.updated_at.iso(),
        expires_at: task.expires_at.map(|moment| moment.iso()),
        self_path: format!("{TASKS}/{}", task.id),
        schema: "/v2/schemas/task".into(),
    }
}
