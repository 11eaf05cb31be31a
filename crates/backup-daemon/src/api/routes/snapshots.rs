//! What is in repositories.

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::super::guard::Who;
use super::super::problem::{Answer, Problem};
use super::super::{Shared, words};

/// Selection of snapshots.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichSnapshots {
    /// Name of the repository. Default: the repository of `job`, else all of the configuration. The
    /// list `repositories` has the snapshots of several.
    repository: Option<String>,
    /// Only snapshots of this job.
    job: Option<String>,
    /// Only snapshots of this kind of source, for instance `files`.
    source: Option<String>,
    /// Only snapshots of this tier.
    tier: Option<String>,
    /// Only snapshots of this host.
    host: Option<String>,
    /// Only snapshots with this tag.
    tag: Option<String>,
    /// Only snapshots before this time.
    before: Option<String>,
    /// Only snapshots from this time on.
    after: Option<String>,
    /// Only snapshots of this number of last days.
    #[param(minimum = 1, maximum = 36500)]
    days: Option<u32>,
}

/// List the snapshots of a repository, with the output of `backup list --json`
#[utoipa::path(get, path = "/api/v1/snapshots", tag = "snapshots", security(("token" = ["operator"])),
    params(WhichSnapshots),
    responses((status = 200, description = "Matching snapshots, oldest first", body = Object)))]
pub(super) async fn snapshots(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Query(which): Query<WhichSnapshots>,
) -> Answer<Json<Value>> {
    if which.days.is_some_and(|days| !(1..=36_500).contains(&days)) {
        return Err(Problem::wrong("`days` must be a number from 1 to 36500"));
    }
    if which.days.is_some() && which.after.is_some() {
        return Err(Problem::wrong("`days` and `after` exclude each other"));
    }
    let mut asked = vec!["list".to_owned(), "--json".to_owned()];
    asked.extend(repository(&api, which.repository.as_deref())?);
    for (flag, value) in [
        ("job", &which.job),
        ("source", &which.source),
        ("tier", &which.tier),
        ("host", &which.host),
        ("tag", &which.tag),
        ("before", &which.before),
        ("after", &which.after),
    ] {
        if let Some(value) = value {
            asked.push(format!("--{flag}={}", words::word(flag, value)?));
        }
    }
    asked.extend(which.days.map(|days| format!("--days={days}")));
    Ok(Json(api.reads.object(asked, &who.name).await?))
}

/// In which repository one snapshot is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichRepository {
    /// Name of the repository. Default: the only one of the configuration.
    repository: Option<String>,
    /// With `latest`: only snapshots of this job.
    job: Option<String>,
}

/// Show a snapshot, with the output of `backup show --json`
#[utoipa::path(get, path = "/api/v1/snapshots/{snapshot}", tag = "snapshots", security(("token" = ["operator"])),
    params(("snapshot" = String, Path,
        description = "Beginning of the identifier of a snapshot, or `latest`"), WhichRepository),
    responses((status = 200, body = Object,
        description = "The snapshot and a summary of its contents")))]
pub(super) async fn snapshot(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Path(snapshot): Path<String>,
    Query(which): Query<WhichRepository>,
) -> Answer<Json<Value>> {
    let snapshot = words::name("snapshot", &snapshot)?;
    let mut asked = vec!["show".to_owned(), "--json".to_owned()];
    asked.extend(repository(&api, which.repository.as_deref())?);
    if let Some(job) = &which.job {
        asked.push(format!("--job={}", words::name("job", job)?));
    }
    asked.extend(["--".to_owned(), snapshot]);
    Ok(Json(api.reads.object(asked, &who.name).await?))
}

/// The words that name a repository: one of the configuration, and never an address.
fn repository(api: &Shared, name: Option<&str>) -> Answer<Option<String>> {
    let Some(name) = name else { return Ok(None) };
    match api.reads.config().config.repositories.contains_key(name) {
        true => Ok(Some(format!("--repo={}", words::name("repository", name)?))),
        false => Err(Problem::unknown("there is no such repository in the configuration")),
    }
}
