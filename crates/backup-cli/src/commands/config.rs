//! `backup config`.

use backup_control::config::{self, Config, LoadedConfig};
use backup_control::jobs::{Job, JobFlags};
use backup_core::error::{Error as CoreError, ErrorKind};
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Check, show or begin a configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Check the configuration and say what its jobs would do
    Check,
    /// Show the configuration as it is understood, with variables and paths resolved
    Show,
    /// Print an example with every key explained
    Example,
}

#[derive(Serialize)]
struct CheckJson<'a> {
    schema_version: u32,
    file: &'a std::path::Path,
    repositories: Vec<&'a String>,
    sources: Vec<&'a String>,
    jobs: Vec<&'a String>,
}

#[derive(Serialize)]
struct ShowJson<'a> {
    schema_version: u32,
    file: &'a std::path::Path,
    config: &'a Config,
}

pub(crate) fn run(session: &Session, args: &Args) -> CommandResult {
    let needed = || session.config()?.ok_or_else(|| CommandError::from(config::not_found(&session.env)));
    match args.verb {
        Verb::Check => check(session, &needed()?),
        Verb::Show => show(session, &needed()?),
        Verb::Example if session.ui.is_json() => Err(CommandError::usage("the example is TOML and has no JSON form")),
        Verb::Example => {
            session.ui.print(config::EXAMPLE.trim_end())?;
            Ok(Outcome::Success)
        }
    }
}

fn check(session: &Session, loaded: &LoadedConfig) -> CommandResult {
    let config = &loaded.config;
    let mut lines = vec![format!("{} {}", loaded.file.display(), paint(style::GOOD, "can be used"))];
    for (name, repository) in &config.repositories {
        let how = match (&repository.passphrase_file, &repository.passphrase_env, &repository.passphrase_command) {
            (Some(file), ..) => format!("pass phrase from {}", file.display()),
            (_, Some(variable), _) => format!("pass phrase from ${variable}"),
            (.., Some(_)) => "pass phrase from a command".to_owned(),
            _ => "pass phrase from the environment or a prompt".to_owned(),
        };
        lines.push(format!("  repository {name}: {}, {how}", repository.url));
    }
    for name in config.jobs.keys() {
        let job = Job::from_config(name, config, None, &JobFlags::default(), &session.machine)?;
        let repository = job.repository.name.as_deref().unwrap_or_default();
        let keeps = match config.keep_of(name) {
            Some(keep) => format!("keeps {keep}"),
            None => "keeps everything".to_owned(),
        };
        lines.push(format!("  job {name}: {} into {repository}, tier {}, {keeps}", job.source, job.options.tier));
    }
    if config.jobs.is_empty() {
        lines.push("  no jobs".to_owned());
    }
    if session.ui.is_json() {
        session.ui.json(&CheckJson {
            schema_version: SCHEMA_VERSION,
            file: &loaded.file,
            repositories: config.repositories.keys().collect(),
            sources: config.sources.keys().collect(),
            jobs: config.jobs.keys().collect(),
        })?;
    } else {
        session.ui.print(lines.join("\n"))?;
    }
    Ok(Outcome::Success)
}

fn show(session: &Session, loaded: &LoadedConfig) -> CommandResult {
    if session.ui.is_json() {
        let (schema_version, file) = (SCHEMA_VERSION, loaded.file.as_path());
        session.ui.json(&ShowJson { schema_version, file, config: &loaded.config })?;
    } else {
        let text = loaded.to_toml().map_err(|message| {
            CommandError::new(Kind::Core(ErrorKind::Internal), CoreError::internal(message).to_string())
        })?;
        session.ui.print(format_args!("# {}\n{}", loaded.file.display(), text.trim_end()))?;
    }
    Ok(Outcome::Success)
}
