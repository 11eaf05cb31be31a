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
    /// `true`: print JSON. Default: text for people.
    json: Option<bool>,
    /// `true`: print results only. Default: also messages.
    quiet: Option<bool>,
    /// `true`: use colours in text. Default: no colours.
    color: Option<bool>,
}

/// Output of a command.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SaidJson {
    /// Exit code of the command.
    exit_code: i32,
    /// Standard output of the command.
    out: String,
    /// Standard error of the command.
    err: String,
}

/// Run a read-only command of `backup`, and return its output
///
/// Operators may run `list`, `show`, `ls`, `find`, `diff`, `timeline`, `status`, `schedule`,
/// `logs-status`, `logs-run`, `analyze`, `advise`, `alerts`, `storage` and `doctor`. Auditors may
/// run `audit`, `audit-verify` and `report`.
#[utoipa::path(get, path = "/api/v1/verbs/{verb}", operation_id = "verb", tag = "verbs",
    security(("token" = ["auditor"])), params(
        ("verb" = String, Path, description = "Name of the command"), WhichWords),
    responses((status = 200, body = SaidJson,
        description = "Output and exit code of the command, also for a failed one")))]
pub(super) async fn verb(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Path(verb): Path<String>,
    Query(which): Query<WhichWords>,
) -> Answer<Json<SaidJson>> {
    let Some(verb) = verbs::named(&verb) else {
        return Err(Problem::unknown("no such command is available through the API"));
    };
    if !who.role.may(verb.role) {
        return Err(Problem::forbidden(format!(
            "the role {} is required, but {} has the role {}",
            verb.role, who.name, who.role
        ))
        .hint("get a token with this role from an admin (`backupd token create`)"));
    }
    let given: Vec<String> = match &which.words {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|_| Problem::wrong("`words` is not a JSON array of strings"))?,
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
