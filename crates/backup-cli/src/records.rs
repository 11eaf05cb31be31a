//! Records of runs: writing, finding and showing them. A run that cannot be recorded ends with exit
//! code 3.

mod job_lock;

use std::path::PathBuf;

use backup_control::catalog::{self, Home, RunFilter, SharedCatalog};
use backup_control::repositories::RepositorySpec;
use backup_control::runs::{
    self, ClosedRun, Evidence, Failure, Log, Recording, Run, SavedRun, State, What,
};
use backup_control::state;
use backup_core::context::Context;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::repository::Repository;
use jiff::Timestamp;
use serde::Serialize;

pub(crate) use job_lock::Right;

use crate::command_error::{CommandError, CommandResult, Kind};
use crate::human;
use crate::session::Session;
use crate::signals;
use crate::trail;

/// Backups that failed and that are looked at for one that nothing came after.
const MAX_FAILED: u32 = 200;

/// The catalog, and the directory of what this machine keeps beside it.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) dir: PathBuf,
    pub(crate) catalog: SharedCatalog,
}

impl Records {
    /// Opens the catalog. That it cannot be used is a warning.
    pub(crate) async fn open(session: &Session) -> Option<Self> {
        match Self::require(session).await {
            Ok(records) => Some(records),
            // Whoever does something says that it was stopped.
            Err(error) if error.is_cancelled() => None,
            // A command that needs the configuration fails with the same error.
            Err(error) if error.is_config() => {
                session.trail.unrecorded(error);
                None
            }
            Err(error) => {
                warn_unrecorded(session, "runs are not recorded", &error);
                None
            }
        }
    }

    /// Opens the catalog, for those that can do nothing without it.
    pub(crate) async fn require(session: &Session) -> CommandResult<Self> {
        let Some(dir) = state::dir(&session.env) else {
            return Err(CommandError::new(Kind::Io, "no state directory for the catalog")
                .with_hint("set BACKUP_STATE_DIR to a directory"));
        };
        let now = session.cx.clock.now();
        let config = session.config()?;
        let home = Home::of(config.as_ref().map(|loaded| &loaded.config), &session.env, &dir)?;
        let password = config.as_ref().and_then(|one| one.config.catalog.password_file.as_deref());
        session.warn_of_exposed(password);
        let opened = tokio::select! {
            opened = catalog::open(&home, now) => opened?,
            () = session.cx.cancel.cancelled() => return Err(CoreError::cancelled().into()),
        };
        if let Some(aside) = opened.put_aside {
            session
                .ui
                .warning(format_args!("the damaged catalog was moved to {}", aside.display()));
            session.ui.hint(
                "run `backup catalog rebuild` to add the runs saved in repositories; repositories \
                 do not depend on the catalog",
            );
        }
        let catalog = opened.catalog;
        let closed = tokio::select! {
            closed = runs::close_dead(&dir, &catalog, &session.machine.host, now) => closed?,
            () = session.cx.cancel.cancelled() => return Err(CoreError::cancelled().into()),
        };
        for ClosedRun { run, cause } in &closed.runs {
            let (job, state) = (human::text(run.job.as_bytes()), run.state.as_str());
            session
                .ui
                .status(format_args!("Run {} of job {job} is closed as {state}: {cause}", run.id));
            trail::closed(session, run).await;
        }
        warn_of_unreadable(session, closed.unreadable);
        Ok(Self { dir, catalog })
    }

    /// Whether the process of a run that has not ended may live. Those of other machines are closed
    /// when nothing is heard of them.
    pub(crate) fn may_live(&self, run: &Run) -> bool {
        if self.catalog.shared().is_some() && !Log::is_here(&self.dir, &run.id).unwrap_or(true) {
            return true;
        }
        Log::is_alive(&self.dir, &run.id).unwrap_or(true)
    }

