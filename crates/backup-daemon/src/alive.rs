//! The sign of life of the daemon, by which alerts notice that it is gone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

/// The file in the state directory.
const FILE: &str = "backupd.alive";
/// How often it is written.
pub(crate) const EVERY: Duration = Duration::from_secs(30);

/// The sign of life. It is there as long as the daemon is, and stays behind if the daemon dies.
#[derive(Debug)]
pub(crate) struct Alive {
    file: PathBuf,
}

impl Alive {
    /// In this state directory.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { file: state_dir.join(FILE) }
    }

    /// Says that the daemon was there at `now`.
    pub(crate) fn say(&self, now: Timestamp) -> io::Result<()> {
        let sign = serde_json::json!({
            "at": now.to_string(),
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        let new = self.file.with_extension("alive.new");
        std::fs::write(&new, format!("{sign}\n"))?;
        std::fs::rename(&new, &self.file)
    }

    /// Nobody shall miss a daemon that was told to stop.
    pub(crate) fn end(&self) {
        _ = std::fs::remove_file(&self.file);
    }
}
