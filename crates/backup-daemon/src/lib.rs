//! The daemon of the backup system: runs what the configuration schedules, and follows logs.
//!
//! ```text
//!  backup.toml ──▶ Scheduler ──▶ processes of `backup` ──▶ repositories, runs, audit, alerts
//!                     ▲ Engine
//!     tokens ──▶ api ─┘        metrics
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `engine.rs` | [`engine::Engine`]: what can be asked of whatever runs tasks |
//! | `scheduler/` | [`Scheduler`]: runs them; another service can do that too, see `examples/embedded.rs` |
//! | `run.rs`, `answering.rs` | `backupd run`: signals, the manager of services, its sign of life; the API beside it |
//! | `configuration.rs` | the configuration file: noticing that it breaks or is valid again |
//! | `api/` | [`api::serve`]: who asks what of the daemon, over a socket or by TCP |
//! | `tokens/` | who may do that |
//! | `metrics/` | what monitoring reads |
//! | `journal/` | what the daemon says of itself |
//! | `clock.rs` | a clock that goes faster, for tests |

mod answering;
pub mod api;
mod clock;
mod configuration;
pub mod engine;
pub mod journal;
pub mod metrics;
mod run;
pub mod scheduler;

#[cfg(test)]
mod testing;
pub mod tokens;

pub use scheduler::Scheduler;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use backup_control::audit::Audit;
use backup_control::config::{self, LoadedConfig};
use backup_control::environment::Environment;
use backup_control::machine::Machine;
use backup_control::passphrase;
use backup_control::schedule::Plan;
use backup_control::words;
use backup_control::zone::{self, Zone};
use backup_core::clock::{Clock, SystemClock};
use clap::{Parser, Subcommand};

use crate::run::Failure;
use crate::tokens::{Messages, Place, TokenArgs, Tokens};

/// The configuration can be used, or help was asked for.
const SUCCESS: u8 = 0;
/// There is no configuration, or it cannot be used.
const FAILURE: u8 = 1;
/// The command line cannot be understood.
const USAGE: u8 = 2;
/// A token was changed, and the change is not recorded in the audit log.
const WARNINGS: u8 = 3;

/// Time for an anchor of the audit log after a change of tokens.
const ANCHOR_TIMEOUT: Duration = Duration::from_secs(45);

/// What `backupd --help` says of exit codes and signals.
const HELP: &str = "\
Signals:
  TERM, INT  stop running operations at a safe point, and exit; a second signal kills them
  HUP        reload the configuration; if the new one is not valid, keep the old schedules

Exit codes:
  0  stopped by a signal
  1  cannot start: the configuration, the state directory or the program `backup` is not usable
  2  invalid command line
  3  a token was changed, but the change is not recorded in the audit log";

/// Backup daemon: runs scheduled backups, follows logs, and serves an API
#[derive(Debug, Parser)]
#[command(name = "backupd", version, arg_required_else_help = true, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until a signal stops it
    ///
    /// Each task runs as a process of the program `backup`: the one named by BACKUP_PROGRAM, else
    /// the one in the directory of this program. State is kept in BACKUP_STATE_DIR [default:
    /// ~/.local/state/backup]. `backup schedule` lists the next runs.
    Run(run::Args),
    Token(TokenCommand),
    /// Check the configuration and list its jobs; exit code 0 if it is valid, 1 if not
    CheckConfig {
        /// Configuration file [default: BACKUP_CONFIG, ./backup.toml,
        /// ~/.config/backup/backup.toml, /etc/backup/backup.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Create, list, replace and revoke tokens for the API
///
/// A token is shown only once; the token file stores its hash. The Unix socket of the daemon
/// requires no token.
#[derive(Debug, clap::Args)]
struct TokenCommand {
    /// Configuration file, which may name the token file [default: that of `run`, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    args: TokenArgs,
}

/// Runs `backupd` with the given arguments (the first is the program's name).
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    env: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    // Output that nobody reads any more is no reason to fail: the exit code says what was found.
    let done = match Cli::try_parse_from(args) {
        Ok(Cli { command: Command::Run(args) }) => run::run(&args, env).map(|()| SUCCESS),
        Ok(Cli { command: Command::Token(command) }) => {
            token(&command, env, out).map(|Messages { lines, lacks_record }| {
                lines.iter().for_each(|line| _ = writeln!(err, "{line}"));
                if lacks_record { WARNINGS } else { SUCCESS }
            })
        }
        Ok(Cli { command: Command::CheckConfig { config } }) => {
            check(config.as_deref(), env).map(|text| {
                _ = out.write_all(text.as_bytes());
                SUCCESS
            })
        }
        Err(error) if error.use_stderr() => {
            _ = write!(err, "{error}");
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            _ = write!(out, "{help}");
            Ok(SUCCESS)
        }
    };
    let Failure { message, hint } = match done {
        Ok(code) => return ExitCode::from(code),
        Err(failure) => failure,
    };
    let hint = hint.map(|hint| format!("Hint: {hint}\n")).unwrap_or_default();
    _ = write!(err, "Error: {message}\n{hint}");
    ExitCode::from(FAILURE)
}

