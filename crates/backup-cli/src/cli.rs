//! The command line: the tree of verbs and the flags that all of them have. The doc comments are
//! the help.
//!
//! To add a verb: a file in `commands/` with its `Args` and `run`, a line in [`Command`], in
//! `commands/mod.rs` and in a group of `overview.rs`, a test of its help and output.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    advise, alerts, analyze, archive, audit, cancel, catalog, check, cleanup, compare, completions,
    config, copy, diff, doctor, export, find, forget, hold, import, init, key, list, logs, ls, man,
    migrate, notify, prune, quickstart, release, repair, report, restore, retry, run, running,
    schedule, show, stats, status, storage, timeline, undo_forget, verify, version, wal_fetch,
    wal_push,
};
use crate::reporter::Detail;
use crate::{exit_code, overview, style};

/// Encrypted, deduplicated backups in a repository that restic reads too.
#[derive(Debug, Parser)]
#[command(
    name = "backup",
    version,
    styles = style::HELP,
    arg_required_else_help = true,
    disable_help_flag = true,
    arg = overview::help_flag(),
    help_template = overview::template(),
    after_long_help = exit_code::HELP,
    max_term_width = 110,
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// Flags of every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Configuration file [env: BACKUP_CONFIG] [default: ./backup.toml,
    /// ~/.config/backup/backup.toml, /etc/backup/backup.toml]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) config: Option<PathBuf>,
    /// Repository: a directory, a URL, or a name in the configuration [env: BACKUP_REPO]
    #[arg(short, long, global = true, value_name = "REPOSITORY", hide_short_help = true)]
    pub(crate) repo: Option<String>,
    /// File that holds the pass phrase [env: BACKUP_PASSWORD_FILE; the pass phrase itself:
    /// BACKUP_PASSWORD]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "password_command",
        hide_short_help = true
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// Shell command that prints the pass phrase [env: BACKUP_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", hide_short_help = true)]
    pub(crate) password_command: Option<String>,
    /// Run the command on a daemon: https://HOST:PORT, unix:///PATH of its socket, or the name of a
    /// server in the configuration [env: BACKUP_SERVER]
    #[arg(long, global = true, value_name = "SERVER", hide_short_help = true)]
    pub(crate) server: Option<String>,
    /// File that holds the token for --server [env: BACKUP_TOKEN_FILE; the token itself:
    /// BACKUP_TOKEN]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with certificate authorities to trust for --server, in addition to those of the
    /// system
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Keep no cache of repository indexes on disk; memory use grows with the repository [cache
    /// directory: BACKUP_CACHE_DIR, default: ~/.cache/backup]
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_cache: bool,
    /// Print JSON: one object, or one event per line for long operations
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) json: bool,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) quiet: bool,
    /// Replace and remove without a confirmation prompt
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) yes: bool,
    /// Show no progress bars
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) no_progress: bool,
    /// Colours; auto uses them on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    pub(crate) color: ColorArg,
}

/// Use of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Quickstart(quickstart::Args),
    Init(init::Args),
    Run(run::Args),
    Import(import::Args),
    Retry(retry::Args),
    Schedule(schedule::Args),
    Running(running::Args),
    Cancel(cancel::Args),
    Status(status::Args),
    Analyze(analyze::Args),
    Advise(advise::Args),
    Alerts(alerts::Args),
    Audit(audit::Args),
    Report(report::Args),
    Logs(logs::Args),
    Timeline(timeline::Args),
    WalPush(wal_push::Args),
    WalFetch(wal_fetch::Args),
    List(list::Args),
    Find(find::Args),
    Show(show::Args),
    Ls(ls::Args),
    Diff(diff::Args),
    Restore(Box<restore::Args>),
    Compare(compare::Args),
    Export(export::Args),
    Copy(copy::Args),
    Archive(archive::Args),
    Hold(hold::Args),
    Release(release::Args),
    Forget(forget::Args),
    UndoForget(undo_forget::Args),
    Cleanup(cleanup::Args),
    Prune(prune::Args),
    Verify(verify::Args),
    Check(check::Args),
    Repair(repair::Args),
    Migrate(migrate::Args),
    Key(key::Args),
    Stats(stats::Args),
    Storage(storage::Args),
    Doctor(doctor::Args),
    Notify(notify::Args),
    Catalog(catalog::Args),
    Config(config::Args),
    Completions(completions::Args),
    Version(version::Args),
    #[command(hide = true)]
    Man(man::Args),
}

