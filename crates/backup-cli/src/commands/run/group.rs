//! A group: its jobs are started together, and what came of them is remembered as a run of its own.

use backup_control::groups;
use backup_control::jobs::Job;
use backup_control::runs::{Evidence, Failure, Run, State, What};
use backup_core::context::Context;
use backup_core::repository::SnapshotInfo;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::{Args, BackedUp, OpenedRepositories, again};
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::records::{self, Records};
use crate::reporter;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::trail;
use crate::ui::SCHEMA_VERSION;

/// Jobs that are backed up together.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) jobs: Vec<Job>,
    pub(super) parallel: usize,
}

/// What came of a member.
#[derive(Debug, Serialize)]
struct Member<'a> {
    job: &'a str,
    snapshot: Option<String>,
    warnings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    exit_code: u8,
}

/// What came of a group.
struct Done<'a> {
    members: Vec<Member<'a>>,
    worst: Outcome,
    /// From which moment on it can be restored with these snapshots.
    moment: Option<Timestamp>,
}

#[derive(Serialize)]
struct GroupEvent<'a> {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    group: &'a str,
    moment: Option<Timestamp>,
    members: &'a [Member<'a>],
}

impl Group {
    /// Runs all its jobs, whatever comes of each. The exit code is that of the first that failed,
    /// or else the worst.
    pub(super) async fn run(
        &self,
        session: &Session,
        args: &Args,
        opened: &OpenedRepositories,
        records: Option<&Records>,
    ) -> CommandResult {
        let jobs = human::count(self.jobs.len() as u64, "job", "jobs");
        session.ui.status(format_args!(
            "Running the {jobs} of group {}",
            human::text(self.name.as_bytes())
        ));
        let recording = records::begin(session, records, self.as_run(session, args)).await;
        let heard = match &recording {
            Some(recording) => Session {
                cx: Context { events: recording.events(), ..session.cx.clone() },
                ..session.clone()
            },
            None => session.clone(),
        };
        let done = self.work(&heard, args, opened, records).await;
        drop(heard);
        if let Some(recording) = recording {
            let (state, failure, moment) = match &done {
                Ok(done) => (done.state(), done.failure(), done.moment),
                Err(error) => {
                    (records::without_success(error), Some(records::failure(error)), None)
                }
            };
            let change =
                |evidence: &mut Evidence| (evidence.failure, evidence.moment) = (failure, moment);
            match recording.end(state, change).await {
                Ok(run) => trail::run(session, &run).await,
                Err(error) => {
                    records::warn_unrecorded(
                        session,
                        "the result of the group is not recorded",
                        &error.into(),
                    );
                }
            }
        }
        let done = done?;
        self.report(session, &done)?;
        Ok(done.worst)
    }

    fn as_run(&self, session: &Session, args: &Args) -> Run {
        let mut places: Vec<String> =
            self.jobs.iter().map(|job| records::place(&job.repository)).collect();
        places.sort();
        places.dedup();
        let now = session.cx.clock.now();
        let mut run = Run::new(What::Group, &self.name, &places.join(", "), &session.machine, now);
        let names: Vec<&str> = self.jobs.iter().map(|job| job.options.job.as_str()).collect();
        run.evidence.subject = format!("jobs {}", names.join(", "));
        run.evidence.again = again::of_group(session, args, &self.name);
        run
    }

