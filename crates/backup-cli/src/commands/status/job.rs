//! Status of one job: from its repository, and from the recorded runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use backup_control::catalog::RunFilter;
use backup_control::repositories::RepositorySpec;
use backup_core::id::SnapshotId;
use backup_core::log::{LogView, Target};
use backup_core::repository::{IndexedRepository, Repository, SnapshotInfo, SnapshotList};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::last_runs::{LastRun, last_runs, newest};
use super::success::Success;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::view;
use crate::human;
use crate::records::{self, Records};
use crate::session::Session;

/// Status of a job.
#[derive(Debug, Serialize)]
pub(super) struct JobStatus {
    pub(super) job: String,
    pub(super) repository: String,
    /// Whether the repository could be read.
    pub(super) reachable: bool,
    pub(super) last_success: Option<Success>,
    pub(super) age_seconds: Option<u64>,
    pub(super) last_run: Option<LastRun>,
    /// The newest run of the whole job: the last one, unless that backed up a part.
    #[serde(skip)]
    pub(super) last_whole_run: Option<LastRun>,
    /// Whether the runs that this machine remembers could be looked at.
    pub(super) runs_known: bool,
    /// The last moment that can be restored, by the clock of the source, if the log is captured.
    pub(super) recovery_point: Option<Timestamp>,
    /// Why there is none, although a log is captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery_refused: Option<String>,
    /// When the daemon backs it up next, by itself or with a group, by the configuration of this
    /// machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_run: Option<Timestamp>,
}

/// What is asked about a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) spec: &'a RepositorySpec,
    /// Only of this host.
    pub(super) host: Option<&'a str>,
    /// Only of this time.
    pub(super) within: Option<&'a Range<Timestamp>>,
}

/// Repositories that were opened, by their addresses; none where that failed, which was reported.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    opened: Vec<(String, Option<Opened>, Outcome)>,
    /// The jobs whose status is read, by the addresses of their repositories.
    jobs: HashMap<String, Arc<Vec<String>>>,
}

/// An opened repository. Its index is loaded only for a log.
#[derive(Debug)]
pub(super) struct Opened {
    repository: Repository,
    pub(super) snapshots: SnapshotList,
    /// Places in the list of snapshots, by job.
    by_job: HashMap<String, Vec<usize>>,
    indexed: Option<IndexedRepository>,
    damaged: BTreeSet<SnapshotId>,
    verified: BTreeSet<SnapshotId>,
    /// The captured logs of the jobs whose status is read; none before the first is needed.
    logs: Option<BTreeMap<String, CommandResult<LogView>>>,
}

impl Repositories {
    /// Names the jobs whose status is read: their logs are read together.
    pub(super) fn expect(&mut self, jobs: &[(String, RepositorySpec)]) {
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        for (job, spec) in jobs {
            found.entry(spec.to_string()).or_default().push(job.clone());
        }
        self.jobs = found.into_iter().map(|(place, jobs)| (place, Arc::new(jobs))).collect();
    }

    /// Opens a repository, without which nothing can be said.
    pub(super) async fn open(
        &mut self,
        session: &Session,
        spec: &RepositorySpec,
    ) -> CommandResult<&mut Opened> {
        let repository = session.open(spec).await?;
        let snapshots = repository.snapshots(&session.cx).await?;
        let outcome = view::warn_of_damaged(&session.ui, &snapshots);
        let damaged = repository.damaged().await?;
        let verified = repository.verified().await?;
        self.opened.push((spec.to_string(), None, outcome));
        let at = self.opened.len() - 1;
        let mut by_job: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, info) in snapshots.snapshots.iter().enumerate() {
            if let Some(job) = info.snapshot.tag("job") {
                by_job.entry(job.to_owned()).or_default().push(at);
            }
        }
        let (indexed, logs) = (None, None);
        let opened = Opened { repository, snapshots, by_job, indexed, damaged, verified, logs };
        Ok(self.opened[at].1.insert(opened))
    }

    /// The worst that opening them came to, whether or not a job is in them.
    pub(super) fn outcome(&self) -> Outcome {
        self.opened.iter().map(|(.., outcome)| *outcome).max().unwrap_or(Outcome::Success)
    }

    /// A repository, opened at most once; one that cannot be is an error that hides nothing else.
    async fn get(
        &mut self,
        session: &Session,
        spec: &RepositorySpec,
    ) -> CommandResult<(Option<&mut Opened>, Outcome)> {
        let place = spec.to_string();
        if !self.opened.iter().any(|(known, ..)| *known == place)
            && let Err(error) = self.open(session, spec).await
        {
            if error.is_cancelled() {
                return Err(error);
            }
            let outcome = Outcome::Failed(error.exit_code());
            session.ui.error(&error.context(format_args!("repository {place}")));
            self.opened.push((place.clone(), None, outcome));
        }
        let known = self.opened.iter_mut().find(|(known, ..)| *known == place);
        Ok(known
            .map_or((None, Outcome::Success), |(_, opened, outcome)| (opened.as_mut(), *outcome)))
    }

    /// The jobs of all snapshots.
    pub(super) fn job_names(&self) -> BTreeSet<String> {
        let opened = self.opened.iter().filter_map(|(_, opened, _)| opened.as_ref());
        let snapshots = opened.flat_map(|opened| &opened.snapshots.snapshots);
        snapshots.filter_map(|info| info.snapshot.tag("job").map(str::to_owned)).collect()
    }

    /// The jobs in a repository whose status is read.
    fn jobs_in(&self, spec: &RepositorySpec) -> Arc<Vec<String>> {
        self.jobs.get(&spec.to_string()).cloned().unwrap_or_default()
    }
}

