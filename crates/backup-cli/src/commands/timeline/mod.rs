//! `backup timeline`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verb; ranges, bases and gaps |
//! | `days.rs` | a bar for every day |
//! | `built.rs` | moments within incremental snapshots |

mod built;
mod days;

use backup_control::logs::lsn_of;
use backup_core::log::{Base, LogView, Position, Range, Target, Timeline};
use backup_core::repository::SnapshotInfo;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::logs::figures::{Figures, Missing};
use super::logs::{self, branch as branch_name, position};
use super::view;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table, facts};
use crate::ui::SCHEMA_VERSION;

/// Show the restorable moments of a job: ranges, gaps and snapshots
///
/// Times are those of the source's clock. `backup restore --at` restores any moment in a range. In
/// the bars, which begin at midnight, every letter is half an hour: `=` restorable, `B` a snapshot
/// to begin with, `!` a gap, `.` nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Job
    #[arg(value_name = "JOB")]
    job: String,
}

const EXAMPLES: &str = "\
Examples:
  backup timeline shop
  backup restore --job shop --at '2026-11-21 14:30' --target mongodb://admin@db1/ --dry-run";

/// The last moment that can be restored.
#[derive(Debug, Serialize)]
struct Latest {
    position: Position,
    /// The same as servers of PostgreSQL write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lsn: Option<String>,
    time: Option<Timestamp>,
    lag_seconds: Option<u64>,
}

#[derive(Serialize)]
struct TimelineJson<'a> {
    schema_version: u32,
    repository: String,
    job: &'a str,
    stream: String,
    ranges: &'a [Range],
    gaps: &'a [Missing],
    bases: &'a [Base],
    branches: Vec<String>,
    latest: Option<&'a Latest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imported: Vec<Imported>,
}

/// A dump that was imported: its own moment can be restored, and no log continues it.
#[derive(Debug, Serialize)]
struct Imported {
    snapshot: String,
    time: Timestamp,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let spec = logs::repository_of(session, &args.job)?;
    let opened = session.open_indexed_at(&spec).await?;
    let stream = logs::stream_of(session, &opened, &args.job).await?;
    let log =
        LogView::load(opened.indexed.repository(), &stream, &session.cx).await?.of_job(&args.job);
    let timeline = log.timeline();
    let figures = Figures::of(&log, &timeline);
    let (ui, now) = (&session.ui, session.cx.clock.now());
    for slice in &figures.damaged {
        ui.warning(format_args!(
            "slice {} is damaged: {}",
            slice.slice,
            human::text(slice.message.as_bytes())
        ));
    }
    let snapshots: Vec<&SnapshotInfo> = log.snapshots().collect();
    let drawing = Drawing::new(&timeline, &snapshots, figures.gaps, now);
    let of_job = |info: &&SnapshotInfo| info.snapshot.tag("job") == Some(&args.job);
    let dumps = opened.snapshots.snapshots.iter().filter(of_job);
    let dumps: Vec<&SnapshotInfo> = dumps.filter(|info| view::is_imported(info)).collect();
    if ui.is_json() {
        ui.json(&TimelineJson {
            schema_version: SCHEMA_VERSION,
            repository: spec.to_string(),
            job: &args.job,
            stream: stream.name(),
            ranges: &drawing.ranges,
            gaps: &drawing.gaps,
            bases: timeline.bases(),
            branches: timeline.branch_names(),
            latest: drawing.latest.as_ref(),
            imported: dumps
                .iter()
                .map(|info| Imported { snapshot: info.id.to_hex(), time: info.time() })
                .collect(),
        })?;
    } else {
        ui.status(format_args!("Times are in {}.", session.zones().dates));
        ui.print(format_args!("Log of job {} in {spec}", human::text(args.job.as_bytes())))?;
        ui.print(drawing.text(&timeline, &snapshots, session.zone()))?;
        if !dumps.is_empty() {
            let line = |info: &&SnapshotInfo| {
                format!("{}  {}", human::full_time(info.time(), session.zone()), info.id.short())
            };
            let lines = dumps.iter().map(line).collect();
            let heading = "Imported dumps, each restorable to its own moment only";
            ui.print(format_args!("\n{}", section(heading, lines)))?;
        }
    }
    Ok(if figures.damaged.is_empty() { Outcome::Success } else { Outcome::Damage })
}

/// When a range begins. Not every event is noted in what was rolled up, so the snapshot that it
/// begins with knows better; and on a branch that left another one in the range, the other one
/// knows.
fn begin(timeline: &Timeline, range: &Range) -> Option<Timestamp> {
    let bases = timeline.bases().iter();
    let base = bases
        .filter(|base| base.at.branch == range.branch && base.at.offset == range.from)
        .map(|base| base.time);
    let lineage = timeline.lineage(&range.branch);
    let parent = lineage.iter().rev().nth(1).filter(|(_, left)| *left == Some(range.from));
    let on_parent = parent.and_then(|(parent, _)| timeline.time_at(parent, range.from));
    base.min().or(range.from_time).or(on_parent)
}

