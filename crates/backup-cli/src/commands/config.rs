//! `backup config`.

use backup_control::config::{self, Config, LoadedConfig, Origins};
use backup_control::jobs::{Job, JobFlags};
use backup_control::{passphrase, words, zone};
use backup_core::error::{Error as CoreError, ErrorKind};
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::session::Session;
use crate::style::{self, paint};
use crate::ui::SCHEMA_VERSION;

/// Check, show or create a configuration
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  backup config example postgres > backup.toml
  backup config check --config ./backup.toml";

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Check the configuration and describe its jobs
    ///
    /// Reports all mistakes, in the order of the file. Also tries to read the files with pass
    /// phrases and passwords that it names, and looks for the paths to back up: the exit code is 3
    /// if one cannot be read or does not exist, or if the address of a MongoDB source has a database
    /// that selects nothing. A value of TZ that is not a time zone is a mistake.
    Check,
    /// Show the resolved configuration, and the origin of each value
    ///
    /// Resolves variables and paths, and leaves out values that may be secrets. The rest of the
    /// output is a valid configuration.
    Show,
    /// Print the JSON schema of configurations, for editors
    Schema,
    /// Print a configuration made from the variables of backup scripts
    ///
    /// Reads MONGODB_URI, REDIS_URL; BACKUP_S3_BUCKET or AWS_S3_BACKUP_BUCKET, AWS_REGION,
    /// S3_SSE_ALGORITHM, S3_KMS_KEY_ID; MONGODB_BACKUP_PATH; BACKUP_RETENTION_DAYS, …_WEEKS,
    /// …_MONTHS; BACKUP_MAX_FILE_SIZE; ALERT_WEBHOOK_URL; BACKUP_SCHEDULE, …_DAILY, …_WEEKLY,
    /// …_MONTHLY, …_REDIS. Addresses and credentials stay in the environment.
    FromEnv,
    /// Print an example configuration
    Example {
        /// Example; `files` explains every key that all kinds of sources have
        #[arg(value_name = "NAME", default_value = "files", value_parser = PossibleValuesParser::new(EXAMPLE_NAMES))]
        name: String,
    },
}

/// The names of the examples.
const EXAMPLE_NAMES: [&str; config::EXAMPLES.len()] = {
    let mut names = [""; config::EXAMPLES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = config::EXAMPLES[at].0;
        at += 1;
    }
    names
};

#[derive(Serialize)]
struct CheckJson<'a> {
    schema_version: u32,
    file: &'a std::path::Path,
    /// The time zone of schedules.
    time_zone: &'a str,
    /// The key, variable or file that selects it, or `none`.
    time_zone_origin: &'a str,
    repositories: Vec<&'a String>,
    sources: Vec<&'a String>,
    jobs: Vec<&'a String>,
    groups: Vec<&'a String>,
    /// Files with secrets that are named and cannot be read.
    unreadable: Vec<&'a Finding>,
    /// Other paths that are named and do not exist.
    missing: Vec<&'a Finding>,
    /// Addresses with a database that selects nothing.
    ignored_databases: Vec<&'a Finding>,
}

/// A file that the configuration names and that cannot be read or does not exist, or an address with
/// a database that selects nothing.
#[derive(Serialize)]
struct Finding {
    /// The line of its key, counted from 1.
    line: Option<usize>,
    /// The section of the key.
    section: String,
    message: String,
    #[serde(skip)]
    hint: Option<String>,
    #[serde(skip)]
    kind: FindingKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FindingKind {
    /// A file with a pass phrase or a password.
    Secret,
    /// Another path.
    Path,
    /// The database of an address.
    Database,
}

#[derive(Serialize)]
struct ShowJson<'a> {
    schema_version: u32,
    file: &'a std::path::Path,
    config: &'a Config,
    /// By the names of keys, joined by dots.
    origins: &'a Origins,
}

#[derive(Serialize)]
struct FromEnvJson<'a> {
    schema_version: u32,
    config: &'a str,
    without: Vec<&'a str>,
}

