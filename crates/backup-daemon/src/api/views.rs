//! What is answered, as the document describes it.

use std::collections::BTreeMap;

use backup_control::alerts::{About, Alert, Phase, Silence};
use backup_control::audit::{Class, Record, Status};
use backup_control::config::JobConfig;
use backup_control::runs::Run;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::orders::WorkJson;
use crate::engine::{Ended, Health, Running, Task};

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskJson {
    /// Name of the task, for instance `leads/daily`.
    name: String,
    work: WorkJson,
    /// Schedule in the configuration; null for a task that runs continuously.
    schedule: Option<String>,
    /// Next start; null for a continuous or paused task.
    next: Option<Timestamp>,
    /// `true`: the task does not start until it is resumed.
    paused: bool,
    /// Latest result.
    last: Option<EndedJson>,
}

impl From<Task> for TaskJson {
    fn from(Task { name, work, schedule, next, paused, last }: Task) -> Self {
        Self { name, work: work.into(), schedule, next, paused, last: last.map(EndedJson::from) }
    }
}

/// A running or queued operation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningJson {
    pub(super) id: String,
    /// Name of its task; null for an operation that a client requested.
    task: Option<String>,
    work: WorkJson,
    /// Requester: `schedule`, the name of a token, or a user of the socket.
    by: String,
    /// Start time; null for a queued operation.
    since: Option<Timestamp>,
    /// Latest progress of the program.
    #[schema(value_type = Option<Object>)]
    progress: Option<Value>,
}

impl From<Running> for RunningJson {
    fn from(Running { id, task, work, by, since, progress }: Running) -> Self {
        Self { id, task, work: work.into(), by, since, progress }
    }
}

/// A finished operation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedJson {
    pub(super) id: String,
    task: Option<String>,
    work: WorkJson,
    by: String,
    began: Timestamp,
    ended: Timestamp,
    /// Exit code of the program; null if a signal ended the program, or it could not start.
    exit_code: Option<u8>,
    /// Error message of the program; empty without an error.
    error: String,
    /// Latest output other than progress: warnings, notes, plans and summaries.
    #[schema(value_type = Vec<Object>)]
    said: Vec<Value>,
}

impl From<Ended> for EndedJson {
    fn from(Ended { id, task, work, by, began, ended, exit_code, error, said }: Ended) -> Self {
        Self { id, task, work: work.into(), by, began, ended, exit_code, error, said }
    }
}

/// Health of the daemon.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthJson {
    /// `true`: the daemon checks its tasks regularly, and there are no problems.
    pub(super) healthy: bool,
    /// Time of the last check of the tasks.
    looked: Timestamp,
    /// Problems, by subject.
    troubles: BTreeMap<String, String>,
    /// `true`: the daemon is stopping, and starts nothing.
    stopping: bool,
}

impl HealthJson {
    pub(super) fn of(health: Health, now: Timestamp) -> Self {
        let healthy = health.is_alive(now) && health.troubles.is_empty();
        Self {
            healthy,
            looked: health.looked,
            troubles: health.troubles,
            stopping: health.stopping,
        }
    }
}

/// A job of the configuration, with its latest results.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobJson {
    pub(super) name: String,
    source: String,
    /// Name of its repository.
    repository: String,
    /// Type of its snapshots, if set in the configuration.
    #[serde(rename = "type")]
    kind: Option<String>,
    tier: Option<String>,
    tags: Vec<String>,
    /// Recovery point objective, in seconds.
    rpo_seconds: Option<u64>,
    /// Recovery time objective, in seconds.
    rto_seconds: Option<u64>,
    /// `true`: the log of its source is captured.
    captures_log: bool,
    /// Start of the last successful backup.
    last_success: Option<Timestamp>,
    /// Newest backup that this machine recorded.
    last_run: Option<RunJson>,
}

