//! `backup doctor`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verb; storage |
//! | `sources.rs` | sources |
//! | `everything.rs` | all that a configuration names |

mod everything;
mod sources;

use backup_control::exposed::ExposedFile;
use backup_control::repositories::RepositorySpec;
use backup_core::repository::{LockReport, StoreVerdict};
use backup_core::sink::Custody;
use jiff::SignedDuration;
use serde::Serialize;

use super::view::Summary;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::facts;

/// Uploads that were begun longer ago than this are not of a run that is under way.
const UNFINISHED_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Examine the configuration, the storage of a repository, or sources
///
/// With a configuration alone, examines all its repositories and the sources of all its jobs.
/// Covers connections, pass phrases, rights, tools, clocks, free space and the capabilities of
/// stores. Each line has a tick or a cross, and each cross is followed by its remedy. The exit code
/// is 3 if there is a cross.
///
/// With --repo, examines only the storage of this repository. Writes small objects under x-probe/
/// and deletes them again. The result is saved in the repository, and maintenance relies on it.
///
/// With jobs or --source, examines only these sources. Each problem is shown with the statement or
/// setting that fixes it; the exit code is then 3.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Examine the sources of these jobs or groups of the configuration instead of storage
    #[arg(value_name = "JOB_OR_GROUP", conflicts_with_all = ["source", "renew_locks", "clear_unfinished"])]
    jobs: Vec<String>,
    /// Examine this source instead of storage: paths, or one server [env: BACKUP_SOURCE_PASSWORD,
    /// …: the password of its user]
    #[arg(long, value_name = "PATH_OR_URL", conflicts_with_all = ["renew_locks", "clear_unfinished"])]
    source: Vec<String>,
    /// Renew object locks that have less than half of their time left
    #[arg(long)]
    renew_locks: bool,
    /// Remove multipart uploads that were begun more than a day ago and never finished; they cost
    /// money
    #[arg(long)]
    clear_unfinished: bool,
}

const EXAMPLES: &str = "\
Examples:
  backup doctor
  backup doctor -r ./repo
  backup doctor crm";

/// Result of the examination, in JSON.
#[derive(Serialize)]
struct DoctorJson<'a> {
    verdict: &'a StoreVerdict,
    creates_atomically: bool,
    concerns: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    locks: Option<&'a LockReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared_uploads: Option<u64>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    if !args.jobs.is_empty() || !args.source.is_empty() {
        return sources::run(session, args).await;
    }
    let is_named =
        session.named_repository()?.is_some() || session.env.text("BACKUP_REPO").is_some();
    if !is_named
        && !args.renew_locks
        && !args.clear_unfinished
        && let Some(loaded) = session.config()?
    {
        return everything::run(session, &loaded).await;
    }
    let spec = session.repository()?;
    let exposed = session.exposed_files(&spec);
    let repository = session.open(&spec).await?;
    let cx = &session.cx;
    let verdict = repository.probe_store(cx).await?;
    let mut concerns = verdict.concerns();
    concerns.extend(exposed.iter().map(ExposedFile::warning));
    let custody = repository.sink().custody();
    if custody.as_ref().is_some_and(|custody| custody.lock_period().is_some()) {
        let ends = verdict.config_locked_until.is_none_or(|until| until < cx.clock.now());
        if ends && !args.renew_locks {
            concerns.push(
                "Object locks are configured, but the config object is not locked: repeat the \
                 command with --renew-locks."
                    .to_owned(),
            );
        }
    }
    let locks = match args.renew_locks {
        true => {
            let indexed = repository.load_index(cx).await?;
            for (id, error) in indexed.damaged_indexes() {
                concerns.push(format!("Index {} is damaged: {}.", id.short(), error.chain()));
            }
            indexed.renew_locks(cx).await?
        }
        false => None,
    };
    for failure in locks.iter().flat_map(|locks| &locks.failures) {
        concerns.push(format!("A lock could not be renewed: {failure}."));
    }
    if args.renew_locks && locks.is_none() {
        session.ui.warning("this repository does not lock objects: there is nothing to renew");
    }
    let cleared_uploads = match args.clear_unfinished {
        true => clear_uploads(session, custody.as_deref(), &verdict).await?,
        false => None,
    };
    let creates_atomically = verdict.creates_atomically();
    let json = DoctorJson {
        verdict: &verdict,
        creates_atomically,
        concerns: &concerns,
        locks: locks.as_ref(),
        cleared_uploads,
    };
    report(session, &spec, &json)?;
    Ok(Outcome::with_warnings(concerns.len() as u64))
}

/// Removes old unfinished uploads; returns their number, if the store has such uploads.
async fn clear_uploads(
    session: &Session,
    custody: Option<&dyn Custody>,
    verdict: &StoreVerdict,
) -> CommandResult<Option<u64>> {
    let Some(custody) = custody else {
        session.ui.warning("this kind of storage has no unfinished uploads to clear");
        return Ok(None);
    };
    // The store dates uploads.
    let ahead = SignedDuration::from_secs(verdict.clock_ahead_seconds.unwrap_or(0));
    let now = session.cx.clock.now();
    let before = now.checked_add(ahead).unwrap_or(now) - UNFINISHED_AFTER;
    let cleared = custody.clear_unfinished(before).await;
    Ok(Some(cleared.map_err(backup_core::error::Error::from)?))
}

/// Prints the verdict and the concerns.
fn report(session: &Session, spec: &RepositorySpec, json: &DoctorJson<'_>) -> CommandResult<()> {
    if session.ui.is_json() {
        return session.ui.json(&Summary::new("doctor", spec.to_string(), json));
    }
    session.ui.print(describe(json.verdict, json.locks, json.cleared_uploads))?;
    for concern in json.concerns {
        session.ui.warning(concern);
    }
    if json.concerns.is_empty() {
        session.ui.print(format_args!("{}: {spec}", paint(style::GOOD, "No problems")))?;
    }
    Ok(())
}

fn describe(verdict: &StoreVerdict, locks: Option<&LockReport>, cleared: Option<u64>) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let skew = match verdict.clock_ahead_seconds {
        None => "unknown: the store reports no time".to_owned(),
        Some(ahead) => format!("{ahead:+} s"),
    };
    let deletes =
        verdict.deletes.map_or_else(|| "not permitted for these credentials".to_owned(), yes);
    let locks = locks.map_or_else(String::new, |locks| {
        let renewed = human::count(locks.renewed, "lock", "locks");
        format!(
            "{renewed} of {} renewed, {} previously unlocked",
            human::count(locks.objects, "object", "objects"),
            locks.unlocked
        )
    });
    let cleared = cleared.map_or_else(String::new, |count| {
        human::count(count, "unfinished upload", "unfinished uploads")
    });
    facts(&[
        ("Storage", verdict.store.clone()),
        ("Refuses a second create", yes(verdict.refuses_second_create)),
        ("Concurrent creates have one winner", yes(verdict.one_winner)),
        ("Lists new objects at once", yes(verdict.lists_at_once)),
        ("Reads ranges", yes(verdict.ranges)),
        ("Deletes", deletes),
        ("Clock ahead by", skew),
        (
            "Config locked until",
            verdict.config_locked_until.map_or_else(String::new, |until| until.to_string()),
        ),
        ("Locks", locks),
        ("Cleared", cleared),
    ])
}
