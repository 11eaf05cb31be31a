//! `backup diff`.

use backup_control::snapshots::Choice;
use backup_core::diff::{Change, DiffEntry, DiffTotals};
use serde::Serialize;

use super::view::PathJson;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Compare two snapshots
///
/// Marks: `+` added, `-` removed, `M` content changed, `T` type changed, `U` only metadata changed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Earlier snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`,
    /// `2h ago`)
    #[arg(value_name = "A")]
    a: String,
    /// Later snapshot
    #[arg(value_name = "B")]
    b: String,
    /// Accept an older snapshot for `latest` or a moment if newer ones are damaged or missing
    #[arg(long)]
    skip_damaged: bool,
}

const EXAMPLES: &str = "\
Example:
  backup diff yesterday latest";

/// A difference in JSON: one line each.
#[derive(Serialize)]
struct DifferenceJson {
    schema_version: u32,
    event: &'static str,
    change: Change,
    #[serde(flatten)]
    path: PathJson,
    is_dir: bool,
    before_bytes: Option<u64>,
    after_bytes: Option<u64>,
}

#[derive(Serialize)]
struct DiffSummary<'a> {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    a: String,
    b: String,
    #[serde(flatten)]
    totals: &'a DiffTotals,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let all = Choice { skip_damaged: args.skip_damaged, ..Choice::default() };
    let spec = session.repository_with(None, &[&args.a, &args.b], &all).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let a = opened.find(session, &args.a, &all).await?;
    let b = opened.find(session, &args.b, &all).await?;
    let ui = &session.ui;
    // The walk cannot be stopped by its listener; once nobody reads, the rest is not written.
    let mut written = Ok(());
    let mut on_entry = |entry: DiffEntry| {
        if written.is_ok() {
            written = if ui.is_json() {
                ui.json_line(&difference(&entry))
            } else {
                ui.line(line(&entry))
            };
            if written.is_err() {
                session.cx.cancel.cancel();
            }
        }
    };
    let compared = backup_core::diff::diff(
        &opened.indexed.snapshot(a),
        &opened.indexed.snapshot(b),
        &session.cx,
        &mut on_entry,
    )
    .await;
    written?;
    let totals = compared?;
    if ui.is_json() {
        let (event, verb) = ("summary", "diff");
        let (a, b) = (a.id.to_hex(), b.id.to_hex());
        ui.json_line(&DiffSummary {
            schema_version: SCHEMA_VERSION,
            event,
            verb,
            a,
            b,
            totals: &totals,
        })?;
    } else if !ui.is_quiet() {
        ui.line(describe(&totals))?;
    }
    ui.flush()?;
    Ok(Outcome::with_warnings(totals.not_compared))
}

fn line(entry: &DiffEntry) -> String {
    let (letter, color) = match entry.change {
        Change::Added => ("+", style::ADDED),
        Change::Removed => ("-", style::REMOVED),
        Change::Modified => ("M", style::CHANGED),
        Change::TypeChanged => ("T", style::CHANGED),
        Change::MetadataOnly => ("U", style::PLAIN),
    };
    let path = human::text(entry.path.as_bytes());
    let slash = if entry.is_dir { "/" } else { "" };
    let sizes = match (entry.before, entry.after) {
        (Some(before), Some(after)) if before != after => {
            format!("  {} -> {}", human::size(before), human::size(after))
        }
        (None, Some(size)) | (Some(size), None) => format!("  {}", human::size(size)),
        _ => String::new(),
    };
    format!("{}  {path}{slash}{}", paint(color, letter), paint(style::FAINT, sizes))
}

fn difference(entry: &DiffEntry) -> DifferenceJson {
    DifferenceJson {
        schema_version: SCHEMA_VERSION,
        event: "difference",
        change: entry.change,
        path: (&entry.path).into(),
        is_dir: entry.is_dir,
        before_bytes: entry.before,
        after_bytes: entry.after,
    }
}

fn describe(totals: &DiffTotals) -> String {
    if *totals == DiffTotals::default() {
        return "No differences.".to_owned();
    }
    let not_compared = match totals.not_compared {
        0 => String::new(),
        count => format!("; {count} not compared"),
    };
    format!(
        "{} added, {} removed, {} changed, {} in metadata only; {} more, {} less{not_compared}",
        totals.added,
        totals.removed,
        totals.changed,
        totals.metadata_only,
        human::size(totals.added_bytes),
        human::size(totals.removed_bytes)
    )
}
