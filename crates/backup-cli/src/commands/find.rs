//! `backup find`.
//!
//! | file | what is in it |
//! |---|---|
//! | `entries.rs` | entries of snapshots of files |
//! | `json.rs` | the objects that `--json` prints |

mod entries;
mod json;

use std::ops::Range;

use backup_control::repositories::RepositorySpec;
use backup_control::snapshots::Choice;
use backup_control::sources::{SnapshotKey, find_keys};
use backup_core::error::ErrorKind;
use backup_core::format::Manifest;
use backup_core::repository::{SnapshotInfo, SnapshotReader};
use backup_core::source::{EntryPath, NodeKind, Selection};
use jiff::Timestamp;

use self::entries::{FoundEntry, Searched};
use self::json::{FindSummary, FoundJson};
use super::view;
use crate::args::{self, NamingArgs, TimeArgs};
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::job_names::JobNames;
use crate::opened::Opened;
use crate::repositories::{self, Holding, InRepository};
use crate::session::Session;
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Find files, collections, tables and keys in snapshots, newest first
///
/// Without a glob, lists the snapshots that match the flags.
///
/// Files: shows each match, without the content of matching directories. Databases: searches the
/// names of collections and tables that snapshots count; tables of a physical PostgreSQL backup are
/// in no list. Redis: --keys reads the dump of each snapshot to its end, which is slow. Limit it to
/// few snapshots by --snapshot, --job or the time. The exit code is 1 if there is no match.
///
/// If the configuration has several repositories and neither --repo nor --job names one, searches
/// each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Globs of paths, `database.collection`, `database.schema.table` or `/database/key`; without
    /// any, list snapshots
    #[arg(value_name = "GLOB")]
    globs: Vec<String>,
    /// Also search keys, by reading whole dumps, which is slow
    #[arg(long, requires = "globs", help_heading = "Redis")]
    keys: bool,
    /// Only in this snapshot; repeat for several
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
    /// Only complete or only incomplete snapshots
    #[arg(long, value_name = "STATUS")]
    status: Option<StatusArg>,
    /// Show at most this many snapshots of a repository, the newest with matches
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    filter: NamingArgs,
    #[command(flatten)]
    times: TimeArgs,
}

const EXAMPLES: &str = "\
Examples:
  Find files:
    backup find 'letter*.txt' --days 30
  Find a collection:
    backup find shop.users --job shop
  Find keys of Redis in the newest snapshot that has them:
    backup find '/0/session:*' --keys --job cache --limit 1
  Find the newest complete snapshot before a moment:
    backup find --job shop --before '2026-11-21 14:30' --status completed --limit 1";

/// Maximum number of keys per snapshot in a table; it also limits memory.
const MAX_KEYS: u64 = 1_000;

/// Completeness of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StatusArg {
    /// No data is missing
    Completed,
    /// Some data could not be read, or was lost
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
    Entry(FoundEntry),
    /// A collection or a table.
    Object { name: String, count: u64, bytes: u64 },
    /// A key of Redis.
    Key(SnapshotKey),
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let choice = args.filter.choice(session)?;
    let meant = Meant {
        within: args.times.within(session)?,
        globs: match &args.globs[..] {
            [] => None,
            globs => Some(args::selection(globs, &[])?),
        },
        choice,
    };
    let specs = session.repositories(args.filter.job())?;
    let places = repositories::holding(session, specs, &args.snapshot, &meant.choice).await?;
    let (mut snapshots, mut failed) = (0, None);
    let mut jobs = JobNames::default();
    let work = async |place: &Holding| {
        let found = find(session, args, place, (&meant, &mut jobs)).await;
        failed = failed.take().or_else(|| found.as_ref().err().map(CommandError::exit_code));
        let (outcome, number) = found?;
        snapshots += number;
        Ok(outcome)
    };
    let outcome = repositories::each(session, &places, None, work).await?;
    // A repository that could not be searched may have a match.
    if snapshots == 0 && failed.is_none() {
        jobs.require(session, args.filter.job())?;
        let error = CommandError::new(Kind::Core(ErrorKind::NotFound), "no match was found");
        return Err(error.with_hint(
            "list snapshots with `backup list`, or the content of one with `backup ls SNAPSHOT -R`",
        ));
    }
    Ok(outcome)
}

