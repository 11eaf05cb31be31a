//! The only door to stdout and stderr.
//!
//! | goes to | what | `--quiet` | `--json` |
//! |---|---|---|---|
//! | stdout | results: what a viewing verb was asked for | shown | replaced by JSON |
//! | stdout | summaries of long work | left out | replaced by an event |
//! | stderr | status lines, progress | left out | left out |
//! | stderr | warnings, errors, hints | shown | events on stdout |
//!
//! Lines and progress bars do not disturb each other: bars are taken away while a line is written.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stderr, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use backup_control::environment::Environment;
use backup_core::crypto::Passphrase;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::cli::{ColorArg, GlobalArgs};
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::style::{self, paint};

/// Version of everything that is printed as JSON. Fields are added without changing it.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The terminal, or whatever takes its place.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    /// Whether results have colours.
    colored: bool,
    out: Mutex<BufWriter<AutoStream<Stdout>>>,
    err: Mutex<AutoStream<Stderr>>,
    bars: MultiProgress,
    shows_bars: bool,
    /// Whether messages have.
    messages_colored: bool,
    closed: AtomicBool,
    closed_is_fine: AtomicBool,
}

/// A warning that does not come from the data plane.
#[derive(Serialize)]
struct WarningEvent<'a> {
    schema_version: u32,
    event: &'static str,
    kind: &'static str,
    path: &'static str,
    message: &'a str,
}

impl Ui {
    pub(crate) fn new(args: &GlobalArgs, env: &Environment) -> Self {
        let terminal = io::stderr().is_terminal() && env.text("TERM") != Some("dumb");
        let shows_bars = terminal && !args.json && !args.quiet && !args.no_progress;
        let target =
            if shows_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let colors = choice(args.color, env, io::stdout().is_terminal());
        let out = AutoStream::new(io::stdout(), colors);
        let of_err = choice(args.color, env, io::stderr().is_terminal());
        let err = AutoStream::new(io::stderr(), of_err);
        Self {
            json: args.json,
            quiet: args.quiet,
            colored: colors == ColorChoice::Always,
            out: Mutex::new(BufWriter::with_capacity(64 << 10, out)),
            err: Mutex::new(err),
            bars: MultiProgress::with_draw_target(target),
            shows_bars,
            messages_colored: of_err == ColorChoice::Always,
            closed: AtomicBool::new(false),
            closed_is_fine: AtomicBool::new(false),
        }
    }

    /// From now on, that nobody reads the output any more is no failure: what is done matters, not
    /// what is said.
    pub(crate) fn work_unread(&self) {
        self.closed_is_fine.store(true, Ordering::Relaxed);
    }

    /// Whether output is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only results, warnings and errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether what goes to stderr has colours.
    pub(crate) fn are_messages_colored(&self) -> bool {
        self.messages_colored
    }

    /// Whether what people read has colours.
    pub(crate) fn has_colors(&self) -> bool {
        self.colored
    }

