//! Questions to somebody at a terminal. Escape and Ctrl-C end the command as a signal does, and
//! whatever ends it, the terminal is as it was.

use std::io::{self, Write};

use backup_core::error::Error as CoreError;
use inquire::ui::RenderConfig;
use inquire::validator::Validation;
use inquire::{Confirm, InquireError, MultiSelect, Select, Text};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::command_error::{CommandError, CommandResult, Kind};
use crate::session::Session;

/// Lines of a list that are seen at a time.
const PAGE: usize = 12;
/// What a program that is stopped in the middle of a question leaves behind: pasting announced, the
/// cursor hidden.
const AS_IT_WAS: &[u8] = b"\x1b[?2004l\x1b[?25h";

/// Whoever is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prompts<'a> {
    session: &'a Session,
}

/// The state of the terminal, put back at the end, also where an answer is not waited for any
/// longer.
struct Terminal {
    before: Option<Termios>,
    is_answered: bool,
}

impl Terminal {
    fn now() -> Self {
        Self { before: tcgetattr(io::stdin()).ok(), is_answered: false }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let (false, Some(before)) = (self.is_answered, &self.before) {
            // There is nobody to tell that the terminal is gone.
            _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
            _ = io::stderr().write_all(AS_IT_WAS);
        }
    }
}

impl Prompts<'_> {
    /// Lets one of several lines be chosen, the one at `preselected` if nothing else is; says
    /// which. The list is searched by typing.
    pub(crate) async fn choose(
        &self,
        question: &str,
        lines: Vec<String>,
        preselected: usize,
    ) -> CommandResult<usize> {
        let (question, style) = (question.to_owned(), self.style());
        self.ask(move || {
            let prompt =
                Select::new(&question, lines).with_page_size(PAGE).with_render_config(style);
            prompt.with_starting_cursor(preselected).raw_prompt().map(|chosen| chosen.index)
        })
        .await
    }

    /// Lets some of several lines be chosen, at least one.
    pub(crate) async fn choose_some(
        &self,
        question: &str,
        lines: Vec<String>,
    ) -> CommandResult<Vec<usize>> {
        let (question, style) = (question.to_owned(), self.style());
        self.ask(move || {
            let prompt =
                MultiSelect::new(&question, lines).with_page_size(PAGE).with_render_config(style);
            let prompt =
                prompt.with_validator(|chosen: &[inquire::list_option::ListOption<&String>]| {
                    Ok(match chosen.is_empty() {
                        true => Validation::Invalid(
                            "select at least one line with the space bar".into(),
                        ),
                        false => Validation::Valid,
                    })
                });
            prompt.raw_prompt().map(|chosen| chosen.into_iter().map(|one| one.index).collect())
        })
        .await
    }

    /// Asks for a text until `check` has nothing to say against it; `default` is meant by no
    /// answer.
    pub(crate) async fn text(
        &self,
        question: &str,
        default: Option<String>,
        check: impl Fn(&str) -> Result<(), String> + Clone + Send + 'static,
    ) -> CommandResult<String> {
        let (question, style) = (question.to_owned(), self.style());
        let check = move |text: &str| {
            Ok(match check(text.trim()) {
                Ok(()) => Validation::Valid,
                Err(message) => Validation::Invalid(message.into()),
            })
        };
        self.ask(move || {
            let prompt = Text::new(&question).with_validator(check).with_render_config(style);
            let answer = match &default {
                Some(default) => prompt.with_default(default).prompt(),
                None => prompt.prompt(),
            };
            answer.map(|text| text.trim().to_owned())
        })
        .await
    }

    /// Asks what is answered by yes or no.
    pub(crate) async fn confirm(&self, question: &str, default: bool) -> CommandResult<bool> {
        let (question, style) = (question.to_owned(), self.style());
        self.ask(move || {
            Confirm::new(&question).with_default(default).with_render_config(style).prompt()
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T, InquireError> + Send + 'static,
    ) -> CommandResult<T> {
        // Lines that were written before are seen before.
        self.session.ui.flush()?;
        let mut terminal = Terminal::now();
        let answer = self.session.blocking(move || question().map_err(failed)).await;
        terminal.is_answered = !matches!(&answer, Err(error) if error.is_cancelled());
        answer
    }

    fn style(&self) -> RenderConfig<'static> {
        if self.session.ui.are_messages_colored() {
            RenderConfig::default_colored()
        } else {
            RenderConfig::empty()
        }
    }
}

impl Session {
    /// Whether somebody is at a terminal who can be asked more than to confirm something.
    pub(crate) fn can_converse(&self) -> bool {
        self.ui.can_ask() && !self.ui.is_quiet() && self.env.text("TERM") != Some("dumb")
    }

    /// Questions to whoever has started this.
    pub(crate) fn prompts(&self) -> Prompts<'_> {
        Prompts { session: self }
    }
}

fn failed(error: InquireError) -> CommandError {
    match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => {
            CoreError::cancelled().into()
        }
        InquireError::NotTTY => CommandError::unconfirmed("there is no terminal to prompt on"),
        InquireError::IO(error) => CommandError::io("cannot prompt on the terminal", &error),
        other => CommandError::new(Kind::Io, format!("cannot prompt on the terminal: {other}")),
    }
}