/// Returns what has to be said besides.
fn token(
    command: &TokenCommand,
    env: &Environment,
    out: &mut dyn Write,
) -> Result<Messages, Failure> {
    let loaded = config::find(command.config.as_deref(), env)?
        .map(|file| config::load(&file, env))
        .transpose()?;
    let hint = "set BACKUP_STATE_DIR to a directory that this user may write to";
    let state = backup_control::state::dir(env)
        .ok_or_else(|| Failure::new("no directory for the tokens is known", Some(hint)))?;
    let zone = zone::local(env);
    let warned = zone
        .as_ref()
        .err()
        .map(|error| format!("Warning: {}; times are in UTC", words::chain(error)));
    let machine = Machine::in_zone(zone.unwrap_or(Zone::FALLBACK));
    let file = loaded.as_ref().map(|loaded| loaded.file.clone());
    let has_repositories =
        loaded.as_ref().is_some_and(|loaded| !loaded.config.repositories.is_empty());
    let api = loaded.map(|loaded| loaded.config.api).unwrap_or_default();
    let place = Place {
        tokens: Tokens::at(api::Settings::of(&api, &state).tokens),
        audit: Audit::in_state(&state).shipped(env),
        machine: &machine,
        env,
        now: SystemClock.now(),
        zone: &machine.zone.rules,
    };
    let mut said = tokens::run(&command.args, &place, out)
        .map_err(|error| Failure::new(words::chain(&error), Some(&error.hint())))?;
    said.lines.splice(..0, warned);
    if has_repositories && command.args.is_change() {
        said.lines.extend(
            anchor(file, env, &machine)
                .err()
                .map(|error| format!("Warning: cannot store an anchor of the audit log: {error}")),
        );
    }
    Ok(said)
}

/// Stores an anchor of the audit log in the repositories, and announces the change.
fn anchor(file: Option<PathBuf>, env: &Environment, machine: &Machine) -> Result<(), String> {
    let program = run::program(env).map_err(|failure| failure.message)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let child = api::Child::new(program, file, env.clone());
    let words = ["audit", "anchor", "--json"].map(str::to_owned);
    let spoken = runtime.map_err(|error| error.to_string())?.block_on(async {
        let asked = api::Program::ask(&child, &words, &machine.user);
        tokio::time::timeout(ANCHOR_TIMEOUT, asked).await
    });
    match spoken {
        Ok(Ok(spoken)) if spoken.code == Some(0) => Ok(()),
        Ok(Ok(spoken)) => Err(words::chain(&spoken.failure())),
        Ok(Err(error)) => Err(words::chain(&error)),
        Err(_) => Err(format!("no answer for {} seconds", ANCHOR_TIMEOUT.as_secs())),
    }
}

fn check(file: Option<&std::path::Path>, env: &Environment) -> Result<String, Failure> {
    match config::find(file, env)? {
        Some(file) => Ok(describe(&config::load(&file, env)?, zone::local(env)?)),
        None => Err(config::not_found(env).into()),
    }
}

