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
use super::super::told::Noted;
use super::super::words::{self, Target};
use super::running::StartedJson;
use crate::engine::{RestoreOrder, Work};
use crate::tokens::Role;

/// What would be restored, and where to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanJson {
    /// The snapshot: an id, `latest`, `JOB:latest`; the job or group, with `at` or as its newest
    /// moment.
    what: String,
    /// The repository that has it; none: that of the job, or the one of the configuration, if there
    /// is only one.
    #[serde(default)]
    repository: Option<String>,
    /// The moment, as `backup restore --at` takes it.
    #[serde(default)]
    at: Option<String>,
    /// A directory from the root on, or the name of a target of the configuration.
    target: String,
    /// As what. Default: `json`.
    #[serde(default)]
    format: PlanFormat,
}

/// As what a plan is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PlanFormat {
    /// For programs.
    #[default]
    Json,
    /// For people.
    Text,
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlannedJson {
    /// What `backup restore --dry-run --json` says, line by line; empty with the format `text`.
    #[schema(value_type = Vec<Object>)]
    plan: Vec<Value>,
    /// What `backup restore --dry-run` says, with the format `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The exit code of the program: 0, 3 if something would be missing, or 4 if something stored
    /// is damaged.
    exit_code: i32,
}

/// Say what a restore would do, and do nothing
///
/// Of snapshots in every repository of the configuration, to directories and to targets of the
/// configuration: a server is asked what it has.
#[utoipa::path(post, path = "/api/v1/restores/plan", operation_id = "plan_restore", tag = "restores",
    security(("token" = ["operator"])), request_body = PlanJson,
    responses((status = 200, description = "What would be done", body = PlannedJson)))]
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

/// Begin a restore as soon as its turn comes
///
/// Operators restore to a directory where nothing is; the targets of the configuration take an
/// admin. Nobody restores over what exists.
#[utoipa::path(post, path = "/api/v1/restores", operation_id = "start_restore", tag = "restores",
    security(("token" = ["operator"])), request_body = RestoreJson,
    responses((status = 202, description = "It will be done", body = StartedJson)))]
pub(super) async fn start(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Json(order): Json<RestoreJson>,
) -> Answer<(StatusCode, Extension<Noted>, Json<StartedJson>)> {
    let (order, target) = checked(order, &api.reads.config().config)?;
    if !order.dry_run && !who.role.may(Role::Admin) {
        allowed(&target, &who).await?;
    }
    let noted = noted(&order);
    let id = api.engine.start(Work::Restore(order), &who.name)?;
    Ok((
        StatusCode::ACCEPTED,
        Extension(noted.with("started", id.clone())),
        Json(StartedJson { id }),
    ))
}

/// Whether an operator may restore there. The program looks again when its turn comes.
async fn allowed(target: &Target, who: &Who) -> Answer<()> {
    let forbidden =
        |why: &str| Err(Problem::forbidden(format!("{why}, and {} is {}", who.name, who.role)));
    let Target::Directory(directory) = target else {
        return forbidden("a restore to a target of the configuration takes an admin");
    };
    match tokio::fs::read_dir(directory).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(mut entries) => match entries.next_entry().await {
            Ok(None) => Ok(()),
            _ => forbidden("a restore to where something is takes an admin"),
        },
        Err(_) => forbidden("a restore to what is no empty directory takes an admin"),
    }
}

/// An order none of whose words can be taken for a flag, or be an address.
fn checked(order: RestoreJson, config: &Config) -> Answer<(RestoreOrder, Target)> {
    let target = Target::parse(&order.target)?;
    // The program would take it for a directory where the daemon happens to work.
    if let Target::Named(name) = &target
        && !config.sources.contains_key(name)
        && !config.groups.contains_key(name)
    {
        return Err(Problem::unknown("`target` is no name that the configuration has")
            .hint("give a directory from the root on, the name of a source, or that of a group"));
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
