//! Whether it lives and is ready; how it is; the document; metrics.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Shared;
use super::super::guard::Who;
use super::super::problem::{Answer, Problem};
use super::super::views::HealthJson;
use crate::tokens::Role;

/// Check liveness: the daemon checks its tasks regularly
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "The daemon is alive", body = String,
        content_type = "text/plain")))]
pub(super) async fn healthz(State(api): State<Shared>) -> Answer<&'static str> {
    match api.engine.health().is_alive(api.reads.now()) {
        true => Ok("ok\n"),
        false => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon has not checked its tasks for a minute",
        )),
    }
}

/// Check readiness: the daemon is alive and not stopping
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "The daemon accepts work", body = String,
        content_type = "text/plain")))]
pub(super) async fn readyz(State(api): State<Shared>) -> Answer<&'static str> {
    let health = api.engine.health();
    if health.stopping || api.shutdown.is_cancelled() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"));
    }
    healthz(State(api)).await
}

/// Read the metrics, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "health", security(("token" = ["auditor"])),
    responses((status = 200, body = String, content_type = "text/plain",
        description = "Metrics in the text format of Prometheus; see docs/metrics.md")))]
pub(super) async fn metrics(State(api): State<Shared>) -> Answer<Response> {
    let text = api.metrics.scrape().await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Read this OpenAPI document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "health", security(("token" = ["auditor"])),
    responses((status = 200, description = "The OpenAPI document", body = Object)))]
pub(super) async fn openapi(State(api): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.json.clone()).into_response()
}

/// Read the health of the daemon
#[utoipa::path(get, path = "/api/v1/health", tag = "health", security(("token" = ["auditor"])),
    responses((status = 200, body = HealthJson,
        description = "Health of the daemon, also if there are problems")))]
pub(super) async fn health(State(api): State<Shared>) -> Json<HealthJson> {
    Json(HealthJson::of(api.engine.health(), api.reads.now()))
}

/// Numbers of jobs, tasks, operations and alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusJson {
    /// Version of the daemon.
    version: &'static str,
    host: String,
    time: Timestamp,
    /// Path of the configuration file.
    config: String,
    /// Name of the caller: a token, or a user of the socket.
    name: String,
    role: Role,
    jobs: usize,
    tasks: usize,
    /// Number of paused tasks.
    paused: usize,
    /// Number of running operations.
    running: usize,
    /// Number of queued operations.
    waiting: usize,
    /// Number of pending and firing alerts.
    alerts: usize,
    health: HealthJson,
}

/// Count jobs, tasks, operations and alerts, and name the caller
#[utoipa::path(get, path = "/api/v1/status", tag = "health", security(("token" = ["operator"])),
    responses((status = 200, description = "Numbers, health and caller", body = StatusJson)))]
pub(super) async fn status(
    State(api): State<Shared>,
    Extension(who): Extension<Who>,
) -> Answer<Json<StatusJson>> {
    let alerts = api.reads.ledger(|ledger| Ok(ledger.alerts().len())).await?;
    let (config, tasks, running) = (api.reads.config(), api.engine.tasks(), api.engine.running());
    let waiting = running.iter().filter(|running| running.since.is_none()).count();
    Ok(Json(StatusJson {
        version: env!("CARGO_PKG_VERSION"),
        host: api.reads.machine.host.clone(),
        time: api.reads.now(),
        config: config.file.display().to_string(),
        name: who.name,
        role: who.role,
        jobs: config.config.jobs.len(),
        tasks: tasks.len(),
        paused: tasks.iter().filter(|task| task.paused).count(),
        running: running.len() - waiting,
        waiting,
        alerts,
        health: HealthJson::of(api.engine.health(), api.reads.now()),
    }))
}
