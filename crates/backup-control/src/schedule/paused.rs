//! What the daemon of this machine was told to leave for now.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::state;

/// Longest pause of a task; the daemon resumes it then.
pub const MAX_PAUSE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The directory of the daemon, below the state directory.
pub const DAEMON_DIR: &str = "daemon";
/// The file there that remembers its tasks.
pub const TASKS_FILE: &str = "tasks.json";

#[derive(Deserialize)]
struct Tasks {
    tasks: BTreeMap<String, Task>,
}

#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    paused_since: Option<Timestamp>,
}

/// The paused tasks and the beginnings of their pauses, as far as they are known. Without a daemon
/// there are none.
///
/// # Errors
/// Those of reading what it remembers.
pub fn paused(state: &Path) -> io::Result<BTreeMap<String, Option<Timestamp>>> {
    let text = match std::fs::read(state.join(DAEMON_DIR).join(TASKS_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    state::require_known(&text)?;
    let known: Tasks = serde_json::from_slice(&text)?;
    let paused = known.tasks.into_iter().filter(|(_, task)| task.paused);
    Ok(paused.map(|(name, task)| (name, task.paused_since)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_paused_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(paused(dir.path()).unwrap().is_empty());
        std::fs::create_dir(dir.path().join(DAEMON_DIR)).unwrap();
        let file = dir.path().join(DAEMON_DIR).join(TASKS_FILE);
        std::fs::write(
            &file,
            r#"{"tasks":{"a":{"paused":true,"owed":null},"b":{"paused":false},"c":{},
                "d":{"paused":true,"paused_since":"2026-11-23T08:00:00Z"}}}"#,
        )
        .unwrap();
        let since = "2026-11-23T08:00:00Z".parse().ok();
        let known = [("a".to_owned(), None), ("d".to_owned(), since)];
        assert_eq!(paused(dir.path()).unwrap(), known.into());
        std::fs::write(&file, r#"{"version":2,"tasks":{}}"#).unwrap();
        assert_eq!(paused(dir.path()).unwrap_err().kind(), io::ErrorKind::Unsupported);
        std::fs::write(&file, "{").unwrap();
        paused(dir.path()).unwrap_err();
    }
}
