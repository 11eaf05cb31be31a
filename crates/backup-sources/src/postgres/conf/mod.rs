//! Configuration files of a server, as its documentation describes them.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | files and directories that a file includes |
//! | `settings.rs` | the value of a setting |
//! | `includes.rs` | [`Include`]: where a file names others |

mod includes;
mod settings;

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(super) use includes::{Adapted, Include, Kind, adapted, includes};
pub(super) use settings::{last_value, quoted, setting};

/// Files that include each other go no deeper (`CONF_FILE_MAX_DEPTH`).
pub(super) const DEEPEST: usize = 10;
/// Files that are read at most: crafted ones include each other any number of times.
pub(super) const MOST: usize = 1000;
/// Largest file that is read, bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// Syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Syntax {
    /// As `postgresql.conf`.
    Settings,
    /// As `pg_hba.conf` and `pg_ident.conf`, or a list that one of these includes with `@`.
    Rules,
}

/// Returns `true` if `include_dir` means a file of this name.
pub(super) fn is_included(name: &str) -> bool {
    name.ends_with(".conf") && !name.starts_with('.')
}

/// The files that `include_dir` means, in the order of their names.
pub(super) fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_meant =
        |path: &PathBuf| is_included(&path.file_name().unwrap_or_default().to_string_lossy());
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_meant).collect();
    files.sort_unstable();
    files
}

/// A path without `.` and `..`; links are not followed.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, part| {
        match part {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => {}
            part => out.push(part),
        }
        out
    })
}
