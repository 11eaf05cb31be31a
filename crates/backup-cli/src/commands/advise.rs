//! `backup advise`.

use backup_control::advice::{self, Advice};
use backup_control::catalog::RunFilter;
use backup_control::runs::COMPARED;
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::commands::logs;
use crate::human;
use crate::records::{self, Records};
use crate::session::Session;
use crate::ui::SCHEMA_VERSION;

/// Suggest improvements, based on the configuration and recorded runs
///
/// Reads only the configuration and this machine's catalog of runs. `backup doctor` examines
/// sources and stores.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Jobs or groups of the configuration [default: all jobs]
    #[arg(value_name = "JOB_OR_GROUP")]
    jobs: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  backup advise
  backup advise documents --json";

#[derive(Serialize)]
struct AdviceJson<'a> {
    schema_version: u32,
    advice: &'a [Advice],
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let loaded = session.require_config()?;
    let records = Records::open(session).await;
    let names: Vec<String> = match &args.jobs[..] {
        [] => loaded.config.jobs.keys().cloned().collect(),
        names => loaded.config.jobs_of(names),
    };
    let mut given = if args.jobs.is_empty() { advice::of_all(&loaded.config) } else { Vec::new() };
    for name in &names {
        let repository = logs::repository_of(session, name)?;
        let filter = RunFilter {
            job: Some(name.clone()),
            repository: Some(records::place(&repository)),
            backups: true,
            whole: true,
            limit: Some(COMPARED),
            ..RunFilter::default()
        };
        let runs = match &records {
            Some(records) => records.catalog.runs(&filter).await?.runs,
            None => Vec::new(),
        };
        given.extend(advice::of_job(&loaded.config, name, &runs, session.cx.clock.now())?);
    }
    if session.ui.is_json() {
        session.ui.json(&AdviceJson { schema_version: SCHEMA_VERSION, advice: &given })?;
        return Ok(Outcome::Success);
    }
    if given.is_empty() {
        session.ui.status("No advice.");
        return Ok(Outcome::Success);
    }
    let line = |Advice { job, seen, advice }: &Advice| {
        let about = job.as_ref().map(|job| format!("{job}: ")).unwrap_or_default();
        format!("{}\n  {advice}", human::text(format!("{about}{seen}").as_bytes()))
    };
    session.ui.print(given.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    Ok(Outcome::Success)
}
