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
    /// Its name, for instance `leads/daily`.
    name: String,
    work: WorkJson,
    /// When, as the configuration says; none if it goes on all the time.
    schedule: Option<String>,
    /// Its next beginning; none while it goes on all the time or is paused.
    next: Option<Timestamp>,
    /// Nothing is begun until it is resumed.
    paused: bool,
    /// What came of it last.
    last: Option<EndedJson>,
}

impl From<Task> for TaskJson {
    fn from(Task { name, work, schedule, next, paused, last }: Task) -> Self {
        Self { name, work: work.into(), schedule, next, paused, last: last.map(EndedJson::from) }
    }
}

/// A piece of work that goes on, or waits for its turn.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningJson {
    pub(super) id: String,
    /// The task it belongs to; none if somebody asked for it.
    task: Option<String>,
    work: WorkJson,
    /// Who asked for it: `schedule`, the name of a token, or a user of the socket.
    by: String,
    /// Since when; none while it waits for its turn.
    since: Option<Timestamp>,
    /// The last line of progress of the program.
    #[schema(value_type = Option<Object>)]
    progress: Option<Value>,
}

impl From<Running> for RunningJson {
    fn from(Running { id, task, work, by, since, progress }: Running) -> Self {
        Self { id, task, work: work.into(), by, since, progress }
    }
}

/// A piece of work that is over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedJson {
    pub(super) id: String,
    task: Option<String>,
    work: WorkJson,
    by: String,
    began: Timestamp,
    ended: Timestamp,
    /// The exit code of the program; none if a signal ended it, or it could not be started.
    exit_code: Option<u8>,
    /// What it said was wrong; empty if nothing was.
    error: String,
    /// The last of what it said besides its progress: warnings, remarks and summaries.
    #[schema(value_type = Vec<Object>)]
    said: Vec<Value>,
}

impl From<Ended> for EndedJson {
    fn from(Ended { id, task, work, by, began, ended, exit_code, error, said }: Ended) -> Self {
        Self { id, task, work: work.into(), by, began, ended, exit_code, error, said }
    }
}

/// How it is with the daemon.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthJson {
    /// Whether it looks at its tasks, and nothing is wrong.
    pub(super) healthy: bool,
    /// When it last looked at its tasks.
    looked: Timestamp,
    /// What is wrong, by what it concerns.
    troubles: BTreeMap<String, String>,
    /// It begins nothing any more.
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

/// A job of the configuration, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobJson {
    pub(super) name: String,
    source: String,
    /// The name of its repository.
    repository: String,
    /// The type of its snapshots, if the configuration says so.
    #[serde(rename = "type")]
    kind: Option<String>,
    tier: Option<String>,
    tags: Vec<String>,
    /// How much may be lost, in seconds.
    rpo_seconds: Option<u64>,
    /// How long a restore may take, in seconds.
    rto_seconds: Option<u64>,
    /// Whether its log is captured.
    captures_log: bool,
    /// When the last success began.
    last_success: Option<Timestamp>,
    /// The newest run that this machine remembers.
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

/// A run that this machine remembers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunJson {
    /// Its name.
    run: String,
    /// `backup`, `restore` or `group`.
    what: String,
    job: String,
    /// The address of the repository, without secrets.
    repository: String,
    /// `running`, `captured`, `uploaded`, `verified`, `completed`, `failed` or `cancelled`.
    state: String,
    started: Timestamp,
    finished: Option<Timestamp>,
    host: String,
    user: String,
    /// What came of it: `snapshot`, `bytes`, `stages`, `failure`, …
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

/// An alert that is not over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertJson {
    rule: String,
    /// The job, the repository or the daemon.
    subject: String,
    /// Which of these it is: `job`, `repository`, `daemon`.
    about: String,
    severity: String,
    /// `pending`: it does not hold for long enough yet; `firing`.
    phase: String,
    since: Timestamp,
    /// When somebody was told last.
    told: Option<Timestamp>,
    /// What is wrong.
    title: String,
    /// Why.
    cause: String,
    /// What can be done about it.
    next: String,
    /// Whether nobody is told of it.
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

/// A silence: nobody is told of what it covers, until it ends.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SilenceJson {
    id: String,
    rule: String,
    /// Only of this job or repository; of all if none is named.
    subject: Option<String>,
    until: Timestamp,
    reason: String,
    /// Who wanted it.
    user: String,
    since: Timestamp,
}

impl From<&Silence> for SilenceJson {
    fn from(silence: &Silence) -> Self {
        let Silence { id, rule, subject, until, reason, user, since, .. } = silence.clone();
        Self { id, rule, subject, until, reason, user, since }
    }
}

/// What somebody did, and what came of it.
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
