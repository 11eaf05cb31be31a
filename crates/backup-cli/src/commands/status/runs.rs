//! The newest runs that this machine remembers.

use std::collections::BTreeSet;
use std::ops::Range;

use backup_control::catalog::RunFilter;
use backup_control::runs::{Run, State};
use jiff::Timestamp;
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::records::{self, Records, RunJson};
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Newest runs whose jobs are suggested for a misspelt one.
const KNOWN: u32 = 200;

#[derive(Serialize)]
struct RunsJson<'a> {
    schema_version: u32,
    runs: Vec<RunJson<'a>>,
}

/// Which runs are meant.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) jobs: &'a [String],
    pub(super) host: Option<&'a str>,
    pub(super) within: Option<Range<Timestamp>>,
    /// At most so many.
    pub(super) number: u32,
}

/// Lists runs of the jobs that are named, or of all jobs; into the repository that is named, or
/// into all.
pub(super) async fn run(session: &Session, asked: Asked<'_>) -> CommandResult {
    let records = Records::require(session).await?;
    let named = match (session.named_repository()?, session.env.text("BACKUP_REPO")) {
        (Some(spec), _) => Some(spec),
        (None, Some(name)) => Some(session.resolve(name)?),
        (None, None) => None,
    };
    let filter = RunFilter {
        repository: named.as_ref().map(records::place),
        host: asked.host.map(str::to_owned),
        within: asked.within,
        limit: Some(asked.number),
        ..RunFilter::default()
    };
    let (mut runs, mut unreadable) = (Vec::new(), 0);
    let each: Vec<Option<&String>> =
        if asked.jobs.is_empty() { vec![None] } else { asked.jobs.iter().map(Some).collect() };
    for job in each {
        let found =
            records.catalog.runs(&RunFilter { job: job.cloned(), ..filter.clone() }).await?;
        if let Some(job) = job.filter(|_| found.runs.is_empty()) {
            let any = RunFilter { job: Some(job.clone()), limit: Some(1), ..RunFilter::default() };
            if records.catalog.runs(&any).await?.runs.is_empty() {
                let newest = RunFilter { limit: Some(KNOWN), ..RunFilter::default() };
                let runs = records.catalog.runs(&newest).await?.runs;
                let jobs: BTreeSet<String> = runs.into_iter().map(|run| run.job).collect();
                return Err(super::unknown(session, job, &jobs)?);
            }
        }
        runs.extend(found.runs);
        unreadable += found.unreadable;
    }
    records::warn_of_unreadable(session, unreadable);
    runs.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    runs.truncate(asked.number as usize);
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&RunsJson {
            schema_version: SCHEMA_VERSION,
            runs: runs.iter().map(RunJson::from).collect(),
        })?;
        return Ok(Outcome::Success);
    }
    if runs.is_empty() {
        ui.status("No runs are recorded.");
        return Ok(Outcome::Success);
    }
    ui.status(format_args!("Times are in {}.", session.zones().dates));
    for line in table(session, &records, &runs).lines() {
        ui.line(line)?;
    }
    ui.flush()?;
    Ok(Outcome::Success)
}

fn table(session: &Session, records: &Records, runs: &[Run]) -> Table {
    let mut table = Table::new([
        ("Run", Align::Left),
        ("Started", Align::Left),
        ("Duration", Align::Right),
        ("Kind", Align::Left),
        ("Job", Align::Left),
        ("Host", Align::Left),
        ("State", Align::Left),
        ("Snapshot", Align::Left),
        ("Size", Align::Right),
        ("Failure", Align::Left),
    ]);
    for run in runs {
        let evidence = &run.evidence;
        let host = (run.host != session.machine.host).then(|| human::text(run.host.as_bytes()));
        let took =
            run.finished.map(|finished| human::duration(human::between(run.started, finished)));
        let failure =
            evidence.failure.as_ref().map(|failure| human::text(failure.message.as_bytes()));
        table.row([
            run.id.to_string(),
            human::time(run.started, session.zone()),
            took.unwrap_or_default(),
            run.what.as_str().to_owned(),
            human::text(run.job.as_bytes()),
            host.unwrap_or_default(),
            // Nobody could close it: of another host, and in a directory that others share.
            match run.finished.is_none() && !records.may_live(run) {
                true => format!("{}?", run.state.as_str()),
                false => state(run.state, evidence.warnings, evidence.is_part),
            },
            evidence.snapshot.as_ref().map(|id| id.chars().take(8).collect()).unwrap_or_default(),
            if run.state.is_success() { human::size(evidence.bytes) } else { String::new() },
            failure.unwrap_or_default(),
        ]);
    }
    table
}

/// A state for people.
pub(super) fn state(state: State, warnings: u64, is_part: bool) -> String {
    let mut text = match (state, warnings) {
        (State::Failed, _) => paint(style::ERROR, state.word()),
        (State::Cancelled, _) => paint(style::WARNING, state.word()),
        (_, 0) => state.word().to_owned(),
        (_, some) => format!("{}, {}", state.word(), human::count(some, "warning", "warnings")),
    };
    if is_part {
        text.push_str(", part");
    }
    text
}
