//! What came of it.

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use backup_control::age::Age;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::Shared;
use super::super::guard::Who;
use super::super::problem::Answer;

/// Of what time, and as what.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichReport {
    /// Period of the report, up to now. Default: `7d`.
    since: Option<String>,
    /// Format of the report. Default: `json`.
    #[param(inline)]
    format: Option<FormatParam>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FormatParam {
    /// JSON.
    #[default]
    Json,
    /// Markdown.
    Md,
    /// HTML page without external resources.
    Html,
}

/// Report results of backups and restores, storage and its cost, and a compliance checklist
#[utoipa::path(get, path = "/api/v1/reports", operation_id = "report", tag = "audit",
    security(("token" = ["auditor"])), params(WhichReport),
    responses((status = 200, description = "The report", content(
        (Object = "application/json"), (String = "text/markdown"), (String = "text/html")))))]
pub(super) async fn report(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
    Query(which): Query<WhichReport>,
) -> Answer<Response> {
    let since = Age::parse(which.since.as_deref().unwrap_or("7d"))?;
    let (format, kind) = match which.format.unwrap_or_default() {
        FormatParam::Json => ("json", "application/json"),
        FormatParam::Md => ("md", "text/markdown; charset=utf-8"),
        FormatParam::Html => ("html", "text/html; charset=utf-8"),
    };
    let asked = vec!["report".to_owned(), format!("--since={since}"), format!("--format={format}")];
    let spoken = api.reads.ask(asked, &who.name).await?;
    if !spoken.is_done() {
        return Err(spoken.failure().into());
    }
    Ok(([(header::CONTENT_TYPE, kind)], spoken.out).into_response())
}