fn describe(loaded: &LoadedConfig, zone: Zone) -> String {
    let mut text = format!("{} is valid.\n", loaded.file.display());
    for (name, job) in &loaded.config.jobs {
        let tier = job.tier.as_deref().unwrap_or("manual");
        text.push_str(&format!(
            "  job {name}: {} into {}, tier {tier}\n",
            job.source, job.repository
        ));
    }
    if loaded.config.jobs.is_empty() {
        text.push_str("  No jobs are defined.\n");
    }
    let plan = Plan::new(&loaded.config, &Machine::in_zone(zone));
    text.push_str(&format!("  Times are in {}.\n", plan.zone));
    for task in &plan.tasks {
        let when = task
            .timetable
            .as_ref()
            .map_or("all the time".to_owned(), |table| table.cron.to_string());
        text.push_str(&format!("  task {}: {when}\n", task.name));
    }
    for (section, error) in passphrase::unreadable_files(&loaded.config) {
        text.push_str(&format!("  warning: {section}: {}\n", words::chain(&error)));
    }
    if plan.tasks.is_empty() {
        text.push_str("  Nothing is scheduled: add `schedule = \"30 2 * * *\"` to a job.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backupd(args: &[&str], env: &Environment) -> (ExitCode, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = std::iter::once("backupd").chain(args.iter().copied()).map(OsString::from);
        let code = run(args, env, &mut out, &mut err);
        out.extend(err);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn names_jobs_and_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.toml");
        std::fs::write(&file, config::EXAMPLE).unwrap();
        let rome: Environment = [("TZ", "Europe/Rome")].into_iter().collect();
        let (code, text) = backupd(&["check-config", "--config", file.to_str().unwrap()], &rome);
        assert_eq!(code, ExitCode::from(SUCCESS));
        let text = text.replace(dir.path().to_str().unwrap(), "DIR");
        insta::assert_snapshot!(text, @r"
        DIR/backup.toml is valid.
          job documents: home into local, tier daily
          job settings: home into local, tier weekly
          Times are in Europe/Rome (from TZ).
          task documents/backup: 30 2 * * *
          task settings/backup: 0 4 * * 0
          task cleanup: 30 5 * * *
          task check/local: 0 6 * * 6
          warning: [repositories.local]: cannot read the pass phrase file /etc/backup/main.key: No such file or directory (os error 2)
        ");
    }

    #[test]
    fn unrecorded_token_change_ends_with_3() {
        let dir = tempfile::tempdir().unwrap();
        // A directory in the place of the file.
        std::fs::create_dir_all(dir.path().join("audit.jsonl/x")).unwrap();
        let env = Environment::from_iter([
            ("BACKUP_STATE_DIR", dir.path().to_str().unwrap()),
            ("BACKUP_CONFIG", ""),
        ]);
        let (code, text) = backupd(&["token", "create", "anna", "--role", "auditor"], &env);
        assert_eq!(code, ExitCode::from(WARNINGS), "{text}");
        assert!(text.contains("cannot record the change in the audit log"), "{text}");
        let (code, text) = backupd(&["token", "list"], &env);
        assert_eq!(code, ExitCode::from(SUCCESS), "{text}");
        assert!(text.contains("anna"), "the token exists: {text}");
    }

    #[test]
    fn mistakes_have_their_exit_codes() {
        let env = Environment::default();
        let (code, text) = backupd(&["check-config", "--config", "/does/not/exist.toml"], &env);
        assert_eq!(code, ExitCode::from(FAILURE));
        insta::assert_snapshot!(text, @r"
        Error: /does/not/exist.toml: the configuration file named by --config does not exist
        Hint: print an example with `backup config example`
        ");
        assert_eq!(backupd(&["check-confg"], &env).0, ExitCode::from(USAGE));
        let (code, text) = backupd(&["--version"], &env);
        assert_eq!(
            (code, text),
            (ExitCode::from(SUCCESS), format!("backupd {}\n", env!("CARGO_PKG_VERSION")))
        );
    }
}
