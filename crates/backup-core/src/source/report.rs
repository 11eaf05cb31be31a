//! What a source answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{BackupKind, PlannedPaths, SourceError};

/// Which source this is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// Kind, for instance `files`.
    pub kind: String,
    /// Stable name of the instance, for instance a replica set's id or, for files, the host.
    pub id: String,
    /// Host the source runs on; becomes the snapshot's host name.
    pub host: String,
    /// Paths (or objects) that are backed up, as recorded in the snapshot.
    pub paths: Vec<String>,
}

/// Something that stands in the way of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeProblem {
    /// The finding: a lower-case fragment that names the object and the cause.
    pub finding: String,
    /// The statement, setting or step that mends it.
    pub remedy: String,
}

impl ProbeProblem {
    /// A finding and its remedy.
    #[must_use]
    pub fn new(finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { finding: finding.into(), remedy: remedy.into() }
    }

    /// An error as a finding, with its hint as the remedy; `remedy` if it has none.
    #[must_use]
    pub fn of_error(error: &SourceError, remedy: &str) -> Self {
        Self::new(error.chain(), error.hint().unwrap_or(remedy))
    }
}

impl fmt::Display for ProbeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.finding, self.remedy)
    }
}

/// A part of a source that a selection covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SelectedPart {
    /// The database, the path, or the whole source.
    pub name: String,
    /// The number of selected objects in it; none if the part is backed up as a whole.
    pub objects: Option<u64>,
    /// The objects, in the plural: `collections`, `tables`, `keys`, `files`.
    pub unit: &'static str,
}

impl SelectedPart {
    /// A source that is backed up as a whole.
    #[must_use]
    pub fn whole(name: &str) -> Self {
        Self { name: name.to_owned(), objects: None, unit: "" }
    }

    /// Parts by the name of the part of each object.
    pub fn count(parts: impl IntoIterator<Item = String>, unit: &'static str) -> Vec<Self> {
        let mut counts = BTreeMap::<String, u64>::new();
        for name in parts {
            *counts.entry(name).or_default() += 1;
        }
        let part = |(name, objects)| Self { name, objects: Some(objects), unit };
        counts.into_iter().map(part).collect()
    }
}

/// Findings about a source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Probe {
    /// Version of the server, if there is one.
    pub version: Option<String>,
    /// Everything that stands in the way of a backup.
    pub problems: Vec<ProbeProblem>,
    /// Estimated number of objects (files, collections, tables), if cheap to know.
    pub estimated_objects: Option<u64>,
    /// Estimated size in bytes, if cheap to know.
    pub estimated_bytes: Option<u64>,
    /// Seconds by which the clock of the server is ahead of that of this machine; negative if it is
    /// behind. None for sources without a server, and where the server does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
    /// Finding about the log of the source.
    #[serde(skip)]
    pub log_capture: LogCapture,
}

/// Finding of a probe about the log of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogCapture {
    /// Nothing contradicts the capabilities of the source.
    #[default]
    AsDeclared,
    /// The server has not answered the question.
    Unchecked,
    /// The server or its settings exclude it.
    Refused,
}

/// The tag of snapshots that stand for no moment: their parts were read one after the other, while
/// others may have written.
pub const NOT_POINT_IN_TIME: &str = "not-point-in-time";

/// The tag of snapshots that were made of a dump of another tool, with the dump's time.
pub const IMPORTED: &str = "imported";

/// What a backup reader knows of a backup that has been read, to be recorded with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Its type, if that is not the one that was asked for: where a log does not reach back to the
    /// parent, only a full backup is possible.
    pub kind: Option<BackupKind>,
    /// Version of the server, if there is one.
    pub server_version: Option<String>,
    /// Counts and digests of its objects, as far as they are known.
    pub objects: BTreeMap<String, ObjectDigest>,
    /// Whether these are all: what is not among them is not there, or has nothing in it.
    pub counted: bool,
    /// What whoever restores it should know of it.
    pub remarks: Vec<String>,
    /// Tags that mark the snapshot wherever snapshots are listed.
    pub tags: Vec<String>,
    /// Seconds by which the clock of the server was ahead of that of this machine when the source
    /// connected; negative if it was behind. None for sources without a server, and where the
    /// server does not report its time.
    pub clock_ahead_seconds: Option<i64>,
    /// The selection that the source has applied, if it is smaller than the requested one.
    pub selection: Option<SelectedPatterns>,
}

/// Include and exclude patterns of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectedPatterns {
    /// Include patterns; none include everything.
    pub include: Vec<String>,
    /// Exclude patterns.
    pub exclude: Vec<String>,
}

/// An object at the target that a restore removes because the snapshot lacks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Kind of the object, for instance `collection`, `view`, `database` or `directory`.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Number of its parts (documents of a collection, collections or keys of a database, entries
    /// of a directory), if known.
    pub count: Option<u64>,
    /// Estimated number of its parts, for sources that cannot count them without reading them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<u64>,
}

