//! `backup analyze`.

use std::time::Duration;

use backup_control::catalog::RunFilter;
use backup_control::runs::{Analysis, COMPARED, Run, State, analyze};
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::records::{Records, RunJson};
use crate::session::Session;
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Show the duration of each stage of a run, beside earlier runs
///
/// Compares the run with the median of up to 20 earlier successful runs of the same job and type.
/// Reading the source and storing the data overlap, so they count as one stage.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run: `latest`, or the beginning of its name in `backup status --runs`
    #[arg(value_name = "RUN")]
    run: String,
}

const EXAMPLES: &str = "\
Examples:
  backup analyze latest
  backup analyze 20261123-0200 --json";

#[derive(Serialize)]
struct AnalysisJson<'a> {
    schema_version: u32,
    #[serde(flatten)]
    run: RunJson<'a>,
    analysis: &'a Analysis,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let records = Records::require(session).await?;
    let run = records.find(&args.run).await?;
    let filter = RunFilter {
        job: Some(run.job.clone()),
        repository: Some(run.repository.clone()),
        within: Some(jiff::Timestamp::MIN..run.started),
        successful: true,
        whole: !run.evidence.is_part,
        limit: Some(COMPARED),
        ..RunFilter::default()
    };
    let others = records.catalog.runs(&filter).await?.runs;
    let analysis = analyze(&run, &others, session.cx.clock.now());
    if session.ui.is_json() {
        let (schema_version, run) = (SCHEMA_VERSION, RunJson::from(&run));
        session.ui.json(&AnalysisJson { schema_version, run, analysis: &analysis })?;
        return Ok(Outcome::Success);
    }
    let mut lines = vec![heading(&run, &analysis)];
    lines.extend(table(&analysis).lines());
    lines.extend(comparison(&analysis));
    lines.extend(analysis.remarks.iter().cloned());
    session.ui.print(lines.join("\n"))?;
    Ok(Outcome::Success)
}

fn heading(run: &Run, analysis: &Analysis) -> String {
    let (job, took) =
        (human::text(run.job.as_bytes()), human::duration(Duration::from_millis(analysis.millis)));
    let verb = if run.state == State::Running { "for" } else { "took" };
    format!(
        "Run {}: {} of job {job}, {}, {verb} {took}",
        run.id,
        run.what.as_str(),
        run.state.word()
    )
}

fn table(analysis: &Analysis) -> Table {
    let mut table = Table::new([
        ("Stage", Align::Left),
        ("Duration", Align::Right),
        ("Share", Align::Right),
        ("Items", Align::Right),
        ("Size", Align::Right),
        ("Speed", Align::Right),
        ("Usual", Align::Right),
    ]);
    let duration = |millis: u64| human::duration(Duration::from_millis(millis));
    let share = |share: f64| format!("{:.0}%", share * 100.0);
    for stage in &analysis.stages {
        table.row([
            stage.stage.replace('_', " "),
            duration(stage.millis),
            share(stage.share),
            stage.items.to_string(),
            human::size(stage.bytes),
            stage
                .bytes_per_second
                .map(|speed| format!("{}/s", human::size(speed)))
                .unwrap_or_default(),
            stage.usual_millis.map(duration).unwrap_or_default(),
        ]);
    }
    let outside = analysis.outside_millis as f64 / analysis.millis.max(1) as f64;
    table.row(["outside the stages".to_owned(), duration(analysis.outside_millis), share(outside)]);
    table
}

fn comparison(analysis: &Analysis) -> Vec<String> {
    let longest =
        analysis.longest.as_ref().map(|stage| format!("Longest: {}", stage.replace('_', " ")));
    let earlier = match analysis.earlier {
        None => "No earlier run to compare with".to_owned(),
        Some(earlier) => format!(
            "Median of {}: {}, {} in the snapshot, {} stored",
            human::count(earlier.runs as u64, "earlier run", "earlier runs"),
            human::duration(Duration::from_millis(earlier.millis)),
            human::size(earlier.bytes),
            human::size(earlier.stored_bytes),
        ),
    };
    longest.into_iter().chain([earlier]).collect()
}
