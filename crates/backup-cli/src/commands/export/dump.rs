//! Snapshots of databases, as files for their own tools.

use std::path::Path;
use std::sync::Arc;

use backup_control::logs::{self, Answer};
use backup_control::sources::{self, ExportFlags, Exported};
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotInfo;
use serde::Serialize;

use super::Args;
use crate::args;
use crate::before::Before;
use crate::command_error::{CommandResult, Outcome};
use crate::commands::restore::at;
use crate::human;
use crate::opened::Opened;
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Options for the export of a database.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Databases (with --to)")]
pub(super) struct DumpArgs {
    /// Only collections that match this glob of database.collection; repeat for several
    #[arg(long, value_name = "GLOB", visible_alias = "include", requires = "to")]
    only: Vec<String>,
    /// Leave out collections that match this glob of database.collection; repeat for several
    #[arg(long, value_name = "GLOB", requires = "to")]
    exclude: Vec<String>,
    /// Export under other names, for instance 'shop.*=shop_test.*'; repeat for several, the first
    /// match applies
    #[arg(long, value_name = "FROM=TO", requires = "to")]
    rename: Vec<String>,
    /// Moment to export [default: latest, the end of the snapshot]
    ///
    /// MongoDB: seconds:increment or a time, which must be the moment of the snapshot. Redis: any
    /// moment of its log, in the form of `backup restore --at`.
    #[arg(long, value_name = "MOMENT", requires = "to")]
    until: Option<String>,
    /// Export the last moment before this position of MongoDB's oplog, seconds:increment
    ///
    /// Exclusive, as `mongorestore --oplogLimit`; --until includes its moment.
    #[arg(long, value_name = "POSITION", requires = "to", conflicts_with = "until")]
    before: Option<Before>,
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
    let dump = &args.dump;
    let spec = args.filter.repository_with(session, &[&args.snapshot]).await?;
    let opened = session.open_indexed_at(&spec).await?;
    let info = opened.find(session, &args.snapshot, &args.filter.choice(session)?).await?;
    let until = match &dump.before {
        Some(before) => Some(before.of(info)?.to_owned()),
        None => dump.until.clone(),
    };
    let flags = ExportFlags {
        selection: args::selection(&dump.only, &dump.exclude)?,
        renames: dump.rename.clone(),
        until,
    };
    let (info, log) = with_log(session, &opened, info, flags.until.as_deref()).await?;
    let (snapshot, kind) = (opened.snapshot(&info, log.as_ref()), info.snapshot.tag("source"));
    let now = session.now();
    let exporting = sources::export(kind, &snapshot, log, &flags, directory, &now, &session.cx);
    let exported = Box::pin(exporting).await?;
    if session.ui.is_json() {
        let (schema_version, snapshot, to) = (SCHEMA_VERSION, info.id.to_hex(), directory);
        session.ui.json(&DumpJson { schema_version, snapshot, to, exported })?;
        return Ok(Outcome::Success);
    }
    let (what, hint) = words(exported, directory);
    let (short, done) = (paint(style::SNAPSHOT, info.id.short()), paint(style::GOOD, "exported"));
    session
        .ui
        .summary(format_args!("Snapshot {short} {done} to {}: {what}", directory.display()))?;
    if let Some(hint) = hint {
        session.ui.hint(hint);
    }
    Ok(Outcome::Success)
}

/// What was exported, and how it is taken.
fn words(exported: Exported, directory: &Path) -> (String, Option<String>) {
    match exported {
        Exported::Collections { collections, documents, bytes } => {
            let collections =
                human::count(collections, "collection or view", "collections and views");
            let documents = human::count(documents, "document", "documents");
            let hint = format!(
                "restore the dump with `mongorestore {}`",
                human::shell(&directory.display().to_string())
            );
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
