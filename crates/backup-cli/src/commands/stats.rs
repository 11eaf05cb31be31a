//! `backup stats`.

use backup_core::stats::{self, Stats};
use serde::Serialize;

use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::table::{Align, Table, facts};
use crate::ui::SCHEMA_VERSION;

/// Show how much a repository holds and what deduplication and compression save
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct StatsJson<'a> {
    schema_version: u32,
    repository: String,
    #[serde(flatten)]
    stats: &'a Stats,
}

pub(crate) async fn run(session: &Session, _args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    let indexed = repository.load_index(&session.cx).await?;
    let stats = stats::stats(&indexed, &session.cx).await?;
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&StatsJson { schema_version: SCHEMA_VERSION, repository: spec.to_string(), stats: &stats })?;
        return Ok(Outcome::Success);
    }
    ui.line(format_args!("Repository {spec}"))?;
    ui.line(facts(&overview(&stats)))?;
    let mut table = Table::new([("Job", Align::Left), ("Snapshots", Align::Right), ("Size", Align::Right)]);
    for (job, per_job) in &stats.per_job {
        let job = if job.is_empty() { "(of other tools)".to_owned() } else { human::text(job.as_bytes()) };
        table.row([job, per_job.snapshots.to_string(), human::size(per_job.bytes)]);
    }
    if !stats.per_job.is_empty() {
        ui.line("")?;
        for line in table.lines() {
            ui.line(line)?;
        }
    }
    ui.flush()?;
    Ok(Outcome::Success)
}

fn overview(stats: &Stats) -> Vec<(&'static str, String)> {
    let share = |part: u64, whole: u64| match whole {
        0 => String::new(),
        _ => format!(" ({:.0}%)", part as f64 / whole as f64 * 100.0),
    };
    vec![
        ("Snapshots", stats.snapshots.to_string()),
        ("Restored, all together", human::size(stats.restore_bytes)),
        ("After deduplication", human::size(stats.unique_bytes) + &share(stats.unique_bytes, stats.restore_bytes)),
        ("As stored", human::size(stats.stored_bytes) + &share(stats.stored_bytes, stats.restore_bytes)),
        ("Blobs", format!("{}, {} of them directories", stats.blobs, stats.trees)),
        ("Packs", stats.packs.to_string()),
        ("Index objects", stats.index_objects.to_string()),
    ]
}