/// What is drawn.
struct Drawing {
    ranges: Vec<Range>,
    gaps: Vec<Missing>,
    latest: Option<Latest>,
    has_branches: bool,
    now: Timestamp,
}

impl Drawing {
    fn new(
        timeline: &Timeline,
        snapshots: &[&SnapshotInfo],
        gaps: Vec<Missing>,
        now: Timestamp,
    ) -> Self {
        let mut ranges = timeline.ranges();
        for range in &mut ranges {
            range.from_time = begin(timeline, range);
            // The clock of a snapshot's host may be ahead of that of the source.
            range.to_time = range.to_time.max(range.from_time);
        }
        built::add(&mut ranges, snapshots);
        ranges.sort_by_key(|range| (range.from_time, range.from));
        let latest = timeline.plan(&Target::Latest).ok().map(|plan| Latest {
            lag_seconds: plan.time.map(|time| human::between(time, now).as_secs()),
            time: plan.time,
            lsn: lsn_of(&plan.stop),
            position: plan.stop,
        });
        Self { ranges, gaps, latest, has_branches: timeline.branch_names().len() > 1, now }
    }

    fn text(&self, timeline: &Timeline, snapshots: &[&SnapshotInfo], zone: &TimeZone) -> String {
        let mut parts = Vec::new();
        if self.ranges.is_empty() {
            parts.push(
                "No moment can be restored: restorable ranges start with the first backup."
                    .to_owned(),
            );
        } else {
            parts.push(section("Restorable ranges", self.ranges(zone).lines()));
        }
        let bars = days::bars(&self.ranges, timeline.bases(), &self.gaps, zone);
        if !bars.is_empty() {
            parts.push(section(
                "By day, one letter for each half hour (= restorable, B base snapshot, ! gap)",
                bars,
            ));
        }
        if !self.gaps.is_empty() {
            parts.push(section("Gaps", self.gaps.iter().map(|gap| gap.words(zone)).collect()));
        }
        if !timeline.bases().is_empty() {
            parts.push(section("Base snapshots", bases(timeline.bases(), snapshots, zone).lines()));
        }
        if let Some(latest) = &self.latest {
            let time = latest.time.map(|time| {
                format!(
                    "{}, {} behind",
                    human::full_time(time, zone),
                    human::duration(human::between(time, self.now))
                )
            });
            let place = position(&latest.position);
            let latest = time.map_or_else(|| place.clone(), |time| format!("{time} ({place})"));
            parts.push(facts(&[("Latest moment", latest)]));
        }
        parts.join("\n\n")
    }

    fn ranges(&self, zone: &TimeZone) -> Table {
        let branch = if self.has_branches { "Branch" } else { "" };
        let columns = [
            ("From", Align::Left),
            ("To", Align::Left),
            (branch, Align::Left),
            ("Positions", Align::Left),
        ];
        let mut table = Table::new(columns);
        let time = |time: Option<Timestamp>| {
            time.map_or_else(|| "unknown".to_owned(), |time| human::full_time(time, zone))
        };
        for range in &self.ranges {
            let branch = if self.has_branches { branch_name(&range.branch) } else { String::new() };
            let at = |offset: u64| position(&Position::new(range.branch.clone(), offset));
            let positions = if range.from == range.to {
                at(range.from)
            } else {
                format!("{} to {}", at(range.from), at(range.to))
            };
            table.row([time(range.from_time), time(range.to_time), branch, positions]);
        }
        table
    }
}

fn section(heading: &str, lines: Vec<String>) -> String {
    let lines: Vec<String> = lines.into_iter().map(|line| format!("  {line}")).collect();
    format!("{}\n{}", paint(style::HEADING, format_args!("{heading}:")), lines.join("\n"))
}

/// The snapshots that a restore can begin with, in the order of the log.
fn bases(bases: &[Base], snapshots: &[&SnapshotInfo], zone: &TimeZone) -> Table {
    let columns = [
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Position", Align::Left),
        ("Type", Align::Left),
        ("Size", Align::Right),
    ];
    let mut table = Table::new(columns);
    for base in bases {
        let info = snapshots.iter().find(|info| info.id == base.id);
        let kind = info.and_then(|info| info.snapshot.tag("type")).unwrap_or_default();
        let size = if base.bytes == 0 { String::new() } else { human::size(base.bytes) };
        let kind = human::text(kind.as_bytes());
        table.row([
            base.id.short(),
            human::full_time(base.time, zone),
            position(&base.at),
            kind,
            size,
        ]);
    }
    table
}

#[cfg(test)]
mod tests;
