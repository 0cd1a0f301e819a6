use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use umbel_core::{Error, Id};

use super::Image;
use crate::{Method, Route, Rule};

pub static LIST_TASKS: Route = Route::new(Method::Get, "/v2/tasks", "tasks_api_access", Rule::Admin);
pub static SHOW_TASK: Route = Route::new(Method::Get, "/v2/tasks/{task_id}", "tasks_api_access", Rule::Admin);
/// The import of before `POST /v2/images/{image_id}/import`: it makes the image too.
pub static CREATE_TASK: Route = Route::new(Method::Post, "/v2/tasks", "tasks_api_access", Rule::Admin);
/// Whoever sees an image sees what is done with it; added in 2.12.
pub static LIST_IMAGE_TASKS: Route = Route::new(Method::Get, "/v2/images/{image_id}/tasks", "get_image", Rule::Reader);

/// Work behind a request. What only one kind of task has (`input`, `result`) has no fixed form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: TaskType,
    pub status: TaskStatus,
    pub owner: Option<String>,
    /// Left out of lists, as the next two are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<Id<Image>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(rename = "self")]
    pub self_path: String,
    pub schema: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// Made by `POST /v2/tasks`.
    Import,
    ApiImageImport,
    LocationImport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Pending,
    Processing,
    Success,
    Failure,
}

/// A page of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskList {
    pub tasks: Vec<Task>,
    pub first: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    pub schema: Cow<'static, str>,
}

/// All tasks of one image, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTasks {
    pub tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    #[serde(rename = "type")]
    pub kind: String,
    pub input: NewTaskInput,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTaskInput {
    pub import_from: String,
    /// Not looked at: `image_properties` say what the data are.
    pub import_from_format: String,
    pub image_properties: serde_json::Map<String, Value>,
}

impl TaskType {
    pub const ALL: [TaskType; 3] = [TaskType::Import, TaskType::ApiImageImport, TaskType::LocationImport];

    pub const fn name(self) -> &'static str {
        match self {
            TaskType::Import => "import",
            TaskType::ApiImageImport => "api_image_import",
            TaskType::LocationImport => "location_import",
        }
    }
}

impl TaskStatus {
    pub const ALL: [TaskStatus; 4] =
        [TaskStatus::Pending, TaskStatus::Processing, TaskStatus::Success, TaskStatus::Failure];

    pub const fn name(self) -> &'static str {
        match self {
            TaskStatus::Pending => "pending",
            TaskStatus::Processing => "processing",
            TaskStatus::Success => "success",
            TaskStatus::Failure => "failure",
        }
    }
}

impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("Invalid type value: {text}")))
    }
}

impl FromStr for TaskStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|status| status.name() == text);
        known.ok_or_else(|| Error::bad_request(format!("Invalid status value: {text}")))
    }
}
