//! What came of a piece of work, as the verb itself says it.

use backup_core::check::CheckReport;
use backup_core::event::{Event, Warning};
use backup_core::pipeline::{BackupReport, VerifyReport};
use backup_core::source::RestoreReport;
use serde::Deserialize;
use serde_json::Value;

use super::{failure, outcome};
use crate::command_error::{CommandResult, Outcome};
use crate::commands::restore::shown;
use crate::commands::run::told::describe;
use crate::commands::{check, verify};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};

/// Says what came of it.
pub(super) fn tell(session: &Session, ended: &Value) -> CommandResult {
    for event in ended["said"].as_array().into_iter().flatten() {
        match session.ui.is_json() {
            true => session.ui.event(event),
            false => say(session, event)?,
        }
    }
    let (code, error) = (ended["exit_code"].as_u64(), ended["error"].as_str().unwrap_or_default());
    match outcome(code) {
        // Damage that was found is an answer.
        Outcome::Failed(_) => Err(failure(code, error)),
        Outcome::Damage if !error.is_empty() => Err(failure(code, error)),
        done => Ok(done),
    }
}

fn say(session: &Session, event: &Value) -> CommandResult<()> {
    let ui = &session.ui;
    match event["event"].as_str() {
        Some("warning") => {
            if let Ok(warning) = Warning::deserialize(event) {
                session.cx.events.emit(&Event::Warning(warning));
            }
            Ok(())
        }
        Some("note") => {
            ui.status(human::text(event["message"].as_str().unwrap_or_default().as_bytes()));
            Ok(())
        }
        Some("summary") => {
            summary(session, event)?;
            // A long list has only its beginning.
            match event["problems_count"].as_u64() {
                Some(all) => ui.print(format_args!(
                    "Only the first of {} are shown.",
                    human::count(all, "problem", "problems")
                )),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn summary(session: &Session, event: &Value) -> CommandResult<()> {
    let ui = &session.ui;
    match event["verb"].as_str() {
        Some("run" | "logs compact") => match BackupReport::deserialize(event) {
            Ok(report) => ui.summary(describe(&report)),
            Err(_) => ui.summary(plain(event)),
        },
        Some("check") => match CheckReport::deserialize(event) {
            Ok(report) => check::print(session, &report),
            Err(_) => ui.summary(plain(event)),
        },
        Some("verify") => match VerifyReport::deserialize(event) {
            Ok(report) => verify::print(session, &short(&event["snapshot"]), &report),
            Err(_) => ui.summary(plain(event)),
        },
        Some("restore") => match RestoreReport::deserialize(event) {
            Ok(report) => ui.summary(restored(event, &report)),
            Err(_) => ui.summary(plain(event)),
        },
        _ => ui.summary(plain(event)),
    }
}

fn restored(event: &Value, report: &RestoreReport) -> String {
    let target =
        event["target"].as_str().map(|target| human::text(target.as_bytes())).unwrap_or_default();
    let job = event["job"]
        .as_str()
        .map(|job| format!("{}: ", human::text(job.as_bytes())))
        .unwrap_or_default();
    let id = paint(style::SNAPSHOT, short(&event["snapshot"]));
    let mut lines =
        vec![format!("{job}Snapshot {id} {} to {target}", paint(style::GOOD, "restored"))];
    if target.contains("://") {
        let written = match &report.contents {
            Some(contents) => shown::objects(contents),
            None => {
                let entries = human::count(report.entries, "object", "objects");
                format!("{entries}, {}", human::size(report.written_bytes))
            }
        };
        lines.push(format!("  written: {written}"));
        lines.extend(shown::rest(report));
    } else {
        lines.extend(shown::files(report, false, ["written", "unchanged", "removed"]));
    }
    lines.join("\n")
}

/// The beginning of an identifier.
fn short(id: &Value) -> String {
    id.as_str().unwrap_or_default().chars().filter(char::is_ascii_hexdigit).take(8).collect()
}

/// Any other summary: what it has of numbers and words.
fn plain(event: &Value) -> String {
    let shown = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Number(number) if name.ends_with("bytes") => number.as_u64().map(human::size)?,
            Value::Number(number) => number.to_string(),
            Value::String(text) => human::text(text.as_bytes()),
            _ => return None,
        };
        let is_head = matches!(name.as_str(), "schema_version" | "event" | "verb");
        (!is_head).then(|| format!("  {}: {value}", name.replace('_', " ")))
    };
    let lines: Vec<String> = event.as_object().into_iter().flatten().filter_map(shown).collect();
    let verb = event["verb"].as_str().unwrap_or_default();
    format!("{} {verb}\n{}", paint(style::GOOD, "Done:"), lines.join("\n"))
}
