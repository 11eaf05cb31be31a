//! Who did what.

use axum::extract::{Query, State};
use axum::{Extension, Json};
use backup_control::audit::{Filter, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::super::Shared;
use super::super::guard::Who;
use super::super::problem::{Answer, Problem};
use super::super::views::RecordJson;
use super::runs::limit;

/// Records that are answered, at most.
const MOST: u32 = 10_000;

/// Which records are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichRecords {
    /// Only records from this time on, for instance `2026-11-21` or `7d ago`.
    since: Option<String>,
    /// Only records before this time.
    until: Option<String>,
    /// Only records of this user or token.
    user: Option<String>,
    /// Only records of this operation, for instance `restore`; `key` includes `key add`.
    operation: Option<String>,
    /// Only records with this status.
    #[param(inline)]
    status: Option<StatusParam>,
    /// Maximum number of records; the newest are returned. Default: 50.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StatusParam {
    Started,
    Success,
    Warnings,
    Failure,
    Cancelled,
    Declined,
}

impl From<StatusParam> for Status {
    fn from(status: StatusParam) -> Self {
        match status {
            StatusParam::Started => Self::Started,
            StatusParam::Success => Self::Success,
            StatusParam::Warnings => Self::Warnings,
            StatusParam::Failure => Self::Failure,
            StatusParam::Cancelled => Self::Cancelled,
            StatusParam::Declined => Self::Declined,
        }
    }
}

/// Records of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditJson {
    /// Matching records, oldest first.
    records: Vec<RecordJson>,
    /// Number of records whose content was removed by `[audit.keep]`.
    expired: u64,
    /// Number of unreadable lines.
    unreadable: u64,
}

/// List records of the audit log
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", security(("token" = ["auditor"])), params(WhichRecords),
    responses((status = 200, body = AuditJson,
        description = "Matching records of the audit log, oldest first")))]
pub(super) async fn audit(
    State(api): State<Shared>,
    Query(which): Query<WhichRecords>,
) -> Answer<Json<AuditJson>> {
    let moment =
        |text: &Option<String>| text.as_deref().map(|text| api.reads.moment(text)).transpose();
    let filter = Filter {
        since: moment(&which.since)?,
        until: moment(&which.until)?,
        user: which.user,
        operation: which.operation,
        status: which.status.map(Status::from),
        limit: Some(limit(which.limit, MOST)? as usize),
    };
    let audit = api.reads.audit();
    let found = tokio::task::spawn_blocking(move || audit.read(&filter)).await;
    let found = found
        .map_err(|error| Problem::of_thread(&error))?
        .map_err(|error| Problem::failed(&error))?;
    let records = found.records.into_iter().map(RecordJson::from).collect();
    Ok(Json(AuditJson { records, expired: found.expired, unreadable: found.unreadable }))
}

/// Verify the audit log, with the output of `backup audit verify --json`
#[utoipa::path(get, path = "/api/v1/audit/verdict", operation_id = "audit_verdict", tag = "audit",
    security(("token" = ["auditor"])),
    responses((status = 200, body = Object,
        description = "Result of the verification; `sound` is false for a broken chain")))]
pub(super) async fn verdict(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
) -> Answer<Json<Value>> {
    let asked = ["audit", "verify", "--json"].map(str::to_owned).to_vec();
    Ok(Json(api.reads.object(asked, &who.name).await?))
}