    /// The newest backup that failed or was stopped, and that nothing came after.
    pub(crate) async fn find_failed(&self) -> CommandResult<Run> {
        let failed = RunFilter {
            failed: true,
            backups: true,
            limit: Some(MAX_FAILED),
            ..RunFilter::default()
        };
        for run in self.catalog.runs(&failed).await?.runs {
            let same = RunFilter {
                job: Some(run.job.clone()),
                repository: Some(run.repository.clone()),
                backups: true,
                // A backup of a part does not make up for one of the whole job.
                whole: !run.evidence.is_part,
                limit: Some(1),
                ..RunFilter::default()
            };
            if self.catalog.runs(&same).await?.runs.first().is_none_or(|newest| newest.id == run.id)
            {
                return Ok(run);
            }
        }
        Err(CommandError::new(Kind::Core(ErrorKind::NotFound), "no job's last backup has failed")
            .with_hint("name a run; `backup status --runs` lists the newest"))
    }

    /// The run called `name`: `latest`, or the beginning of its name.
    pub(crate) async fn find(&self, name: &str) -> CommandResult<Run> {
        let found = match name {
            "latest" => {
                self.catalog.runs(&RunFilter { limit: Some(1), ..RunFilter::default() }).await?.runs
            }
            _ => self.catalog.named(name).await?,
        };
        let shown = human::text(name.as_bytes());
        let fail = |kind, message: String| {
            CommandError::new(Kind::Core(kind), message)
                .with_hint("list the newest runs with `backup status --runs`")
        };
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(run), None) => Ok(run),
            (None, _) => Err(fail(ErrorKind::NotFound, format!("there is no run {shown}"))),
            (Some(_), Some(_)) => {
                Err(fail(ErrorKind::Ambiguous, format!("several runs begin with {shown}")))
            }
        }
    }
}

/// Rows of the catalog that hold what no run has.
pub(crate) fn warn_of_unreadable(session: &Session, rows: u64) {
    if rows > 0 {
        let runs = human::count(rows, "run", "runs");
        session
            .ui
            .warning(format_args!("the catalog entries of {runs} are unreadable and left out"));
    }
}

/// Warns that something was done and is not recorded: the command ends with exit code 3.
pub(crate) fn warn_unrecorded(session: &Session, what: &str, error: &CommandError) {
    session.trail.lacks_record();
    warn(session, what, error);
}

pub(crate) fn warn(session: &Session, what: &str, error: &CommandError) {
    let text = format_args!("{what}: {}", human::text(error.chain().as_bytes()));
    session.ui.warning(session.of_job(text));
    if let Some(hint) = error.hint() {
        session.ui.hint(hint);
    }
}

/// The address of a repository as runs remember it: the same from every directory.
pub(crate) fn place(spec: &RepositorySpec) -> String {
    spec.place()
}

/// Does `work` as the run `run`, which is recorded from its beginning to its end; `describe` says
/// what came of it.
pub(crate) async fn recorded<T>(
    session: &Session,
    records: Option<&Records>,
    run: Run,
    work: impl AsyncFnOnce(&Session) -> CommandResult<T>,
    describe: impl FnOnce(&T, &mut Evidence),
) -> CommandResult<T> {
    Box::pin(recorded_as(session, records, run, work, describe)).await.0
}

/// The same, and the run as it is remembered, if it is.
pub(crate) async fn recorded_as<T>(
    session: &Session,
    records: Option<&Records>,
    run: Run,
    work: impl AsyncFnOnce(&Session) -> CommandResult<T>,
    describe: impl FnOnce(&T, &mut Evidence),
) -> (CommandResult<T>, Option<Run>) {
    let done = match run.what {
        What::Backup => State::Verified,
        What::Restore | What::Group => State::Completed,
    };
    let Some(recording) = begin(session, records, run).await else {
        return (Box::pin(work(session)).await, None);
    };
    let heard = Session {
        cx: Context { events: recording.events(), ..session.cx.clone() },
        ..session.clone()
    };
    let result = Box::pin(work(&heard)).await;
    drop(heard);
    let ended = match &result {
        Ok(value) => recording.end(done, |evidence| describe(value, evidence)).await,
        Err(error) => {
            recording
                .end(without_success(error), |evidence| evidence.failure = Some(failure(error)))
                .await
        }
    };
    match ended {
        Ok(run) => {
            trail::run(session, &run).await;
            (result, Some(run))
        }
        Err(error) => {
            warn_unrecorded(session, "the result of the run is not recorded", &error.into());
            (result, None)
        }
    }
}

