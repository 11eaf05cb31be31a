//! The command line of the backup system: parses, wires, renders; everything else is in
//! `backup_control` and `backup_core`.
//!
//! ```text
//!  args ──▶ cli ──▶ commands/VERB ──▶ session ──▶ backup_control, backup_core
//!                        │                              │ events
//!                        ▼                              ▼
//!        exit_code ◀── ui ◀──────────────────────── reporter
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `cli.rs`, `args.rs` | the tree of verbs and flags; groups of flags |
//! | `before.rs` | positions of MongoDB before which a restore ends |
//! | `overview.rs` | the help of `backup` itself: verbs in groups |
//! | `commands/` | one file per verb |
//! | `session.rs` | what a command works with: flags, environment, opening repositories |
//! | `repositories.rs` | the repositories that a command works with: one, or each of several |
//! | `reserve.rs` | full disks: the reserve that maintenance frees |
//! | `opened.rs` | an opened repository, and finding its snapshots by name |
//! | `remote/` | the same verbs, done by a daemon: `--server` |
//! | `records.rs` | what is remembered of runs |
//! | `records/job_lock.rs` | the lock that a run of a job holds |
//! | `trail.rs` | what the audit log is told |
//! | `ui.rs` | the only door to stdout and stderr; `style.rs`: colours, `table.rs`: tables |
//! | `prompts.rs` | questions to somebody at a terminal |
//! | `reporter/` | events as bars, lines or JSON |
//! | `human.rs` | sizes, ages, times for people |
//! | `job_names.rs` | misspelt names of jobs |
//! | `command_error.rs`, `outcome.rs`, [`exit_code`] | failures and how the program ends |
//! | `monitoring.rs` | results and exit codes for monitoring systems |
//! | `signals.rs` | Ctrl-C |
//! | `allocator.rs` | a limit on how much free memory the allocator keeps |

mod allocator;
mod args;
mod before;
mod cli;
mod clock;
mod command_error;
mod commands;
pub mod exit_code;
mod human;
mod job_names;
mod monitoring;
mod opened;
mod outcome;
mod overview;
mod prompts;
mod records;
mod remote;
mod reporter;
mod repositories;
mod reserve;
mod restic_verbs;
mod secrets;
mod session;
mod signals;
mod style;
mod table;
mod trail;
mod ui;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backup_control::environment::Environment;
use backup_control::machine::Machine;
use backup_control::zone::{self, Zone};
use backup_core::context::Context;
use clap::Parser;

use cli::{Cli, ColorArg, Command, GlobalArgs};
use command_error::{CommandError, CommandResult, Kind};
use reporter::Detail;
use session::{ConfigCache, Session};
use trail::Trail;
use ui::Ui;

/// More workers do not make a backup faster: what computes has a pool of its own.
const MAX_WORKERS: usize = 4;
/// Files that are opened, read or written at the same time.
const MAX_BLOCKING: usize = 64;
/// How long work that was given up may take to notice it.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Runs `backup` with the given arguments (the first is the program's name) and environment.
#[must_use]
pub fn run(args: &[OsString], env: Environment) -> ExitCode {
    allocator::tune();
    ExitCode::from(guarded(args, |failed| run_to_the_end(args, env, failed)))
}

/// What the exit code of an error is.
type ExitCodeOf = fn(&CommandError) -> u8;

/// A server that fetches its log takes most codes, and that of a panic among them, for the end of
/// the log: no failure may have one of these. A failure of a plugin for monitoring systems is an
/// unknown state.
fn guarded(args: &[OsString], running: impl FnOnce(ExitCodeOf) -> u8) -> u8 {
    let has = |word: &str| args.iter().take_while(|arg| *arg != "--").any(|arg| arg == word);
    let (failed, panicked): (ExitCodeOf, u8) = if has("wal-fetch") {
        (|_| exit_code::STOP, exit_code::STOP)
    } else if has("--nagios") || has("--exit-code") {
        (|_| monitoring::UNKNOWN, monitoring::UNKNOWN)
    } else {
        return running(CommandError::exit_code);
    };
    std::panic::catch_unwind(AssertUnwindSafe(|| running(failed))).unwrap_or(panicked)
}

fn run_to_the_end(args: &[OsString], env: Environment, failed: ExitCodeOf) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(args, &env, &error, failed),
    };
    let ui = Arc::new(Ui::new(&cli.global, &env));
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(MAX_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(MAX_BLOCKING)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = CommandError::io("cannot start the async runtime", &error);
            ui.final_error(&error);
            return failed(&error);
        }
    };
    let words = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let trail = Arc::new(Trail::new(words));
    let ended = runtime.block_on(execute(cli, args, env, Arc::clone(&ui), trail));
    runtime.shutdown_timeout(SHUTDOWN);
    match ended {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            ui.final_error(&error);
            failed(&error)
        }
    }
}

