//! What clients see of the work behind their requests, and the import that makes its image itself.

use serde_json::json;
use umbel_api::image::{NewTask, TaskStatus, TaskType};
use umbel_core::{Ctx, Error, Result, Timestamp};
use umbel_db::{Direction, read};

use super::Caller;
use crate::model::{ImageId, Task};
use crate::store::tasks::{self as rows, TaskQuery};
use crate::{Config, Images};

impl Images {
    /// Oldest first. Whoever sees the image sees them.
    pub async fn image_tasks(&self, ctx: &Ctx, id: ImageId) -> Result<Vec<Task>> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "list an image's tasks", |tx| {
            caller.get(tx, id).await?;
            rows::of_image(tx, id).await
        })
    }

    pub async fn task(&self, id: &str) -> Result<Task> {
        let found = read!(self.db, "show task", |tx| rows::get(tx, id).await)?;
        found.ok_or_else(|| Error::not_found(format!("No task found with ID {id}")))
    }

    /// A page of tasks, and whether another follows.
    pub async fn tasks(&self, pairs: &[(String, String)]) -> Result<(Vec<Task>, bool)> {
        let (mut query, marker) = parse(pairs, &self.config)?;
        if let Some(marker) = marker {
            let known = read!(self.db, "find a page's start", |tx| rows::get(tx, &marker).await)?;
            query.marker = Some(known.ok_or_else(|| Error::bad_request(format!("No task found with ID {marker}")))?);
        }
        read!(self.db, "list tasks", |tx| rows::list(tx, &query).await)
    }

    /// Makes an image and imports a URL into it: the way of before there was an import of an image. For administrators.
    pub async fn create_task(&self, ctx: &Ctx, new: NewTask) -> Result<Task> {
        match new.kind.parse::<TaskType>() {
            Ok(TaskType::Import) => {}
            _ => return Err(Error::bad_request(format!("Invalid type value: {}", new.kind))),
        }
        self.import_new(ctx, new).await
    }

    /// A task that begins now.
    pub(super) fn new_task(&self, ctx: &Ctx, kind: TaskType, image: ImageId, input: serde_json::Value) -> Task {
        let now = self.clock.now();
        Task {
            id: self.rng.uuid().to_string(),
            kind,
            status: TaskStatus::Pending,
            owner: ctx.project_id().map(str::to_owned),
            user: ctx.user_id().map(str::to_owned),
            request: Some(ctx.request_id.to_string()),
            image: Some(image),
            input,
            result: None,
            message: String::new(),
            created_at: now,
            updated_at: now,
            expires_at: None,
        }
    }

    /// As [`Images::new_task`], of work that was done when it was asked for.
    pub(super) fn done_task(&self, ctx: &Ctx, kind: TaskType, image: ImageId, input: serde_json::Value) -> Task {
        let task = self.new_task(ctx, kind, image, input);
        let expires_at = Some(self.task_end(task.created_at));
        Task { status: TaskStatus::Success, result: Some(json!({"image_id": image})), expires_at, ..task }
    }

    pub(super) fn task_end(&self, ended: Timestamp) -> Timestamp {
        ended.plus(self.config.task_time())
    }
}

fn parse(pairs: &[(String, String)], config: &Config) -> Result<(TaskQuery, Option<String>)> {
    let mut query = TaskQuery {
        kind: None,
        status: None,
        direction: Direction::Desc,
        marker: None,
        limit: config.default_page.min(config.max_page),
    };
    let mut marker = None;
    for (name, value) in pairs {
        match name.as_str() {
            "type" => query.kind = Some(value.parse()?),
            "status" => query.status = Some(value.parse()?),
            "marker" => marker = Some(value.clone()),
            "limit" => {
                let limit: usize = value.parse().map_err(|_| Error::bad_request("limit param must be an integer"))?;
                query.limit = limit.min(config.max_page);
            }
            "sort_dir" => {
                query.direction = match value.as_str() {
                    "asc" => Direction::Asc,
                    "desc" => Direction::Desc,
                    _ => return Err(Error::bad_request(format!("Invalid sort direction: {value}"))),
                }
            }
            "sort_key" if value != "created_at" => {
                return Err(Error::bad_request(format!("Invalid sort key: {value}. Tasks are sorted by created_at.")));
            }
            _ => {}
        }
    }
    Ok((query, marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_asked_for() {
        let ask = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            parse(&pairs, &Config::default())
        };
        let (query, marker) =
            ask(&[("type", "import"), ("status", "success"), ("limit", "5000"), ("marker", "m")]).unwrap();
        assert_eq!((query.kind, query.status), (Some(TaskType::Import), Some(TaskStatus::Success)));
        assert_eq!((query.limit, marker.as_deref()), (1000, Some("m")));
        assert_eq!(ask(&[("sort_dir", "asc"), ("sort_key", "created_at")]).unwrap().0.direction, Direction::Asc);
        for wrong in [("type", "x"), ("status", "x"), ("limit", "-1"), ("sort_dir", "up"), ("sort_key", "status")] {
            assert!(ask(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
