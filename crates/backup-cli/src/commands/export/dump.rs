//! Snapshots of databases, as files for their own tools.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use backup_control::logs::{self, Answer};
use backup_control::sources::{self, ExportFlags, Exported};
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotInfo;
use serde::Serialize;

use super::Args;
use super::output::Output;
use crate::args;
use crate::before::Before;
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands::restore::at;
use crate::human;
use crate::opened::Opened;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Options for the export of a database.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Databases (with --to or --archive)")]
pub(super) struct DumpArgs {
    /// Only collections that match this glob of database.collection, or a list with commas; repeat
    /// for several
    #[arg(long, value_name = "GLOB", visible_alias = "include", requires = "database",
          value_parser = crate::args::glob)]
    only: Vec<String>,
    /// Leave out collections that match this glob, or a list with commas; repeat for several
    #[arg(long, value_name = "GLOB", requires = "database", value_parser = crate::args::glob)]
    exclude: Vec<String>,
    /// Export under other names, for instance 'shop.*=shop_test.*'; repeat for several, the first
    /// match applies
    #[arg(long, value_name = "FROM=TO", requires = "database")]
    rename: Vec<String>,
    /// Moment to export [default: latest, the end of the snapshot]
    ///
    /// MongoDB: seconds:increment or a time, which must be the moment of the snapshot. Redis: any
    /// moment of its log, in the form of `backup restore --at`.
    #[arg(long, value_name = "MOMENT", requires = "database")]
    until: Option<String>,
    /// Export the last moment before this position of MongoDB's oplog, seconds:increment
    ///
    /// Exclusive, as `mongorestore --oplogLimit`; --until includes its moment.
    #[arg(long, value_name = "POSITION", requires = "database", conflicts_with = "until")]
    before: Option<Before>,
    /// Compress with gzip, as `mongodump --gzip` does
    #[arg(long, requires = "database")]
    gzip: bool,
}

#[derive(Serialize)]
struct DumpJson<'a> {
    schema_version: u32,
    snapshot: String,
    to: &'a Path,
    #[serde(flatten)]
    exported: Exported,
}

pub(super) async fn run(session: &Session, args: &Args, directory: &Path) -> CommandResult {
    let mut flags = flags(&args.dump)?;
    let spec = args.filter.repository_with(session, &[&args.snapshot]).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let info = opened.find(session, &args.snapshot, &args.filter.choice(session)?).await?;
    if let Some(before) = &args.dump.before {
        flags.until = Some(before.of(info)?.to_owned());
    }
    let (info, log) = with_log(session, &opened, info, flags.until.as_deref()).await?;
    let (snapshot, kind) = (opened.snapshot(&info, log.as_ref()), info.snapshot.tag("source"));
    let now = session.now();
    let exporting = sources::export(kind, &snapshot, log, &flags, directory, &now, &session.cx);
    let exported = Box::pin(exporting).await?;
    let outcome = Outcome::with_warnings(args::warn_of_unmatched(session, &flags.selection));
    if session.ui.is_json() {
        let (schema_version, snapshot, to) = (SCHEMA_VERSION, info.id.to_hex(), directory);
        session.ui.json(&DumpJson { schema_version, snapshot, to, exported })?;
        return Ok(outcome);
    }
    let restore = match args.dump.gzip {
        true => "mongorestore --gzip",
        false => "mongorestore",
    };
    let restore = format!("{restore} {}", human::shell(&directory.display().to_string()));
    let (what, hint) = words(exported, &restore);
    let (short, done) = (paint(style::SNAPSHOT, info.id.short()), paint(style::GOOD, "exported"));
    session
        .ui
        .summary(format_args!("Snapshot {short} {done} to {}: {what}", directory.display()))?;
    if let Some(hint) = hint {
        session.ui.hint(hint);
    }
    Ok(outcome)
}

