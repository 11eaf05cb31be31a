//! `backup find`.

use backup_core::error::ErrorKind;
use backup_core::format::Manifest;
use backup_core::repository::{SnapshotInfo, SnapshotReader};
use backup_core::source::{EntryPath, NodeKind, Selection};
use jiff::Timestamp;
use serde::Serialize;

use super::view::{self, PathJson};
use crate::args::{self, FilterArgs, TimeArgs};
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::human;
use crate::session::{Opened, Session};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Find files, collections and tables in all snapshots, or snapshots by what they are, newest first
///
/// Of files, whatever a glob matches is shown, and not what is below it. Databases are searched by the names of their collections and
/// tables, as far as snapshots count them: those of a data directory of PostgreSQL, and keys of Redis, are in no list. Exit code 1 if
/// nothing is found.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Globs of paths, of `database.collection` or of `database.schema.table`; without any, snapshots are found
    #[arg(value_name = "GLOB")]
    globs: Vec<String>,
    /// Only snapshots that are complete, or that lack something
    #[arg(long, value_name = "STATUS")]
    status: Option<StatusArg>,
    /// At most so many snapshots, the newest of those in which something is found
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    times: TimeArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup find 'letter*.txt' --days 30
  backup find shop.users --job shop
  backup find --job shop --before '2026-11-21 14:30' --status completed --limit 1";

/// Whether a snapshot lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StatusArg {
    /// Nothing is missing
    Completed,
    /// Something could not be read, or was lost
    Incomplete,
}

impl StatusArg {
    fn of(info: &SnapshotInfo) -> Self {
        if info.snapshot.x_warnings.unwrap_or(0) == 0 { Self::Completed } else { Self::Incomplete }
    }
}

/// Something that was found in a snapshot.
enum Found {
    /// A file, a directory, a link.
    Entry { path: EntryPath, kind: NodeKind, bytes: Option<u64>, mtime: Timestamp },
    /// A collection or a table.
    Object { name: String, count: u64, bytes: u64 },
}

#[derive(Serialize)]
struct FoundJson<'a> {
    schema_version: u32,
    event: &'static str,
    snapshot: String,
    time: Timestamp,
    job: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    path: Option<PathJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<Timestamp>,
}

#[derive(Serialize)]
struct FindSummary {
    schema_version: u32,
    event: &'static str,
    verb: &'static str,
    snapshots: u64,
    found: u64,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let (choice, within) = (args.filter.choice(session)?, args.times.within(session)?);
    let globs = if args.globs.is_empty() { None } else { Some(args::selection(&args.globs, &[])?) };
    let opened = session.open_indexed().await?;
    let is_meant = |info: &&SnapshotInfo| {
        choice.matches(info)
            && within.contains(&info.snapshot.time)
            && args.status.is_none_or(|status| status == StatusArg::of(info))
    };
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let (mut snapshots, mut found) = (Vec::new(), 0);
    let mut table = Table::new([
        ("Snapshot", Align::Left),
        ("Time", Align::Left),
        ("Job", Align::Left),
        ("Found", Align::Left),
        ("Count", Align::Right),
        ("Size", Align::Right),
        ("Changed", Align::Left),
    ]);
    for info in opened.snapshots.snapshots.iter().rev().filter(is_meant) {
        if snapshots.len() >= limit {
            break;
        }
        session.cx.check_cancelled()?;
        let Some(globs) = &globs else {
            snapshots.push(info);
            continue;
        };
        let matches = search(session, &opened, info, globs).await?;
        found += matches.len() as u64;
        if !matches.is_empty() {
            snapshots.push(info);
        }
        for one in matches {
            show(session, info, &one, &mut table)?;
        }
    }
    report(session, &opened, &snapshots, found, (globs.is_none(), &table))
}

/// What a snapshot has of what is looked for.
async fn search(
    session: &Session,
    opened: &Opened,
    info: &SnapshotInfo,
    globs: &Selection,
) -> CommandResult<Vec<Found>> {
    let snapshot = opened.indexed.snapshot(info);
    let is_of_files = matches!(info.snapshot.tag("source"), None | Some("files"));
    if !is_of_files {
        let manifest = snapshot.manifest().await?;
        return Ok(manifest.map(|manifest| objects(&manifest, globs)).unwrap_or_default());
    }
    entries(session, &snapshot, globs).await
}

