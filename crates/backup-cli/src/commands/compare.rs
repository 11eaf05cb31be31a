//! `backup compare`.

use std::path::PathBuf;

use backup_control::jobs::{Job, JobFlags};
use backup_control::patterns;
use backup_control::repositories::RepositorySpec;
use backup_control::sources::{self, CompareFlags, Compared, ScratchFlags, SourceSpec};
use backup_core::error::ErrorKind;
use backup_core::repository::SnapshotInfo;
use backup_core::source::{Difference, ObjectDigest};
use serde::Serialize;

use super::restore::at;
use crate::args::{self, NamingArgs};
use crate::before::Before;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Compare a snapshot of a database with a server without restoring it
///
/// MongoDB: reads both sides in full. Compares documents byte for byte in any order, options and
/// indexes. Collections that a restore leaves to the server do not count.
///
/// PostgreSQL: compares the rows of all tables in any order. Definitions, values of sequences and
/// large objects are not compared. A logical backup has digests of its tables, so that only the
/// server is read. A physical backup is restored to a temporary server on this machine (--scratch).
///
/// Redis: reads both sides in full. Compares names, values and expiry of the keys of each database in
/// any order. Expired keys, values of modules and libraries of functions are not compared.
///
/// Data that the backup left out does not count. A server that receives writes during the comparison
/// differs. Use this command for copies, restored data and idle servers. Differences are shown, and
/// the exit code is then 1.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Snapshot: `latest`, the beginning of its identifier, or a moment (`yesterday`, `2h ago`)
    ///
    /// With --at or --before it only selects the source, and can be left out if only one job has a log.
    #[arg(value_name = "SNAPSHOT", required_unless_present_any = ["at", "before"])]
    snapshot: Option<String>,
    /// Moment of a captured log to compare, in the form of `backup restore --at`
    #[arg(long, value_name = "MOMENT")]
    at: Option<String>,
    /// Compare the last moment before this position, as `backup restore --before`
    #[arg(long, value_name = "POSITION", conflicts_with = "at")]
    before: Option<Before>,
    /// Server, mongodb://…, postgres://… or redis://… [default: the source of the snapshot's job in the configuration] [env:
    /// BACKUP_SOURCE_PASSWORD, BACKUP_SOURCE_PASSWORD_FILE, BACKUP_SOURCE_PASSWORD_COMMAND: the
    /// password of its user]
    #[arg(long, value_name = "URL")]
    with: Option<String>,
    /// Only collections that match this glob of database.collection (tables of
    /// database.schema.table), or a list with commas; keys of /database/key; repeat for several
    #[arg(long, value_name = "GLOB", visible_alias = "include", value_parser = crate::args::glob)]
    only: Vec<String>,
    /// Leave out collections or tables that match this glob, or a list with commas, or keys; repeat
    /// for several
    #[arg(long, value_name = "GLOB", value_parser = crate::args::glob)]
    exclude: Vec<String>,
    /// Directory for a temporary copy of the cluster, to compare a physical backup [default: the
    /// system's directory for temporary files]
    #[arg(long, value_name = "DIR", help_heading = "PostgreSQL")]
    scratch: Option<PathBuf>,
    /// User of the scratch server, by name or number; required for root, because the server refuses
    /// to run as root
    #[arg(long, value_name = "USER", help_heading = "PostgreSQL")]
    scratch_user: Option<String>,
    /// Directory of postgres and pg_ctl for the scratch server, of the cluster's version [default:
    /// the installed ones]
    #[arg(long, value_name = "DIR", help_heading = "PostgreSQL")]
    scratch_programs: Option<PathBuf>,
    #[command(flatten)]
    filter: NamingArgs,
}

/// The tags `source` of snapshots of MongoDB and of Redis.
const MONGODB: &str = "mongodb";
const REDIS: &str = "redis";

const EXAMPLES: &str = "\
Examples:
  backup compare latest --job shop --with mongodb://backup@copy/
  backup compare --job shop --at '2026-11-21 14:30' --only 'shop.*'
  backup compare latest --job crm --with postgres://backup@copy/ --only crm.public.orders
  backup compare latest --job cache --with redis://backup@copy --only '/0/session:*'";

