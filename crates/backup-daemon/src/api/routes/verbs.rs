//! What the program says when it looks at something, for its like elsewhere.

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::Shared;
use super::super::guard::Who;
use super::super::problem::{Answer, Problem};
use super::super::verbs;

/// What is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichWords {
    /// Flags and names, as a JSON array of strings: `["--job=crm", "--", "latest"]`. Default: none.
    words: Option<String>,
    /// Whether it answers in JSON. Default: as people read it.
    json: Option<bool>,
    /// Whether only results are wanted. Default: all.
    quiet: Option<bool>,
    /// Whether there are colours in what people read. Default: none.
    color: Option<bool>,
}

/// What the program said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SaidJson {
    /// Its exit code.
    exit_code: i32,
    /// What it wrote on its standard output.
    out: String,
    /// What it wrote on its standard error.
    err: String,
}

/// What a verb of the program `backup` says that looks at something
///
/// The verbs are `list`, `show`, `ls`, `find`, `diff`, `timeline`, `status`, `schedule`,
/// `logs-status`, `logs-run`, `analyze`, `advise`, `alerts`, `storage`, `doctor`, and, also for
/// auditors, `audit`, `audit-verify` and `report`.
#[utoipa::path(get, path = "/api/v1/verbs/{verb}", operation_id = "verb", tag = "verbs",
    security(("token" = ["auditor"])), params(("verb" = String, Path, description = "Which"), WhichWords),
    responses((status = 200, description = "What it said, also if it failed", body = SaidJson)))]
pub(super) async fn verb(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Path(verb): Path<String>,
    Query(which): Query<WhichWords>,
) -> Answer<Json<SaidJson>> {
    let Some(verb) = verbs::named(&verb) else {
        return Err(Problem::unknown(
            "there is no such verb that could be asked for from elsewhere",
        ));
    };
    if !who.role.may(verb.role) {
        return Err(Problem::forbidden(format!(
            "this takes the role {}, and {} is {}",
            verb.role, who.name, who.role
        ))
        .hint("an admin can create a token of that role: `backupd token create`"));
    }
    let given: Vec<String> = match &which.words {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|_| Problem::wrong("`words` is no JSON array of strings"))?,
    };
    let config = api.reads.config();
    let mut asked = verb.words(&given, |name| config.config.repositories.contains_key(name))?;
    let flags = [("--json", which.json), ("--quiet", which.quiet), ("--color=always", which.color)];
    for (flag, _) in flags.into_iter().filter(|(_, wanted)| *wanted == Some(true)) {
        asked.insert(verb.length(), flag.to_owned());
    }
    let spoken = api.reads.ask(asked, &who.name).await?;
    match spoken.code {
        Some(exit_code) => {
            let out = String::from_utf8_lossy(&spoken.out).into_owned();
            Ok(Json(SaidJson { exit_code, out, err: spoken.err }))
        }
        None => Err(spoken.failure().into()),
    }
}
