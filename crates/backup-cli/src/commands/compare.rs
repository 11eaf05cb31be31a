//! `backup compare`.

use backup_control::jobs::{Job, JobFlags};
use backup_control::patterns;
use backup_control::repositories::RepositorySpec;
use backup_control::sources::{self, CompareFlags, Compared, SourceSpec};
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

/// Compare a MongoDB snapshot with a server, without restoring it
///
/// Reads both sides in full, collection by collection. Compares documents byte for byte in any
/// order, options and indexes. Data that the backup left out does not count, nor do collections
/// that a restore leaves to the server. A server that receives writes during the comparison
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
    /// Server, mongodb://… [default: the source of the snapshot's job in the configuration] [env:
    /// BACKUP_SOURCE_PASSWORD, BACKUP_SOURCE_PASSWORD_FILE, BACKUP_SOURCE_PASSWORD_COMMAND: the
    /// password of its user]
    #[arg(long, value_name = "URL")]
    with: Option<String>,
    /// Only collections that match this glob of database.collection, or a list with commas; repeat
    /// for several
    #[arg(long, value_name = "GLOB", visible_alias = "include", value_parser = crate::args::glob)]
    only: Vec<String>,
    /// Leave out collections that match this glob, or a list with commas; repeat for several
    #[arg(long, value_name = "GLOB", value_parser = crate::args::glob)]
    exclude: Vec<String>,
    #[command(flatten)]
    filter: NamingArgs,
}

const EXAMPLES: &str = "\
Examples:
  backup compare latest --job shop --with mongodb://backup@copy/
  backup compare --job shop --at '2026-11-21 14:30' --only 'shop.*'";

#[derive(Serialize)]
struct CompareJson<'a> {
    schema_version: u32,
    snapshot: String,
    server: String,
    same: usize,
    differences: &'a [Difference],
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let include = &patterns::split_for(Some("mongodb"), &args.only);
    let selection = args::selection_of(Some("mongodb"), &args.only, &args.exclude)?;
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
    let server = server(session, args, &info, spec)?;
    let (snapshot, flags) =
        (opened.snapshot(&info, log.as_ref()), CompareFlags { selection, until });
    let (now, short) = (session.now(), info.id.short());
    session.ui.status(format_args!("Comparing snapshot {short} with {server}"));
    let compared =
        sources::compare(&snapshot, log, &server, &flags, (&now, &session.env), &session.cx)
            .await?;
    let differences = compared.stored.differences(&compared.found);
    let same = same(&compared, &differences, include)?;
    let warnings = args::warn_of_unmatched(session, &flags.selection);
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
        show(session, &short, same, &differences)?;
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

/// The server that is meant.
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
    include: &[String],
) -> CommandResult<usize> {
    const HINT: &str =
        "list the collections with `backup ls … -R`; patterns are globs over database.collection";
    let same = compared.stored.objects.len()
        - differences.iter().filter(|one| one.stored.is_some()).count();
    if same == 0 && differences.is_empty() {
        return Err(CommandError::new(
            Kind::Core(ErrorKind::NotFound),
            "nothing in the snapshot is selected, so nothing was compared",
        )
        .with_hint(
            patterns::hint_for(Some("mongodb"), include).unwrap_or_else(|| HINT.to_owned()),
        ));
    }
    Ok(same)
}

fn show(
    session: &Session,
    short: &str,
    same: usize,
    differences: &[Difference],
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
        table.row([object, count(&one.stored), count(&one.found), why(one).to_owned()]);
    }
    for line in table.lines() {
        session.ui.line(line)?;
    }
    session.ui.print(format_args!("Snapshot {id} and the server differ; equal: {same}"))
}

/// How the two sides differ.
fn why(one: &Difference) -> &'static str {
    match (&one.stored, &one.found) {
        (Some(stored), Some(found)) if stored.count != found.count => {
            "different number of documents"
        }
        (Some(stored), Some(found)) if stored.bytes != found.bytes => "different document content",
        (Some(_), Some(_)) => "different content, options or indexes",
        (Some(_), None) => "not on the server",
        (None, _) => "not in the snapshot",
    }
}