#[derive(Serialize)]
struct CompareJson<'a> {
    schema_version: u32,
    snapshot: String,
    server: String,
    same: usize,
    differences: &'a [Difference],
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let named: Vec<&str> = args.snapshot.as_deref().into_iter().collect();
    let spec = match &named[..] {
        [] => args.filter.repository(session)?,
        named => args.filter.repository_with(session, named).await?,
    };
    let opened = session.open_indexed_at(&spec).await?;
    let asked = at::Asked {
        snapshot: args.snapshot.as_deref(),
        at: args.at.as_deref(),
        before: args.before.as_ref(),
        filter: &args.filter,
    };
    let at::Chosen { info, log, until } = at::choose(session, &opened, asked).await?;
    let source = info.snapshot.tag("source");
    let selection = args::selection_of(source, &args.only, &args.exclude)?;
    let server = server(session, args, &info, spec)?;
    let scratch = ScratchFlags {
        directory: args.scratch.clone(),
        user: args.scratch_user.clone(),
        programs: args.scratch_programs.clone(),
    };
    let flags = CompareFlags { selection, until, scratch };
    let snapshot = opened.snapshot(&info, log.as_ref());
    let (now, short) = (session.now(), info.id.short());
    session.warn_of_exposed(server.secret_files());
    session.ui.status(format_args!("Comparing snapshot {short} with {server}"));
    let compared =
        sources::compare(&snapshot, log, &server, &flags, (&now, &session.env), &session.cx)
            .await?;
    let differences = compared.stored.differences(&compared.found);
    let include = patterns::split_for(source, &args.only);
    let same = same(&compared, &differences, (source, &include))?;
    let warnings = compared.warnings + args::warn_of_unmatched(session, &flags.selection);
    if session.ui.is_json() {
        let (snapshot, server) = (info.id.to_hex(), server.to_string());
        let schema_version = SCHEMA_VERSION;
        session.ui.json(&CompareJson {
            schema_version,
            snapshot,
            server,
            same,
            differences: &differences,
        })?;
    } else {
        show(session, &short, same, (&differences, source))?;
    }
    if differences.is_empty() {
        return Ok(Outcome::with_warnings(warnings));
    }
    let text = format!(
        "{} from snapshot {short}",
        human::count(differences.len() as u64, "object differs", "objects differ")
    );
    Err(CommandError::new(Kind::Mismatch, text)
        .with_hint("check the server's address, and whether it received writes since the snapshot"))
}

/// The server to compare with.
fn server(
    session: &Session,
    args: &Args,
    info: &SnapshotInfo,
    repository: RepositorySpec,
) -> CommandResult<SourceSpec> {
    if let Some(address) = &args.with {
        let addresses = std::slice::from_ref(address);
        return Ok(SourceSpec::of_addresses(addresses, &session.machine, &session.env)?);
    }
    let job = info.snapshot.tag("job").unwrap_or_default();
    let known = session.config()?.filter(|loaded| loaded.config.jobs.contains_key(job));
    let Some(loaded) = known else {
        let text = format!("cannot determine the server: no configuration has a job {job:?}");
        return Err(CommandError::usage(text).with_hint("name the server with --with"));
    };
    Ok(Job::from_config(
        job,
        &loaded.config,
        Some(repository),
        &JobFlags::default(),
        session.place(),
    )?
    .source)
}

/// How many objects are the same; that nothing was compared is no success.
fn same(
    compared: &Compared,
    differences: &[Difference],
    (source, include): (Option<&str>, &[String]),
) -> CommandResult<usize> {
    let hint = if source == Some(MONGODB) {
        "list the collections with `backup ls … -R`; patterns are globs over database.collection"
    } else if source == Some(REDIS) {
        "patterns are globs over /database/key, for instance '/0/session:*'"
    } else {
        "patterns are globs over database, database.schema and database.schema.table"
    };
    let same = compared.stored.objects.len()
        - differences.iter().filter(|one| one.stored.is_some()).count();
    // A warning has named each part that could not be compared.
    if same == 0 && differences.is_empty() && compared.warnings == 0 {
        return Err(CommandError::new(
            Kind::Core(ErrorKind::NotFound),
            "nothing in the snapshot is selected, so nothing was compared",
        )
        .with_hint(patterns::hint_for(source, include).unwrap_or_else(|| hint.to_owned())));
    }
    Ok(same)
}

fn show(
    session: &Session,
    short: &str,
    same: usize,
    (differences, source): (&[Difference], Option<&str>),
) -> CommandResult<()> {
    let same = human::count(same as u64, "object", "objects");
    let id = paint(style::SNAPSHOT, short);
    if differences.is_empty() {
        return session.ui.summary(format_args!("Snapshot {id} and the server are equal: {same}"));
    }
    let mut table = Table::new([
        ("Object", Align::Left),
        ("In the snapshot", Align::Right),
        ("On the server", Align::Right),
        ("", Align::Left),
    ]);
    for one in differences {
        let count = |digest: &Option<ObjectDigest>| {
            digest.as_ref().map_or_else(|| "-".to_owned(), |it| it.count.to_string())
        };
        let object = human::text(one.object.as_bytes());
        table.row([object, count(&one.stored), count(&one.found), why(one, source).to_owned()]);
    }
    for line in table.lines() {
        session.ui.line(line)?;
    }
    session.ui.print(format_args!("Snapshot {id} and the server differ; equal: {same}"))
}

/// The difference of the two sides, in words.
fn why(one: &Difference, source: Option<&str>) -> &'static str {
    let words = if source == Some(MONGODB) {
        [
            "different number of documents",
            "different document content",
            "different content, options or indexes",
        ]
    } else if source == Some(REDIS) {
        ["different number of keys", "different names or values", "different values or expiry"]
    } else {
        ["different number of rows", "different content of rows", "different content of rows"]
    };
    match (&one.stored, &one.found) {
        (Some(stored), Some(found)) if stored.count != found.count => words[0],
        (Some(stored), Some(found)) if stored.bytes != found.bytes => words[1],
        (Some(_), Some(_)) => words[2],
        (Some(_), None) => "not on the server",
        (None, _) => "not in the snapshot",
    }
}
