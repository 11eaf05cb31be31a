//! `backup restore` on a terminal, without saying what: whoever sits there is asked. What is chosen
//! becomes the words of a command line, which is shown, understood and executed like any other; so
//! nothing can be chosen here that flags cannot say.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | from questions to the words of command lines; the last confirmation |
//! | `what.rs` | which repository, job, snapshot or moment, and what of it |
//! | `place.rs` | where to, and what becomes of what is there |
//! | `group.rs` | the same for a group |

mod group;
mod place;
mod what;

use backup_control::audit;
use backup_control::config::Config;
use clap::Parser;

use super::Args;
use crate::cli::{Cli, Command, GlobalArgs};
use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::commands;
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use what::Subject;

/// What was chosen, as words of a command line.
#[derive(Debug, Default)]
struct Words {
    flags: Vec<String>,
    name: Option<String>,
}

impl Words {
    fn switch(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    fn flag(&mut self, flag: &str, value: &str) {
        if value.starts_with('-') {
            self.flags.push(format!("{flag}={value}"));
        } else {
            self.flags.extend([flag.to_owned(), value.to_owned()]);
        }
    }

    /// Whether it was chosen that what is there is written to.
    fn is_in_place(&self) -> bool {
        self.flags.iter().any(|flag| flag == "--in-place")
    }

    /// Behind the words that were typed, which say nothing of what is restored.
    fn after(self, typed: &[String]) -> Vec<String> {
        let mut words: Vec<String> = typed.iter().filter(|word| *word != "--").cloned().collect();
        words.extend(self.flags);
        if words.last().is_some_and(|word| word == "--thaw") {
            // Else it would take the name for a speed.
            words.push("--".to_owned());
        }
        words.extend(self.name);
        words
    }
}

/// What was put together by questions: it is confirmed whatever it does, and more may be wanted
/// before.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    /// The words of a verification, before anything else.
    verify: Option<Vec<String>>,
    /// The words of a backup of what is there, before that is written to.
    backup: Option<Vec<String>>,
}

impl Before {
    /// Reads what is to be restored, if that is wanted.
    pub(super) async fn verified(&self, session: &Session) -> CommandResult<()> {
        match &self.verify {
            Some(words) => {
                done(session, words, "the chosen snapshot is damaged; nothing was restored").await
            }
            None => Ok(()),
        }
    }

    /// Backs up what is to be replaced, if that is wanted.
    pub(super) async fn backed_up(&self, session: &Session) -> CommandResult<()> {
        match &self.backup {
            Some(words) => {
                done(
                    session,
                    words,
                    "the existing data was not backed up in full; nothing was restored",
                )
                .await
            }
            None => Ok(()),
        }
    }
}

/// Runs another verb, by its words; anything but success ends the restore.
async fn done(session: &Session, words: &[String], otherwise: &str) -> CommandResult<()> {
    let Cli { command, global } = parsed(words)?;
    let session = Session {
        global: GlobalArgs { repo: global.repo, ..session.global.clone() },
        ..session.clone()
    };
    match Box::pin(commands::dispatch(&session, command)).await? {
        Outcome::Success => Ok(()),
        _ => Err(CommandError::refused(otherwise)),
    }
}

fn parsed(words: &[String]) -> CommandResult<Cli> {
    Cli::try_parse_from(std::iter::once("backup").chain(words.iter().map(String::as_str))).map_err(
        |error| {
            let message = error.to_string();
            CommandError::usage(
                message.lines().next().unwrap_or_default().trim_start_matches("error: "),
            )
        },
    )
}

/// Asks what is to be restored, and where to. Nothing is changed by that.
pub(in crate::commands) async fn asked(
    session: &Session,
    args: &Args,
) -> CommandResult<(Session, Args)> {
    if !session.can_converse() {
        return Err(CommandError::usage("no snapshot to restore is given").with_hint(
            "name a snapshot, for instance `latest`, and a --target; on a terminal, `backup \
             restore` alone prompts for both",
        ));
    }
    let loaded = session.config()?;
    let (prompts, verify) = (session.clone(), None);
    let mut asking =
        Asking { session: prompts, args, words: Words::default(), verify, backup: None };
    asking.ask(loaded.as_ref().map(|loaded| &loaded.config)).await?;
    let Asking { session: asked, words, verify, backup, .. } = asking;
    let typed = session.trail.words();
    let config = asked.global.config.as_ref().map(|file| file.to_string_lossy().into_owned());
    // A backup goes into the repository of its job.
    let with = |repository: Option<String>, words: Vec<String>| -> Vec<String> {
        let flags = [("--config", config.clone()), ("-r", repository)];
        let flags = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        flags.flatten().chain(words).collect()
    };
    let before = Before {
        verify: verify.map(|words| with(asked.global.repo, words)),
        backup: backup.map(|words| with(None, words)),
    };
    let words = words.after(typed);
    show(session, before.verify.iter().chain(&before.backup).chain([&words]))?;
    let Cli { command: Command::Restore(chosen), global } = parsed(&words)? else {
        return Err(CommandError::usage("the answers do not form a restore command"));
    };
    session.trail.chosen(words);
    let session = Session {
        global: GlobalArgs { repo: global.repo, ..session.global.clone() },
        ..session.clone()
    };
    Ok((session, Args { asked: Some(before), ..*chosen }))
}

