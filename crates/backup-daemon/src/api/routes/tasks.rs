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

/// What happens on a schedule, and what goes on all the time
#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", security(("token" = ["operator"])),
    responses((status = 200, description = "The tasks, by name", body = TasksJson)))]
pub(super) async fn tasks(State(api): State<Shared>) -> Json<TasksJson> {
    Json(TasksJson { tasks: api.engine.tasks().into_iter().map(TaskJson::from).collect() })
}

/// Which task is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichTask {
    /// Its name; none: all of them.
    #[serde(default)]
    task: Option<String>,
}

/// Whether it is paused now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PausedJson {
    task: Option<String>,
    paused: bool,
}

/// Begin nothing of a task, or nothing at all, until it is resumed
#[utoipa::path(post, path = "/api/v1/tasks/pause", tag = "tasks", security(("token" = ["operator"])),
    request_body = WhichTask, responses((status = 200, description = "It is paused", body = PausedJson)))]
pub(super) async fn pause(
    State(api): State<Shared>,
    Json(which): Json<WhichTask>,
) -> Answer<(Extension<Noted>, Json<PausedJson>)> {
    set(&api, which, true)
}

/// Begin a task, or all of them, by the schedule again
#[utoipa::path(post, path = "/api/v1/tasks/resume", tag = "tasks", security(("token" = ["operator"])),
    request_body = WhichTask, responses((status = 200, description = "It is resumed", body = PausedJson)))]
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