async fn entries(session: &Session, snapshot: &SnapshotReader, globs: &Selection) -> CommandResult<Vec<Found>> {
    let mut found = Vec::new();
    let mut walk = snapshot.walk();
    while let Some((path, node)) = walk.next().await? {
        session.cx.check_cancelled()?;
        if !globs.covers(&path) {
            continue;
        }
        walk.skip_content();
        let kind = node.metadata.kind.clone();
        let bytes = node.is_file().then_some(node.metadata.size);
        found.push(Found::Entry { path, kind, bytes, mtime: node.metadata.mtime });
    }
    Ok(found)
}

/// Collections and tables, by their names or those of what they are in.
fn objects(manifest: &Manifest, globs: &Selection) -> Vec<Found> {
    let covers = |name: &str| EntryPath::new(format!("/{name}")).is_some_and(|path| globs.covers(&path));
    let is_meant = |name: &str| covers(name) || name.match_indices('.').any(|(at, _)| covers(&name[..at]));
    let found = manifest.objects.iter().filter(|(name, _)| is_meant(name));
    found.map(|(name, object)| Found::Object { name: name.clone(), count: object.count, bytes: object.bytes }).collect()
}

fn show(session: &Session, info: &SnapshotInfo, found: &Found, table: &mut Table) -> CommandResult<()> {
    if session.ui.is_json() {
        let job = info.snapshot.tag("job");
        let (schema_version, event) = (SCHEMA_VERSION, "found");
        let (snapshot, time) = (info.id.to_hex(), info.snapshot.time);
        let (path, object, count, bytes, mtime) = match found {
            Found::Entry { path, bytes, mtime, .. } => (Some(PathJson::from(path)), None, None, *bytes, Some(*mtime)),
            Found::Object { name, count, bytes } => (None, Some(name.as_str()), Some(*count), Some(*bytes), None),
        };
        return session.ui.json_line(&FoundJson {
            schema_version,
            event,
            snapshot,
            time,
            job,
            path,
            object,
            count,
            bytes,
            mtime,
        });
    }
    let (name, count, size, changed) = match found {
        Found::Entry { path, kind, bytes, mtime } => {
            let slash = if *kind == NodeKind::Dir { "/" } else { "" };
            let name = format!("{}{slash}", human::text(path.as_bytes()));
            (name, String::new(), bytes.map(human::size), human::time(*mtime, session.zone()))
        }
        Found::Object { name, count, bytes } => {
            (human::text(name.as_bytes()), count.to_string(), Some(human::size(*bytes)), String::new())
        }
    };
    let job = human::text(info.snapshot.tag("job").unwrap_or_default().as_bytes());
    let time = human::time(info.snapshot.time, session.zone());
    table.row([info.id.short(), time, job, name, count, size.unwrap_or_default(), changed]);
    Ok(())
}

fn report(
    session: &Session,
    opened: &Opened,
    snapshots: &[&SnapshotInfo],
    found: u64,
    (of_snapshots, table): (bool, &Table),
) -> CommandResult {
    let ui = &session.ui;
    let count = snapshots.len() as u64;
    if ui.is_json() {
        if of_snapshots {
            snapshots.iter().try_for_each(|info| ui.json_line(&view::SnapshotJson::from(*info)))?;
        }
        let (schema_version, event, verb) = (SCHEMA_VERSION, "summary", "find");
        ui.json(&FindSummary { schema_version, event, verb, snapshots: count, found })?;
    } else if count > 0 {
        let mut all = view::snapshot_table(&[]);
        snapshots.iter().for_each(|info| all.row(view::snapshot_row(session, info)));
        let table = if of_snapshots { &all } else { table };
        table.lines().into_iter().try_for_each(|line| ui.line(line))?;
        ui.flush()?;
        let snapshots = human::count(count, "snapshot", "snapshots");
        if of_snapshots {
            ui.status(snapshots);
        } else {
            ui.status(format_args!("{} in {snapshots}", human::count(found, "match", "matches")));
        }
    }
    let outcome = view::warn_of_damaged(ui, &opened.snapshots);
    if count == 0 {
        let error = CommandError::new(Kind::Core(ErrorKind::NotFound), "nothing was found");
        return Err(
            error.with_hint("`backup list` shows what snapshots there are, `backup ls SNAPSHOT -R` what is in one")
        );
    }
    Ok(outcome)
}