/// How to call this program again: its path if it was called by one, else its name.
fn program(args: &[OsString]) -> String {
    let called = args.first().and_then(|arg| arg.to_str()).unwrap_or_default();
    if called.contains('/') { called.to_owned() } else { "backup".to_owned() }
}

async fn execute(
    cli: Cli,
    args: &[OsString],
    env: Environment,
    ui: Arc<Ui>,
    trail: Arc<Trail>,
) -> CommandResult {
    let detail = cli.command.detail();
    if detail == Detail::All {
        ui.work_unread();
    }
    let events = reporter::events(&ui, detail);
    let session = Session {
        program: program(args),
        ui: Arc::clone(&ui),
        machine: machine(&env, &ui, &cli.command),
        env,
        global: cli.global,
        cx: Context::new(events),
        trail,
        zones: OnceLock::new(),
        config: ConfigCache::default(),
        label: None,
        typed: Arc::default(),
        exposed: Arc::default(),
    };
    tighten_state(&session);
    let server = remote::server(&session, &cli.command)?;
    let notice = if server.is_some() { signals::LEAVING } else { signals::STOPPING };
    signals::watch(Arc::clone(&ui), session.cx.cancel.clone(), notice);
    let result = match server {
        Some(server) => Box::pin(remote::run(&session, &server, args)).await,
        None => commands::run(&session, cli.command).await,
    };
    // Bars that are left are cleared before the last word.
    drop(session);
    result.and_then(|outcome| ui.flush().map(|()| outcome))
}

/// The local machine. A time zone that is not understood is replaced with UTC.
fn machine(env: &Environment, ui: &Ui, command: &Command) -> Machine {
    let zone = zone::local(env).unwrap_or_else(|error| {
        if !command.ignores_zone() {
            ui.warning(format_args!("{error}; the time zone is UTC"));
            if let Some(hint) = error.hint() {
                ui.hint(hint);
            }
        }
        Zone::FALLBACK
    });
    Machine::in_zone(zone)
}

/// Removes the rights of other users on a state directory that an earlier version, or a person,
/// created.
fn tighten_state(session: &Session) {
    let Some(dir) = backup_control::state::dir(&session.env) else { return };
    if let Err(error) = backup_control::state::tighten(&dir, &session.env) {
        session.ui.warning(format_args!(
            "cannot remove the rights of other users on the state directory {}: {error}",
            dir.display()
        ));
    }
}

/// Help, version, and command lines that cannot be understood.
fn usage(args: &[OsString], env: &Environment, error: &clap::Error, failed: ExitCodeOf) -> u8 {
    let global = guess(args);
    let ui = Ui::new(&global, env);
    if !error.use_stderr() {
        ui.clap(error);
        return exit_code::SUCCESS;
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let tip = restic_verbs::hint(error);
    let hint = tip.clone().unwrap_or_else(|| "see `backup --help`".to_owned());
    let told = CommandError::new(Kind::Usage, message).with_hint(hint);
    if global.json {
        ui.final_error(&told);
    } else {
        ui.clap(error);
        if let Some(tip) = tip {
            ui.hint(tip);
        }
    }
    failed(&told)
}

/// How to print, as far as it can be told from a command line that was not understood.
fn guess(args: &[OsString]) -> GlobalArgs {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let value =
        |flag: &str| args.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone());
    let color = |when: &str| {
        has(&format!("--color={when}")) || value("--color").is_some_and(|given| given == when)
    };
    GlobalArgs {
        config: None,
        repo: None,
        password_file: None,
        password_command: None,
        server: None,
        token_file: None,
        ca_file: None,
        no_cache: false,
        json: has("--json"),
        quiet: false,
        yes: false,
        no_progress: true,
        color: match (color("always"), color("never")) {
            (true, _) => ColorArg::Always,
            (_, true) => ColorArg::Never,
            _ => ColorArg::Auto,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_looks_like_the_end_of_a_log() {
        let args = |verb: &str| ["backup", verb, "a", "b"].map(OsString::from);
        let fails = |failed: ExitCodeOf| failed(&CommandError::new(Kind::Io, "no thread"));
        assert_eq!(guarded(&args("wal-fetch"), fails), exit_code::STOP);
        assert_eq!(guarded(&args("list"), fails), exit_code::FAILURE);
        let panics = |_: ExitCodeOf| std::panic::resume_unwind(Box::new("no thread"));
        assert_eq!(guarded(&args("wal-fetch"), panics), exit_code::STOP);
        assert_eq!(guarded(&args("wal-fetch"), |_| exit_code::FAILURE), exit_code::FAILURE);
    }
}
