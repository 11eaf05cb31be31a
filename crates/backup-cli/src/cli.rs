//! The command line: the tree of verbs and the flags that all of them have. The doc comments are
//! the help.
//!
//! To add a verb: a file in `commands/` with its `Args` and `run`, a line in [`Command`] and in
//! `commands/mod.rs`, a test of its help and output.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    advise, alerts, analyze, archive, audit, cancel, catalog, check, cleanup, compare, completions,
    config, copy, diff, doctor, export, find, forget, hold, init, key, list, logs, ls, man, notify,
    prune, quickstart, release, repair, report, restore, retry, run, running, schedule, show,
    stats, status, storage, timeline, undo_forget, verify, wal_fetch, wal_push,
};
use crate::reporter::Detail;
use crate::{exit_code, style};

/// Encrypted, deduplicated backups in a repository that restic reads too.
#[derive(Debug, Parser)]
#[command(
    name = "backup",
    version,
    styles = style::HELP,
    arg_required_else_help = true,
    after_help = exit_code::HELP,
    max_term_width = 110,
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// Flags that every verb has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Configuration file [env: BACKUP_CONFIG] [default: ./backup.toml,
    /// ~/.config/backup/backup.toml, /etc/backup/backup.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Repository: a directory, a URL, or a name in the configuration [env: BACKUP_REPO]
    #[arg(short, long, global = true, value_name = "REPOSITORY")]
    pub(crate) repo: Option<String>,
    /// File that holds the pass phrase [env: BACKUP_PASSWORD_FILE; the pass phrase itself:
    /// BACKUP_PASSWORD]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password_command")]
    pub(crate) password_file: Option<PathBuf>,
    /// Shell command that prints the pass phrase [env: BACKUP_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,
    /// Let a daemon do it: https://HOST:PORT, unix:///PATH of its socket, or the name of a server
    /// in the configuration [env: BACKUP_SERVER]
    #[arg(long, global = true, value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// File that holds the token for --server [env: BACKUP_TOKEN_FILE; the token itself:
    /// BACKUP_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the authorities (PEM) that may vouch for --server, besides those of the system
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Do not keep indexes of repositories in files of this user: everything is read anew, and
    /// memory grows with the repository [place of the files: BACKUP_CACHE_DIR, default:
    /// ~/.cache/backup]
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Print JSON: one object, or one event per line for long work
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Do not ask before something is replaced or removed
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Show no progress bars
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Colours: auto means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorArg,
}

/// When to use colours.
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
    Key(key::Args),
    Stats(stats::Args),
    Storage(storage::Args),
    Doctor(doctor::Args),
    Notify(notify::Args),
    Catalog(catalog::Args),
    Config(config::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Man(man::Args),
}

impl Command {
    /// What `--json` prints: one object, or the events of long work.
    pub(crate) fn detail(&self) -> Detail {
        match self {
            Self::Quickstart(_)
            | Self::Run(_)
            | Self::Retry(_)
            | Self::Restore(_)
            | Self::Verify(_)
            | Self::Check(_) => Detail::All,
            Self::Copy(_)
            | Self::Archive(_)
            | Self::Cleanup(_)
            | Self::Prune(_)
            | Self::Repair(_) => Detail::All,
            Self::Key(args) => args.detail(),
            Self::Logs(args) => args.detail(),
            // What `ls` and `diff` find are events too, but nobody wants others between them.
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
