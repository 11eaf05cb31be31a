//! Jobs, and the moments that can be restored of one.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use backup_control::catalog::RunFilter;
use backup_control::config::JobConfig;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::guard::Who;
use super::super::problem::{Answer, Problem};
use super::super::views::JobJson;
use super::super::{Shared, words};

/// The jobs and groups of the configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobsJson {
    jobs: Vec<JobJson>,
    groups: Vec<GroupJson>,
}

/// A group: jobs that are backed up together.
#[derive(Debug, Serialize, ToSchema)]
struct GroupJson {
    name: String,
    jobs: Vec<String>,
}

/// List the jobs and groups of the configuration, with the latest results of jobs
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", security(("token" = ["operator"])),
    responses((status = 200, description = "Jobs and groups, by name", body = JobsJson)))]
pub(super) async fn jobs(State(api): State<Shared>) -> Answer<Json<JobsJson>> {
    let loaded = api.reads.config();
    let mut jobs = Vec::new();
    for (name, job) in &loaded.config.jobs {
        jobs.push(of(&api, name, job).await?);
    }
    let groups = loaded.config.groups.iter();
    let groups =
        groups.map(|(name, group)| GroupJson { name: name.clone(), jobs: group.jobs.clone() });
    Ok(Json(JobsJson { jobs, groups: groups.collect() }))
}

/// Show a job and its latest results
#[utoipa::path(get, path = "/api/v1/jobs/{job}", tag = "jobs", security(("token" = ["operator"])),
    params(("job" = String, Path, description = "Name of the job")),
    responses((status = 200, description = "The job", body = JobJson)))]
pub(super) async fn job(
    State(api): State<Shared>,
    Path(job): Path<String>,
) -> Answer<Json<JobJson>> {
    let loaded = api.reads.config();
    let known = loaded.config.jobs.get(&job).ok_or_else(|| unknown(&job))?;
    Ok(Json(of(&api, &job, known).await?))
}

async fn of(api: &Shared, name: &str, job: &JobConfig) -> Answer<JobJson> {
    let filter = RunFilter {
        job: Some(name.to_owned()),
        backups: true,
        limit: Some(1),
        ..RunFilter::default()
    };
    let last = api.reads.catalog.runs(&filter).await?.runs;
    let of_job = RunFilter { successful: true, whole: true, ..filter };
    let success = api.reads.catalog.runs(&of_job).await?.runs;
    Ok(JobJson::of(name, job, success.first().map(|run| run.started), last.first()))
}

/// List the restorable moments of a job, with the output of `backup timeline --json`
#[utoipa::path(get, path = "/api/v1/jobs/{job}/timeline", tag = "jobs", security(("token" = ["operator"])),
    params(("job" = String, Path, description = "Name of the job")),
    responses((status = 200, body = Object,
        description = "Ranges, gaps, base snapshots and the latest restorable moment")))]
pub(super) async fn timeline(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<String>,
) -> Answer<Json<Value>> {
    if !api.reads.config().config.jobs.contains_key(&job) {
        return Err(unknown(&job));
    }
    let job = words::name("job", &job)?;
    let asked = ["timeline", "--json", "--", &job].map(str::to_owned).to_vec();
    Ok(Json(api.reads.object(asked, &who.name).await?))
}

/// Whatever was asked for may be anything: it is not repeated.
fn unknown(_: &str) -> Problem {
    Problem::unknown("there is no such job").hint("list the jobs with `GET /api/v1/jobs`")
}
