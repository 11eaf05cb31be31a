//! What a source answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Probe {
    /// Version of the server, if there is one.
    pub version: Option<String>,
    /// Everything that stands in the way of a backup, each with the statement or setting that mends it.
    pub problems: Vec<String>,
    /// Estimated number of objects (files, collections, tables), if cheap to know.
    pub estimated_objects: Option<u64>,
    /// Estimated size in bytes, if cheap to know.
    pub estimated_bytes: Option<u64>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
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
    /// Warnings emitted.
    pub warnings: u64,
}

/// Counts and content digest of one object (a file tree, a collection, a table, a key space).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDigest {
    /// Number of parts (files, documents, rows, keys).
    pub count: u64,
    /// Total bytes of content.
    pub bytes: u64,
    /// Order-independent digest of the parts, hexadecimal.
    pub digest: String,
}

/// Digests per object, to compare a restored copy with its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    /// By name of the object.
    pub objects: BTreeMap<String, ObjectDigest>,
}
