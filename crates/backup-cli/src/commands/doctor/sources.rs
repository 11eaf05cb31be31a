//! Sources: whether they can be backed up, and what is missing.

use std::time::Duration;

use backup_control::clusters;
use backup_control::config::Config;
use backup_control::jobs::{Job, JobFlags};
use backup_control::repositories::RepositorySpec;
use backup_control::sources::SourceSpec;
use backup_core::source::{
    LogCapture, Probe, ProbeProblem, SelectedPart, Selection, Source, SourceErrorKind,
};
use serde::Serialize;

use super::Args;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;
use crate::ui::SCHEMA_VERSION;

/// Parts of a source that are shown.
const MAX_SHOWN: usize = 20;

/// What was found, in JSON.
#[derive(Serialize)]
struct SourcesJson {
    schema_version: u32,
    sources: Vec<SourceJson>,
}

#[derive(Serialize)]
struct SourceJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    source: String,
    captures_log: bool,
    /// The parts that the job backs up; empty if a problem stands in the way of listing them.
    selected: Vec<SelectedPart>,
    #[serde(flatten)]
    probe: Probe,
}

/// A source and the part of it that a job backs up.
pub(super) struct Meant {
    job: Option<String>,
    /// Repository of the job.
    repository: Option<RepositorySpec>,
    spec: SourceSpec,
    selection: Selection,
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let mut found = Vec::new();
    for Meant { job, repository, spec, selection } in meant(session, args)? {
        let source = session.connect(&spec).await?;
        let mut probe = source.probe(&session.cx).await.map_err(backup_core::error::Error::from)?;
        if let (Some(job), Some(repository)) = (&job, &repository) {
            let of_job = (job.as_str(), repository);
            probe.problems.extend(other_cluster(session, of_job, &spec, &*source).await?);
        }
        let mut selected = Vec::new();
        if probe.problems.is_empty() {
            match parts(session, &*source, &selection).await? {
                Ok(parts) => selected = parts,
                Err(problem) => probe.problems.push(problem),
            }
        }
        let captures_log =
            source.capabilities().log_capture && probe.log_capture == LogCapture::AsDeclared;
        let source = format!("{source} ({spec})");
        found.push(SourceJson { job, source, captures_log, selected, probe });
    }
    let problems: usize = found.iter().map(|source| source.probe.problems.len()).sum();
    if session.ui.is_json() {
        session.ui.json(&SourcesJson { schema_version: SCHEMA_VERSION, sources: found })?;
        return Ok(Outcome::with_warnings(problems as u64));
    }
    for source in &found {
        session.ui.print(describe(source))?;
        for problem in &source.probe.problems {
            session.ui.warning(problem);
        }
        if source.probe.problems.is_empty() {
            session
                .ui
                .print(format_args!("{}: ready for backup", paint(style::GOOD, "No problems")))?;
        }
    }
    Ok(Outcome::with_warnings(problems as u64))
}

/// A problem if the source is another cluster than the one in the snapshots of the job.
pub(super) async fn other_cluster(
    session: &Session,
    (job, repository): (&str, &RepositorySpec),
    spec: &SourceSpec,
    source: &dyn Source,
) -> CommandResult<Option<ProbeProblem>> {
    if !clusters::may_be_another(spec, source) {
        return Ok(None);
    }
    let found = async {
        let repository = session.open(repository).await?;
        let other =
            clusters::other_than_known(&repository, job, spec, source, Duration::ZERO, &session.cx);
        CommandResult::Ok(other.await?)
    };
    match found.await {
        Ok(other) => {
            Ok(other
                .map(|other| ProbeProblem::new(other.to_string(), clusters::OtherCluster::REMEDY)))
        }
        Err(error) if error.is_cancelled() => Err(error),
        // There are no snapshots yet.
        Err(error) if error.is_missing_repository() => Ok(None),
        Err(error) => {
            let fix =
                error.hint().unwrap_or("correct the address or pass phrase in [repositories]");
            let finding =
                format!("cannot compare the cluster with the snapshots: {}", error.chain());
            Ok(Some(ProbeProblem::new(finding, fix)))
        }
    }
}

