//! A command line as flags and names, whatever its verb.

use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory};

use crate::cli::Cli;
use crate::command_error::{CommandError, CommandResult};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The verb, and the one below it behind a dash: `logs-status`.
    pub(super) verb: String,
    /// Flags with their values, in the order of the help; those that every verb has are not among
    /// them.
    pub(super) flags: Vec<(String, Option<String>)>,
    /// What stands behind them.
    pub(super) names: Vec<String>,
}

impl Asked {
    /// Understands a command line that was understood already.
    pub(super) fn of(args: &[OsString]) -> CommandResult<Self> {
        let mut command = Cli::command();
        command.build();
        let matches = command.clone().try_get_matches_from(args);
        let matches = matches.map_err(|error| CommandError::usage(error.to_string()))?;
        let mut asked = Self { verb: String::new(), flags: Vec::new(), names: Vec::new() };
        let (mut command, mut matches) = (&command, &matches);
        while let Some((name, below)) = matches.subcommand() {
            let Some(next) = command.find_subcommand(name) else { break };
            if !asked.verb.is_empty() {
                asked.verb.push('-');
            }
            asked.verb.push_str(name);
            (command, matches) = (next, below);
            asked.take(command, matches)?;
        }
        Ok(asked)
    }

    fn take(&mut self, command: &clap::Command, matches: &ArgMatches) -> CommandResult<()> {
        for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
            let id = arg.get_id().as_str();
            if matches!(
                arg.get_action(),
                ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
            ) || matches.value_source(id) != Some(ValueSource::CommandLine)
            {
                continue;
            }
            let flag = arg.get_long().unwrap_or(id).to_owned();
            if matches!(arg.get_action(), ArgAction::SetTrue) {
                self.flags.push((flag, None));
                continue;
            }
            for value in matches.get_raw(id).into_iter().flatten() {
                let value = text(value)?;
                match arg.is_positional() {
                    true => self.names.push(value),
                    false => self.flags.push((flag.clone(), Some(value))),
                }
            }
        }
        Ok(())
    }

    /// As words: flags with `=`, names behind `--`.
    pub(super) fn words(&self) -> Vec<String> {
        let flag = |(flag, value): &(String, Option<String>)| match value {
            Some(value) => format!("--{flag}={value}"),
            None => format!("--{flag}"),
        };
        let mut words: Vec<String> = self.flags.iter().map(flag).collect();
        if !self.names.is_empty() {
            words.push("--".to_owned());
            words.extend(self.names.iter().cloned());
        }
        words
    }

    /// The value of a flag.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        self.flags.iter().find(|(known, _)| known == flag)?.1.as_deref()
    }

    /// Whether a flag is given.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(known, _)| known == flag)
    }

    pub(super) fn name(&self, at: usize) -> Option<&str> {
        self.names.get(at).map(String::as_str)
    }

    /// Fails if there is a flag, or a name, that a daemon cannot be told.
    pub(super) fn allow(&self, flags: &[&str], names: usize) -> CommandResult<()> {
        let verb = self.verb.replace('-', " ");
        if let Some((flag, _)) = self.flags.iter().find(|(flag, _)| !flags.contains(&flag.as_str()))
        {
            let known: Vec<String> = flags.iter().map(|flag| format!("--{flag}")).collect();
            let hint = match known[..] {
                [] => format!(
                    "run the command on the daemon's machine; `backup {verb}` takes no flags with \
                     --server"
                ),
                _ => format!(
                    "use only {} with --server, or run the command on the daemon's machine",
                    known.join(", ")
                ),
            };
            return Err(CommandError::usage(format!(
                "`backup {verb}` does not take --{flag} with --server"
            ))
            .with_hint(hint));
        }
        if self.names.len() > names {
            return Err(CommandError::usage(format!(
                "`backup {verb}` has too many arguments for --server: at most {names} allowed"
            ))
            .with_hint("split the command, or run it on the daemon's machine"));
        }
        Ok(())
    }
}

fn text(value: &OsStr) -> CommandResult<String> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        CommandError::usage("an argument is not valid UTF-8, as --server requires")
            .with_hint("run the command on the daemon's machine")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Asked {
        let words: Vec<OsString> =
            std::iter::once("backup").chain(line.split(' ')).map(OsString::from).collect();
        Asked::of(&words).unwrap()
    }

    #[test]
    fn command_lines_become_words() {
        let list = of("--server unix:///s -r main list --job crm --tag a --tag b --days 7 --json");
        assert_eq!(
            (list.verb.as_str(), list.words().join(" ").as_str()),
            ("list", "--job=crm --tag=a --tag=b --days=7")
        );
        let ls = of("ls -l -R latest /etc");
        assert_eq!(ls.words().join(" "), "--long --recursive -- latest /etc");
        assert_eq!(of("logs status crm").verb, "logs-status");
        assert_eq!(of("status --runs").words(), ["--runs=20"]);
        assert_eq!(of("schedule pause crm/daily").names, ["crm/daily"]);
        let silence = of("alerts silence stale --for 2h --reason why");
        assert_eq!(
            (silence.value("for"), silence.value("reason"), silence.name(0)),
            (Some("2h"), Some("why"), Some("stale"))
        );
        // What is the same without being said is not said.
        assert_eq!(of("report").words(), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_told_is_named() {
        let error =
            of("restore latest --target /t --rename a=b").allow(&["target"], 1).unwrap_err();
        assert!(error.message().contains("--rename") && error.is_usage(), "{error:?}");
        assert!(of("verify a b").allow(&[], 1).is_err());
        of("verify a").allow(&[], 1).unwrap();
    }
}