pub(crate) fn run(session: &Session, args: &Args) -> CommandResult {
    let needed = || session.require_config();
    match &args.verb {
        Verb::Check => check(session, &*needed()?),
        Verb::Show => show(session, &*needed()?),
        Verb::Schema => {
            let text = serde_json::to_string_pretty(&config::schema());
            session.ui.print(text.map_err(|error| internal(error.to_string()))?)?;
            Ok(Outcome::Success)
        }
        Verb::FromEnv => from_env(session),
        Verb::Example { .. } if session.ui.is_json() => {
            Err(CommandError::usage("the example is TOML and has no JSON form"))
        }
        Verb::Example { name } => {
            let example = config::EXAMPLES.into_iter().find(|(known, _)| known == name);
            session.ui.print(example.map_or("", |(_, text)| text).trim_end())?;
            Ok(Outcome::Success)
        }
    }
}

fn internal(message: String) -> CommandError {
    CommandError::new(Kind::Core(ErrorKind::Internal), CoreError::internal(message).to_string())
}

fn from_env(session: &Session) -> CommandResult {
    let made = config::from_env(&session.env)?;
    if session.ui.is_json() {
        let without = made.without.iter().map(|(name, _)| *name).collect();
        session.ui.json(&FromEnvJson {
            schema_version: SCHEMA_VERSION,
            config: &made.text,
            without,
        })?;
        return Ok(Outcome::Success);
    }
    session.ui.print(made.text.trim_end())?;
    for (name, instead) in made.without {
        session.ui.warning(format_args!("{name} is not converted: {instead}"));
    }
    Ok(Outcome::Success)
}

fn check(session: &Session, loaded: &LoadedConfig) -> CommandResult {
    // A backup at the wrong hour is a mistake, too.
    zone::local(&session.env)?;
    let lines = described(session, loaded)?;
    let findings = findings(loaded);
    if session.ui.is_json() {
        check_json(session, loaded, &findings)?;
        return Ok(Outcome::with_warnings(findings.len() as u64));
    }
    session.ui.print(lines.join("\n"))?;
    for Finding { line, section, message, hint, .. } in &findings {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let file = loaded.file.display();
        session.ui.warning(format_args!("{file}{line}: {section}: {message}"));
        if let Some(hint) = hint {
            session.ui.hint(hint);
        }
    }
    Ok(Outcome::with_warnings(findings.len() as u64))
}

fn check_json(session: &Session, loaded: &LoadedConfig, findings: &[Finding]) -> CommandResult<()> {
    let config = &loaded.config;
    let zone = &session.zones().schedules;
    let of_kind = |kind| findings.iter().filter(|one| one.kind == kind).collect();
    session.ui.json(&CheckJson {
        schema_version: SCHEMA_VERSION,
        file: &loaded.file,
        time_zone: &zone.name,
        time_zone_origin: zone.origin.as_str(),
        repositories: config.repositories.keys().collect(),
        sources: config.sources.keys().collect(),
        jobs: config.jobs.keys().collect(),
        groups: config.groups.keys().collect(),
        unreadable: of_kind(FindingKind::Secret),
        missing: of_kind(FindingKind::Path),
        ignored_databases: of_kind(FindingKind::Database),
    })
}

