//! What goes on in a daemon; pausing and stopping it.

use serde_json::{Value, json};

use super::asked::Asked;
use super::client::Client;
use super::moment;
use crate::command_error::{CommandResult, Outcome};
use crate::human;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// `backup running`.
pub(super) async fn running(session: &Session, client: &Client, asked: &Asked) -> CommandResult {
    asked.allow(&["ended"], 0)?;
    let what = if asked.has("ended") { "ended" } else { "running" };
    let health = client.get(session, &["api", "v1", "health"], &[]).await?;
    let mut answer = client.get(session, &["api", "v1", what], &[]).await?;
    let tasks = client.get(session, &["api", "v1", "tasks"], &[]).await?;
    let paused: Vec<String> = tasks["tasks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|task| task["paused"] == json!(true))
        .map(|task| text(&task["name"]))
        .collect();
    let outcome =
        if health["healthy"] == json!(true) { Outcome::Success } else { Outcome::Warnings };
    if session.ui.is_json() {
        answer["schema_version"] = json!(SCHEMA_VERSION);
        answer["health"] = health;
        answer["paused"] = json!(paused);
        session.ui.json(&answer)?;
        return Ok(outcome);
    }
    let list = answer[what].as_array().map(Vec::as_slice).unwrap_or_default();
    match (list, what) {
        ([], "running") => session.ui.status("No operation is running or waiting."),
        ([], _) => session.ui.status("No operation has ended since the daemon started."),
        (list, "running") => {
            session.ui.print(table_of_running(session, list).lines().join("\n"))?;
        }
        (list, _) => session.ui.print(table_of_ended(session, list).lines().join("\n"))?,
    }
    if !paused.is_empty() {
        session.ui.status(format_args!("Paused tasks: {}.", paused.join(", ")));
        session
            .ui
            .hint(format_args!("resume the tasks with `backup schedule resume{}`", client.flag()));
    }
    say_health(session, &health);
    Ok(outcome)
}

fn say_health(session: &Session, health: &Value) {
    if health["stopping"] == json!(true) {
        session.ui.warning("the daemon is shutting down and starts no more operations");
    }
    for (what, trouble) in health["troubles"].as_object().into_iter().flatten() {
        let trouble = human::text(trouble.as_str().unwrap_or_default().as_bytes());
        session.ui.warning(format_args!("{}: {trouble}", human::text(what.as_bytes())));
    }
    let is_quiet = health["troubles"].as_object().is_none_or(serde_json::Map::is_empty);
    if health["healthy"] != json!(true) && is_quiet {
        session.ui.warning("the daemon has not checked its tasks for a minute");
    }
}

fn table_of_running(session: &Session, list: &[Value]) -> Table {
    let columns = ["ID", "Work", "Task", "By", "Since", "Progress"].map(|name| (name, Align::Left));
    let mut table = Table::new(columns);
    for item in list {
        let since = if item["since"].is_null() {
            "waiting".to_owned()
        } else {
            moment(session, &item["since"])
        };
        table.row([
            paint(style::HEADING, text(&item["id"])),
            work(&item["work"]),
            text(&item["task"]),
            text(&item["by"]),
            since,
            progress(&item["progress"]),
        ]);
    }
    table
}

fn table_of_ended(session: &Session, list: &[Value]) -> Table {
    let columns = ["ID", "Work", "Task", "By", "Ended", "Result"].map(|name| (name, Align::Left));
    let mut table = Table::new(columns);
    for item in list {
        let result = match item["exit_code"].as_u64() {
            Some(0) => paint(style::GOOD, "success"),
            Some(3) => paint(style::WARNING, "warnings"),
            _ => paint(
                style::ERROR,
                text(&item["error"]).lines().next().unwrap_or("failure").to_owned(),
            ),
        };
        table.row([
            paint(style::HEADING, text(&item["id"])),
            work(&item["work"]),
            text(&item["task"]),
            text(&item["by"]),
            moment(session, &item["ended"]),
            result,
        ]);
    }
    table
}

fn text(value: &Value) -> String {
    human::text(value.as_str().unwrap_or_default().as_bytes())
}

/// A piece of work, in a few words.
fn work(work: &Value) -> String {
    let about = ["job", "what", "snapshot", "repository", "to"]
        .into_iter()
        .find_map(|key| work[key].as_str());
    let about =
        about.map(|about| format!(" {}", human::text(about.as_bytes()))).unwrap_or_default();
    format!("{}{about}", text(&work["kind"]))
}

fn progress(progress: &Value) -> String {
    let number = |key: &str| progress[key].as_u64().unwrap_or_default();
    match (number("done_bytes"), number("total_bytes"), number("done_items")) {
        (0, _, 0) => String::new(),
        (0, _, items) => human::count(items, "entry", "entries"),
        (done, 0, _) => human::size(done),
        (done, total, _) => format!("{} of {}", human::size(done), human::size(total)),
    }
}

/// `backup cancel`.
pub(super) async fn cancel(session: &Session, client: &Client, asked: &Asked) -> CommandResult {
    asked.allow(&[], 1)?;
    let id = asked.name(0).unwrap_or_default();
    let answer = client.post(session, &["api", "v1", "running", id, "cancel"], &json!({})).await;
    let answer = answer.map_err(|error| match error.is_not_found() {
        true => error.with_hint(format!(
            "list the running operations with `backup running{}`",
            client.flag()
        )),
        false => error,
    })?;
    if session.ui.is_json() {
        session.ui.json(&json!({ "schema_version": SCHEMA_VERSION, "cancelled": answer["id"] }))?;
    }
    session.ui.status("The operation stops at its next safe point.");
    Ok(Outcome::Success)
}

/// `backup schedule pause` and `resume`.
pub(super) async fn pause(
    session: &Session,
    client: &Client,
    asked: &Asked,
    paused: bool,
) -> CommandResult {
    asked.allow(&[], 1)?;
    let verb = if paused { "pause" } else { "resume" };
    let order = asked.name(0).map_or_else(|| json!({}), |task| json!({ "task": task }));
    let mut answer =
        client.post(session, &["api", "v1", "tasks", verb], &order).await.map_err(|error| {
            match error.is_not_found() {
                true => error
                    .with_hint(format!("list the tasks with `backup schedule{}`", client.flag())),
                false => error,
            }
        })?;
    if session.ui.is_json() {
        answer["schema_version"] = json!(SCHEMA_VERSION);
        session.ui.json(&answer)?;
        return Ok(Outcome::Success);
    }
    let what =
        asked.name(0).map_or_else(|| "Every task".to_owned(), |task| human::text(task.as_bytes()));
    let words = if paused {
        "is paused and does not start until resumed"
    } else {
        "runs by the schedule again"
    };
    session.ui.status(format_args!("{what} {words}."));
    Ok(Outcome::Success)
}
