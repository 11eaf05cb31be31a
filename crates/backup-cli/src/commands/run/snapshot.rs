//! One backup: checks before it, the snapshot, and the steps after it.

use backup_control::jobs::Job;
use backup_control::{clusters, damage, logs, patterns};
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::id::SnapshotId;
use backup_core::log::{Stream, roll_up};
use backup_core::pipeline::{self, BackupReport};
use backup_core::repository::Repository;
use backup_core::source::{Selection, Source, SourceErrorKind};

use super::expected;
use super::told::describe;
use crate::args;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::view::Summary;
use crate::human;
use crate::session::Session;

/// What came of a backup.
pub(in crate::commands) struct BackedUp {
    pub(in crate::commands) report: BackupReport,
    /// What came of what is done besides: rolling up the log of the source, hooks.
    pub(super) besides: Outcome,
}

impl BackedUp {
    pub(super) fn outcome(&self) -> Outcome {
        let of_report = match self.report.lost_packs {
            0 => Outcome::with_warnings(self.report.warnings),
            _ => Outcome::Damage,
        };
        let of_clock = match self.report.clock_doubt {
            Some(_) => Outcome::Warnings,
            None => Outcome::Success,
        };
        self.besides.max(of_report).max(of_clock)
    }
}

/// Runs one backup and says what came of it.
pub(in crate::commands) async fn back_up(
    session: &Session,
    repository: &Repository,
    job: &Job,
    source: &dyn Source,
) -> CommandResult<BackedUp> {
    let text = session.of_job(format_args!("Backing up {source} into {}", job.repository));
    session.ui.status(text);
    if let Some(age) = job.minimum_age.filter(|_| !job.options.dry_run) {
        // Before there is a snapshot that somebody could forget.
        match repository.protect_job(&job.options.job, age, &session.cx).await {
            // The policy of a writer denies promises, so that it cannot replace one.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => session.ui.warning(
                "the credentials may not store the promise `compliance`; the next `backup cleanup` \
                 stores it",
            ),
            promised => promised?,
        }
    }
    require_same_cluster(session, repository, job, source).await?;
    require_rest(session, job, source).await?;
    let report = pipeline::backup(repository, source, &job.options, &session.cx)
        .await
        .map_err(|error| with_hint(error, job))?;
    // Whatever fails from here on: the snapshot is there.
    let besides = after_snapshot(session, repository, job, source, &report).await;
    let besides = besides.map_err(|error| error.after(report.snapshot))?;
    Ok(BackedUp { report, besides })
}

/// Fails if the exclude patterns of the command line leave nothing of a source that is not empty: a
/// mistyped pattern must not become a snapshot.
async fn require_rest(session: &Session, job: &Job, source: &dyn Source) -> CommandResult<()> {
    let selection = &job.options.selection;
    if job.excluded.is_empty() || !is_nothing(session, source, selection).await? {
        return Ok(());
    }
    let mut own = selection.exclude().to_vec();
    own.retain(|pattern| !job.excluded.contains(pattern));
    let without = args::selection(selection.include(), &own)?;
    if is_nothing(session, source, &without).await? {
        return Ok(());
    }
    let text = format!("nothing in the source is left by --exclude {}", job.excluded.join(", "));
    let error = CoreError::new(ErrorKind::NotFound, text);
    Err(error.with_hint("correct the exclude patterns").into())
}

/// True if a selection surely covers no object of the source.
async fn is_nothing(
    session: &Session,
    source: &dyn Source,
    selection: &Selection,
) -> CommandResult<bool> {
    match source.selected(&session.cx, selection).await {
        Ok(parts) => Ok(parts.iter().all(|part| part.objects == Some(0))),
        Err(error) if error.kind() == SourceErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is done and said when a snapshot was made.
async fn after_snapshot(
    session: &Session,
    repository: &Repository,
    job: &Job,
    source: &dyn Source,
    report: &BackupReport,
) -> CommandResult {
    if let (Some(id), "postgres", true) = (&report.snapshot, source.kind(), report.warnings > 0) {
        hold_last_clean(session, repository, id).await?;
    }
    if let Some(doubt) = &report.clock_doubt {
        let described = doubt.describe();
        session.ui.warning(format_args!("the date of this snapshot may be wrong: {described}"));
        session.ui.hint("correct the clock; until then no old snapshot is removed unattended");
    }
    let besides = roll_up_log(session, repository, job, source).await?;
    if session.ui.is_json() {
        let summary = Summary::new("run", job.repository.to_string(), report);
        session.ui.event(&Summary { job: Some(&job.options.job), ..summary });
    } else {
        session.ui.summary(session.of_job(describe(report)))?;
    }
    Ok(besides.max(expected::require(session, repository, job, report).await?))
}

fn with_hint(error: CoreError, job: &Job) -> CoreError {
    match error.kind() {
        ErrorKind::NotFound if job.options.selection.has_no_match() => {
            let include = job.options.selection.include();
            match patterns::hint(job.source.kind(), include) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        ErrorKind::TooLarge => {
            error.with_hint("raise `max_size`, leave out data with `exclude`, or add --force")
        }
        _ => error,
    }
}

/// Refuses a source that is another cluster than that of the job's snapshots.
pub(in crate::commands) async fn require_same_cluster(
    session: &Session,
    repository: &Repository,
    job: &Job,
    source: &dyn Source,
) -> CommandResult<()> {
    let name = &job.options.job;
    let age = job.options.reuse_listing;
    match clusters::other_than_known(repository, name, &job.source, source, age, &session.cx)
        .await?
    {
        None => Ok(()),
        Some(other) => {
            Err(CommandError::refused(other.to_string()).with_hint(clusters::OtherCluster::REMEDY))
        }
    }
}

async fn hold_last_clean(
    session: &Session,
    repository: &Repository,
    damaged: &SnapshotId,
) -> CommandResult<()> {
    if let Some(clean) = damage::hold_last_clean(repository, damaged, &session.cx).await? {
        let short = clean.id.short();
        let text = format_args!("snapshot {short}, the last one without damage, is now held");
        session.ui.warning(session.of_job(text));
        session.ui.hint(format_args!(
            "run `backup release {short}` when the source is repaired and backed up"
        ));
    }
    Ok(())
}

/// What was captured of the source's log up to this backup goes into a snapshot: it belongs to the
/// backup before. The new one is safe without, and whoever captures tries again.
async fn roll_up_log(
    session: &Session,
    repository: &Repository,
    job: &Job,
    source: &dyn Source,
) -> CommandResult<Outcome> {
    if job.options.dry_run || !source.capabilities().log_capture {
        return Ok(Outcome::Success);
    }
    let options = logs::roll_up_options(job, &session.holder());
    match roll_up(repository, &Stream::of(&source.identity()), &options, &session.cx).await {
        Ok(report) => {
            if !session.ui.is_json() && !report.snapshots.is_empty() {
                let slices = human::count(report.slices, "slice", "slices");
                session
                    .ui
                    .status(format_args!("Log rolled up: {slices}, {}", human::size(report.bytes)));
            }
            Ok(Outcome::Success)
        }
        // Somebody else does it.
        Err(error) if error.kind() == ErrorKind::Busy => Ok(Outcome::Success),
        Err(error) if error.is_cancelled() => Err(error.into()),
        Err(error) => {
            let why = human::text(error.chain().as_bytes());
            let text = format_args!("the log was not rolled up: {why}");
            session.ui.warning(session.of_job(text));
            Ok(Outcome::Warnings)
        }
    }
}
