//! `backup schedule`.

use std::collections::{BTreeMap, BTreeSet};

use backup_control::config::JobType;
use backup_control::schedule::{self, Duty, Plan, Planned};
use backup_control::state;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// No more times than this are shown.
const MOST: usize = 10_000;

/// Show the schedule of the daemon, or pause and resume tasks
///
/// Reads the configuration; the daemon need not run. docs/daemon.md shows how to use cron or
/// systemd timers without a daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Show every start within this many days from now
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  backup schedule
  backup schedule --days 7
  backup schedule pause crm/daily
  backup schedule resume";

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Pause a task, or all tasks but log capture and alerts, for at most 7 days
    ///
    /// The daemon resumes a task after 7 days. Capture of a log continues unless its task is named:
    /// a server discards its log in the meantime, and the moments after the gap need a full backup.
    /// Evaluation of alerts continues unless its task is named, so that the condition `suppressed`
    /// can report the pause.
    Pause(TaskArgs),
    /// Resume a task, or all tasks
    Resume(TaskArgs),
}

/// A task of the schedule.
#[derive(Debug, clap::Args)]
struct TaskArgs {
    /// Task [default: all tasks]
    #[arg(value_name = "TASK")]
    task: Option<String>,
}

impl Args {
    /// True if only a daemon can execute the verb.
    pub(crate) fn is_for_daemon(&self) -> bool {
        self.verb.is_some()
    }
}

#[derive(Serialize)]
struct TaskJson<'a> {
    task: &'a str,
    does: String,
    schedule: Option<String>,
    /// It goes on all the time.
    continuous: bool,
    /// How long after the times of its schedule it begins.
    delay_seconds: u64,
    /// The daemon was told to leave it for now.
    paused: bool,
    next: Option<Timestamp>,
}

#[derive(Serialize)]
struct TimeJson<'a> {
    time: Timestamp,
    local: String,
    task: &'a str,
}

#[derive(Serialize)]
struct ScheduleJson<'a> {
    schema_version: u32,
    time_zone: &'a str,
    /// The key, variable or file that selects it; `none` or `fallback`.
    time_zone_origin: &'static str,
    window_time_zone: &'a str,
    tasks: Vec<TaskJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Vec<TimeJson<'a>>>,
    /// `true`: later times are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

pub(crate) fn run(session: &Session, args: &Args) -> CommandResult {
    let loaded = session.require_config()?;
    let plan = Plan::new(&loaded.config, &session.machine);
    let now = session.cx.clock.now();
    let paused = paused(session);
    let times = args.days.map(|days| times(&plan, &paused, now, days));
    if session.ui.is_json() {
        let tasks =
            plan.tasks.iter().map(|task| as_json(task, paused.contains(&task.name), now)).collect();
        let truncated = times.as_ref().map(|times| times.is_truncated);
        let times = times
            .as_ref()
            .map(|times| times.found.iter().map(|time| time_json(&plan, *time)).collect());
        session.ui.json(&ScheduleJson {
            schema_version: SCHEMA_VERSION,
            time_zone: &plan.zone.name,
            time_zone_origin: plan.zone.origin.as_str(),
            window_time_zone: &plan.window_zone.name,
            tasks,
            times,
            truncated,
        })?;
        return Ok(Outcome::Success);
    }
    if plan.tasks.is_empty() {
        session.ui.status("Nothing is scheduled.");
        session.ui.hint(
            "add `schedule = \"30 2 * * *\"` to a job, or look at `backup config example trading`",
        );
        return Ok(Outcome::Success);
    }
    session.ui.status(format_args!("Times are in {}.", plan.zone));
    let has_windows = plan.tasks.iter().any(|task| task.window.is_some());
    if has_windows && plan.window_zone.rules != plan.zone.rules {
        session.ui.status(format_args!("Windows are in {}.", plan.window_zone));
    }
    let lines = match &times {
        Some(times) => table_of_times(&plan, &times.found).lines(),
        None => table_of_tasks(&plan, &paused, now).lines(),
    };
    session.ui.print(lines.join("\n"))?;
    if times.is_some_and(|times| times.is_truncated) {
        session.ui.warning(format_args!("only the first {MOST} starts are shown"));
        session.ui.hint("show fewer days with --days");
    }
    if plan.tasks.iter().any(|task| paused.contains(&task.name)) {
        session.ui.hint("resume paused tasks with `backup schedule resume`");
    }
    Ok(Outcome::Success)
}

/// What the daemon of this machine was told to leave.
fn paused(session: &Session) -> BTreeSet<String> {
    let known =
        state::dir(&session.env).map_or_else(|| Ok(BTreeMap::new()), |dir| schedule::paused(&dir));
    let known = known.map(|tasks| tasks.into_keys().collect());
    known.unwrap_or_else(|error| {
        session.ui.warning(format_args!(
            "cannot read the daemon's state, so paused tasks are unknown: {error}"
        ));
        BTreeSet::new()
    })
}

/// Starts of tasks.
struct Times<'a> {
    found: Vec<(Timestamp, &'a Planned)>,
    /// There are more than [`MOST`].
    is_truncated: bool,
}

