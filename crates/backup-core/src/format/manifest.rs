//! `.backup/manifest.json` and `.backup/RESTORE.md`, which stand at the root of every snapshot, so
//! that a bare `restic restore` brings along what it is and how to use it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::version::require_known;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::source::{BackupKind, Checkpoint, ObjectDigest, SourceIdentity};

/// Name of the directory at the root of every snapshot.
pub const METADATA_DIR: &str = ".backup";
/// Path of the manifest inside a snapshot.
pub const MANIFEST_PATH: &str = "/.backup/manifest.json";
/// Version of the manifest's schema.
pub const MANIFEST_SCHEMA: u32 = 1;

/// Missing or incomplete entries that a manifest names.
pub const MAX_INCOMPLETE: usize = 100;

/// What a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this schema.
    pub schema: u32,
    /// Program that wrote it.
    pub program: String,
    /// When the run began.
    pub created: Timestamp,
    /// Name of the job.
    pub job: String,
    /// The source.
    pub source: SourceIdentity,
    /// Version of the source's server, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Type of the snapshot.
    #[serde(rename = "type")]
    pub kind: BackupKind,
    /// Tier of the snapshot.
    pub tier: String,
    /// The snapshot that unchanged parts were taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<SnapshotId>,
    /// What moment or interval it stands for.
    pub checkpoint: Checkpoint,
    /// What it holds.
    pub totals: ManifestTotals,
    /// Entries that are missing or incomplete, as the run reported them: the first
    /// [`MAX_INCOMPLETE`] of [`ManifestTotals::warnings`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<IncompleteEntry>,
    /// Counts and digests per object, for databases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<String, ObjectDigest>,
    /// Whether these are all: what is not among them is not there, or has nothing in it. Of old
    /// snapshots that is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
    /// What whoever restores it should know of it, for instance what consistency it has or what
    /// other tools do not make of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Include patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Exclude patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The job's configuration without secrets.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub configuration: serde_json::Value,
}

impl Manifest {
    /// Reads the JSON of a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::UnsupportedVersion`](crate::error::ErrorKind::UnsupportedVersion) if its schema
    /// is newer than [`MANIFEST_SCHEMA`]; [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged)
    /// if it cannot be understood.
    pub fn parse(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let damaged = |error| Error::damaged("cannot parse the manifest").with_source(error);
        // The version first: the fields of a newer manifest may have other forms.
        let Versioned { schema } = serde_json::from_slice(json).map_err(damaged)?;
        require_known("the manifest", schema, MANIFEST_SCHEMA)?;
        serde_json::from_slice(json).map_err(damaged)
    }
}

/// An entry that a snapshot lacks or holds in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompleteEntry {
    /// The printable path; empty if the warning is about no path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The reason.
    pub message: String,
}

/// What a snapshot holds, without its own `.backup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestTotals {
    /// Files and streams.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Links, devices, pipes, sockets.
    pub others: u64,
    /// Content bytes of all files.
    pub bytes: u64,
    /// Entries that are missing or incomplete.
    pub warnings: u64,
}

/// The text of `RESTORE.md`. It must never change without need: a new text is stored once more in
/// every repository.
pub const RESTORE_NOTE: &str = include_str!("RESTORE.md");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_manifests_are_refused_with_both_versions() {
        let error = Manifest::parse(br#"{"schema":2,"job":{"name":"docs"}}"#).unwrap_err();
        assert!(!error.is_damage(), "{error}");
        let text = "the manifest was written by format 2, this program reads up to 1";
        assert_eq!(error.to_string(), text);
        assert!(Manifest::parse(br#"{"schema":1}"#).unwrap_err().is_damage());
    }
}
