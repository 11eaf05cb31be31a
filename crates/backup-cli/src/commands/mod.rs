//! The verbs, one file each: `Args`, whose doc comments are the help, and `run`.
//!
//! | file | what is in it |
//! |---|---|
//! | `quickstart.rs` | the whole way once: key, repository, backup, verification, restore, comparison |
//! | `init.rs`, `run.rs`, `retry.rs` | creating repositories and snapshots |
//! | `schedule.rs`, `running.rs`, `cancel.rs` | what the daemon does when; what goes on in it |
//! | `status/`, `analyze.rs`, `advise.rs` | how jobs are, what came of runs, what took how long, what could be better |
//! | `alerts/`, `audit.rs`, `report.rs` | what is wrong, who is told; who did what; what came of it |
//! | `logs/`, `timeline/` | capturing logs; which moments can be restored |
//! | `wal_push.rs`, `wal_fetch.rs` | logs file by file, as PostgreSQL hands them over and asks for them |
//! | `list.rs`, `find.rs`, `show.rs`, `ls.rs`, `diff.rs`, `stats.rs`, `storage.rs` | looking |
//! | `restore.rs`, `export/` | getting data back |
//! | `compare.rs` | a snapshot beside a server |
//! | `import.rs` | dumps of other tools |
//! | `copy.rs`, `archive.rs` | into other repositories |
//! | `hold.rs`, `release.rs`, `forget.rs`, `undo_forget.rs`, `cleanup.rs`, `prune.rs` | what stays and what goes |
//! | `verify.rs`, `check.rs`, `repair.rs`, `doctor.rs` | damage, and storage that cannot be relied upon |
//! | `key/` | keys |
//! | `notify/` | channels that people are told by, and what waits for them |
//! | `catalog.rs`, `config.rs`, `completions.rs`, `version.rs`, `man.rs` | the program itself |
//! | `view.rs`, `report_file.rs` | how snapshots and problems are shown by several verbs; reports in files |

pub(crate) mod advise;
pub(crate) mod alerts;
pub(crate) mod analyze;
pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod forget;
pub(crate) mod hold;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod migrate;
pub(crate) mod notify;
pub(crate) mod prune;
pub(crate) mod quickstart;
pub(crate) mod release;
pub(crate) mod repair;
pub(crate) mod report;
mod report_file;
pub(crate) mod restore;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod schedule;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod storage;
pub(crate) mod timeline;
pub(crate) mod undo_forget;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod view;
pub(crate) mod wal_fetch;
pub(crate) mod wal_push;

use crate::cli::Command;
use crate::command_error::CommandResult;
use crate::session::Session;
use crate::trail::{self, Action};

/// Runs a verb.
pub(crate) async fn run(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Restore(args) if args.is_open() => {
            let (session, args) = Box::pin(restore::asked(session, &args)).await?;
            run_said(&session, Command::Restore(Box::new(args))).await
        }
        said => run_said(session, said).await,
    }
}

async fn run_said(session: &Session, command: Command) -> CommandResult {
    let restores = matches!(command, Command::Restore(_));
    let action = Action::of(&command);
    if let Some(action) = action {
        trail::begun(session, action).await;
    }
    let mut result = dispatch(session, command).await;
    trail::warn_of_unrecorded(session, &result);
    if let Some(action) = action {
        trail::record(session, action, &result).await;
        // Not for `wal-push` and `wal-fetch`, which are no actions: their exit codes are for
        // PostgreSQL.
        result = result.map(|outcome| session.trail.outcome(outcome));
        if alerts::is_seen(action) {
            alerts::check::afterwards(session).await;
        }
    }
    result.map_err(|error| if restores { error } else { error.with_hint_at_thawing() })
}

pub(in crate::commands) async fn dispatch(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Quickstart(args) => Box::pin(quickstart::run(session, &args)).await,
        Command::Init(args) => Box::pin(init::run(session, &args)).await,
        Command::Run(args) => Box::pin(run::run(session, &args)).await,
        Command::Retry(args) => Box::pin(retry::run(session, &args)).await,
        Command::Schedule(args) => schedule::run(session, &args),
        // Only a daemon knows: they never come here.
        Command::Running(_) | Command::Cancel(_) => Err(crate::remote::only_by_a_daemon()),
        Command::Status(args) => Box::pin(status::run(session, &args)).await,
        Command::Analyze(args) => Box::pin(analyze::run(session, &args)).await,
        Command::Advise(args) => Box::pin(advise::run(session, &args)).await,
        Command::Alerts(args) => Box::pin(alerts::run(session, &args)).await,
        Command::Report(args) => Box::pin(report::run(session, &args)).await,
        Command::Audit(args) => Box::pin(audit::run(session, &args)).await,
        Command::Logs(args) => Box::pin(logs::run(session, &args)).await,
        Command::Timeline(args) => Box::pin(timeline::run(session, &args)).await,
        Command::WalPush(args) => Box::pin(wal_push::run(session, &args)).await,
        Command::WalFetch(args) => Box::pin(wal_fetch::run(session, &args)).await,
        Command::List(args) => Box::pin(list::run(session, &args)).await,
        Command::Find(args) => Box::pin(find::run(session, &args)).await,
        Command::Show(args) => Box::pin(show::run(session, &args)).await,
        Command::Ls(args) => Box::pin(ls::run(session, &args)).await,
        Command::Diff(args) => Box::pin(diff::run(session, &args)).await,
        Command::Restore(args) => Box::pin(restore::run(session, &args)).await,
        Command::Compare(args) => Box::pin(compare::run(session, &args)).await,
        Command::Export(args) => Box::pin(export::run(session, &args)).await,
        Command::Import(args) => Box::pin(import::run(session, &args)).await,
        Command::Copy(args) => Box::pin(copy::run(session, &args)).await,
        Command::Archive(args) => Box::pin(archive::run(session, &args)).await,
        Command::Hold(args) => Box::pin(hold::run(session, &args)).await,
        Command::Release(args) => Box::pin(release::run(session, &args)).await,
        Command::Forget(args) => Box::pin(forget::run(session, &args)).await,
        Command::UndoForget(args) => Box::pin(undo_forget::run(session, &args)).await,
        Command::Cleanup(args) => Box::pin(cleanup::run(session, &args)).await,
        Command::Prune(args) => Box::pin(prune::run(session, &args)).await,
        Command::Repair(args) => Box::pin(repair::run(session, &args)).await,
        Command::Migrate(args) => migrate::run(session, &args).await,
        Command::Key(args) => Box::pin(key::run(session, &args)).await,
        Command::Doctor(args) => Box::pin(doctor::run(session, &args)).await,
        Command::Verify(args) => Box::pin(verify::run(session, &args)).await,
        Command::Check(args) => Box::pin(check::run(session, &args)).await,
        Command::Stats(args) => Box::pin(stats::run(session, &args)).await,
        Command::Storage(args) => Box::pin(storage::run(session, &args)).await,
        Command::Notify(args) => notify::run(session, &args).await,
        Command::Catalog(args) => Box::pin(catalog::run(session, &args)).await,
        Command::Config(args) => config::run(session, &args),
        Command::Completions(args) => completions::run(session, &args),
        Command::Version(args) => version::run(session, &args),
        Command::Man(args) => man::run(session, &args),
    }
}