/// Shows the command lines that do the same.
fn show<'a>(session: &Session, all: impl Iterator<Item = &'a Vec<String>>) -> CommandResult<()> {
    let program = human::shell(&session.program);
    let line = |words: &Vec<String>| {
        let words = audit::without_passwords(words);
        let words: Vec<String> = words.iter().map(|word| human::shell(word)).collect();
        format!("  {program} {}\n", human::text(words.join(" ").as_bytes()))
    };
    let lines: String = all.map(line).collect();
    session.ui.print(format_args!("\n{}\n{lines}", paint(style::FAINT, "Equivalent commands:")))
}

/// Asks before something is written: in words of a terminal if what to restore was asked there too.
/// With `word`, existing data is dropped, and this word confirms it.
pub(super) async fn confirm(
    session: &Session,
    args: &Args,
    question: &str,
    word: Option<&str>,
) -> CommandResult<()> {
    const DROPS: &str = "Existing data is dropped.";
    if args.asked.is_none() || session.global.yes {
        return match word {
            // A whole server may go at once: that takes more than one letter.
            Some(word) => session.confirm_by_typing(&format!("{question} {DROPS}"), word).await,
            None => session.confirm(question).await,
        };
    }
    let prompts = session.prompts();
    let is_meant = match word {
        Some(word) => {
            let question = format!("{question} {DROPS} Type `{word}`:");
            prompts.text(&question, None, |_| Ok(())).await? == word
        }
        None => prompts.confirm(question, false).await?,
    };
    if is_meant { Ok(()) } else { Err(CommandError::declined("nothing was written or removed")) }
}

/// Somebody who is asked.
struct Asking<'a> {
    /// With the repository that was chosen.
    session: Session,
    /// What was said already.
    args: &'a Args,
    words: Words,
    /// Words of a verification of what is chosen.
    verify: Option<Vec<String>>,
    /// Words of a backup of what is there.
    backup: Option<Vec<String>>,
}

impl Asking<'_> {
    async fn ask(&mut self, config: Option<&Config>) -> CommandResult<()> {
        self.session.ui.status(
            "Press Escape or Ctrl-C to stop at any time; nothing is written before the \
             confirmation.",
        );
        match self.subject(config).await? {
            Subject::Group(name) => self.ask_of_group(&name, config).await,
            Subject::Snapshot(subject) => {
                let question = "Verify the snapshot first? (reads all its data)";
                if self.session.prompts().confirm(question, false).await? {
                    let name = self.words.name.clone().unwrap_or_default();
                    self.verify = Some(vec!["verify".to_owned(), name]);
                }
                let is_part = self.part(&subject).await?;
                self.place(&subject, is_part, config).await
            }
        }
    }

    /// Asks whether what is there is backed up before: by a job or a group of the configuration, to
    /// which it belongs.
    async fn safety(&mut self, name: &str) -> CommandResult<()> {
        let shown = human::text(name.as_bytes());
        let question = format!("Back up the existing data first? (backup run {shown})");
        if (self.args.in_place || self.words.is_in_place())
            && self.session.prompts().confirm(&question, true).await?
        {
            self.backup = Some(vec!["run".to_owned(), name.to_owned()]);
        }
        Ok(())
    }

    /// Asks whether what was written is read back.
    async fn verification(&mut self) -> CommandResult<()> {
        if !self.args.verify
            && self
                .session
                .prompts()
                .confirm("Read back the restored data, and compare it?", true)
                .await?
        {
            self.words.switch("--verify");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(chosen: Words, typed: &[&str]) -> String {
        let typed: Vec<String> = typed.iter().map(|word| (*word).to_owned()).collect();
        chosen.after(&typed).join(" ")
    }

    #[test]
    fn what_is_chosen_can_be_typed() {
        let chosen = || {
            let mut words = Words::default();
            words.flag("--only", "-x*");
            words.switch("--in-place");
            words.name = Some("1a2b".to_owned());
            words
        };
        assert_eq!(
            words(chosen(), &["-r", "x", "restore", "--"]),
            "-r x restore --only=-x* --in-place 1a2b"
        );
        let name = || Words { name: Some("1a2b".to_owned()), ..Words::default() };
        let typed = words(name(), &["restore", "--target", "out", "--thaw"]);
        assert_eq!(typed, "restore --target out --thaw -- 1a2b");
        let parsed = Cli::try_parse_from(typed.split(' ').fold(vec!["backup"], |mut all, word| {
            all.push(word);
            all
        }));
        let Ok(Command::Restore(args)) = parsed.map(|cli| cli.command) else {
            panic!("no restore: {typed}")
        };
        assert!(args.snapshot.as_deref() == Some("1a2b") && args.thaw.is_some());
    }
}
