//! Entries that a backup leaves out, with the reasons.

use serde::{Deserialize, Serialize};

use super::EntryPath;

/// An entry of the source that is not in the snapshot, or a directory of which only a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The entry. Everything below it is left out too, as far as the snapshot lacks it.
    pub path: EntryPath,
    /// The reason.
    pub cause: SkipCause,
}

/// The reason that an entry is not in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipCause {
    /// An exclude pattern matches it.
    Excluded,
    /// No include pattern matches it.
    NotIncluded,
    /// The directory contains a marker file: its content is left out.
    Marked,
    /// The directory is on another file system: its content is left out.
    OtherFileSystem,
    /// The file is larger than the limit.
    TooLarge,
    /// An error of reading.
    Unreadable,
    /// The entry vanished, or something else took its place, while the backup ran.
    Vanished,
    /// An entry of this type cannot be backed up.
    Unsupported,
    /// A cause that a newer version of this program recorded.
    #[serde(other)]
    Other,
}

impl SkipCause {
    /// `true` if the user chose to leave such entries out; `false` if the backup failed to read
    /// the entry.
    #[must_use]
    pub fn is_chosen(self) -> bool {
        match self {
            Self::Excluded
            | Self::NotIncluded
            | Self::Marked
            | Self::OtherFileSystem
            | Self::TooLarge => true,
            Self::Unreadable | Self::Vanished | Self::Unsupported | Self::Other => false,
        }
    }
}

/// The rules by which a backup of files chose entries, recorded with the skipped ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SkipRules {
    /// Include patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Exclude patterns of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Exclude patterns from files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_from_files: Vec<String>,
    /// Names of marker files: the content of a directory with one of them is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_if_present: Vec<String>,
    /// Size in bytes above which files are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_size: Option<u64>,
    /// Directories on other file systems are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_file_system: bool,
}