impl JobStatus {
    /// Whether there is no trace of it.
    pub(super) fn is_unknown(&self) -> bool {
        self.reachable && self.last_success.is_none() && self.last_run.is_none()
    }

    /// True if the newest evidence about its last snapshot is a finding of damage.
    pub(super) fn is_damaged(&self) -> bool {
        self.last_success.as_ref().is_some_and(|success| success.damage.is_some())
    }

    /// True if the snapshot of the last run was verified after it.
    pub(super) fn is_verified(&self) -> bool {
        let success = self.last_success.as_ref().filter(|success| success.verified == Some(true));
        let run = self.last_run.as_ref().and_then(|run| run.snapshot.as_ref());
        success.is_some_and(|success| Some(&success.snapshot) == run)
    }

    /// The latest restorable moment, by backups and captured log.
    pub(super) fn last_point(&self) -> Option<Timestamp> {
        self.recovery_point.max(self.last_success.as_ref().map(|success| success.time))
    }

    /// What does not fit a table.
    pub(super) fn remarks(&self, zone: &TimeZone) -> Vec<String> {
        let damage = self.last_success.as_ref().and_then(|success| success.damage.as_ref());
        let damaged = damage.map(|mark| {
            let (by, found) = (&mark.by, human::full_time(mark.found, zone));
            format!("the last snapshot is damaged, as `{by}` found at {found}")
        });
        let warnings = self.last_success.as_ref().map_or(0, |success| success.warnings);
        let incomplete = (warnings > 0).then(|| {
            format!(
                "the last snapshot is incomplete: {}",
                human::count(warnings, "warning", "warnings")
            )
        });
        let of_no_moment =
            self.last_success.as_ref().is_some_and(|success| success.point_in_time == Some(false));
        let of_no_moment = of_no_moment.then(|| {
            "the last snapshot is not point-in-time: the source may have changed while it was read"
                .to_owned()
        });
        let failure = self.last_whole_run.as_ref().and_then(|run| run.failure.as_ref());
        let failed =
            failure.map(|failure| format!("the last run did not succeed: {}", failure.message));
        let refused = self
            .recovery_refused
            .as_ref()
            .map(|why| format!("no moment of the log can be restored: {why}"));
        let clock = self.last_run.as_ref().map(|run| run.clock_remarks(zone)).unwrap_or_default();
        let misdated = self.last_success.as_ref().filter(|success| success.is_misdated);
        let wrong = misdated.and_then(|success| success.own_time);
        let wrong = wrong.map(|own| {
            let own = human::full_time(own, zone);
            format!("the last snapshot states {own}: the clock was wrong")
        });
        let line = |text: String| human::text(format!("{}: {text}", self.job).as_bytes());
        [failed, damaged, incomplete, of_no_moment, wrong, refused]
            .into_iter()
            .flatten()
            .chain(clock)
            .map(line)
            .collect()
    }
}