    async fn work<'a>(
        &'a self,
        session: &Session,
        args: &Args,
        opened: &OpenedRepositories,
        records: Option<&Records>,
    ) -> CommandResult<Done<'a>> {
        let one = async |job: &'a Job| {
            // What was heard of the group is no part of what is heard of a member.
            let events = reporter::of_job(&session.ui, &job.options.job);
            let session = Session {
                cx: Context { events, ..session.cx.clone() },
                label: Some(job.options.job.clone()),
                ..session.clone()
            };
            (job, Box::pin(super::one(&session, args, job, opened, records)).await)
        };
        let mut running = stream::iter(self.jobs.iter().map(one)).buffered(self.parallel);
        let (mut members, mut worst, mut snapshots) = (Vec::new(), Outcome::Success, Vec::new());
        let mut cancelled = None;
        while let Some((job, result)) = running.next().await {
            let member = member(session, job, &result);
            match result {
                Ok(done) => {
                    worst = worst.max(done.outcome());
                    snapshots.push((job, done.report.snapshot));
                }
                Err(error) => {
                    worst = worst.or_failed(&error);
                    if error.is_cancelled() {
                        cancelled = Some(error);
                    } else {
                        session.ui.error(&error.context(format_args!("job {}", job.options.job)));
                    }
                }
            }
            members.push(member);
        }
        drop(running);
        if let Some(error) = cancelled {
            return Err(error);
        }
        let mut infos: Vec<SnapshotInfo> = Vec::new();
        for (job, id) in snapshots {
            let Some(id) = id else { continue };
            let list =
                super::execute::open(session, job, opened).await?.snapshots(&session.cx).await?;
            infos.extend(list.snapshots.into_iter().find(|info| info.id == id));
        }
        let moment = if infos.len() == self.jobs.len() { groups::first_of(&infos) } else { None };
        if let Some(moment) = moment {
            session
                .cx
                .events
                .note(format!("these snapshots precede every moment from {moment} on"));
        }
        Ok(Done { members, worst, moment })
    }

    fn report(&self, session: &Session, done: &Done<'_>) -> CommandResult<()> {
        if session.ui.is_json() {
            let (schema_version, event, verb) = (SCHEMA_VERSION, "summary", "run");
            let (group, moment, members) =
                (self.name.as_str(), done.moment, done.members.as_slice());
            session.ui.event(&GroupEvent { schema_version, event, verb, group, moment, members });
            return Ok(());
        }
        let good = done.members.iter().filter(|member| member.error.is_none()).count();
        let count = human::count(done.members.len() as u64, "job", "jobs");
        let mut lines = vec![format!(
            "Group {}: {good} of {count} backed up",
            human::text(self.name.as_bytes())
        )];
        let mut table =
            Table::new([("  Job", Align::Left), ("Snapshot", Align::Left), ("", Align::Left)]);
        for member in &done.members {
            let snapshot = member.snapshot.as_deref().map_or("", |id| &id[..8]);
            let word = match (&member.error, member.exit_code) {
                (Some(_), _) => paint(style::ERROR, "failed"),
                (None, 0) => String::new(),
                (None, _) => "with warnings".to_owned(),
            };
            table.row([
                format!("  {}", human::text(member.job.as_bytes())),
                snapshot.to_owned(),
                word,
            ]);
        }
        lines.extend(table.lines());
        if let Some(moment) = done.moment {
            let moment = human::full_time(moment, session.zone());
            lines.push(format!(
                "Moments from {moment} on can be restored with these snapshots, as far as logs are \
                 captured"
            ));
        }
        session.ui.summary(lines.join("\n"))
    }
}

fn member<'a>(session: &Session, job: &'a Job, result: &CommandResult<BackedUp>) -> Member<'a> {
    let name = job.options.job.as_str();
    let (snapshot, warnings, error, exit_code) = match result {
        Ok(done) => {
            let id = done.report.snapshot.map(|id| id.to_hex());
            (id, done.report.warnings, None, done.outcome().exit_code())
        }
        Err(error) => {
            (error.snapshot().map(|id| id.to_hex()), 0, Some(error.chain()), error.exit_code())
        }
    };
    let text = match (&error, &snapshot) {
        (Some(error), _) => error.clone(),
        (None, Some(id)) => format!("snapshot {id}"),
        (None, None) => "nothing was stored".to_owned(),
    };
    // Shown it would say twice what the member itself has said.
    if session.ui.is_json() || error.is_none() {
        session.cx.events.note(format!("job {name}: {text}"));
    }
    Member { job: name, snapshot, warnings, error, exit_code }
}

impl Done<'_> {
    fn state(&self) -> State {
        if matches!(self.worst, Outcome::Failed(_)) { State::Failed } else { State::Completed }
    }

    fn failure(&self) -> Option<Failure> {
        let failed =
            |member: &Member<'_>| Some(format!("job {}: {}", member.job, member.error.as_ref()?));
        let failed: Vec<String> = self.members.iter().filter_map(failed).collect();
        (!failed.is_empty()).then(|| Failure { message: failed.join("; "), hint: None })
    }
}
