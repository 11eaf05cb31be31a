//! What can be backed up and restored.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the [`Source`] trait, its readers, and their contract |
//! | `entry.rs` | [`Item`], [`Entry`], [`Content`]: what a backup reader yields |
//! | `metadata.rs` | [`Metadata`], [`NodeKind`]: what is known about an entry besides its content |
//! | `path.rs` | [`EntryPath`]: absolute paths of any bytes inside a snapshot |
//! | `exclude.rs` | [`ExcludePatterns`]: their order counts |
//! | `request.rs` | what is asked for: [`BackupRequest`], [`RestoreRequest`], [`Selection`] |
//! | `removal.rs` | [`Delete`]: objects that a restore removes |
//! | `skipped.rs` | [`Skipped`]: entries that a backup leaves out, and why |
//! | `server_clock.rs` | [`ServerClock`]: the clock of a server beside that of this process |
//! | `report.rs` | what is answered: [`Probe`], [`RestoreReport`], [`Digest`] |
//! | `checkpoint.rs` | [`Checkpoint`]: what a backup stands for; [`LogSegment`]: a piece of a log |
//! | `error.rs` | [`SourceError`] |

mod checkpoint;
mod entry;
mod error;
mod exclude;
mod metadata;
mod path;
mod removal;
mod report;
mod request;
mod server_clock;
mod skipped;

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;

pub use checkpoint::{Checkpoint, LogSegment, LogStart};
pub use entry::{BlockingContent, Chunking, Content, ContentEnd, ContentReader, Entry, Item};
pub use error::{MissingPassword, NeedsFull, SourceError, SourceErrorKind, SourceResult};
pub use exclude::ExcludePatterns;
pub use metadata::{Metadata, NodeKind, Xattr};
pub use path::EntryPath;
pub use removal::{Delete, Doubtful, PlannedPaths};
pub use report::{
    Difference, Digest, ExistingObject, Facts, IMPORTED, KeptEntries, LogCapture,
    MAX_PLANNED_FILES, NOT_POINT_IN_TIME, ObjectDigest, PlannedObject, Probe, ProbeProblem,
    Removal, RestoreFailure, RestoreReport, RestoredObjects, SelectedPart, SelectedPatterns,
    SourceIdentity,
};
pub use request::{
    BackupKind, BackupRequest, IfExists, MatchRecord, RestoreRequest, Selection, SelectionError,
};
pub use server_clock::ServerClock;
pub use skipped::{SkipCause, SkipRules, Skipped};

use crate::context::Context;
use crate::log::{Position, Timeline, Watermark};
use crate::repository::SnapshotReader;

/// What a source can do. Callers decide by this, never by the source's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// It can tell cheaply what changed since an earlier snapshot.
    pub incremental: bool,
    /// It has a log that can be captured continuously.
    pub log_capture: bool,
}

/// Something that can be backed up, restored and compared.
///
/// # Contract
/// - **Probe** changes nothing and reports *every* problem it finds, with the statement or setting
///   that mends it.
/// - **One moment.** A finished backup reader's checkpoint names the moment (or, for files, the
///   interval) its entries stand for.
/// - **Nothing is skipped silently.** Whatever was selected but cannot be read is an
///   [`Item::Warning`], or an error.
/// - **Restoring** writes only inside the target, never follows a symbolic link out of it, and
///   verifies what it wrote when asked to. Nothing that exists is replaced unless
///   [`RestoreRequest::if_exists`] says so.
/// - **Cancellation.** Every method watches `cx.cancel` and then ends with
///   [`SourceErrorKind::Cancelled`] soon.
///
/// Implementations prove themselves with `testing::source_conformance` (feature `testing`).
#[async_trait]
pub trait Source: Debug + Display + Send + Sync + 'static {
    /// The kind as used in tags and configuration, for instance `files`.
    fn kind(&self) -> &'static str;

    /// Which source this is: stable across runs, so that snapshots of one source find each other.
    fn identity(&self) -> SourceIdentity;

    /// What it can do.
    fn capabilities(&self) -> SourceCapabilities;

    /// Connects and reports version, topology, missing privileges and estimated size.
    async fn probe(&self, cx: &Context) -> SourceResult<Probe>;

    /// The parts that `selection` covers, with their numbers of objects. Reads no data.
    ///
    /// # Errors
    /// As [`Self::open_backup`] for a selection that the source refuses;
    /// [`SourceErrorKind::Unsupported`] if the source is no server and no path of a job.
    async fn selected(
        &self,
        _cx: &Context,
        _selection: &Selection,
    ) -> SourceResult<Vec<SelectedPart>> {
        let text = format!("the parts of a source of kind {} cannot be listed", self.kind());
        Err(SourceError::new(SourceErrorKind::Unsupported, text))
    }

    /// Begins a backup.
    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>>;

    /// Follows the log from a position, or from now on. Sources without a log answer
    /// [`SourceErrorKind::Unsupported`]; if what comes next is not there any more, the answer is
    /// [`SourceErrorKind::LogGap`].
    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>>;

    /// The same from a position with which something more was stored, by [`LogReader::state`] or
    /// [`LogStart::state`].
    async fn resume_log(
        &self,
        cx: &Context,
        from: &Position,
        _state: &str,
    ) -> SourceResult<Box<dyn LogReader>> {
        self.open_log(cx, Some(from)).await
    }

    /// Compares what a repository has noted of the log's branches with what the source remembers.
    /// [`SourceErrorKind::Invalid`] if they disagree: it is another log whose branches have the
    /// same names.
    async fn require_lineage(&self, _cx: &Context, _known: &Timeline) -> SourceResult<()> {
        Ok(())
    }

    /// Writes a snapshot, or the selected part of it, to the target.
    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport>;

    /// Counts and order-independent content digests of what the selection covers, per object.
    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest>;
}

