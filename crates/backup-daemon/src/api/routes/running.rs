//! What goes on: beginning and stopping it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::guard::Who;
use super::super::orders::WorkJson;
use super::super::problem::{Answer, Problem};
use super::super::told::Noted;
use super::super::views::{EndedJson, RunningJson};
use super::super::{Shared, words};
use crate::engine::{ArchiveOrder, CopyOrder, Work};
use crate::tokens::Role;

/// Types of backups.
const TYPES: [&str; 3] = ["full", "incremental", "differential"];

/// Running and queued operations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningListJson {
    running: Vec<RunningJson>,
}

/// List running and queued operations
#[utoipa::path(get, path = "/api/v1/running", tag = "running", security(("token" = ["operator"])),
    responses((status = 200, description = "Running and queued operations", body = RunningListJson)))]
pub(super) async fn running(State(api): State<Shared>) -> Json<RunningListJson> {
    Json(RunningListJson {
        running: api.engine.running().into_iter().map(RunningJson::from).collect(),
    })
}

/// A queued operation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StartedJson {
    /// Identifier of the operation below `/api/v1/running`, in events, and later in
    /// `/api/v1/ended`.
    pub(super) id: String,
}

/// Queue an operation
///
/// For restores, use `POST /api/v1/restores`. Operations that remove data require the role admin.
#[utoipa::path(post, path = "/api/v1/running", tag = "running", security(("token" = ["operator"])),
    request_body = WorkJson,
    responses((status = 202, description = "The operation is queued", body = StartedJson)))]
pub(super) async fn start(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Json(work): Json<WorkJson>,
) -> Answer<(StatusCode, Extension<Noted>, Json<StartedJson>)> {
    let work = checked(work)?;
    if let Some(what) = removal(&work)
        && !who.role.may(Role::Admin)
    {
        return Err(Problem::forbidden(format!(
            "{what}: the role admin is required, but {} has the role {}",
            who.name, who.role
        )));
    }
    let noted = noted(&work);
    let id = api.engine.start(work, &who.name)?;
    Ok((
        StatusCode::ACCEPTED,
        Extension(noted.with("started", id.clone())),
        Json(StartedJson { id }),
    ))
}

/// What a piece of work removes, if it does.
fn removal(work: &Work) -> Option<&'static str> {
    match work {
        Work::Cleanup => Some("a cleanup removes snapshots"),
        Work::Prune { .. } => Some("a prune removes unreferenced data"),
        Work::Archive(order) if order.remove => Some("this removes the archived snapshots"),
        _ => None,
    }
}

/// Work that may be begun here, none of whose words can be taken for a flag.
fn checked(work: WorkJson) -> Answer<Work> {
    let optional =
        |what: &str, text: Option<String>| text.map(|text| words::name(what, &text)).transpose();
    Ok(match work {
        WorkJson::Restore { .. } => {
            return Err(Problem::wrong("a restore cannot be started here")
                .hint("use `POST /api/v1/restores`"));
        }
        WorkJson::Backup { kind: Some(kind), .. } if !TYPES.contains(&kind.as_str()) => {
            return Err(Problem::wrong("there are no backups of that type").hint(TYPES.join(", ")));
        }
        WorkJson::Backup { job, kind, tier } => {
            Work::Backup { job: words::name("job", &job)?, kind, tier: optional("tier", tier)? }
        }
        WorkJson::Follow { job } => Work::Follow { job: words::name("job", &job)? },
        WorkJson::Verify { snapshot, repository } => Work::Verify {
            snapshot: words::name("snapshot", &snapshot)?,
            repository: optional("repository", repository)?,
        },
        WorkJson::Cleanup => Work::Cleanup,
        WorkJson::Check { repository, data } => Work::Check {
            repository: optional("repository", repository)?,
            data: data.map(|data| words::word("data", &data)).transpose()?,
        },
        WorkJson::Prune { repository } => {
            Work::Prune { repository: optional("repository", repository)? }
        }
        WorkJson::Copy { from, to, job } => Work::Copy(CopyOrder {
            from: words::name("from", &from)?,
            to: words::name("to", &to)?,
            job: optional("job", job)?,
        }),
        WorkJson::Archive { from, to, older_than, job, storage_class, remove } => {
            Work::Archive(ArchiveOrder {
                from: words::name("from", &from)?,
                to: words::name("to", &to)?,
                older_than: backup_control::age::Age::parse(&older_than)?.to_string(),
                job: optional("job", job)?,
                storage_class: optional("storage_class", storage_class)?,
                remove,
            })
        }
        WorkJson::Compact { job } => Work::Compact { job: words::name("job", &job)? },
        WorkJson::Alerts => Work::Alerts,
        WorkJson::Report { since } => {
            let age = backup_control::age::Age::parse(&since)?;
            Work::Report { since: age.to_string() }
        }
    })
}

