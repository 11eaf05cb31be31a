//! Planning and beginning restores. What exists at a target is never touched: the program refuses
//! it, and nothing here can say otherwise.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use backup_control::config::Config;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::Shared;
use super::super::guard::Who;
use super::super::orders::RestoreJson;
use super::super::problem::{Answer, Problem};
use super::super::restore_roots;
use super::super::told::Noted;
use super::super::words::{self, Target};
use super::running::StartedJson;
use crate::engine::{RestoreOrder, Work};
use crate::tokens::Role;

/// A restore to plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanJson {
    /// The snapshot: an identifier, `latest`, or `JOB:latest`; or the name of a job or group, for
    /// the moment `at` or the latest one.
    what: String,
    /// Name of the repository of the snapshot. Default: that of the job, or the only one of the
    /// configuration.
    #[serde(default)]
    repository: Option<String>,
    /// The moment to restore, in the format of `backup restore --at`.
    #[serde(default)]
    at: Option<String>,
    /// An absolute directory, or the name of a target of the configuration.
    target: String,
    /// Format of the plan. Default: `json`.
    #[serde(default)]
    format: PlanFormat,
}

/// Format of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PlanFormat {
    /// JSON objects.
    #[default]
    Json,
    /// Text for people.
    Text,
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlannedJson {
    /// Lines of the output of `backup restore --dry-run --json`; empty with the format `text`.
    #[schema(value_type = Vec<Object>)]
    plan: Vec<Value>,
    /// Output of `backup restore --dry-run`, with the format `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Exit code of the program: 0; 3 if data would be missing; 4 if stored data is damaged.
    exit_code: i32,
}

/// Plan a restore, without restoring
///
/// Plans restores from every repository of the configuration, to directories and to targets of the
/// configuration. The plan for a server includes the existing contents of the server.
#[utoipa::path(post, path = "/api/v1/restores/plan", operation_id = "plan_restore", tag = "restores",
    security(("token" = ["operator"])), request_body = PlanJson,
    responses((status = 200, description = "The plan of the restore", body = PlannedJson)))]
pub(super) async fn plan(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Json(plan): Json<PlanJson>,
) -> Answer<(Extension<Noted>, Json<PlannedJson>)> {
    let PlanJson { what, repository, at, target, format } = plan;
    let (order, _) = checked(
        RestoreJson { what, repository, at, target, dry_run: true },
        &api.reads.config().config,
    )?;
    let mut asked = crate::scheduler::restore_words(&order, &api.reads.config().config)?;
    if format == PlanFormat::Json {
        asked.insert(1, "--json".to_owned());
    }
    let spoken = api.reads.ask(asked, &who.name).await?;
    if !spoken.is_done() {
        return Err(spoken.failure().into());
    }
    let planned = PlannedJson {
        plan: if format == PlanFormat::Json { spoken.lines().collect() } else { Vec::new() },
        text: (format == PlanFormat::Text)
            .then(|| String::from_utf8_lossy(&spoken.out).into_owned()),
        exit_code: spoken.code.unwrap_or_default(),
    };
    Ok((Extension(noted(&order)), Json(planned)))
}

/// Queue a restore
///
/// Operators may restore to a new or empty directory below `restore_roots`. The targets of the
/// configuration require the role admin. No role may restore over existing data.
#[utoipa::path(post, path = "/api/v1/restores", operation_id = "start_restore", tag = "restores",
    security(("token" = ["operator"])), request_body = RestoreJson,
    responses((status = 202, description = "The restore is queued", body = StartedJson)))]
pub(super) async fn start(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Json(order): Json<RestoreJson>,
) -> Answer<(StatusCode, Extension<Noted>, Json<StartedJson>)> {
    let (order, target) = checked(order, &api.reads.config().config)?;
    // Held until this restore is among the running ones.
    let _checking = api.restores.lock().await;
    if !order.dry_run && !who.role.may(Role::Admin) {
        let Target::Directory(directory) = &target else {
            return Err(Problem::forbidden(
                "a restore to a target of the configuration requires the role admin",
            ));
        };
        let roots = api.reads.config().config.api.restore_roots.clone();
        restore_roots::check(directory, roots, &api.engine.running()).await?;
    }
    let noted = noted(&order);
    let id = api.engine.start(Work::Restore(order), &who.name)?;
    Ok((
        StatusCode::ACCEPTED,
        Extension(noted.with("started", id.clone())),
        Json(StartedJson { id }),
    ))
}

/// An order none of whose words can be taken for a flag, or be an address.
fn checked(order: RestoreJson, config: &Config) -> Answer<(RestoreOrder, Target)> {
    let target = Target::parse(&order.target)?;
    // The program would take it for a directory where the daemon happens to work.
    if let Target::Named(name) = &target
        && !config.sources.contains_key(name)
        && !config.groups.contains_key(name)
    {
        return Err(Problem::unknown("`target` is not a name in the configuration")
            .hint("give an absolute directory, or the name of a source or group"));
    }
    let what = words::name("what", &order.what)?;
    let at = order.at.as_deref().map(|at| words::word("at", at)).transpose()?;
    let repository =
        order.repository.as_deref().map(|name| words::name("repository", name)).transpose()?;
    Ok((
        RestoreOrder { what, repository, at, target: order.target, dry_run: order.dry_run },
        target,
    ))
}

fn noted(order: &RestoreOrder) -> Noted {
    let noted =
        Noted::default().with("what", order.what.clone()).with("target", order.target.clone());
    let noted = noted.with("at", order.at.clone().unwrap_or_default());
    if order.dry_run { noted.with("dry_run", "true") } else { noted }
}
