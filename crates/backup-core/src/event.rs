//! One stream of events; reporters subscribe. Nothing below the front-ends prints.
//!
//! Long operations emit a few typed events and, at most ten times a second, a [`Progress`] with
//! running totals. A terminal bar, JSON lines, metrics and a daemon's run record are all reporters
//! of this one stream.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::SnapshotId;
use crate::log::Position;

/// The stages of a long operation, in the order in which people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Loading the index of the repository.
    LoadIndex,
    /// Reading the source and storing it.
    Backup,
    /// Making everything durable and checking what was written.
    Commit,
    /// Reading the snapshot's tree and planning.
    Plan,
    /// Writing the target.
    Restore,
    /// Reading back what is stored or was restored.
    Verify,
    /// Checking the structure of the repository.
    Check,
    /// Reading all packs.
    ReadData,
    /// Copying snapshots into another repository.
    Copy,
    /// Waiting until archived objects can be read.
    Thaw,
    /// Following snapshots to everything they need.
    Reach,
    /// Moving data into new packs.
    Repack,
    /// Deleting what nothing needs.
    Delete,
}

/// Running totals of one stage. Zero totals are unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Entries (files, directories, streams) or objects done.
    pub done_items: u64,
    /// Expected number, 0 if unknown.
    pub total_items: u64,
    /// Bytes done.
    pub done_bytes: u64,
    /// Expected bytes, 0 if unknown.
    pub total_bytes: u64,
}

/// Why an entry is missing from a snapshot, or is not exactly what the source held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningKind {
    /// The entry could not be read; it is not in the snapshot.
    Unreadable,
    /// The entry vanished between being listed and being read; it is not in the snapshot.
    Vanished,
    /// The entry changed while it was read; the snapshot holds what was read.
    Changed,
    /// Metadata could not be read or restored in full.
    Metadata,
    /// Something else that the user should know.
    Other,
}

/// Something that does not stop a run but makes it end *completed with warnings*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What kind of trouble.
    pub kind: WarningKind,
    /// The path it is about, printable; empty if none.
    pub path: String,
    /// What happened.
    pub message: String,
}

/// What the capturer of a log tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "log", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogEvent {
    /// The log is followed from here on; from now on if there is no position.
    Following {
        /// Where it goes on.
        from: Option<Position>,
    },
    /// Everything up to a position is stored.
    Stored {
        /// The position.
        position: Position,
        /// When that was, by the clock of the source.
        time: Option<Timestamp>,
        /// Bytes that were captured and are not stored yet.
        waiting_bytes: u64,
    },
    /// Storing fails; it is tried again.
    Delayed {
        /// Why.
        message: String,
        /// Bytes that were captured and are not stored yet.
        waiting_bytes: u64,
    },
    /// No more can be captured until something is stored: the source keeps the rest, as long as it
    /// can.
    Full {
        /// Bytes that were captured and are not stored yet.
        waiting_bytes: u64,
    },
    /// Something is missing: what comes next needs a new full backup.
    Gap {
        /// Why.
        reason: String,
    },
    /// The connection to the source is lost, and the source looks for another one.
    Unreachable {
        /// Why.
        message: String,
    },
    /// The source is connected again after [`LogEvent::Unreachable`].
    Connected,
    /// The source cannot be read; it is tried again.
    Reconnecting {
        /// Why.
        message: String,
        /// When, in seconds.
        seconds: u64,
    },
    /// What was captured is in a snapshot now.
    RolledUp {
        /// The snapshot.
        id: SnapshotId,
    },
}

/// What a long operation tells its reporters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A stage begins.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// Running totals of a stage.
    Progress {
        /// Which stage.
        stage: Stage,
        /// The totals so far.
        #[serde(flatten)]
        progress: Progress,
    },
    /// A stage has ended.
    StageFinished {
        /// Which.
        stage: Stage,
        /// Final totals.
        #[serde(flatten)]
        progress: Progress,
    },
    /// Something the run survives but the user must know.
    Warning(Warning),
    /// A snapshot is durable and listed.
    SnapshotSaved {
        /// Its name.
        id: SnapshotId,
    },
    /// Something about the log of a source that is being captured.
    Log(LogEvent),
    /// A plain remark, for instance that a guard object was recreated.
    Note {
        /// The text: a sentence.
        message: String,
    },
}

/// Receives events. Called from any thread; must be quick and must not block.
pub trait Reporter: Send + Sync + 'static {
    /// Takes one event.
    fn report(&self, event: &Event);
}

/// A cheap handle through which operations emit events.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<dyn Reporter>>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Events(reporter)" } else { "Events(silent)" })
    }
}

impl Events {
    /// Events that go to `reporter`.
    pub fn to(reporter: Arc<dyn Reporter>) -> Self {
        Self(Some(reporter))
    }

    /// Events that nobody receives.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    /// Emits one event.
    pub fn emit(&self, event: &Event) {
        if let Some(reporter) = &self.0 {
            reporter.report(event);
        }
    }

    /// Emits [`LogEvent::Unreachable`].
    pub fn unreachable(&self, message: impl Into<String>) {
        self.emit(&Event::Log(LogEvent::Unreachable { message: message.into() }));
    }

    /// Emits [`LogEvent::Connected`].
    pub fn connected(&self) {
        self.emit(&Event::Log(LogEvent::Connected));
    }

    /// Emits a remark.
    pub fn note(&self, message: impl Into<String>) {
        self.emit(&Event::Note { message: message.into() });
    }

    /// Emits a warning.
    pub fn warn(&self, kind: WarningKind, path: impl Into<String>, message: impl Into<String>) {
        self.emit(&Event::Warning(Warning { kind, path: path.into(), message: message.into() }));
    }
}
