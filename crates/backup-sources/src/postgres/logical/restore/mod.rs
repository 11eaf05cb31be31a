//! Writing a snapshot to a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`restore`]: look, refuse or write |
//! | `dump.rs` | [`Dump`]: what a snapshot holds |
//! | `plan.rs` | [`Plan`]: what of a database is restored, under which names |
//! | `renamed.rs` | the names that relations get, and what belongs to them |
//! | `schemas.rs` | schemas that the dump does not make |
//! | `ties.rs` | ties of restored tables to others |
//! | `routes.rs` | rows that are loaded through a partitioned table |
//! | `object.rs` | objects other than relations, by the words for them |
//! | `objects.rs` | relations that a plan names, with their rows |
//! | `order.rs` | which table comes before which |
//! | `remarks.rs` | what is said before anything is written |
//! | `server.rs` | [`Server`]: databases of the target, creating and exchanging them |
//! | `roles.rs` | roles that are missing |
//! | `whole.rs` | into a database of its own, several sessions at a time |
//! | `inside.rs` | into a database that is there, in one transaction |
//! | `kept.rs` | objects of such a database that stay as they are |
//! | `clear.rs` | dropping what is replaced |
//! | `lacking.rs` | objects that a replacement removes because the snapshot lacks them |
//! | `merge.rs` | rows that are merged into a table that is there |
//! | `attempt.rs` | work on one object, and another attempt at refused work |
//! | `failures.rs` | [`Failures`](failures::Failures): objects that the server refuses |
//! | `grants.rs` | lists of privileges, and the roles that granted them |
//! | `writer.rs` | statements, rows, sequences |
//! | `large_objects.rs` | large objects |
//!
//! Nothing is visible before it is complete. A database that is not there, or is replaced, is
//! written under another name and gets its own when all is in it; into a database that is there
//! everything goes in one transaction. What an interrupted restore leaves is a database called
//! `<name> (restoring)`, which the next one drops.

mod attempt;
mod clear;
mod dump;
mod failures;
mod grants;
mod inside;
mod kept;
mod lacking;
mod large_objects;
mod merge;
mod object;
mod objects;
mod order;
mod plan;
mod remarks;
mod renamed;
mod roles;
mod routes;
mod schemas;
mod server;
mod ties;
mod whole;
mod writer;

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::repository::SnapshotReader;
use backup_core::source::{
    Delete, IfExists, Removal, RestoreReport, RestoreRequest, SourceError, SourceErrorKind,
    SourceResult,
};
use backup_core::words::{self, few};

use super::super::unless_cancelled;
use super::filter::Filter;
use super::options::LogicalOptions;
use dump::Dump;
use failures::concerns_object;
use inside::InTheWay;
use plan::Plan;
use server::Server;

pub(super) use server::INCOMPLETE;

/// Names that an error lists.
const NAMED: usize = 10;

/// The way of a database to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As a database of its own; in place of the one that is there, if there is one.
    Whole,
    /// Into the one that is there.
    Inside,
}

/// Input of all steps.
#[derive(Debug, Clone, Copy)]
struct Job<'a> {
    cx: &'a Context,
    options: &'a LogicalOptions,
    request: &'a RestoreRequest,
    dump: &'a Dump,
    server: &'a Server,
}

