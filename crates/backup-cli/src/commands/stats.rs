//! `backup stats`.

use std::collections::BTreeMap;

use backup_core::maintenance::{self, StorageReport, Usage};
use backup_core::stats::{self, Stats};
use serde::Serialize;

use super::storage::growth;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::table::{Align, Table, facts};
use crate::ui::SCHEMA_VERSION;

/// Show stored data by job, type and tier, and deduplication savings
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {}

const EXAMPLES: &str = "\
Example:
  backup stats -r ./repo";

#[derive(Serialize)]
struct StatsJson<'a> {
    schema_version: u32,
    repository: String,
    #[serde(flatten)]
    stats: &'a Stats,
    /// How many times smaller the data is after deduplication, and then after compression.
    deduplication: Option<f64>,
    compression: Option<f64>,
    by_job: &'a BTreeMap<String, Usage>,
    by_type: &'a BTreeMap<String, Usage>,
    by_tier: &'a BTreeMap<String, Usage>,
    /// None if the snapshots span less than 24 hours.
    growth_per_day: Option<u64>,
}

pub(crate) async fn run(session: &Session, _args: &Args) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    // In this order: the index has all that the snapshots need.
    let snapshots = repository.snapshots(&session.cx).await?.snapshots;
    let indexed = repository.load_index(&session.cx).await?;
    let stats = stats::stats(&indexed, &snapshots, &session.cx).await?;
    let storage = maintenance::storage_of(&indexed, &snapshots, &session.cx).await?;
    let ui = &session.ui;
    if ui.is_json() {
        ui.json(&StatsJson {
            schema_version: SCHEMA_VERSION,
            repository: spec.to_string(),
            stats: &stats,
            deduplication: storage.deduplication(),
            compression: storage.compression(),
            by_job: &storage.by_job,
            by_type: &storage.by_type,
            by_tier: &storage.by_tier,
            growth_per_day: storage.growth_per_day,
        })?;
        return Ok(Outcome::Success);
    }
    ui.line(format_args!("Repository {spec}"))?;
    ui.line(facts(&overview(&stats, &storage)))?;
    for (heading, usages) in
        [("Job", &storage.by_job), ("Type", &storage.by_type), ("Tier", &storage.by_tier)]
    {
        if usages.is_empty() {
            continue;
        }
        ui.line("")?;
        for line in table(heading, usages).lines() {
            ui.line(line)?;
        }
    }
    ui.flush()?;
    Ok(Outcome::Success)
}

fn table(heading: &'static str, usages: &BTreeMap<String, Usage>) -> Table {
    let columns = [
        (heading, Align::Left),
        ("Snapshots", Align::Right),
        ("Size", Align::Right),
        ("Added", Align::Right),
    ];
    let mut table = Table::new(columns);
    for (name, usage) in usages {
        let name =
            if name.is_empty() { "(other tools)".to_owned() } else { human::text(name.as_bytes()) };
        let (size, added) = (human::size(usage.source_bytes), human::size(usage.added_bytes));
        table.row([name, usage.snapshots.to_string(), size, added]);
    }
    table
}

fn overview(stats: &Stats, storage: &StorageReport) -> Vec<(&'static str, String)> {
    let share = |part: u64, whole: u64| match whole {
        0 => String::new(),
        _ => format!(" ({:.0}%)", part as f64 / whole as f64 * 100.0),
    };
    let times =
        |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.1} to 1"));
    vec![
        ("Snapshots", stats.snapshots.to_string()),
        ("Total restore size", human::size(stats.restore_bytes)),
        (
            "After deduplication",
            human::size(stats.unique_bytes) + &share(stats.unique_bytes, stats.restore_bytes),
        ),
        (
            "As stored",
            human::size(stats.stored_bytes) + &share(stats.stored_bytes, stats.restore_bytes),
        ),
        ("Deduplication", times(storage.deduplication())),
        ("Compression", times(storage.compression())),
        ("Growth per day", growth(storage)),
        ("Blobs", {
            let trees = human::count(stats.trees, "of them a directory", "of them directories");
            format!("{}, {trees}", stats.blobs)
        }),
        ("Packs", stats.packs.to_string()),
        ("Index objects", stats.index_objects.to_string()),
    ]
}
