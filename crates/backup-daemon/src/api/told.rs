//! What the audit log is told: every request that changes something, or was to.

use std::collections::BTreeMap;

use axum::http::Method;
use axum::response::Response;
use backup_control::audit::{Class, Record, Status};

use super::Shared;
use super::guard::Who;
use super::problem::Said;

/// What a request was about, which its handler says.
#[derive(Debug, Clone, Default)]
pub(super) struct Noted(BTreeMap<&'static str, String>);

impl Noted {
    /// With a detail.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.insert(name, value.into());
        self
    }
}

/// Records a request with what came of it. An answer is given all the same if that fails, and the
/// log of the daemon says so.
pub(super) async fn record(
    api: &Shared,
    who: &Who,
    method: &Method,
    route: Option<&str>,
    response: Response,
) -> Response {
    let operation = api.document.operation(method, route);
    let is_done = response.status().is_success();
    let status = if is_done { Status::Success } else { Status::Failure };
    let now = api.reads.now();
    let mut record = Record::new(
        &format!("api {operation}"),
        class(&operation),
        status,
        &api.reads.machine,
        now,
    );
    let process = std::mem::replace(&mut record.user, who.name.clone());
    if process != record.user {
        record = record.with("process_user", process);
    }
    record = record
        .with("by", if who.has_token { "token" } else { "socket" })
        .with("role", who.role.as_str());
    if let Some(Noted(details)) = response.extensions().get::<Noted>() {
        record =
            details.iter().fold(record, |record, (name, value)| record.with(name, value.clone()));
    }
    if let Some(Said(error)) = response.extensions().get::<Said>() {
        record = record.with("error", error.clone());
    }
    let (audit, machine) = (api.reads.audit(), api.reads.machine.clone());
    let error = match tokio::task::spawn_blocking(move || audit.append(record, &machine)).await {
        Ok(Ok(appended)) => {
            if let Some(aside) = appended.put_aside {
                tracing::error!("the damaged audit log was moved to {}", aside.display());
            }
            if let Some((socket, error)) = appended.not_shipped {
                let socket = socket.display();
                tracing::warn!("cannot send an audit record to {socket}: {error}");
            }
            api.recorded.notify_one();
            return response;
        }
        Ok(Err(error)) => backup_control::words::chain(&error),
        Err(error) => error.to_string(),
    };
    api.metrics.counters().not_recorded();
    tracing::error!(
        operation,
        by = who.name,
        "cannot record the operation in the audit log: {error}"
    );
    response
}

/// What an operation is about.
fn class(operation: &str) -> Class {
    match operation {
        "start restore" | "plan restore" => Class::Access,
        "silence" | "unsilence" => Class::Compliance,
        _ => Class::Operation,
    }
}