/// Records a restore that failed before it started, so that runs, alerts and metrics have it too.
pub(crate) async fn restore_not_started(session: &Session, job: &str, error: &CommandError) {
    let (Some(records), Ok(spec)) = (Records::open(session).await, session.repository()) else {
        return;
    };
    let now = session.cx.clock.now();
    let run = Run::new(What::Restore, job, &place(&spec), &session.machine, now);
    let Some(recording) = begin(session, Some(&records), run).await else { return };
    let failed = |evidence: &mut Evidence| evidence.failure = Some(failure(error));
    if let Err(error) = recording.end(State::Failed, failed).await {
        warn_unrecorded(session, "the result of the restore is not recorded", &error.into());
    }
}

/// Saves what is remembered of a run in its repository, for other machines. That it cannot be is
/// said, and no more: the run is what it is.
pub(crate) async fn save(session: &Session, repository: &Repository, run: &Run) {
    if let Err(error) = repository.note_run(run.id.as_str(), &SavedRun::from(run)).await {
        warn_unrecorded(session, "the run is not saved in the repository", &error.into());
    }
}

/// How a run ends that has not succeeded: failed, unless somebody stopped it, or another one is at
/// it.
pub(crate) fn without_success(error: &CommandError) -> State {
    let is_stopped = error.is_cancelled() && !signals::is_late();
    if is_stopped || error.is_held() { State::Cancelled } else { State::Failed }
}

/// Why a run failed.
pub(crate) fn failure(error: &CommandError) -> Failure {
    if error.is_cancelled() && signals::is_late() {
        let hint = "find the slow stage with `backup analyze`, or raise `deadline`".to_owned();
        return Failure {
            message: "the run exceeded its deadline and was stopped".to_owned(),
            hint: Some(hint),
        };
    }
    Failure { message: error.chain(), hint: error.hint().map(str::to_owned) }
}

/// Begins to record a run. That it cannot be is a warning.
pub(crate) async fn begin(
    session: &Session,
    records: Option<&Records>,
    run: Run,
) -> Option<Recording> {
    let Records { dir, catalog } = records?;
    match Recording::begin(dir, catalog.clone(), run, &session.cx).await {
        Ok(recording) => Some(recording),
        Err(error) => {
            warn_unrecorded(session, "this run is not recorded", &error.into());
            None
        }
    }
}

/// A run in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct RunJson<'a> {
    run: &'a str,
    what: &'static str,
    job: &'a str,
    repository: &'a str,
    state: &'static str,
    started: Timestamp,
    finished: Option<Timestamp>,
    seconds: Option<f64>,
    host: &'a str,
    user: &'a str,
    pid: u32,
    #[serde(flatten)]
    evidence: &'a Evidence,
}

impl<'a> From<&'a Run> for RunJson<'a> {
    fn from(run: &'a Run) -> Self {
        Self {
            run: run.id.as_str(),
            what: run.what.as_str(),
            job: &run.job,
            repository: &run.repository,
            state: run.state.as_str(),
            started: run.started,
            finished: run.finished,
            seconds: run
                .finished
                .map(|finished| human::between(run.started, finished).as_secs_f64()),
            host: &run.host,
            user: &run.user,
            pid: run.pid,
            evidence: &run.evidence,
        }
    }
}