/// The starts within this many days, in the order of time.
fn times<'a>(plan: &'a Plan, paused: &BTreeSet<String>, now: Timestamp, days: u32) -> Times<'a> {
    // Days of the calendar: one on which clocks are changed is longer or shorter.
    let end = now
        .to_zoned(plan.zone.rules.clone())
        .checked_add(i64::from(days).days())
        .map_or(Timestamp::MAX, |end| end.timestamp());
    let begins = plan.tasks.iter().filter(|task| !paused.contains(&task.name));
    let mut waiting: Vec<_> = begins.filter_map(|task| Some((task.next(now)?, task))).collect();
    let mut found = Vec::new();
    loop {
        let next = waiting.iter_mut().filter(|(time, _)| *time < end);
        let Some(first) = next.min_by_key(|(time, _)| *time) else {
            return Times { found, is_truncated: false };
        };
        if found.len() == MOST {
            return Times { found, is_truncated: true };
        }
        found.push(*first);
        first.0 = first.1.next(first.0).unwrap_or(Timestamp::MAX);
    }
}

fn table_of_tasks(plan: &Plan, paused: &BTreeSet<String>, now: Timestamp) -> Table {
    let mut table = Table::new([
        ("Task", Align::Left),
        ("Action", Align::Left),
        ("Schedule", Align::Left),
        ("Next", Align::Left),
        ("Window", Align::Left),
    ]);
    for task in &plan.tasks {
        let schedule =
            task.timetable.as_ref().map_or("always".to_owned(), |table| table.cron.to_string());
        let begins = match paused.contains(&task.name) {
            true => Some(paint(style::WARNING, "paused")),
            false => task.next(now).map(|time| human::time(time, &plan.zone.rules)),
        };
        let window = task.window.map(|window| window.to_string());
        table.row([
            paint(style::HEADING, &task.name),
            does(&task.duty),
            schedule,
            begins.unwrap_or_default(),
            window.unwrap_or_default(),
        ]);
    }
    table
}

fn table_of_times(plan: &Plan, times: &[(Timestamp, &Planned)]) -> Table {
    let mut table =
        Table::new([("Time", Align::Left), ("Task", Align::Left), ("Action", Align::Left)]);
    for (time, task) in times {
        let weekday = time.to_zoned(plan.zone.rules.clone()).strftime("%a").to_string();
        let local = human::time(*time, &plan.zone.rules);
        table.row([format!("{weekday} {local}"), task.name.clone(), does(&task.duty)]);
    }
    table
}

fn as_json(task: &Planned, paused: bool, now: Timestamp) -> TaskJson<'_> {
    let table = task.timetable.as_ref();
    TaskJson {
        task: &task.name,
        does: does(&task.duty),
        schedule: table.map(|table| table.cron.to_string()),
        continuous: table.is_none(),
        delay_seconds: table.map_or(0, |table| table.delay.as_secs()),
        paused,
        next: task.next(now).filter(|_| !paused),
    }
}

fn time_json<'a>(plan: &Plan, (time, task): (Timestamp, &'a Planned)) -> TimeJson<'a> {
    let local = time.to_zoned(plan.zone.rules.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    TimeJson { time, local, task: &task.name }
}

/// What a task does, in words.
fn does(duty: &Duty) -> String {
    match duty {
        Duty::Backup { job, kind, tier, .. } => {
            let kind = kind.map(|kind| match kind {
                JobType::Full => "full ",
                JobType::Incremental => "incremental ",
                JobType::Differential => "differential ",
            });
            let tier = tier.as_ref().map(|tier| format!(", tier {tier}")).unwrap_or_default();
            format!("{}backup of {job}{tier}", kind.unwrap_or_default())
        }
        Duty::Follow { job } => format!("captures the log of {job}"),
        Duty::Verify { job } => format!("verifies the newest snapshot of {job}"),
        Duty::Cleanup => {
            "forgets snapshots that no policy keeps, and removes their data".to_owned()
        }
        Duty::Check { repository, data } => {
            let data = data
                .as_ref()
                .map(|data| format!(", and reads {data} of its data"))
                .unwrap_or_default();
            format!("checks repository {repository}{data}")
        }
        Duty::Prune { repository } => format!("removes unneeded data from {repository}"),
        Duty::Copy(copy) => {
            let of = copy.job.as_ref().map(|job| format!(" of {job}")).unwrap_or_default();
            format!("copies snapshots{of} from {} to {}", copy.from, copy.to)
        }
        Duty::Archive(archive) => {
            let of = archive.job.as_ref().map(|job| format!(" of {job}")).unwrap_or_default();
            let moves = if archive.remove == Some(true) { "moves" } else { "copies" };
            format!(
                "{moves} snapshots{of} older than {} from {} to {}",
                archive.older_than, archive.from, archive.to
            )
        }
        Duty::Compact { job } => format!("builds a full snapshot from the log of {job}"),
        Duty::Alerts => "evaluates all alert rules".to_owned(),
        Duty::Report { since, to } => format!("reports on the last {since} to {}", to.join(", ")),
    }
}
