//! The daemon of the backup system, as far as it exists: it checks the configuration that it would run with and names
//! the jobs it knows. Scheduling is not part of this version, and it says so.

pub mod api;
pub mod engine;
pub mod metrics;
#[cfg(test)]
mod testing;
pub mod tokens;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use backup_control::config::{self, LoadedConfig};
use backup_control::environment::Environment;
use clap::{Parser, Subcommand};

/// The configuration can be used, or help was asked for.
const SUCCESS: u8 = 0;
/// There is no configuration, or it cannot be used.
const FAILURE: u8 = 1;
/// The command line cannot be understood.
const USAGE: u8 = 2;

/// What has to be said until there is a scheduler.
const NO_SCHEDULER: &str =
    "This version does not run jobs by itself: start them with `backup run JOB`, from cron or a systemd timer.";

/// The daemon of the backup system. This version checks its configuration; it does not schedule jobs yet.
#[derive(Debug, Parser)]
#[command(name = "backupd", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration and name the jobs in it; exit code 0 if it can be used, 1 if not.
    CheckConfig {
        /// The configuration file. Default: BACKUP_CONFIG, ./backup.toml, ~/.config/backup/backup.toml,
        /// /etc/backup/backup.toml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Runs `backupd` with the given arguments (the first is the program's name).
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    env: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitCode {
    // Output that nobody reads any more is no reason to fail: the exit code says what was found.
    let code = match Cli::try_parse_from(args) {
        Ok(Cli { command: Command::CheckConfig { config } }) => match check(config.as_deref(), env) {
            Ok(text) => {
                _ = out.write_all(text.as_bytes());
                SUCCESS
            }
            Err(error) => {
                let hint = error.hint().map(|hint| format!("Hint: {hint}\n")).unwrap_or_default();
                _ = write!(err, "Error: {error}\n{hint}");
                FAILURE
            }
        },
        Err(error) if error.use_stderr() => {
            _ = write!(err, "{error}");
            USAGE
        }
        Err(help) => {
            _ = write!(out, "{help}");
            SUCCESS
        }
    };
    ExitCode::from(code)
}

fn check(file: Option<&std::path::Path>, env: &Environment) -> Result<String, backup_control::error::Error> {
    match config::find(file, env)? {
        Some(file) => Ok(describe(&config::load(&file, env)?)),
        None => Err(config::not_found(env)),
    }
}

fn describe(loaded: &LoadedConfig) -> String {
    let mut text = format!("{} can be used.\n", loaded.file.display());
    for (name, job) in &loaded.config.jobs {
        let tier = job.tier.as_deref().unwrap_or("manual");
        text.push_str(&format!("  job {name}: {} into {}, tier {tier}\n", job.source, job.repository));
    }
    if loaded.config.jobs.is_empty() {
        text.push_str("  It has no jobs.\n");
    }
    text.push_str(NO_SCHEDULER);
    text.push('\n');
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
    fn names_the_jobs_and_does_not_pretend_to_run_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.toml");
        std::fs::write(&file, config::EXAMPLE).unwrap();
        let (code, text) = backupd(&["check-config", "--config", file.to_str().unwrap()], &Environment::default());
        assert_eq!(code, ExitCode::from(SUCCESS));
        let text = text.replace(dir.path().to_str().unwrap(), "DIR");
        insta::assert_snapshot!(text, @r"
        DIR/backup.toml can be used.
          job documents: home into local, tier daily
          job settings: home into local, tier weekly
        This version does not run jobs by itself: start them with `backup run JOB`, from cron or a systemd timer.
        ");
    }

    #[test]
    fn mistakes_have_their_exit_codes() {
        let env = Environment::default();
        let (code, text) = backupd(&["check-config", "--config", "/does/not/exist.toml"], &env);
        assert_eq!(code, ExitCode::from(FAILURE));
        insta::assert_snapshot!(text, @r"
        Error: /does/not/exist.toml: this configuration file, named by --config, does not exist
        Hint: `backup config example` prints one to begin with
        ");
        assert_eq!(backupd(&["check-confg"], &env).0, ExitCode::from(USAGE));
        let (code, text) = backupd(&["--version"], &env);
        assert_eq!((code, text), (ExitCode::from(SUCCESS), format!("backupd {}\n", env!("CARGO_PKG_VERSION"))));
    }
}
