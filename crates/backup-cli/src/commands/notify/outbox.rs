//! `backup notify status`, `send` and `discard`: what waits in the outbox.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backup_control::notify::{Delivered, Entry, Outbox, StillWaiting};
use backup_control::state;
use backup_control::units::Time;
use jiff::Timestamp;
use serde::Serialize;

use super::channels;
use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::exit_code;
use crate::human;
use crate::session::Session;
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Send all waiting messages now, without waiting for their next retry
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// Also send abandoned messages
    #[arg(long)]
    failed: bool,
    /// Keep trying for this time
    #[arg(long, value_name = "TIME", default_value = "60s")]
    within: Time,
}

fn open(session: &Session) -> CommandResult<Outbox> {
    const HINT: &str = "set BACKUP_STATE_DIR to a directory";
    let dir = state::dir(&session.env).ok_or_else(|| {
        CommandError::new(Kind::Io, "no state directory for the outbox").with_hint(HINT)
    })?;
    Outbox::open(&dir).map_err(|error| {
        CommandError::io(format!("cannot create the outbox in {}", dir.display()), &error)
            .with_hint(HINT)
    })
}

fn unusable(error: &std::io::Error) -> CommandError {
    CommandError::io("cannot use the outbox", error)
}

/// A message that was given up, in JSON.
#[derive(Serialize)]
struct FailedJson<'a> {
    channel: &'a str,
    id: &'a str,
    subject: String,
    time: Timestamp,
    tries: u32,
    error: Option<&'a str>,
}

impl<'a> From<&'a Entry> for FailedJson<'a> {
    fn from(entry: &'a Entry) -> Self {
        let (channel, id, message) = (&entry.channel, &entry.message.id, &entry.message);
        let (subject, error) = (message.subject(), entry.error.as_deref());
        Self { channel, id, subject, time: message.time, tries: entry.tries, error }
    }
}

#[derive(Serialize)]
struct StatusJson<'a> {
    schema_version: u32,
    waiting: &'a BTreeMap<String, StillWaiting>,
    failed: Vec<FailedJson<'a>>,
    unreadable: &'a [PathBuf],
}

pub(super) fn status(session: &Session) -> CommandResult {
    let outbox = open(session)?;
    let waiting = outbox.still_waiting(session.cx.clock.now()).map_err(|error| unusable(&error))?;
    let (failed, unreadable) = outbox.failed().map_err(|error| unusable(&error))?;
    let is_well = failed.is_empty() && unreadable.is_empty();
    let outcome = if is_well { Outcome::Success } else { Outcome::Warnings };
    if session.ui.is_json() {
        let failed = failed.iter().map(FailedJson::from).collect();
        let (schema_version, waiting, unreadable) = (SCHEMA_VERSION, &waiting, &unreadable[..]);
        session.ui.json(&StatusJson { schema_version, waiting, failed, unreadable })?;
        return Ok(outcome);
    }
    if waiting.is_empty() && is_well {
        session.ui.status("No messages are waiting or abandoned.");
        return Ok(outcome);
    }
    if !waiting.is_empty() {
        session.ui.print(waiting_table(session, &waiting))?;
        session.ui.hint("send waiting messages now with `backup notify send`");
    }
    if !failed.is_empty() {
        session.ui.print(failed_lines(session, &failed))?;
    }
    for path in unreadable {
        session.ui.warning(format_args!("{} is not a readable message", path.display()));
    }
    if !is_well {
        session.ui.hint(
            "retry with `backup notify send --failed`, or remove the messages with `backup notify \
             discard`",
        );
    }
    Ok(outcome)
}

fn waiting_table(session: &Session, waiting: &BTreeMap<String, StillWaiting>) -> String {
    let mut table = Table::new([
        ("Channel", Align::Left),
        ("Waiting", Align::Right),
        ("Next try", Align::Left),
        ("Last error", Align::Left),
    ]);
    for (channel, StillWaiting { messages, error, next }) in waiting {
        let next = next.map(|next| human::time(next, session.zone())).unwrap_or_default();
        let error = human::text(error.as_deref().unwrap_or_default().as_bytes());
        table.row([human::text(channel.as_bytes()), messages.to_string(), next, error]);
    }
    table.lines().join("\n")
}

fn failed_lines(session: &Session, failed: &[Entry]) -> String {
    let line = |entry: &Entry| {
        let time = human::time(entry.message.time, session.zone());
        let why = entry.error.as_deref().unwrap_or("unknown reason");
        let words = format!("{}: {}", entry.channel, entry.message.subject());
        format!("  {time}  {}\n    {}", human::text(words.as_bytes()), human::text(why.as_bytes()))
    };
    let lines: Vec<String> = failed.iter().map(line).collect();
    format!(
        "Abandoned: {}\n{}",
        human::count(failed.len() as u64, "message", "messages"),
        lines.join("\n")
    )
}

#[derive(Serialize)]
struct SendJson<'a> {
    schema_version: u32,
    #[serde(flatten)]
    delivered: &'a Delivered,
}

pub(super) async fn send(session: &Session, args: &SendArgs) -> CommandResult {
    let channels = channels(session)?;
    let outbox = open(session)?;
    if args.failed {
        outbox.renew_failed().map_err(|error| unusable(&error))?;
    }
    outbox.hurry().map_err(|error| unusable(&error))?;
    let delivered = outbox.deliver(&channels, &session.cx, args.within.length()).await;
    session.cx.check_cancelled()?;
    let outcome = if delivered.is_complete() {
        Outcome::Success
    } else {
        Outcome::Failed(exit_code::FAILURE)
    };
    if session.ui.is_json() {
        session.ui.json(&SendJson { schema_version: SCHEMA_VERSION, delivered: &delivered })?;
        return Ok(outcome);
    }
    let sent = delivered.sent.len() as u64;
    match (sent, delivered.is_complete()) {
        (0, true) => session.ui.status("No messages are waiting."),
        _ => {
            session
                .ui
                .print(format_args!("Sent: {}", human::count(sent, "message", "messages")))?;
        }
    }
    if !delivered.waiting.is_empty() {
        session.ui.print(waiting_table(session, &delivered.waiting))?;
    }
    for given_up in &delivered.given_up {
        let words = format!("{}: {}: {}", given_up.channel, given_up.subject, given_up.why);
        session.ui.warning(format_args!("abandoned: {}", human::text(words.as_bytes())));
    }
    delivered
        .trouble
        .iter()
        .for_each(|trouble| session.ui.warning(human::text(trouble.as_bytes())));
    Ok(outcome)
}

#[derive(Serialize)]
struct DiscardJson {
    schema_version: u32,
    discarded: usize,
}

pub(super) async fn discard(session: &Session) -> CommandResult {
    let outbox = open(session)?;
    let (failed, unreadable) = outbox.failed().map_err(|error| unusable(&error))?;
    let count = (failed.len() + unreadable.len()) as u64;
    if count > 0 {
        let messages = human::count(count, "message", "messages");
        session.confirm(&format!("Discard {messages} that were not delivered?")).await?;
    }
    let discarded = outbox.discard_failed().map_err(|error| unusable(&error))?;
    if session.ui.is_json() {
        session.ui.json(&DiscardJson { schema_version: SCHEMA_VERSION, discarded })?;
    } else {
        session.ui.status(format_args!(
            "Discarded: {}",
            human::count(discarded as u64, "message", "messages")
        ));
    }
    Ok(Outcome::Success)
}