/// Writes the selected part of a snapshot to the server that `options` name.
pub(super) async fn restore(
    cx: &Context,
    options: &LogicalOptions,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    if request.log.is_some() {
        let error = SourceError::new(
            SourceErrorKind::Unsupported,
            "no log can be applied to a logical backup",
        );
        return Err(
            error.with_hint("restore the backup without a log, or restore a physical backup")
        );
    }
    let filter = Filter::new(&request.selection)?;
    let dump = unless_cancelled(cx, Dump::open(snapshot, &filter)).await?;
    let plans = dump
        .databases
        .iter()
        .map(|stored| Plan::new(stored, &filter, options))
        .collect::<SourceResult<Vec<_>>>()?;
    let plans: Vec<Plan<'_>> = plans.into_iter().filter(|plan| !plan.is_empty()).collect();
    if plans.is_empty() {
        let error = SourceError::new(
            SourceErrorKind::NotFound,
            "the snapshot holds nothing that the selection matches",
        );
        return Err(
            error.with_hint("use patterns for database, database.schema or database.schema.table")
        );
    }
    let origins = plans.iter().flat_map(|plan| plan.origins.iter().cloned()).collect();
    options.renames.refuse_unmatched(&origins)?;
    let server = unless_cancelled(cx, Server::open(options, &plans)).await?;
    let job = Job { cx, options, request, dump: &dump, server: &server };
    let mut ways = Vec::new();
    for plan in &plans {
        ways.push(unless_cancelled(cx, way(&job, plan)).await?);
    }
    super::ready::note_older(cx, server.version, dump.whole.server_version);
    let (warnings, removals) =
        (remarks::remark(&job, &filter, &plans), removals(&job, &plans, &ways).await?);
    let removed = removals.len() as u64;
    let mut report = RestoreReport { warnings, removed, removals, ..RestoreReport::default() };
    if request.dry_run {
        return foretold(&job, &plans, &ways, report).await;
    }
    if options.roles && plans.iter().any(|plan| plan.is_whole) {
        report.warnings += unless_cancelled(cx, roles::create_missing(&job)).await?;
    }
    unless_cancelled(cx, roles::require_owners(&job, &plans)).await?;
    write(&job, &plans, ways, &mut report).await?;
    Ok(report)
}

