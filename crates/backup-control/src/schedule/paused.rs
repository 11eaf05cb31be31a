//! What the daemon of this machine was told to leave for now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::Deserialize;

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
}

/// The tasks that are paused; none where there never was a daemon.
///
/// # Errors
/// Those of reading what it remembers.
pub fn paused(state: &Path) -> io::Result<BTreeSet<String>> {
    let text = match std::fs::read(state.join(DAEMON_DIR).join(TASKS_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let known: Tasks = serde_json::from_slice(&text)?;
    Ok(known.tasks.into_iter().filter(|(_, task)| task.paused).map(|(name, _)| name).collect())
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
            r#"{"tasks":{"a":{"paused":true,"owed":null},"b":{"paused":false},"c":{}}}"#,
        )
        .unwrap();
        assert_eq!(paused(dir.path()).unwrap(), ["a".to_owned()].into());
        std::fs::write(&file, "{").unwrap();
        paused(dir.path()).unwrap_err();
    }
}