impl Command {
    /// True if no time zone matters to the verb, or if it reports a wrong one itself.
    pub(crate) fn ignores_zone(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Completions(_) | Self::Version(_) | Self::Man(_))
    }

    /// Output of `--json`: one object, or the events of a long operation.
    pub(crate) fn detail(&self) -> Detail {
        match self {
            Self::Quickstart(_)
            | Self::Run(_)
            | Self::Retry(_)
            | Self::Restore(_)
            | Self::Verify(_)
            | Self::Check(_) => Detail::All,
            Self::Copy(_)
            | Self::Import(_)
            | Self::Archive(_)
            | Self::Cleanup(_)
            | Self::Prune(_)
            | Self::Repair(_) => Detail::All,
            Self::Key(args) => args.detail(),
            Self::Logs(args) => args.detail(),
            // `ls` and `diff` print their entries as events, without other events between them.
            _ => Detail::OneObject,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    /// Splits a line of an example as a shell does, up to a pipe, `&&` or redirection.
    fn split(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let (mut word, mut quoted) = (None::<String>, false);
        for letter in line.chars() {
            match letter {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                ' ' if !quoted => words.extend(word.take()),
                '|' | '&' | '>' if !quoted => break,
                letter => word.get_or_insert_default().push(letter),
            }
        }
        assert!(!quoted, "{line}");
        words.extend(word);
        words
    }

    /// The command lines in the examples of a verb, also those in a setting of PostgreSQL.
    fn examples(verb: &clap::Command) -> Vec<String> {
        let text = verb.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let line = |line: &str| {
            let setting =
                line.split_once("_command = '").map(|(_, value)| value.trim_matches('\''));
            let line = setting.unwrap_or(line.trim());
            line.starts_with("backup ").then(|| line.to_owned())
        };
        text.lines().filter_map(line).collect()
    }

    #[test]
    fn every_verb_has_examples_that_parse() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let lines = examples(verb);
            assert!(!lines.is_empty(), "{} has no example", verb.get_name());
            for line in lines.into_iter().chain(verb.get_subcommands().flat_map(examples)) {
                let parsed = Cli::try_parse_from(split(&line));
                parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }

    /// What the examples say to put into crontab can be put there.
    #[test]
    fn lines_for_crontab_are_understood() {
        let mut lines = 0;
        for (name, text) in backup_control::config::EXAMPLES {
            let config = backup_control::config::parse(
                text,
                std::path::Path::new("/x.toml"),
                &Default::default(),
            )
            .unwrap();
            for line in text.lines().filter_map(|line| line.strip_prefix("#   ")) {
                let words: Vec<&str> = line.split_whitespace().skip(5).collect();
                if words.first() != Some(&"backup") {
                    continue;
                }
                lines += 1;
                let cli = Cli::try_parse_from(&words)
                    .unwrap_or_else(|error| panic!("{name}: {line}: {error}"));
                let named = match &cli.command {
                    Command::Run(_) => {
                        words[2..].iter().take_while(|word| !word.starts_with('-')).collect()
                    }
                    _ => Vec::new(),
                };
                let is_known = |what: &&&str| {
                    config.jobs.contains_key(**what) || config.groups.contains_key(**what)
                };
                assert!(named.iter().all(is_known), "{name}: {line}");
            }
        }
        assert!(lines > 20, "{lines}");
    }
}