impl JobJson {
    pub(super) fn of(
        name: &str,
        job: &JobConfig,
        last_success: Option<Timestamp>,
        last_run: Option<&Run>,
    ) -> Self {
        let seconds = |time: &backup_control::units::Time| time.length().as_secs();
        Self {
            name: name.to_owned(),
            source: job.source.clone(),
            repository: job.repository.clone(),
            kind: job
                .kind
                .map(|kind| backup_core::source::BackupKind::from(kind).as_str().to_owned()),
            tier: job.tier.clone(),
            tags: job.tags.clone(),
            rpo_seconds: job.rpo.as_ref().map(seconds),
            rto_seconds: job.rto.as_ref().map(seconds),
            captures_log: job.logs.is_some(),
            last_success,
            last_run: last_run.map(RunJson::from),
        }
    }
}

/// A run that this machine recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunJson {
    /// Identifier of the run.
    run: String,
    /// `backup`, `restore` or `group`.
    what: String,
    job: String,
    /// Address of the repository, without secrets.
    repository: String,
    /// `running`, `captured`, `uploaded`, `verified`, `completed`, `failed` or `cancelled`.
    state: String,
    started: Timestamp,
    finished: Option<Timestamp>,
    host: String,
    user: String,
    /// Results: `snapshot`, `bytes`, `stages`, `failure`, …
    #[schema(value_type = Object)]
    evidence: Value,
}

impl From<&Run> for RunJson {
    fn from(run: &Run) -> Self {
        Self {
            run: run.id.to_string(),
            what: run.what.as_str().to_owned(),
            job: run.job.clone(),
            repository: run.repository.clone(),
            state: run.state.as_str().to_owned(),
            started: run.started,
            finished: run.finished,
            host: run.host.clone(),
            user: run.user.clone(),
            evidence: serde_json::to_value(&run.evidence).unwrap_or_default(),
        }
    }
}

/// A pending or firing alert.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertJson {
    rule: String,
    /// Name of the job, repository or daemon.
    subject: String,
    /// Kind of the subject: `job`, `repository` or `daemon`.
    about: String,
    severity: String,
    /// `pending`: the condition has not held for the time `for` of the rule; or `firing`.
    phase: String,
    since: Timestamp,
    /// Time of the last notification.
    told: Option<Timestamp>,
    /// Summary.
    title: String,
    /// Cause.
    cause: String,
    /// Next step.
    next: String,
    /// `true`: a silence suppresses the notifications.
    silenced: bool,
}

impl AlertJson {
    pub(super) fn of(alert: &Alert, silenced: bool) -> Self {
        let phase = match alert.phase {
            Phase::Pending => "pending",
            Phase::Firing => "firing",
        };
        let about = match alert.about {
            About::Job => "job",
            About::Repository => "repository",
            About::Daemon => "daemon",
        };
        Self {
            rule: alert.rule.clone(),
            subject: alert.subject.clone(),
            about: about.to_owned(),
            severity: alert.severity.to_string(),
            phase: phase.to_owned(),
            since: alert.since,
            told: alert.told,
            title: alert.title.clone(),
            cause: alert.cause.clone(),
            next: alert.next.clone(),
            silenced,
        }
    }
}

/// A silence: it suppresses the notifications of a rule until its end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SilenceJson {
    id: String,
    rule: String,
    /// Name of the job or repository; null for all.
    subject: Option<String>,
    until: Timestamp,
    reason: String,
    /// Creator of the silence.
    user: String,
    since: Timestamp,
}

impl From<&Silence> for SilenceJson {
    fn from(silence: &Silence) -> Self {
        let Silence { id, rule, subject, until, reason, user, since, .. } = silence.clone();
        Self { id, rule, subject, until, reason, user, since }
    }
}

/// A record of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordJson {
    operation: String,
    timestamp: Timestamp,
    user: String,
    host: String,
    #[schema(value_type = String)]
    status: Status,
    #[schema(value_type = String)]
    class: Class,
    details: BTreeMap<String, String>,
}

impl From<Record> for RecordJson {
    fn from(Record { operation, timestamp, user, host, status, class, details }: Record) -> Self {
        Self { operation, timestamp, user, host, status, class, details }
    }
}
