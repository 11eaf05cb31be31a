//! What the daemon says of itself: lines for people, or JSON.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Line`], whoever takes one, and the forms in which they are written |
//! | `traced.rs` | what is said by `tracing`, as lines |

pub(crate) mod traced;

use std::fmt::{self, Debug};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Info,
    /// Somebody should know.
    Warning,
    /// Something was not done.
    Error,
}

/// One thing that is said.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// When.
    pub time: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// The task it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The piece of work it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What there is to say.
    pub message: String,
}

/// Whoever listens to what the daemon says of itself. Must not block for long.
pub trait Journal: Debug + Send + Sync + 'static {
    /// Takes a line.
    fn line(&self, line: &Line);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence;

impl Journal for Silence {
    fn line(&self, _: &Line) {}
}

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Human,
    /// For people, with the levels that the journal of systemd understands, and without times: it
    /// has its own.
    Journald,
    /// One JSON object per line.
    Json,
}

/// Writes lines.
pub struct Written<W> {
    form: Form,
    out: Mutex<W>,
}

impl<W: Write> Written<W> {
    /// Writes lines of this form.
    pub fn new(form: Form, out: W) -> Self {
        Self { form, out: Mutex::new(out) }
    }
}

impl<W> Debug for Written<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("form", &self.form).finish_non_exhaustive()
    }
}

impl<W: Write + Send + 'static> Journal for Written<W> {
    /// There is nowhere to complain about a journal that cannot be written.
    fn line(&self, line: &Line) {
        let text = match self.form {
            Form::Json => serde_json::to_string(line).unwrap_or_default(),
            Form::Human => format!("{:.0} {}{}", line.time, word(line.level), without_breaks(line)),
            Form::Journald => format!("<{}>{}", number(line.level), without_breaks(line)),
        };
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn without_breaks(line: &Line) -> String {
    let about = line.task.as_ref().map(|task| format!("{task}: ")).unwrap_or_default();
    let id = line.id.as_ref().map(|id| format!(" [{id}]")).unwrap_or_default();
    let text = format!("{about}{}{id}", line.message);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Info => "",
        Level::Warning => "Warning: ",
        Level::Error => "Error: ",
    }
}

/// As syslog counts.
fn number(level: Level) -> u8 {
    match level {
        Level::Info => 6,
        Level::Warning => 4,
        Level::Error => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let line = Line {
            time: "2026-03-01T12:00:00.5Z".parse().unwrap(),
            level: Level::Warning,
            task: Some("docs/daily".into()),
            id: Some("x-1".into()),
            message: "two\nlines".into(),
        };
        let written = |form| {
            let journal = Written::new(form, Vec::new());
            journal.line(&line);
            String::from_utf8(journal.out.into_inner().unwrap()).unwrap()
        };
        assert_eq!(
            written(Form::Human),
            "2026-03-01T12:00:00Z Warning: docs/daily: two lines [x-1]\n"
        );
        assert_eq!(written(Form::Journald), "<4>docs/daily: two lines [x-1]\n");
        let json: serde_json::Value = serde_json::from_str(&written(Form::Json)).unwrap();
        assert_eq!((&json["level"], &json["message"]), (&"warning".into(), &"two\nlines".into()));
    }
}