/// Lines about the repositories, jobs and groups of a valid configuration.
fn described(session: &Session, loaded: &LoadedConfig) -> CommandResult<Vec<String>> {
    let config = &loaded.config;
    let mut lines = vec![
        format!("{} {}", loaded.file.display(), paint(style::GOOD, "is valid")),
        format!("  times are in {}", session.zones().schedules),
    ];
    for (name, repository) in &config.repositories {
        let how = match (
            &repository.passphrase_file,
            &repository.passphrase_env,
            &repository.passphrase_command,
        ) {
            (Some(file), ..) => format!("pass phrase from {}", file.display()),
            (_, Some(variable), _) => format!("pass phrase from ${variable}"),
            (.., Some(_)) => "pass phrase from a command".to_owned(),
            _ => "pass phrase from the environment or a prompt".to_owned(),
        };
        lines.push(format!("  repository {name}: {}, {how}", repository.url));
    }
    for name in config.jobs.keys() {
        let job = Job::from_config(name, config, None, &JobFlags::default(), session.place())?;
        let repository = job.repository.name.as_deref().unwrap_or_default();
        let keeps = match config.keep_of(name) {
            Some(keep) => format!("keeps {keep}"),
            None => "keeps everything".to_owned(),
        };
        let mut line = format!(
            "  job {name}: {} into {repository}, tier {}, {keeps}",
            job.source, job.options.tier
        );
        if let Some(window) = job.execution.window {
            line.push_str(&format!(", starts within {window}"));
        }
        if let Some(size) = config.jobs.get(name).and_then(|job| job.max_size) {
            line.push_str(&format!(", at most {size}"));
        }
        lines.push(line);
    }
    if config.jobs.is_empty() {
        lines.push("  no jobs".to_owned());
    }
    for (name, group) in &config.groups {
        lines.push(format!(
            "  group {name}: {}, {} at a time",
            group.jobs.join(", "),
            group.parallel().min(group.jobs.len())
        ));
    }
    Ok(lines)
}

/// Files that cannot be read or do not exist, and databases of addresses that select nothing, in the
/// order of the configuration.
fn findings(loaded: &LoadedConfig) -> Vec<Finding> {
    let secrets = passphrase::unreadable_files(&loaded.config).into_iter();
    let secrets = secrets.map(|(section, error)| {
        let name = section.trim_matches(['[', ']']);
        let keys = ["passphrase_file", "password_file", "secret_file"];
        let line = keys.iter().find_map(|key| loaded.line_of(&format!("{name}.{key}")));
        let (message, hint) = (words::chain(&error), error.hint().map(str::to_owned));
        Finding { line, section, message, hint, kind: FindingKind::Secret }
    });
    let missing = loaded.missing_paths().into_iter().map(|one| {
        let message = format!("{} of `{}` does not exist", one.path.display(), one.key);
        let hint = Some("correct the path, or create it before the next backup".to_owned());
        Finding { line: one.line, section: one.section, message, hint, kind: FindingKind::Path }
    });
    let databases = loaded.config.sources.iter().filter_map(|(name, source)| {
        let database = source.undecided_database()?;
        let (section, line) =
            (format!("[sources.{name}]"), loaded.line_of(&format!("sources.{name}.url")));
        let jobs = loaded.config.jobs.iter().filter(|(_, job)| job.source == *name);
        let jobs: Vec<&str> = jobs.map(|(job, _)| job.as_str()).collect();
        let message = format!(
            "the database {database:?} in `url` selects nothing; jobs that back up all databases \
             unless `include` selects some: {}",
            if jobs.is_empty() { "none".to_owned() } else { jobs.join(", ") }
        );
        let hint = Some(format!(
            "set `database = {database:?}` to back up only it, or `database = \"*\"` to keep all"
        ));
        Some(Finding { line, section, message, hint, kind: FindingKind::Database })
    });
    let mut findings: Vec<Finding> = secrets.chain(missing).chain(databases).collect();
    findings.sort_by_key(|one| one.line);
    findings
}

fn show(session: &Session, loaded: &LoadedConfig) -> CommandResult {
    if session.ui.is_json() {
        let (schema_version, file) = (SCHEMA_VERSION, loaded.file.as_path());
        session.ui.json(&ShowJson {
            schema_version,
            file,
            config: &loaded.shown(),
            origins: &loaded.origins,
        })?;
        return Ok(Outcome::Success);
    }
    let named = match (&session.global.config, session.env.get("BACKUP_CONFIG")) {
        (Some(_), _) => "from --config",
        (None, Some(_)) => "from BACKUP_CONFIG",
        (None, None) => "from a default location",
    };
    let text = loaded.to_toml().map_err(internal)?;
    session.ui.print(format_args!("# {}, {named}\n{}", loaded.file.display(), text.trim_end()))?;
    Ok(Outcome::Success)
}