/// The snapshots and contents that are searched for.
struct Meant {
    choice: Choice,
    within: Range<Timestamp>,
    globs: Option<Selection>,
}

/// Searches one repository. Returns the number of snapshots with matches.
async fn find(
    session: &Session,
    args: &Args,
    place: &Holding,
    (meant, jobs): (&Meant, &mut JobNames),
) -> CommandResult<(Outcome, u64)> {
    let opened = session.open_indexed_at(&place.spec).await?;
    jobs.add(&opened.snapshots);
    let named = opened.find_all(session, &place.names, &meant.choice).await?;
    let is_meant = |info: &&SnapshotInfo| {
        meant.choice.matches(info)
            && (named.is_empty() || named.iter().any(|one| one.id == info.id))
            && meant.within.contains(&info.time())
            && args.status.is_none_or(|status| status == StatusArg::of(info))
    };
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut snapshots = Vec::new();
    let mut search = Search {
        session,
        spec: &place.spec,
        opened: &opened,
        keys: args.keys,
        searched: Searched::default(),
        table: table(),
        found: 0,
        more: 0,
        dumps: 0,
    };
    for info in opened.snapshots.snapshots.iter().rev().filter(is_meant) {
        if snapshots.len() >= limit {
            break;
        }
        session.cx.check_cancelled()?;
        match &meant.globs {
            Some(globs) if !search.within(info, globs).await? => {}
            _ => snapshots.push(info),
        }
    }
    let outcome = search.report(&snapshots, meant.globs.is_none())?;
    Ok((outcome, snapshots.len() as u64))
}

fn table() -> Table {
    Table::new([
        ("Snapshot", Align::Left),
        ("Time", Align::Left),
        ("Job", Align::Left),
        ("Found", Align::Left),
        ("Type", Align::Left),
        ("Count", Align::Right),
        ("Size", Align::Right),
        ("Changed", Align::Left),
        ("Expires", Align::Left),
    ])
}

/// The search of one repository, with its results so far.
struct Search<'a> {
    session: &'a Session,
    spec: &'a RepositorySpec,
    opened: &'a Opened,
    /// True if dumps are read.
    keys: bool,
    searched: Searched,
    table: Table,
    found: u64,
    /// Keys of all snapshots that are counted, but not listed.
    more: u64,
    /// Dumps that were not read.
    dumps: u64,
}