/// The parts of a source that a selection covers; a problem if it covers none, or is refused.
pub(super) async fn parts(
    session: &Session,
    source: &dyn Source,
    selection: &Selection,
) -> CommandResult<Result<Vec<SelectedPart>, ProbeProblem>> {
    const FIX: &str = "correct `include` and `exclude` of the job";
    match source.selected(&session.cx, selection).await {
        Ok(parts) => {
            let is_nothing = parts.iter().all(|part| part.objects == Some(0));
            if !is_nothing || selection.is_all() {
                return Ok(Ok(parts));
            }
            let finding = format!(
                "nothing is selected: include [{}], exclude [{}]",
                selection.include().join(", "),
                selection.exclude().join(", ")
            );
            Ok(Err(ProbeProblem::new(finding, FIX)))
        }
        Err(error) if error.kind() == SourceErrorKind::Cancelled => Err(error.into()),
        Err(error) => Ok(Err(ProbeProblem::of_error(&error, FIX))),
    }
}

/// Selected parts in one line.
pub(super) fn shown(parts: &[SelectedPart]) -> String {
    let one = |part: &SelectedPart| match part.objects {
        Some(count) => format!("{} ({count} {})", part.name, part.unit),
        None => part.name.clone(),
    };
    let mut shown: Vec<String> = parts.iter().take(MAX_SHOWN).map(one).collect();
    if parts.len() > MAX_SHOWN {
        shown.push(format!("and {} more", parts.len() - MAX_SHOWN));
    }
    if shown.is_empty() { "everything; there is nothing yet".to_owned() } else { shown.join(", ") }
}

/// The sources of the arguments, with their jobs.
fn meant(session: &Session, args: &Args) -> CommandResult<Vec<Meant>> {
    if !args.source.is_empty() {
        let spec = SourceSpec::of_addresses(&args.source, &session.machine, &session.env)?;
        let selection = Selection::all();
        return Ok(vec![Meant { job: None, repository: None, spec, selection }]);
    }
    let loaded = session.require_config()?;
    let repository = session.named_repository()?;
    let job = |name: &String| {
        let job = Job::from_config(
            name,
            &loaded.config,
            repository.clone(),
            &JobFlags::default(),
            session.place(),
        )?;
        let (selection, of_job) = (job.options.selection.clone(), job.repository.clone());
        let spec = self::of_job(&loaded.config, name, job);
        Ok(Meant { job: Some(name.clone()), repository: Some(of_job), spec, selection })
    };
    loaded.config.jobs_of(&args.jobs).iter().map(job).collect()
}

/// The source of a job, as one whose log is captured if it is.
pub(super) fn of_job(config: &Config, name: &str, job: Job) -> SourceSpec {
    let is_captured = config.jobs.get(name).is_some_and(|job| job.logs.is_some());
    if is_captured {
        job.source.capturing(job.logs.waits_at_most(job.repository.idle_record()))
    } else {
        job.source
    }
}

fn shown_if(source: &SourceJson) -> String {
    if source.probe.problems.is_empty() { shown(&source.selected) } else { String::new() }
}

fn log_capture(source: &SourceJson) -> &'static str {
    match source.probe.log_capture {
        LogCapture::Unchecked => "could not be checked",
        _ if source.captures_log => "yes",
        _ => "no",
    }
}

fn describe(source: &SourceJson) -> String {
    let probe = &source.probe;
    let count = |count: u64| human::count(count, "object", "objects");
    facts(&[
        ("Job", source.job.clone().unwrap_or_default()),
        ("Source", source.source.clone()),
        ("Version", probe.version.clone().unwrap_or_default()),
        ("Objects (estimate)", probe.estimated_objects.map_or_else(String::new, count)),
        ("Size (estimate)", probe.estimated_bytes.map_or_else(String::new, human::size)),
        (
            "Clock ahead by",
            probe.clock_ahead_seconds.map_or_else(String::new, |ahead| format!("{ahead:+} s")),
        ),
        ("Selected", shown_if(source)),
        ("Log capture", log_capture(source).to_owned()),
    ])
}