    /// The progress bars, if there is a terminal for them.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.shows_bars.then_some(&self.bars)
    }

    /// Writes a line of a result, without making it visible at once; see [`Self::flush`].
    pub(crate) fn line(&self, text: impl Display) -> CommandResult<()> {
        self.write_out(|out| writeln!(out, "{text}"))
    }

    /// Writes a result.
    pub(crate) fn print(&self, text: impl Display) -> CommandResult<()> {
        self.write_out(|out| {
            writeln!(out, "{text}")?;
            out.flush()
        })
    }

    /// Writes the summary of long work.
    pub(crate) fn summary(&self, text: impl Display) -> CommandResult<()> {
        if self.quiet || self.json { Ok(()) } else { self.print(text) }
    }

    /// Writes a JSON value as one line, without making it visible at once.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> CommandResult<()> {
        let text = serde_json::to_string(value)
            .map_err(|error| CommandError::new(Kind::Io, format!("cannot write JSON: {error}")))?;
        self.line(text)
    }

    /// Writes a JSON value as one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> CommandResult<()> {
        self.json_line(value)?;
        self.flush()
    }

    /// Writes an event. Nobody reading events is no reason to stop the work that they are about.
    pub(crate) fn event(&self, value: &impl Serialize) {
        _ = self.json(value);
    }

    /// Makes everything written visible.
    pub(crate) fn flush(&self) -> CommandResult<()> {
        self.write_out(Write::flush)
    }

    /// A sentence about what is going on.
    pub(crate) fn status(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.write_err(format_args!("{text}"));
        }
    }

    /// What another program said on its standard error.
    pub(crate) fn relay(&self, text: impl Display) {
        self.write_err(format_args!("{text}"));
    }

    /// Something the user must know although the work goes on.
    pub(crate) fn warning(&self, text: impl Display) {
        if self.json {
            let (event, kind, path) = ("warning", "other", "");
            let message = &text.to_string();
            self.event(&WarningEvent {
                schema_version: SCHEMA_VERSION,
                event,
                kind,
                path,
                message,
            });
        } else {
            self.write_err(format_args!("{} {text}", paint(style::WARNING, "Warning:")));
        }
    }

    /// What the user can do next.
    pub(crate) fn hint(&self, text: impl Display) {
        if !self.json && !self.quiet {
            self.write_err(format_args!("{} {text}", paint(style::HINT, "Hint:")));
        }
    }

    /// A failure after which the command continues: heading, causes, hint; or the JSON form.
    pub(crate) fn error(&self, error: &CommandError) {
        self.failure(error, false);
    }

    /// The failure that ends the process.
    pub(crate) fn final_error(&self, error: &CommandError) {
        self.failure(error, true);
    }

    fn failure(&self, error: &CommandError, is_final: bool) {
        if error.is_silent() {
            return;
        }
        if self.json {
            self.event(&error.to_event(is_final));
            return;
        }
        let heading = if error.is_cancelled() { "Stopped:" } else { "Error:" };
        let mut text = format!("{} {}", paint(style::ERROR, heading), error.message());
        for cause in error.causes() {
            text.push_str(&format!("\n  {} {cause}", paint(style::FAINT, "Caused by:")));
        }
        if let Some(hint) = error.hint() {
            text.push_str(&format!("\n{} {hint}", paint(style::HINT, "Hint:")));
        }
        for other in error.others() {
            text.push_str(&format!("\n{} {}", paint(style::ERROR, heading), other.message));
            if let Some(hint) = &other.hint {
                text.push_str(&format!("\n{} {hint}", paint(style::HINT, "Hint:")));
            }
        }
        self.write_err(format_args!("{text}"));
    }

    /// Text that clap made: help for stdout, usage errors for stderr.
    pub(crate) fn clap(&self, error: &clap::Error) {
        let text = error.render().ansi().to_string();
        if error.use_stderr() {
            self.write_err(format_args!("{}", text.trim_end()));
        } else {
            _ = self.print(text.trim_end());
        }
    }

    /// Whether somebody can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a question; the answer in small letters. Blocks until it is answered.
    pub(crate) fn ask(&self, question: &str) -> CommandResult<String> {
        let failed =
            |error: io::Error| CommandError::io("cannot prompt for a confirmation", &error);
        self.bars
            .suspend(|| {
                let mut err = lock(&self.err);
                write!(err, "{question}")?;
                err.flush()
            })
            .map_err(failed)?;
        // Nothing is locked while somebody thinks, or a signal could not be answered.
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(failed)?;
        Ok(answer.trim().to_ascii_lowercase())
    }

    /// Asks for a secret, without showing it. Blocks until it is answered.
    pub(crate) fn ask_secret(&self, prompt: &str) -> CommandResult<Passphrase> {
        match rpassword::prompt_password(prompt) {
            Ok(text) => Ok(Passphrase::new(text)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                Err(backup_core::error::Error::cancelled().into())
            }
            Err(error) => {
                Err(CommandError::io("cannot read the pass phrase from the terminal", &error))
            }
        }
    }

    fn write_out(
        &self,
        write: impl FnOnce(&mut BufWriter<AutoStream<Stdout>>) -> io::Result<()>,
    ) -> CommandResult<()> {
        if !self.closed.load(Ordering::Relaxed) {
            match self.bars.suspend(|| write(&mut lock(&self.out))) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.closed.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    return Err(CommandError::io("cannot write to the standard output", &error));
                }
            }
        }
        if self.closed_is_fine.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(CommandError::new(Kind::BrokenPipe, "stdout was closed"))
    }

    /// There is nowhere to complain about a standard error that cannot be written.
    fn write_err(&self, text: std::fmt::Arguments<'_>) {
        self.bars.suspend(|| _ = writeln!(lock(&self.err), "{text}"));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn choice(color: ColorArg, env: &Environment, terminal: bool) -> ColorChoice {
    let colored = match color {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => {
            terminal && env.get("NO_COLOR").is_none() && env.text("TERM") != Some("dumb")
        }
    };
    if colored { ColorChoice::Always } else { ColorChoice::Never }
}