/// What is known of a job.
pub(super) async fn status(
    session: &Session,
    repositories: &mut Repositories,
    known_runs: Option<&Records>,
    asked: Asked<'_>,
) -> CommandResult<(JobStatus, Outcome)> {
    let Asked { name, spec, host, within } = asked;
    let mut filter = RunFilter {
        job: Some(name.to_owned()),
        repository: Some(records::place(spec)),
        host: host.map(str::to_owned),
        within: within.cloned(),
        backups: true,
        limit: Some(1),
        ..RunFilter::default()
    };
    let last_runs = last_runs(session, known_runs, &filter).await;
    let jobs = repositories.jobs_in(spec);
    let (opened, mut outcome) = repositories.get(session, spec).await?;
    let reachable = opened.is_some();
    let mut recovery = None;
    let last_success = match opened {
        Some(opened) => {
            if within.is_none() {
                match opened.recovery_point(session, name, &jobs).await {
                    Ok(point) => recovery = point,
                    Err(error) => {
                        outcome = outcome.max(failed(session, error, "log of job", name)?);
                    }
                }
            }
            match opened.last_success(asked).await {
                Ok(success) => success,
                Err(error) => {
                    outcome = outcome.max(failed(session, error, "job", name)?);
                    None
                }
            }
        }
        None => {
            (filter.successful, filter.whole) = (true, true);
            newest(session, known_runs, &filter)
                .await
                .ok()
                .flatten()
                .and_then(|run| Success::remembered(&run))
        }
    };
    let (recovery_point, recovery_refused) = match recovery {
        Some(Ok(point)) => (point, None),
        refused => (None, refused.and_then(Result::err)),
    };
    let [last_run, last_whole_run] = last_runs.clone().unwrap_or_default();
    let status = JobStatus {
        job: name.to_owned(),
        repository: records::place(spec),
        reachable,
        age_seconds: last_success
            .as_ref()
            .map(|success| human::between(success.time, session.cx.clock.now()).as_secs()),
        last_success,
        runs_known: last_runs.is_ok(),
        last_run,
        last_whole_run,
        recovery_point,
        recovery_refused,
        next_run: None,
    };
    Ok((status, outcome))
}

/// Reports an error about a job, which hides nothing about others; fails if the command was
/// cancelled.
fn failed(
    session: &Session,
    error: CommandError,
    about: &str,
    job: &str,
) -> CommandResult<Outcome> {
    if error.is_cancelled() {
        return Err(error);
    }
    let outcome = Outcome::Failed(error.exit_code());
    session.ui.error(&error.context(format_args!("{about} {}", human::text(job.as_bytes()))));
    Ok(outcome)
}

impl Opened {
    /// The newest backup of a job. What was captured of its log is none, though it is kept like
    /// one.
    async fn last_success(&self, asked: Asked<'_>) -> CommandResult<Option<Success>> {
        let fits = |info: &&SnapshotInfo| {
            let snapshot = &info.snapshot;
            let is_backup = snapshot.tag("type") != Some("log") && !snapshot.is_part();
            is_backup
                && asked.host.is_none_or(|host| snapshot.hostname == host)
                && asked.within.is_none_or(|within| within.contains(&info.time()))
        };
        let of_job = self.by_job.get(asked.name).into_iter().flatten().rev();
        let mut of_job = of_job.filter_map(|at| self.snapshots.snapshots.get(*at));
        let Some(newest) = of_job.find(fits) else {
            return Ok(None);
        };
        let damage = match self.damaged.contains(&newest.id) {
            true => self.repository.damage_mark(&newest.id).await?,
            false => None,
        };
        let verified = Some(self.verified.contains(&newest.id));
        Ok(Some(Success { damage, verified, ..Success::from(newest) }))
    }

    /// The last moment that can be restored, or why there is none; nothing without a snapshot. The
    /// first call reads the logs of all `jobs`.
    async fn recovery_point(
        &mut self,
        session: &Session,
        job: &str,
        jobs: &[String],
    ) -> CommandResult<Option<Result<Option<Timestamp>, String>>> {
        if self.logs.is_none() {
            self.logs = Some(self.read_logs(session, jobs).await?);
        }
        let logs = self.logs.get_or_insert_default();
        if let Some(Ok(view)) = logs.get(job) {
            let plan = view.timeline().plan(&Target::Latest);
            return Ok(Some(plan.map(|plan| plan.time).map_err(|refusal| refusal.reason)));
        }
        logs.remove(job).map_or(Ok(None), |unreadable| unreadable.map(|_| None))
    }

    async fn read_logs(
        &mut self,
        session: &Session,
        jobs: &[String],
    ) -> CommandResult<BTreeMap<String, CommandResult<LogView>>> {
        let (mut logs, mut named, mut streams) = (BTreeMap::new(), Vec::new(), Vec::new());
        let newest = backup_control::logs::newest_by_job(&self.snapshots.snapshots);
        for job in jobs {
            let Some(newest) = newest.get(job.as_str()) else { continue };
            let indexed = match &mut self.indexed {
                Some(indexed) => indexed,
                none => none.insert(self.repository.load_index(&session.cx).await?),
            };
            match backup_control::logs::stream_of(indexed, newest).await {
                Ok(stream) => {
                    streams.push(stream);
                    named.push(job.clone());
                }
                Err(error) => {
                    logs.insert(job.clone(), Err(error.into()));
                }
            }
        }
        let views = LogView::load_all(&self.repository, &streams, &session.cx).await?;
        for (job, view) in named.into_iter().zip(views) {
            let view = view.of_job(&job);
            logs.insert(job, Ok(view));
        }
        Ok(logs)
    }
}
