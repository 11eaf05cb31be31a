//! Executing a job: alone, remembered, between its hooks, tried again, and looked at when it is
//! done.

use backup_control::config::HooksConfig;
use backup_control::heartbeat;
use backup_control::hooks::{self, Around, Hook};
use backup_control::jobs::Job;
use backup_control::runs::{Evidence, Run, RunId, What};
use backup_core::context::Context;
use backup_core::error::Error as CoreError;
use backup_core::event::WarningKind;
use backup_core::repository::Repository;

use super::{BackedUp, OpenedRepositories};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::records::{self, Records, Right};
use crate::reserve;
use crate::session::Session;
use crate::trail;

/// Fails where a job may not begin now.
pub(super) fn require_window(session: &Session, job: &Job) -> CommandResult<()> {
    let now = session.cx.clock.now().to_zoned(session.calendar_zone());
    match job.execution.window.filter(|window| !window.contains(&now)) {
        None => Ok(()),
        Some(window) => {
            let text = format!(
                "job {} may start only within {window}, and the time is {} in {}",
                job.options.job,
                now.strftime("%H:%M"),
                session.zones().calendar
            );
            Err(CommandError::refused(text).with_hint("add --force to run it now"))
        }
    }
}

/// How the repository of a job is had.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) enum Reach<'a> {
    /// It is opened.
    Opened(&'a Repository),
    /// Among those that are opened, as soon as it is.
    Among(&'a OpenedRepositories),
}

impl Reach<'_> {
    async fn open(self, session: &Session, job: &Job) -> CommandResult<Repository> {
        match self {
            Self::Opened(repository) => Ok(repository.clone()),
            Self::Among(opened) => open(session, job, opened).await,
        }
    }

    /// The repository, if it was opened.
    async fn opened(self, job: &Job) -> Option<Repository> {
        match self {
            Self::Opened(repository) => Some(repository.clone()),
            Self::Among(opened) => {
                let place = job.repository.to_string();
                opened
                    .lock()
                    .await
                    .iter()
                    .find(|(known, _)| *known == place)
                    .map(|(_, repository)| repository.clone())
            }
        }
    }
}

/// Executes a job by `work`, which makes one backup. `again` are the words that do the same again.
pub(in crate::commands) async fn execute(
    session: &Session,
    job: &Job,
    again: Option<Vec<String>>,
    records: Option<&Records>,
    mut work: impl AsyncFnMut(&Session) -> CommandResult<BackedUp>,
    reach: Reach<'_>,
) -> CommandResult<BackedUp> {
    if job.options.dry_run {
        return work(session).await;
    }
    let now = session.cx.clock.now();
    let mut run = Run::new(
        What::Backup,
        &job.options.job,
        &records::place(&job.repository),
        &session.machine,
        now,
    );
    run.evidence.subject = job.source.to_string();
    run.evidence.again = again;
    run.evidence.is_part = job.options.is_part;
    if session.global.password_command.is_some() {
        run.evidence.left_out.push("--password-command".to_owned());
    }
    let mut right = match Right::take(session, records, job, &run).await {
        Ok(right) => right,
        Err(error) => {
            trail::not_begun(session, &job.options.job, &error).await;
            return Err(error);
        }
    };
    let begun = run.clone();
    let whole = async |session: &Session| {
        let mut unopened = None;
        let open =
            async || reach.open(session, job).await.map_err(|error| unopened = Some(error)).ok();
        // Nothing is stopped by hooks for what somebody else does.
        right.in_repository(session, job, &begun, open).await?;
        // What cannot be opened is not waited for twice, unless a hook may change that.
        unopened = unopened.filter(|_| job.execution.hooks.before.is_none());
        let mut work = async |session: &Session| match unopened.take() {
            Some(error) => Err(error),
            None => work(session).await,
        };
        let done = between_hooks(session, job, &begun.id, &mut work).await;
        done.map_err(|error| reserve::with_hint(error, &job.repository))
    };
    let describe = |done: &BackedUp, evidence: &mut Evidence| evidence.backed_up(&done.report);
    let (result, run) = records::recorded_as(session, records, run, whole, describe).await;
    if let Some(run) = run
        && let Some(repository) = reach.opened(job).await
    {
        records::save(session, &repository, &run).await;
    }
    right.end(session).await;
    if result.is_ok() {
        reserve::keep(session, &job.repository).await;
    }
    // A backup of a part is no success of the job.
    if result.is_ok() && !job.options.is_part {
        beat(session, job).await;
    }
    result
}

