//! What happens on a schedule; pausing.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::Shared;
use super::super::problem::Answer;
use super::super::told::Noted;
use super::super::views::TaskJson;

/// The tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TasksJson {
    tasks: Vec<TaskJson>,
}

/// List the tasks: scheduled ones, and those that run continuously
#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", security(("token" = ["operator"])),
    responses((status = 200, description = "The tasks, by name", body = TasksJson)))]
pub(super) async fn tasks(State(api): State<Shared>) -> Json<TasksJson> {
    Json(TasksJson { tasks: api.engine.tasks().into_iter().map(TaskJson::from).collect() })
}

/// The task to pause or resume.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichTask {
    /// Name of the task. Default: all tasks.
    #[serde(default)]
    task: Option<String>,
}

/// State of a task, or of all tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PausedJson {
    task: Option<String>,
    paused: bool,
}

/// Pause a task, or all tasks but log capture and alerts, for at most seven days
#[utoipa::path(post, path = "/api/v1/tasks/pause", tag = "tasks", security(("token" = ["operator"])),
    request_body = WhichTask,
    responses((status = 200, description = "The task, or every task but log capture and alerts, is paused", body = PausedJson)))]
pub(super) async fn pause(
    State(api): State<Shared>,
    Json(which): Json<WhichTask>,
) -> Answer<(Extension<Noted>, Json<PausedJson>)> {
    set(&api, which, true)
}

/// Resume a task, or all tasks
#[utoipa::path(post, path = "/api/v1/tasks/resume", tag = "tasks", security(("token" = ["operator"])),
    request_body = WhichTask,
    responses((status = 200, description = "The task, or every task, is resumed", body = PausedJson)))]
pub(super) async fn resume(
    State(api): State<Shared>,
    Json(which): Json<WhichTask>,
) -> Answer<(Extension<Noted>, Json<PausedJson>)> {
    set(&api, which, false)
}

fn set(
    api: &Shared,
    which: WhichTask,
    paused: bool,
) -> Answer<(Extension<Noted>, Json<PausedJson>)> {
    api.engine.pause(which.task.as_deref(), paused)?;
    let noted =
        Noted::default().with("task", which.task.clone().unwrap_or_else(|| "all".to_owned()));
    Ok((Extension(noted), Json(PausedJson { task: which.task, paused })))
}