/// Files that a restore plan names at most, and as many removed entries.
pub const MAX_PLANNED_FILES: usize = 1000;

/// One object that a restore plan writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedObject {
    /// Kind of the object, for instance `collection`, `view`, `table`, `database` or `file`.
    pub kind: String,
    /// Name of the object at the target.
    pub name: String,
    /// Number of its parts in the backup (documents, rows, keys), if known.
    pub count: Option<u64>,
    /// The object of this name at the target; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingObject>,
}

/// An object at the target that a restore replaces or merges into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExistingObject {
    /// Number of its parts, if known.
    pub count: Option<u64>,
    /// Estimated number of its parts, for sources that cannot count them without reading them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<u64>,
}

/// Objects of a database server in a restore plan or in its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoredObjects {
    /// Databases with at least one of these collections or views.
    pub databases: u64,
    /// Collections, time-series collections included; neither users nor roles.
    pub collections: u64,
    /// Time-series collections among them. Counting their measurements would read all of them.
    #[serde(default)]
    pub time_series: u64,
    /// Views.
    pub views: u64,
    /// Documents of these collections, measurements of time-series collections left out. `None` if
    /// not known before the log is applied.
    pub documents: Option<u64>,
    /// Bytes of these documents, and of time-series data; in a plan as stored before a log is
    /// applied.
    pub bytes: u64,
    /// Users.
    pub users: u64,
    /// Roles that are not built in.
    pub roles: u64,
}

/// Entries at the target that the snapshot lacks and that a restore of files keeps. A directory
/// counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptEntries {
    /// No removal is requested, and the reason why the snapshot lacks them was not looked up.
    pub present: u64,
    /// The backup left them out by choice.
    pub excluded: u64,
    /// Unknown to the backup: it could not read them, or the snapshot has no record of skipped
    /// entries.
    pub unknown: u64,
}

impl KeptEntries {
    /// `true` if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Entries restored, directories included.
    pub entries: u64,
    /// Files or streams whose content was written at least in part.
    pub files_written: u64,
    /// Files whose content was already there.
    pub files_unchanged: u64,
    /// Entries removed because the snapshot does not have them.
    pub removed: u64,
    /// Content bytes the restored files have.
    pub total_bytes: u64,
    /// Content bytes that had to be written.
    pub written_bytes: u64,
    /// Content bytes read back and compared.
    pub verified_bytes: u64,
    /// Entries at the target that the snapshot lacks and that stay.
    #[serde(default, skip_serializing_if = "KeptEntries::is_empty")]
    pub kept: KeptEntries,
    /// Entries of files that could not be restored; each is among the warnings, and the first ones
    /// in [`Self::failed`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// Warnings emitted.
    pub warnings: u64,
    /// Each object that is removed because the snapshot lacks it, for sources that name them; of
    /// files only in a plan, and at most [`MAX_PLANNED_FILES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<Removal>,
    /// Plans only: all files that are removed.
    #[serde(skip)]
    pub planned: Arc<PlannedPaths>,
    /// Plans only: each object that is written, for sources that name them. Of files only existing
    /// ones that change, and at most [`MAX_PLANNED_FILES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<PlannedObject>,
    /// Users and roles at the target that differ from the snapshot and are replaced, for instance
    /// `user shop.clerk`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_users: Vec<String>,
    /// Indexes and options of the snapshot that are left out or converted, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjusted: Vec<String>,
    /// Objects by kind, for sources that count them so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<RestoredObjects>,
    /// Objects that are not restored, or not wholly, because the target refuses them; each is
    /// among the warnings as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<RestoreFailure>,
}

/// An object that a restore could not write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFailure {
    /// Its name, with its kind if it is no object with content: `shop.public.t_idx (index)`.
    pub object: String,
    /// The error of the target, and the content that is missing.
    pub reason: String,
    /// A remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Counts and content digest of one object (a file tree, a collection, a table, a key space).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDigest {
    /// Number of parts (files, documents, rows, keys).
    pub count: u64,
    /// Total bytes of content.
    pub bytes: u64,
    /// Order-independent digest of the parts, hexadecimal. A source that has changed what it
    /// computes puts its kind in front, `kind:`; digests of two kinds cannot be compared.
    pub digest: String,
}

/// Digests per object, to compare a restored copy with its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    /// By name of the object.
    pub objects: BTreeMap<String, ObjectDigest>,
}

/// An object that two digests do not agree about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub object: String,
    /// What the first one says of it, if it has it.
    pub stored: Option<ObjectDigest>,
    /// What the other one says of it, if it has it.
    pub found: Option<ObjectDigest>,
}

impl Digest {
    /// The objects about which `found` says something else, by name.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.objects.keys().chain(found.objects.keys()).collect();
        let both =
            names.into_iter().map(|name| (name, self.objects.get(name), found.objects.get(name)));
        both.filter(|(_, stored, found)| stored != found)
            .map(|(name, stored, found)| Difference {
                object: name.clone(),
                stored: stored.cloned(),
                found: found.cloned(),
            })
            .collect()
    }
}
