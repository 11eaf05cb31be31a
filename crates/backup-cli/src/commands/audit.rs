//! `backup audit`.

mod verify;

use backup_control::age::Age;
use backup_control::audit::{Audit, Filter, Found, Record, Status};
use backup_control::state;
use clap::ValueEnum;
use serde::Serialize;

pub(super) use verify::kept;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::trail;
use crate::ui::SCHEMA_VERSION;

/// Show which user ran which operation and when, or verify the audit log
///
/// Commands on this machine that change something or give out data are recorded in the state
/// directory. Each line has a hash over itself and the previous line. The repositories hold the
/// current end of the log. See docs/audit.md.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only operations within this time before now, for instance 7d
    #[arg(long, value_name = "AGE")]
    since: Option<Age>,
    /// Only operations of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only this operation, for instance `restore`; `key` means all operations on keys
    #[arg(long, value_name = "OPERATION")]
    operation: Option<String>,
    /// Only operations with this status
    #[arg(long, value_name = "STATUS")]
    status: Option<StatusArg>,
    /// Show at most this many of the newest operations
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Verify that no record was changed, moved or removed
    ///
    /// Reads the whole chain. Compares its end with the one saved in the repositories of the
    /// configuration, or in --repo. The exit code is 4 if a record differs or is missing. It is 3
    /// if a repository cannot be read, or the newest saved end is older than 8 days.
    Verify(VerifyArgs),
    /// Store the current end of the log in the repositories, and announce new records
    ///
    /// The daemon runs this within a minute after a record that no other command anchored. Without
    /// a daemon, a timer can run it. Records go to the channels of `notify` in `[audit]`. The exit
    /// code is 3 if one repository could not be used.
    Anchor,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Read the log file alone; cannot detect records removed from its end
    #[arg(long)]
    offline: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup audit --since 7d
  backup audit --operation restore --user anna --json
  backup audit verify
  backup audit anchor";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatusArg {
    Started,
    Success,
    Warnings,
    Failure,
    Cancelled,
    Declined,
}

impl From<StatusArg> for Status {
    fn from(status: StatusArg) -> Self {
        match status {
            StatusArg::Started => Self::Started,
            StatusArg::Success => Self::Success,
            StatusArg::Warnings => Self::Warnings,
            StatusArg::Failure => Self::Failure,
            StatusArg::Cancelled => Self::Cancelled,
            StatusArg::Declined => Self::Declined,
        }
    }
}

#[derive(Serialize)]
struct ListJson<'a> {
    schema_version: u32,
    file: String,
    records: &'a [Record],
    expired: u64,
    unreadable: u64,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let Some(dir) = state::dir(&session.env) else {
        return Err(CommandError::new(Kind::Io, "no state directory for the audit log")
            .with_hint("set BACKUP_STATE_DIR to a directory"));
    };
    let audit = Audit::in_state(&dir);
    match &args.verb {
        None => list(session, args, &audit).await,
        Some(Verb::Verify(args)) => verify::run(session, args, &audit).await,
        Some(Verb::Anchor) => anchor(session).await,
    }
}

#[derive(Serialize)]
struct AnchorJson {
    schema_version: u32,
    /// Number of the last record of the log; none without a log.
    sequence: Option<u64>,
    /// Repositories that hold the anchor.
    repositories: u64,
}

async fn anchor(session: &Session) -> CommandResult {
    let (anchored, outcome) = Box::pin(trail::anchor_everywhere(session)).await?;
    let sequence = anchored.as_ref().map(|(head, _)| head.sequence);
    let repositories = anchored.as_ref().map_or(0, |(_, count)| *count);
    if session.ui.is_json() {
        let schema_version = SCHEMA_VERSION;
        session.ui.json(&AnchorJson { schema_version, sequence, repositories })?;
    } else if let Some(sequence) = sequence {
        let repositories = human::count(repositories, "repository", "repositories");
        session.ui.status(format_args!("Audit record {sequence} is anchored in {repositories}"));
    } else {
        session.ui.status("The audit log has no records.");
    }
    Ok(outcome)
}

/// Does what blocks elsewhere.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, backup_control::audit::Error> + Send + 'static,
) -> CommandResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| CommandError::from_error(Kind::Io, &error)),
        Err(error) => Err(CommandError::new(Kind::Io, error.to_string())),
    }
}

async fn list(session: &Session, args: &Args, audit: &Audit) -> CommandResult {
    let since = args
        .since
        .as_ref()
        .map(|age| age.before(session.cx.clock.now(), session.zone()))
        .transpose()?;
    let filter = Filter {
        since,
        until: None,
        user: args.user.clone(),
        operation: args.operation.clone(),
        status: args.status.map(Status::from),
        limit: Some(args.limit),
    };
    let reading = audit.clone();
    let found: Found = blocking(move || reading.read(&filter)).await?;
    let ui = &session.ui;
    if ui.is_json() {
        let Found { records, expired, unreadable } = &found;
        let file = audit.path().display().to_string();
        let (schema_version, expired, unreadable) = (SCHEMA_VERSION, *expired, *unreadable);
        ui.json(&ListJson { schema_version, file, records, expired, unreadable })?;
    } else if found.records.is_empty() {
        ui.status("No matching records.");
    } else {
        ui.print(table(session, &found.records).lines().join("\n"))?;
    }
    if found.unreadable > 0 {
        let lines = human::count(found.unreadable, "line", "lines");
        ui.warning(format_args!("{lines} of {} cannot be read", audit.path().display()));
        ui.hint("list the unreadable lines with `backup audit verify`");
        return Ok(Outcome::Damage);
    }
    Ok(Outcome::Success)
}

fn table(session: &Session, records: &[Record]) -> Table {
    let columns = [
        ("Time", Align::Left),
        ("User", Align::Left),
        ("Operation", Align::Left),
        ("Status", Align::Left),
        ("Details", Align::Text),
    ];
    let mut table = Table::new(columns);
    for record in records {
        let status = record.status.as_str();
        let status = match record.status {
            Status::Started | Status::Declined => status.to_owned(),
            Status::Success => paint(style::GOOD, status),
            Status::Warnings => paint(style::WARNING, status),
            Status::Failure | Status::Cancelled => paint(style::ERROR, status),
        };
        table.row([
            human::time(record.timestamp, session.zone()),
            human::text(record.user.as_bytes()),
            human::text(record.operation.as_bytes()),
            status,
            human::text(about(record).as_bytes()),
        ]);
    }
    table
}

/// What it was done to, in a few words.
fn about(record: &Record) -> String {
    let short = |name: &str| match name {
        "snapshot" => record.details.get(name).map(|id| id.chars().take(8).collect()),
        _ => record.details.get(name).cloned(),
    };
    let names = ["job", "snapshot", "snapshots", "target", "repository", "file", "reason", "error"];
    let known: Vec<String> = names
        .into_iter()
        .filter_map(|name| short(name).map(|value| format!("{name} {value}")))
        .collect();
    match known[..] {
        // What has only begun knows no more than what was typed.
        [] => record.details.get("command").cloned().unwrap_or_default(),
        _ => known.join(", "),
    }
}