impl Search<'_> {
    /// Looks through a snapshot; says whether anything was found.
    async fn within(&mut self, info: &SnapshotInfo, globs: &Selection) -> CommandResult<bool> {
        let before = self.found;
        let snapshot = self.opened.indexed.snapshot(info);
        let matches = match info.snapshot.tag("source") {
            None | Some("files") => {
                let found = self.searched.entries(&snapshot, globs, &self.session.cx).await?;
                found.into_iter().map(Found::Entry).collect()
            }
            kind => {
                let manifest = snapshot.manifest().await?;
                if kind == Some("redis") {
                    self.keys_within(info, &snapshot, globs).await?;
                }
                manifest.map(|manifest| objects(&manifest, globs)).unwrap_or_default()
            }
        };
        for one in matches {
            self.found += 1;
            show(self.session, self.spec, info, &one, &mut self.table)?;
        }
        Ok(self.found > before)
    }

    /// Keys of Redis: as many of them as somebody reads are listed, and all in JSON.
    async fn keys_within(
        &mut self,
        info: &SnapshotInfo,
        snapshot: &SnapshotReader,
        globs: &Selection,
    ) -> CommandResult<()> {
        if !self.keys {
            self.dumps += 1;
            return Ok(());
        }
        let (session, mut listed) = (self.session, 0);
        session.ui.status(format_args!("Reading the dump of snapshot {}", info.id.short()));
        let mut tell = |key: SnapshotKey| -> CommandResult<()> {
            session.cx.check_cancelled()?;
            self.found += 1;
            if listed < MAX_KEYS || session.ui.is_json() {
                listed += 1;
                return show(session, self.spec, info, &Found::Key(key), &mut self.table);
            }
            self.more += 1;
            Ok(())
        };
        let has_commands = find_keys(snapshot, globs, &session.cx, &mut tell).await?;
        if has_commands || info.snapshot.x_log.as_ref().is_some_and(|log| !log.extents.is_empty()) {
            session.ui.warning(format_args!(
                "snapshot {} has commands after its dump: keys that these wrote or deleted are not \
                 searched",
                info.id.short()
            ));
        }
        Ok(())
    }

    fn report(&self, snapshots: &[&SnapshotInfo], of_snapshots: bool) -> CommandResult {
        let (session, ui, found) = (self.session, &self.session.ui, self.found);
        let count = snapshots.len() as u64;
        if ui.is_json() {
            if of_snapshots {
                for info in snapshots {
                    let snapshot = view::SnapshotJson::from(*info);
                    ui.json_line(&InRepository::new(self.spec, snapshot))?;
                }
            }
            let (schema_version, event, verb) = (SCHEMA_VERSION, "summary", "find");
            let summary = FindSummary { schema_version, event, verb, snapshots: count, found };
            ui.json(&InRepository::new(self.spec, summary))?;
        } else if count > 0 {
            let mut all = view::snapshot_table(&[]);
            snapshots.iter().for_each(|info| all.row(view::snapshot_row(session, info)));
            let table = if of_snapshots { &all } else { &self.table };
            table.lines().into_iter().try_for_each(|line| ui.line(line))?;
            ui.flush()?;
            let snapshots = human::count(count, "snapshot", "snapshots");
            if of_snapshots {
                ui.status(snapshots);
            } else {
                ui.status(format_args!(
                    "{} in {snapshots}",
                    human::count(found, "match", "matches")
                ));
            }
            if self.more > 0 {
                let more = human::count(self.more, "match is", "matches are");
                ui.status(format_args!("{more} not listed; --json lists all"));
            }
        }
        if self.dumps > 0 {
            let dumps = human::count(self.dumps, "snapshot", "snapshots");
            ui.hint(format_args!(
                "add --keys to search the keys of {dumps} of Redis; reading the dumps is slow"
            ));
        }
        Ok(view::warn_of_damaged(ui, &self.opened.snapshots))
    }
}

/// Collections and tables, by their names or those of what they are in.
fn objects(manifest: &Manifest, globs: &Selection) -> Vec<Found> {
    let covers =
        |name: &str| EntryPath::new(format!("/{name}")).is_some_and(|path| globs.covers(&path));
    let is_meant =
        |name: &str| covers(name) || name.match_indices('.').any(|(at, _)| covers(&name[..at]));
    let found = manifest.objects.iter().filter(|(name, _)| is_meant(name));
    found
        .map(|(name, object)| Found::Object {
            name: name.clone(),
            count: object.count,
            bytes: object.bytes,
        })
        .collect()
}

fn show(
    session: &Session,
    spec: &RepositorySpec,
    info: &SnapshotInfo,
    found: &Found,
    table: &mut Table,
) -> CommandResult<()> {
    if session.ui.is_json() {
        let found = FoundJson::of(info, found);
        return session.ui.json_line(&InRepository::new(spec, found));
    }
    let job = human::text(info.snapshot.tag("job").unwrap_or_default().as_bytes());
    let time = |time: Timestamp| human::time(time, session.zone());
    let mut row = vec![info.id.short(), time(info.time()), job];
    row.extend(match found {
        Found::Entry(FoundEntry { path, kind, bytes, mtime }) => {
            let slash = if *kind == NodeKind::Dir { "/" } else { "" };
            let name = format!("{}{slash}", human::text(path.as_bytes()));
            let size = bytes.map(human::size).unwrap_or_default();
            [name, String::new(), String::new(), size, time(*mtime), String::new()]
        }
        Found::Object { name, count, bytes } => {
            let name = human::text(name.as_bytes());
            [
                name,
                String::new(),
                count.to_string(),
                human::size(*bytes),
                String::new(),
                String::new(),
            ]
        }
        Found::Key(SnapshotKey { path, kind, bytes, expires }) => {
            let expires = expires.map(time).unwrap_or_default();
            let name = human::text(path.as_bytes());
            [name, (*kind).to_owned(), String::new(), human::size(*bytes), String::new(), expires]
        }
    });
    table.row(row);
    Ok(())
}
