//! What is remembered of runs.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use backup_control::catalog::RunFilter;
use backup_control::runs::{Log, Run};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::Shared;
use super::super::problem::{Answer, Problem};
use super::super::views::RunJson;

/// Runs that are answered, at most.
const MOST: u32 = 1000;
/// Runs that are answered, if nobody says how many.
const USUAL: u32 = 50;

/// Which runs are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichRuns {
    /// Only runs of this job.
    job: Option<String>,
    /// Only successful, failed (or cancelled), or unfinished runs.
    #[param(inline)]
    state: Option<StateParam>,
    /// Only backups, or only restores.
    #[param(inline)]
    what: Option<WhatParam>,
    /// Only runs that started at or after this time, for instance `2026-11-21` or `2h ago`.
    since: Option<String>,
    /// Only runs that started before this time.
    until: Option<String>,
    /// Maximum number of runs; the newest are returned. Default: 50.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StateParam {
    Successful,
    Failed,
    Unfinished,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WhatParam {
    Backup,
    Restore,
}

/// Runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunsJson {
    runs: Vec<RunJson>,
    /// Number of unreadable rows of the catalog.
    unreadable: u64,
}

/// List the runs that this machine recorded, newest first
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", security(("token" = ["operator"])), params(WhichRuns),
    responses((status = 200, description = "Matching runs, newest first", body = RunsJson)))]
pub(super) async fn runs(
    State(api): State<Shared>,
    Query(which): Query<WhichRuns>,
) -> Answer<Json<RunsJson>> {
    let moment = |text: &Option<String>, else_: Timestamp| {
        text.as_deref().map_or(Ok(else_), |text| api.reads.moment(text))
    };
    let within = moment(&which.since, Timestamp::MIN)?..moment(&which.until, Timestamp::MAX)?;
    let limit = limit(which.limit, MOST)?;
    let filter = RunFilter {
        job: which.job,
        within: Some(within),
        unfinished: which.state == Some(StateParam::Unfinished),
        successful: which.state == Some(StateParam::Successful),
        failed: which.state == Some(StateParam::Failed),
        backups: which.what == Some(WhatParam::Backup),
        restores: which.what == Some(WhatParam::Restore),
        limit: Some(limit),
        ..RunFilter::default()
    };
    let found = api.reads.catalog.runs(&filter).await?;
    Ok(Json(RunsJson {
        runs: found.runs.iter().map(RunJson::from).collect(),
        unreadable: found.unreadable,
    }))
}

/// How many are answered.
pub(super) fn limit(given: Option<u32>, most: u32) -> Answer<u32> {
    match given {
        None => Ok(USUAL),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::wrong(format!("`limit` must be a number from 1 to {most}"))),
    }
}

/// Show a run
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs", security(("token" = ["operator"])),
    params(("run" = String, Path, description = "Beginning of the identifier of a run, or `latest`")),
    responses((status = 200, description = "The run", body = RunJson)))]
pub(super) async fn run(
    State(api): State<Shared>,
    Path(run): Path<String>,
) -> Answer<Json<RunJson>> {
    Ok(Json(RunJson::from(&find(&api, &run).await?)))
}

/// Read the messages of a run
#[utoipa::path(get, path = "/api/v1/runs/{run}/log", operation_id = "run_log", tag = "runs",
    security(("token" = ["operator"])),
    params(("run" = String, Path, description = "Beginning of the identifier of a run, or `latest`")),
    responses((status = 200, description = "Messages of the run, one per line, with their times",
        body = String, content_type = "text/plain")))]
pub(super) async fn log(State(api): State<Shared>, Path(run): Path<String>) -> Answer<Response> {
    // The file is named by what the catalog holds, not by what was asked for.
    let (id, dir) = (find(&api, &run).await?.id, api.reads.state.clone());
    let read = tokio::task::spawn_blocking(move || Log::read(&dir, &id)).await;
    match read.map_err(|error| Problem::of_thread(&error))? {
        Ok(Some(text)) => {
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
        }
        Ok(None) => Err(Problem::unknown(
            "the messages of this run are no longer kept, or are on the host of the run",
        )),
        Err(error) => Err(Problem::failed(&error)),
    }
}

async fn find(api: &Shared, name: &str) -> Answer<Run> {
    let found = match name {
        "latest" => {
            api.reads
                .catalog
                .runs(&RunFilter { limit: Some(1), ..RunFilter::default() })
                .await?
                .runs
        }
        _ => api.reads.catalog.named(name).await?,
    };
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(run), None) => Ok(run),
        (None, _) => Err(Problem::unknown("there is no such run")
            .hint("list the newest runs with `GET /api/v1/runs`")),
        (Some(_), Some(_)) => Err(Problem::wrong("several runs have this beginning")
            .hint("give more characters of the identifier")),
    }
}
