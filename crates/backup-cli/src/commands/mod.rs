//! The verbs, one file each: `Args`, whose doc comments are the help, and `run`.
//!
//! | file | what is in it |
//! |---|---|
//! | `quickstart.rs` | the whole way once: key, repository, backup, verification, restore, comparison |
//! | `init.rs`, `run.rs` | creating repositories and snapshots |
//! | `list.rs`, `show.rs`, `ls.rs`, `diff.rs`, `stats.rs`, `storage.rs` | looking |
//! | `restore.rs`, `export/` | getting data back |
//! | `copy.rs`, `archive.rs` | into other repositories |
//! | `hold.rs`, `release.rs`, `forget.rs`, `undo_forget.rs`, `cleanup.rs`, `prune.rs` | what stays and what goes |
//! | `verify.rs`, `check.rs`, `repair.rs`, `doctor.rs` | damage, and storage that cannot be relied upon |
//! | `key/` | keys |
//! | `config.rs`, `completions.rs` | the program itself |
//! | `view.rs`, `report_file.rs` | how snapshots and problems are shown by several verbs; reports in files |

pub(crate) mod archive;
pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod forget;
pub(crate) mod hold;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod quickstart;
pub(crate) mod release;
pub(crate) mod repair;
mod report_file;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod storage;
pub(crate) mod undo_forget;
pub(crate) mod verify;
mod view;

use crate::cli::Command;
use crate::command_error::CommandResult;
use crate::session::Session;

/// Runs a verb.
pub(crate) async fn run(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Quickstart(args) => Box::pin(quickstart::run(session, &args)).await,
        Command::Init(args) => Box::pin(init::run(session, &args)).await,
        Command::Run(args) => Box::pin(run::run(session, &args)).await,
        Command::List(args) => Box::pin(list::run(session, &args)).await,
        Command::Show(args) => Box::pin(show::run(session, &args)).await,
        Command::Ls(args) => Box::pin(ls::run(session, &args)).await,
        Command::Diff(args) => Box::pin(diff::run(session, &args)).await,
        Command::Restore(args) => Box::pin(restore::run(session, &args)).await,
        Command::Export(args) => Box::pin(export::run(session, &args)).await,
        Command::Copy(args) => Box::pin(copy::run(session, &args)).await,
        Command::Archive(args) => Box::pin(archive::run(session, &args)).await,
        Command::Hold(args) => Box::pin(hold::run(session, &args)).await,
        Command::Release(args) => Box::pin(release::run(session, &args)).await,
        Command::Forget(args) => Box::pin(forget::run(session, &args)).await,
        Command::UndoForget(args) => Box::pin(undo_forget::run(session, &args)).await,
        Command::Cleanup(args) => Box::pin(cleanup::run(session, &args)).await,
        Command::Prune(args) => Box::pin(prune::run(session, &args)).await,
        Command::Repair(args) => Box::pin(repair::run(session, &args)).await,
        Command::Key(args) => Box::pin(key::run(session, &args)).await,
        Command::Doctor(args) => Box::pin(doctor::run(session, &args)).await,
        Command::Verify(args) => Box::pin(verify::run(session, &args)).await,
        Command::Check(args) => Box::pin(check::run(session, &args)).await,
        Command::Stats(args) => Box::pin(stats::run(session, &args)).await,
        Command::Storage(args) => Box::pin(storage::run(session, &args)).await,
        Command::Config(args) => config::run(session, &args),
        Command::Completions(args) => completions::run(session, &args),
    }
}
