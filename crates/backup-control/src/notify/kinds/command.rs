//! Shell commands: the message as JSON on the standard input, and in variables.

use std::process::Stdio;

use backup_process::Family;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Failure, Task};
use crate::environment::hide_values;
use crate::hooks::follow;
use crate::notify::message::cut;

/// Letters of its last line that are shown.
const SHOWN: usize = 200;
/// Letters of a variable: systems take 128 KiB of each.
const VARIABLE: usize = 30_000;

pub(in crate::notify) async fn send(task: &Task<'_>) -> Result<(), Failure> {
    let json =
        serde_json::to_vec(task.message).map_err(|error| Failure::refused(error.to_string()))?;
    let line = task.config.command.as_deref().unwrap_or_default();
    let (env, withheld) = task.env.without_secrets(task.secrets);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .env_clear()
        .envs(env.iter())
        .env("BACKUP_NOTIFY_CHANNEL", task.channel)
        .envs(variables(task))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let family = Family::of(&mut command);
    let mut child = command
        .spawn()
        .map_err(|error| Failure::later(format!("cannot run the command: {error}")))?;
    // Dropped at the timeout, which kills everything that the command started.
    let mut family = family.led_by(&child);
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // It need not read what it does not need.
            _ = stdin.write_all(&json).await;
        }
        std::future::pending().await
    };
    let mut last = String::new();
    let followed = follow(&mut child, |line| {
        if !line.trim().is_empty() {
            last = hide_values(line.trim(), &withheld);
        }
    });
    let status = tokio::select! {
        status = followed => status,
        never = write => never,
    };
    let status =
        status.map_err(|error| Failure::later(format!("cannot monitor the command: {error}")))?;
    // What it has left in the background is meant to go on.
    family.release();
    if status.success() {
        return Ok(());
    }
    let said = if last.is_empty() { last } else { format!(": {}", cut(&last, SHOWN)) };
    Err(Failure::later(format!("the command failed ({status}){said}")))
}

fn variables(task: &Task<'_>) -> Vec<(&'static str, String)> {
    let field = |name| cut(&task.message.field(name, task.zone).replace('\0', ""), VARIABLE);
    vec![
        ("BACKUP_NOTIFY_ID", field("id")),
        ("BACKUP_NOTIFY_INCIDENT", field("incident")),
        ("BACKUP_NOTIFY_KIND", field("kind")),
        ("BACKUP_NOTIFY_SEVERITY", field("severity")),
        ("BACKUP_NOTIFY_SUBJECT", field("subject")),
        ("BACKUP_NOTIFY_TITLE", field("title")),
        ("BACKUP_NOTIFY_PLACE", field("place")),
        ("BACKUP_NOTIFY_CAUSE", field("cause")),
        ("BACKUP_NOTIFY_NEXT", field("next")),
        ("BACKUP_NOTIFY_JOB", field("job")),
        ("BACKUP_NOTIFY_TIME", field("time")),
        ("BACKUP_NOTIFY_TEXT", field("text")),
    ]
}