/// Writes one database after the other. One that fails does not take the next ones with it.
async fn write(
    job: &Job<'_>,
    plans: &[Plan<'_>],
    ways: Vec<Way>,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let (mut failed, mut complete) = (Vec::<(&Plan<'_>, SourceError)>::new(), 0);
    for (plan, way) in plans.iter().zip(ways) {
        let done = match way {
            Way::Whole => Box::pin(whole::restore(job, plan, report)).await,
            Way::Inside => Box::pin(inside::restore(job, plan, report)).await,
        };
        let done =
            done.map_err(|error| told(error, plan, (way, job.server.has_dropped()), complete));
        match done {
            Ok(()) => {
                count(plan, report);
                complete += 1;
            }
            Err(error) if job.options.exit_on_error || !concerns_object(&error) => {
                failed.push((plan, error));
                break;
            }
            Err(error) => failed.push((plan, error)),
        }
    }
    let is_over = failed.last().is_some_and(|(_, error)| !concerns_object(error));
    if complete == 0 || is_over || job.options.exit_on_error {
        // The error that ended it, or the first one; the others are warnings.
        let at = if is_over { failed.len().saturating_sub(1) } else { 0 };
        let error = (at < failed.len()).then(|| failed.remove(at));
        for (plan, error) in failed {
            failures::lose(job, report, plan.target.clone(), &error, "");
        }
        return error.map_or(Ok(()), |(_, error)| Err(error));
    }
    for (plan, error) in failed {
        failures::lose(job, report, plan.target.clone(), &error, "");
    }
    Ok(())
}

/// A plan: counts and names the objects that are written.
async fn foretold(
    job: &Job<'_>,
    plans: &[Plan<'_>],
    ways: &[Way],
    mut report: RestoreReport,
) -> SourceResult<RestoreReport> {
    for (plan, way) in plans.iter().zip(ways) {
        count(plan, &mut report);
        let looking = inside::foretold(job, plan, *way == Way::Whole);
        let found = unless_cancelled(job.cx, looking).await?;
        for text in found.left_out {
            job.cx.events.warn(WarningKind::Other, &*plan.target, text);
            report.warnings += 1;
        }
        report.objects.extend(found.objects);
    }
    Ok(report)
}

/// Objects of the target that go because the snapshot lacks them. Refuses those that no request
/// covers.
async fn removals(job: &Job<'_>, plans: &[Plan<'_>], ways: &[Way]) -> SourceResult<Vec<Removal>> {
    let mut removals = Vec::new();
    if job.request.if_exists != IfExists::Replace {
        return Ok(removals);
    }
    let exist = plans.iter().zip(ways).filter(|(plan, _)| job.server.has(&plan.target));
    for (plan, way) in exist {
        if *way == Way::Whole {
            note_sessions(job, &plan.target).await?;
        }
        let looking = inside::removals(job, plan, *way == Way::Whole);
        removals.extend(unless_cancelled(job.cx, looking).await?);
    }
    let is_wanted = |removal: &&Removal| match &job.request.delete {
        Delete::Nothing => false,
        Delete::Absent(_) | Delete::PlannedFiles(..) => true,
        Delete::Planned(names) => names.contains(&removal.name),
    };
    let unwanted: Vec<&str> = removals
        .iter()
        .filter(|removal| !is_wanted(removal))
        .map(|removal| &*removal.name)
        .collect();
    if unwanted.is_empty() { Ok(removals) } else { Err(unwanted_removals(job, &unwanted)) }
}

/// A replacement would remove objects that nothing brings back.
fn unwanted_removals(job: &Job<'_>, names: &[&str]) -> SourceError {
    let count = words::count(names.len() as u64, "object", "objects");
    let names = few(names, NAMED);
    let (text, hint) = if job.request.delete == Delete::Nothing {
        (
            format!("replacing would remove {count} that the snapshot lacks: {names}"),
            "give --delete to remove them, name the objects to replace with --only, or restore to \
             other names with --rename",
        )
    } else {
        (
            format!("{count} would be removed that the plan does not name: {names}"),
            "run the restore again, and look at its new plan",
        )
    };
    SourceError::new(SourceErrorKind::TargetExists, text).with_hint(hint)
}

/// Names the sessions that end when a database is replaced.
async fn note_sessions(job: &Job<'_>, database: &str) -> SourceResult<()> {
    let sessions = unless_cancelled(job.cx, job.server.sessions_in(database)).await?;
    if !sessions.is_empty() {
        let count = words::count(sessions.len() as u64, "session", "sessions");
        let names = few(&sessions, NAMED);
        job.cx.events.note(format!("replacing {database} ends {count} in it: {names}"));
    }
    Ok(())
}

/// Adds the state of the target to an error.
fn told(
    error: SourceError,
    plan: &Plan<'_>,
    (way, has_dropped): (Way, bool),
    complete: u64,
) -> SourceError {
    if error.kind() == SourceErrorKind::Cancelled {
        return error;
    }
    let state = match way {
        // All of it is there, under the other name.
        Way::Whole if has_dropped => {
            let restored = server::restoring(&plan.target);
            format!(
                "{} was dropped, and its complete successor is still called {restored:?}: rename \
                 it",
                plan.target
            )
        }
        Way::Whole => format!("{} is unchanged", plan.target),
        Way::Inside => format!("nothing was changed in {}", plan.target),
    };
    let others = if complete > 0 { "; earlier databases are complete" } else { "" };
    error.context(format!("cannot restore {} ({state}{others})", plan.target))
}

/// Counts tables; of a plan without tables its other objects, such as views.
fn count(plan: &Plan<'_>, report: &mut RestoreReport) {
    if plan.tables.is_empty() {
        let entries = plan.before.iter().chain(&plan.after);
        report.entries += entries.filter(|entry| !entry.kind.is_empty()).count() as u64;
    }
    for table in &plan.tables {
        report.entries += 1;
        report.total_bytes += table.files.iter().map(|file| file.bytes).sum::<u64>();
    }
}

/// Decides before anything is written, and refuses what must not be.
async fn way(job: &Job<'_>, plan: &Plan<'_>) -> SourceResult<Way> {
    if !job.server.has(&plan.target) {
        return Ok(Way::Whole);
    }
    // Under other names it is a copy beside the originals. An owner who may not create databases
    // replaces the contents.
    let is_all = plan.is_whole
        && plan.stored.manifest.whole
        && plan.names.is_empty()
        && job.server.can_create;
    let InTheWay { taken, torn } = inside::in_the_way(job, plan).await?;
    match (job.request.if_exists, torn) {
        // What the backup left out is nowhere else.
        (IfExists::Replace, _) if is_all => Ok(Way::Whole),
        (IfExists::Replace | IfExists::Merge, Some(torn)) => {
            let text =
                format!("restoring into {} would change tables that stay: {torn}", plan.target);
            Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(
                "restore the table with all its parts, or under other names (--rename), or into \
                 another database",
            ))
        }
        (IfExists::Fail, torn) if !taken.is_empty() => {
            let names: Vec<String> =
                taken.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
            let text = format!("the database {} has {} already", plan.target, few(&names, NAMED));
            let hint = match torn {
                None => {
                    "choose --if-exists replace (drops and restores them) or merge (replaces rows \
                     of equal primary key and keeps others), or other names (--rename)"
                }
                Some(_) => "choose other names (--rename), or another database",
            };
            Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(hint))
        }
        _ => Ok(Way::Inside),
    }
}