/// Tells whoever listens that the job has succeeded. The backup is what it is; that it is not heard
/// of is a warning.
async fn beat(session: &Session, job: &Job) {
    let Some(address) = &job.execution.heartbeat else { return };
    if let Err(why) = heartbeat::send(address, &session.env, &session.cx).await {
        session.ui.warning(format_args!(
            "cannot send the heartbeat of job {} to {address}: {why}",
            job.options.job
        ));
    }
}

/// Opens the repository, unless it is among those that are opened, connects the source, and makes
/// one backup.
pub(super) async fn open_and_back_up(
    session: &Session,
    job: &Job,
    opened: &OpenedRepositories,
) -> CommandResult<BackedUp> {
    let repository = open(session, job, opened).await?;
    let source = session.connect(&job.source).await?;
    super::back_up(session, &repository, job, &*source).await
}

/// The repository of a job. One at a time is opened: somebody may be asked for its pass phrase, who
/// shall be asked once.
pub(super) async fn open(
    session: &Session,
    job: &Job,
    opened: &OpenedRepositories,
) -> CommandResult<Repository> {
    let place = job.repository.to_string();
    let mut opened = opened.lock().await;
    if let Some((_, repository)) = opened.iter().find(|(known, _)| *known == place) {
        return Ok(repository.clone());
    }
    let repository = session.open(&job.repository).await?;
    opened.push((place, repository.clone()));
    Ok(repository)
}

async fn between_hooks(
    session: &Session,
    job: &Job,
    id: &RunId,
    work: &mut impl AsyncFnMut(&Session) -> CommandResult<BackedUp>,
) -> CommandResult<BackedUp> {
    let hooks = &job.execution.hooks;
    let mut facts =
        vec![("BACKUP_HOOK_JOB", job.options.job.clone()), ("BACKUP_HOOK_RUN", id.to_string())];
    // Only hooks need them, and a run of all jobs comes by for each.
    let config = if *hooks == HooksConfig::default() { None } else { session.config()? };
    let secrets = config.map(|loaded| loaded.config.secret_variables()).unwrap_or_default();
    let (env, secrets) = (&session.env, secrets.as_slice());
    let begun =
        hooks::run(Hook::Before, hooks, Around { env, secrets, facts: &facts }, &session.cx).await;
    let mut result = match begun {
        Ok(()) => Box::pin(persistently(session, job, work)).await,
        Err(error) => Err(error.into()),
    };
    let (word, snapshot, error) = match &result {
        Ok(done) if done.outcome() == Outcome::Success => {
            ("success", done.report.snapshot, String::new())
        }
        Ok(done) => ("warnings", done.report.snapshot, String::new()),
        Err(error) if error.is_cancelled() => ("cancelled", error.snapshot(), error.chain()),
        Err(error) => ("failed", error.snapshot(), error.chain()),
    };
    facts.push(("BACKUP_HOOK_RESULT", word.to_owned()));
    facts.push(("BACKUP_HOOK_SNAPSHOT", snapshot.map(|id| id.to_hex()).unwrap_or_default()));
    facts.push(("BACKUP_HOOK_ERROR", error));
    // What was stopped for the backup has to be started again, also if somebody has stopped the
    // backup.
    let cx = Context::new(session.cx.events.clone());
    let mut last = Vec::new();
    if result.is_err() {
        last.push(Hook::OnFailure);
    }
    last.push(Hook::After);
    for hook in last {
        let done = hooks::run(hook, hooks, Around { env, secrets, facts: &facts }, &cx).await;
        let Err(error) = done else { continue };
        // The backup is what it is; whoever fails already says why.
        cx.events.warn(WarningKind::Other, "", error.to_string());
        if let Ok(done) = &mut result {
            done.besides = done.besides.max(Outcome::Warnings);
        }
    }
    result
}

/// Tries again what failed because a store or a server was away, if the job says so.
async fn persistently(
    session: &Session,
    job: &Job,
    work: &mut impl AsyncFnMut(&Session) -> CommandResult<BackedUp>,
) -> CommandResult<BackedUp> {
    let mut failed = 0;
    loop {
        let error = match work(session).await {
            Err(error) if error.may_pass() => error,
            other => return other,
        };
        failed += 1;
        let Some(pause) = job.execution.retry.as_ref().and_then(|retry| retry.pause(failed)) else {
            return Err(error);
        };
        let text = format!("failed, retrying in {}: {}", human::duration(pause), error.chain());
        session.cx.events.note(text);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = session.cx.cancel.cancelled() => return Err(CoreError::cancelled().into()),
        }
    }
}
