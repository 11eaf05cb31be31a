//! What the files source can be told beyond the selection of one backup.

use std::path::PathBuf;
use std::time::Duration;

/// Longer than a disk or a network mount tries to recover before it reports an error, which costs one
/// entry only.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Options of a [`FilesSource`](super::FilesSource). Everything here is the user's choice: what it
/// leaves out is not reported as a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOptions {
    /// Files with exclude patterns, one per line, in the syntax of
    /// [`Selection`](backup_core::source::Selection). Empty lines and lines that begin with `#` are
    /// ignored. They are read anew at the beginning of every backup.
    pub exclude_files: Vec<PathBuf>,
    /// Marker files, by name or as `NAME:HEADER` for files that begin with HEADER. The contents of a directory that holds one of them are left out; the
    /// directory itself stays in the snapshot, empty, so that a restore brings it back with its
    /// mode and owner. The marker is left out too. Default: `.nobackup`.
    pub exclude_if_present: Vec<String>,
    /// Do not descend into directories on other file systems than the given path is on. Mount
    /// points stay in the snapshot as empty directories. Only directories are judged: on overlay
    /// file systems ordinary files may report other devices than their directory, and leaving those
    /// out would lose data silently.
    pub one_file_system: bool,
    /// Leave out regular files larger than this many bytes.
    pub max_file_size: Option<u64>,
    /// Name of the host, recorded in snapshots; snapshots of one host and the same paths find each
    /// other.
    pub host: String,
    /// How many directories are listed at the same time where listing is slow (cold disks, network
    /// file systems).
    pub scan_concurrency: usize,
    /// Time after which a call to a file system that does not return fails the operation. Default:
    /// five minutes.
    pub timeout: Duration,
}

impl Default for FilesOptions {
    fn default() -> Self {
        Self {
            exclude_files: Vec::new(),
            exclude_if_present: vec![".nobackup".to_owned()],
            one_file_system: false,
            max_file_size: None,
            host: "localhost".to_owned(),
            scan_concurrency: 8,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}
