//! What came of a run.

use backup_core::pipeline::BackupReport;
use backup_core::source::RestoreReport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What came of a run, as far as it got. Stored as JSON: fields may be added, and must not be taken
/// away.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// What is backed up, or where to it is restored; without secrets.
    pub subject: String,
    /// The snapshot that was made or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The identity of the repository, of runs that were added from it: its address may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// The type of the snapshot that was made.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Files and streams.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were new to the repository, or that a restore had to write.
    pub new_bytes: u64,
    /// Bytes that were stored, as they lie there.
    pub stored_bytes: u64,
    /// Bytes that a restore has read back and compared with the snapshot.
    #[serde(skip_serializing_if = "is_zero")]
    pub compared_bytes: u64,
    /// A restore was one of the whole snapshot; none of other runs, and of older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_whole: Option<bool>,
    /// A backup of a part of its job, by flags such as `--only`. Records of older versions have no
    /// such field and count as whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_part: bool,
    /// Entries that are missing or incomplete.
    pub warnings: u64,
    /// Seconds by which the store's clock was ahead of that of the machine; none if the store has
    /// no clock of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_seconds: Option<i64>,
    /// Seconds by which the clock of the server that was backed up was ahead of that of the
    /// machine; none for sources without a server, and where the server does not report its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_clock_offset_seconds: Option<i64>,
    /// How long its stages took.
    pub stages: Vec<StageTime>,
    /// Of a group: the first moment that has all snapshots of this run before it. None if one of
    /// them has no log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moment: Option<Timestamp>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The run was closed although the end of its process is not known: another machine
    /// heard nothing of it, or its log is missing. A result that comes after all replaces this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_presumed: bool,
    /// The words of a command line that does the same again, without the program; none if they
    /// would hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Vec<String>>,
    /// Flags that are not among these words, because they may hold a secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// Which, for instance `backup`.
    pub stage: String,
    /// How long, in milliseconds.
    pub millis: u64,
    /// Bytes that went through it.
    pub bytes: u64,
    /// Entries or objects that went through it.
    pub items: u64,
}

/// Why a run failed: without secrets, as it was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The message, with its causes.
    pub message: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Evidence {
    /// Takes over what a backup reports.
    pub fn backed_up(&mut self, report: &BackupReport) {
        let files = &report.files;
        self.snapshot = report.snapshot.as_ref().map(backup_core::id::SnapshotId::to_hex);
        self.kind = Some(report.kind.as_str().to_owned());
        self.files = files.new + files.changed + files.unmodified;
        self.bytes = report.totals.bytes;
        self.new_bytes = report.stored.added_bytes;
        self.stored_bytes = report.stored.packed_bytes;
        self.clock_offset_seconds = report.clock_offset_seconds;
        self.server_clock_offset_seconds = report.server_clock_offset_seconds;
        self.warnings = report.warnings;
    }

    /// Takes over what a restore reports.
    pub fn restored(&mut self, report: &RestoreReport) {
        self.files = report.files_written + report.files_unchanged;
        self.bytes = report.total_bytes;
        self.new_bytes = report.written_bytes;
        self.compared_bytes = report.verified_bytes;
        self.warnings = report.warnings;
    }
}
