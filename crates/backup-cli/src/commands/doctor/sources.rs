//! Sources: whether they can be backed up, and what is missing.

use backup_control::config::Config;
use backup_control::jobs::{Job, JobFlags};
use backup_control::sources::SourceSpec;
use backup_core::source::Probe;
use serde::Serialize;

use super::Args;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;
use crate::ui::SCHEMA_VERSION;

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
    #[serde(flatten)]
    probe: Probe,
}

pub(super) async fn run(session: &Session, args: &Args) -> CommandResult {
    let mut found = Vec::new();
    for (job, spec) in meant(session, args)? {
        let source = session.unless_cancelled(spec.open(&session.env)).await?;
        let probe = source.probe(&session.cx).await.map_err(backup_core::error::Error::from)?;
        let captures_log = source.capabilities().log_capture;
        found.push(SourceJson { job, source: format!("{source} ({spec})"), captures_log, probe });
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

/// The sources that are asked for, with their jobs.
fn meant(session: &Session, args: &Args) -> CommandResult<Vec<(Option<String>, SourceSpec)>> {
    if !args.source.is_empty() {
        return Ok(vec![(
            None,
            SourceSpec::of_addresses(&args.source, &session.machine, &session.env)?,
        )]);
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
        Ok((Some(name.clone()), of_job(&loaded.config, name, job)))
    };
    args.jobs.iter().map(job).collect()
}

/// The source of a job, as one whose log is captured if it is.
pub(super) fn of_job(config: &Config, name: &str, job: Job) -> SourceSpec {
    let is_captured = config.jobs.get(name).is_some_and(|job| job.logs.is_some());
    if is_captured { job.source.capturing(job.logs.waits_at_most()) } else { job.source }
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
        ("Log capture", if source.captures_log { "yes" } else { "no" }.to_owned()),
    ])
}