fn noted(work: &Work) -> Noted {
    let noted = |kind: &str| Noted::default().with("work", kind);
    match work {
        Work::Backup { job, .. } => noted("backup").with("job", job.clone()),
        Work::Follow { job } => noted("follow").with("job", job.clone()),
        Work::Restore(order) => noted("restore").with("what", order.what.clone()),
        Work::Verify { snapshot, .. } => noted("verify").with("snapshot", snapshot.clone()),
        Work::Cleanup => noted("cleanup"),
        Work::Check { repository, .. } => {
            noted("check").with("repository", repository.clone().unwrap_or_default())
        }
        Work::Prune { repository } => {
            noted("prune").with("repository", repository.clone().unwrap_or_default())
        }
        Work::Copy(order) => {
            noted("copy").with("repository", order.from.clone()).with("to", order.to.clone())
        }
        Work::Archive(order) => {
            noted("archive").with("repository", order.from.clone()).with("to", order.to.clone())
        }
        Work::Compact { job } => noted("compact").with("job", job.clone()),
        Work::Alerts => noted("alerts"),
        Work::Report { since } => noted("report").with("since", since.clone()),
    }
}

/// Show a running or queued operation
#[utoipa::path(get, path = "/api/v1/running/{id}", operation_id = "running_one", tag = "running",
    security(("token" = ["operator"])), params(("id" = String, Path, description = "Identifier of the operation")),
    responses((status = 200, description = "The operation", body = RunningJson)))]
pub(super) async fn one(
    State(api): State<Shared>,
    Path(id): Path<String>,
) -> Answer<Json<RunningJson>> {
    let found = api.engine.running().into_iter().find(|running| running.id == id);
    found.map(|running| Json(running.into())).ok_or_else(|| {
        Problem::unknown("no operation with this id is running or queued")
            .hint("look for finished operations with `GET /api/v1/ended`")
    })
}

/// Stop an operation at a safe point, as Ctrl-C does
#[utoipa::path(post, path = "/api/v1/running/{id}/cancel", tag = "running", security(("token" = ["operator"])),
    params(("id" = String, Path, description = "Identifier of the operation")),
    responses((status = 202, description = "The operation will stop", body = StartedJson)))]
pub(super) async fn cancel(
    State(api): State<Shared>,
    Path(id): Path<String>,
) -> Answer<(StatusCode, Extension<Noted>, Json<StartedJson>)> {
    api.engine.cancel(&id)?;
    let noted = Noted::default().with("cancelled", id.clone());
    Ok((StatusCode::ACCEPTED, Extension(noted), Json(StartedJson { id })))
}

/// Finished operations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedListJson {
    ended: Vec<EndedJson>,
}

/// List the latest finished operations of the daemon, newest first
#[utoipa::path(get, path = "/api/v1/ended", tag = "running", security(("token" = ["operator"])),
    responses((status = 200, body = EndedListJson,
        description = "Finished operations, newest first; at most a few hundred")))]
pub(super) async fn ended(State(api): State<Shared>) -> Json<EndedListJson> {
    Json(EndedListJson { ended: api.engine.ended().into_iter().map(EndedJson::from).collect() })
}
