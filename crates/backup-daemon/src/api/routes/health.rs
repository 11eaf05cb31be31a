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

/// Whether the daemon lives: it looks at its tasks
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
pub(super) async fn healthz(State(api): State<Shared>) -> Answer<&'static str> {
    match api.engine.health().is_alive(api.reads.now()) {
        true => Ok("ok\n"),
        false => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "it has not looked at its tasks for a minute",
        )),
    }
}

/// Whether the daemon takes work: it lives, and is not about to end
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "It takes work", body = String, content_type = "text/plain")))]
pub(super) async fn readyz(State(api): State<Shared>) -> Answer<&'static str> {
    let health = api.engine.health();
    if health.stopping || api.shutdown.is_cancelled() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "it is about to end"));
    }
    healthz(State(api)).await
}

/// Metrics, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "health", security(("token" = ["auditor"])),
    responses((status = 200, description = "docs/metrics.md lists them", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Shared>) -> Answer<Response> {
    let text = api.metrics.scrape().await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// This document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "health", security(("token" = ["auditor"])),
    responses((status = 200, description = "It", body = Object)))]
pub(super) async fn openapi(State(api): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.json.clone()).into_response()
}

/// How it is with the daemon
#[utoipa::path(get, path = "/api/v1/health", tag = "health", security(("token" = ["auditor"])),
    responses((status = 200, description = "Also if something is wrong", body = HealthJson)))]
pub(super) async fn health(State(api): State<Shared>) -> Json<HealthJson> {
    Json(HealthJson::of(api.engine.health(), api.reads.now()))
}

/// What there is and goes on, in numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusJson {
    /// The version of the daemon.
    version: &'static str,
    host: String,
    time: Timestamp,
    /// The configuration file.
    config: String,
    /// Whose request this is.
    name: String,
    role: Role,
    jobs: usize,
    tasks: usize,
    /// Tasks that are paused.
    paused: usize,
    /// What goes on.
    running: usize,
    /// What waits for its turn.
    waiting: usize,
    /// Alerts that are not over.
    alerts: usize,
    health: HealthJson,
}

/// What there is and goes on, in numbers; and whose request this is
#[utoipa::path(get, path = "/api/v1/status", tag = "health", security(("token" = ["operator"])),
    responses((status = 200, description = "It", body = StatusJson)))]
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