/// Writes a snapshot of MongoDB as one archive.
pub(super) async fn archive(session: &Session, args: &Args, file: &Path) -> CommandResult {
    let mut flags = flags(&args.dump)?;
    let to_stdout = file.as_os_str() == "-";
    super::refuse_both(session, to_stdout, "--archive")?;
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(CommandError::refused("cannot write an archive to a terminal")
            .with_hint("write it to a file, or pipe it into `mongorestore --archive`"));
    }
    let spec = args.filter.repository_with(session, &[&args.snapshot]).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let info = opened.find(session, &args.snapshot, &args.filter.choice(session)?).await?;
    if let Some(before) = &args.dump.before {
        flags.until = Some(before.of(info)?.to_owned());
    }
    session.trail.snapshots([&info.id]);
    let replace = args.if_exists == super::IfFileExists::Replace;
    let output = if to_stdout { Output::stdout() } else { Output::file(file, replace)? };
    let (snapshot, kind) = (opened.indexed.snapshot(info), info.snapshot.tag("source"));
    let now = session.now();
    let exporting = sources::export_archive(kind, &snapshot, &flags, output, &now, &session.cx);
    let (exported, output) = Box::pin(exporting).await?;
    session.blocking(move || output.finish()).await?;
    let outcome = Outcome::with_warnings(args::warn_of_unmatched(session, &flags.selection));
    if session.ui.is_json() {
        let (schema_version, snapshot, to) = (SCHEMA_VERSION, info.id.to_hex(), file);
        session.ui.json(&DumpJson { schema_version, snapshot, to, exported })?;
        return Ok(outcome);
    }
    // Standard output holds the archive.
    if !to_stdout {
        let gzip = if args.dump.gzip { " --gzip" } else { "" };
        let shown = human::shell(&file.display().to_string());
        let (what, hint) = words(exported, &format!("mongorestore{gzip} --archive={shown}"));
        let short = paint(style::SNAPSHOT, info.id.short());
        let done = paint(style::GOOD, "exported");
        session
            .ui
            .summary(format_args!("Snapshot {short} {done} to {}: {what}", file.display()))?;
        hint.into_iter().for_each(|hint| session.ui.hint(hint));
    }
    Ok(outcome)
}

fn flags(dump: &DumpArgs) -> CommandResult<ExportFlags> {
    Ok(ExportFlags {
        selection: args::selection_of(Some("mongodb"), &dump.only, &dump.exclude)?,
        renames: dump.rename.clone(),
        until: dump.until.clone(),
        is_gzip: dump.gzip,
    })
}

/// The sizes of an export, and the command that restores it.
fn words(exported: Exported, restore: &str) -> (String, Option<String>) {
    match exported {
        Exported::Collections { collections, documents, bytes } => {
            let collections =
                human::count(collections, "collection or view", "collections and views");
            let documents = human::count(documents, "document", "documents");
            let hint = format!("restore the dump with `{restore}`");
            (format!("{collections}, {documents}, {}", human::size(bytes)), Some(hint))
        }
        // How a server is started on them has been said already.
        Exported::Files { files, bytes } => {
            (format!("{}, {}", human::count(files, "file", "files"), human::size(bytes)), None)
        }
    }
}

/// Of Redis, the snapshot that is begun with, and the commands behind it; of others the snapshot as
/// it is.
async fn with_log(
    session: &Session,
    opened: &Opened,
    named: &SnapshotInfo,
    until: Option<&str>,
) -> CommandResult<(SnapshotInfo, Option<Arc<LogReplay>>)> {
    let end = at::end_of(named).map(|end| end.to_string());
    let moment = match until {
        _ if named.snapshot.tag("source") != Some("redis") => None,
        // The end of this snapshot, not of the log.
        None | Some("latest") => end.as_deref(),
        Some(until) => Some(until),
    };
    let Some(moment) = moment else { return Ok((named.clone(), None)) };
    match logs::plan(&opened.indexed, named, moment, &session.now(), &session.cx).await? {
        Answer::Planned { base, replay } => Ok((*base, Some(replay))),
        Answer::Refused(refusal) => Err(at::refused(&refusal, session.zone())),
    }
}