/// Yields the entries of one backup.
///
/// # Contract
/// - `next` is called by one task at a time and never again after `Ok(None)` or an error.
/// - Contents of several entries may be read at the same time, also after `next` has gone on, until
///   `finish` or `abort`.
/// - Entries may come in any order. [`Item::Close`] promises that nothing more comes at or below a
///   path; it lets the pipeline store that directory early and keeps its memory small. It is
///   optional.
/// - Exactly one of `finish` and `abort` is called at the end. Only after `finish` has returned
///   `Ok` may the snapshot be published.
#[async_trait]
pub trait BackupReader: Send {
    /// The next item, or `None` at the end.
    async fn next(&mut self) -> SourceResult<Option<Item>>;

    /// Ends with an error if a content, or `next`, cannot go on: a thread waits for a file system
    /// that has not answered for the time-out of the source. The backup is then given up without
    /// waiting for that thread. Streams report their time-outs themselves. Default: never ends.
    fn stalled(&self) -> BoxFuture<'static, SourceError> {
        std::future::pending().boxed()
    }

    /// The rules by which entries are left out, from a reader that yields an [`Item::Skipped`] for
    /// every one that it leaves out: they are recorded beside the manifest. Default: `None`.
    fn skip_rules(&self) -> Option<SkipRules> {
        None
    }

    /// All contents have been read, and `finish` comes next: what there is to record besides the
    /// checkpoint.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// All contents have been read: says what the backup stands for, and releases slots, cursors
    /// and sessions.
    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint>;

    /// The backup is given up: releases slots, cursors and sessions.
    async fn abort(self: Box<Self>);
}

/// Follows a source's log.
///
/// # Contract
/// - Segments come in order and without a gap; a gap is an error ([`SourceErrorKind::LogGap`]),
///   never skipped. A new branch begins with a segment that says where it left its parent.
/// - The first segment begins where the log was opened, or before: a source that keeps its log in
///   larger pieces may go back to the beginning of one.
/// - A segment is small, at most some MiB: whoever captures the log holds several of them in
///   memory.
/// - `next` may be dropped while it waits; nothing is lost by that.
/// - What was yielded may be forgotten by the source only after `acknowledge`.
#[async_trait]
pub trait LogReader: Send {
    /// The next segment; waits until there is one.
    async fn next(&mut self) -> SourceResult<LogSegment>;

    /// What the source needs, besides the position, to go on behind the segment that came last:
    /// stored with it, and handed to [`Source::resume_log`]. Most need nothing.
    fn state(&self) -> Option<String> {
        None
    }

    /// The time before which everything that happened is in the segments that were yielded, and
    /// where the last of them ends. `None` unless the source itself is known to have sent
    /// everything: a member of a set passes on the word of its primary, and vouches for nothing
    /// while it is cut off from it.
    fn vouched_for(&self) -> Option<Watermark>;

    /// The log begins anew, and that much of it is stored already. A source whose positions are
    /// times says later ones from here on, whatever its clock shows; others need nothing.
    fn begin_behind(&mut self, _known: &[Position]) {}

    /// Everything up to `position` is durable.
    async fn acknowledge(&mut self, position: &Position) -> SourceResult<()>;
}
