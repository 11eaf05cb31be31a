//! The help of `backup` itself: its verbs in groups, in the order of use.
//!
//! To add a verb: put its name into one of [`GROUPS`]; the summary is the first line of its doc
//! comment.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, Subcommand};

use crate::cli::Command as Verb;
use crate::style::{self, paint};

/// Headings, and the names of the verbs below them.
const GROUPS: [(&str, &[&str]); 8] = [
    ("Set up", &["quickstart", "init", "config", "key", "doctor", "completions", "version"]),
    ("Back up and copy", &["run", "retry", "logs", "wal-push", "import", "copy", "archive"]),
    ("Restore", &["restore", "export", "timeline", "compare", "wal-fetch"]),
    ("Inspect repositories", &["list", "find", "show", "ls", "diff", "stats", "storage"]),
    ("Keep and remove", &["hold", "release", "forget", "undo-forget", "cleanup", "prune"]),
    ("Verify and repair", &["verify", "check", "repair", "migrate"]),
    (
        "Watch jobs",
        &["status", "analyze", "advise", "alerts", "notify", "report", "audit", "catalog"],
    ),
    ("Control the daemon", &["schedule", "running", "cancel"]),
];

/// `-h`, `--help`: the short form hides examples and global options.
pub(crate) fn help_flag() -> Arg {
    Arg::new("help")
        .short('h')
        .long("help")
        .global(true)
        .action(ArgAction::Help)
        .help_heading(None::<&'static str>)
        .help("Print a summary; --help adds details, examples and global options")
        .long_help("Print help; -h prints a summary")
}

/// The help template of the program, with the summaries of its verbs in groups: clap itself cannot
/// group subcommands.
pub(crate) fn template() -> String {
    let program = Verb::augment_subcommands(Command::new("backup"));
    let heading = |text: &str| paint(style::HEADING, format_args!("{text}:"));
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (title, verbs) in GROUPS {
        _ = write!(text, "\n{}\n", heading(title));
        for verb in verbs.iter().filter_map(|name| program.find_subcommand(name)) {
            let summary = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let name = paint(style::LITERAL, format_args!("{:<11}", verb.get_name()));
            _ = writeln!(text, "  {name}  {summary}");
        }
    }
    text + "\n" + &heading("Global options") + "\n{options}{after-help}"
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    /// Verbs that the help shows.
    fn visible_verbs() -> Vec<String> {
        let command = Cli::command();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        verbs.map(|verb| verb.get_name().to_owned()).collect()
    }

    #[test]
    fn every_visible_verb_stands_in_exactly_one_group() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).copied().collect();
        let mut visible = visible_verbs();
        grouped.sort_unstable();
        visible.sort_unstable();
        assert_eq!(grouped, visible);
    }

    #[test]
    fn groups_have_at_most_eight_verbs() {
        for (title, verbs) in GROUPS {
            assert!((1..=8).contains(&verbs.len()), "{title}");
        }
    }

    #[test]
    fn overview_shows_a_summary_of_every_verb() {
        let help = Cli::command().render_long_help().to_string();
        for verb in visible_verbs() {
            let start = format!("\n  {verb:<11}  ");
            let summary = help.split(&start).nth(1).unwrap_or_else(|| panic!("{verb}: {help}"));
            assert!(summary.starts_with(char::is_uppercase), "{verb}");
        }
    }

    #[test]
    fn summaries_have_one_short_line() {
        fn check(command: &Command, path: &str) {
            let summary = command.get_about().map(ToString::to_string).unwrap_or_default();
            let length = summary.chars().count();
            assert!((1..=80).contains(&length), "{path}: {summary}");
            assert!(!summary.contains('\n') && !summary.ends_with('.'), "{path}: {summary}");
            for below in command.get_subcommands() {
                check(below, &format!("{path} {}", below.get_name()));
            }
        }
        check(&Cli::command(), "backup");
    }

    #[test]
    fn short_help_hides_the_global_options() {
        let help = |flag: &str| Cli::try_parse_from(["backup", "list", flag]).unwrap_err();
        let (short, long) = (help("-h").to_string(), help("--help").to_string());
        assert!(!short.contains("--no-cache") && short.contains("--help adds"), "{short}");
        let (_, last) = long.split_once("Global options:").unwrap();
        assert!(last.contains("--no-cache") && !last.contains("--days"), "{long}");
    }
}
