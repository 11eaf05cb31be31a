//! Counting what is done, telling of it, and collecting what could not be restored in full.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::event::{Events, Progress, Stage, WarningKind};
use backup_core::source::{
    EntryPath, ExistingObject, KeptEntries, MAX_PLANNED_FILES, PlannedObject, PlannedPaths,
    Removal, RestoreFailure, RestoreReport, SourceError, SourceErrorKind,
};
use rustix::io::Errno;

use super::absent::Doubt;
use crate::progress::StageProgress;

/// As root, trouble with metadata is unexpected: so many cases of a kind are reported one by one.
const SINGLY: u64 = 20;

/// What of an entry could not be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Owner,
    Mode,
    Times,
    /// The snapshot holds the nearest time to one that it cannot hold.
    Years,
    Attributes,
    Special,
    Link,
}

impl Part {
    fn describe(self) -> &'static str {
        match self {
            Self::Owner => "owner and group could not be set",
            Self::Mode => "the mode could not be set",
            Self::Times => "the times could not be set",
            Self::Years => {
                "the snapshot holds the nearest time to one outside of the years 0 to 9999"
            }
            Self::Attributes => "extended attributes could not be set",
            Self::Special => "the device, pipe or socket could not be created",
            Self::Link => "the hard link could not be created; the file was copied",
        }
    }

    fn kind(self) -> WarningKind {
        if self == Self::Special { WarningKind::Other } else { WarningKind::Metadata }
    }
}

/// Cases of one kind of trouble that have not been reported yet.
#[derive(Debug, Clone)]
struct Cases {
    first: String,
    reason: Errno,
    reported: u64,
    waiting: u64,
}

/// Counts, from all threads.
#[derive(Debug)]
pub(super) struct Tally {
    events: Events,
    stage: StageProgress,
    pub(super) files_written: AtomicU64,
    pub(super) files_unchanged: AtomicU64,
    removed: AtomicU64,
    failures: AtomicU64,
    /// Files that differ from the snapshot after they were written.
    mismatches: AtomicU64,
    kept: Mutex<KeptEntries>,
    pub(super) total_bytes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) verified_bytes: AtomicU64,
    warnings: AtomicU64,
    trouble: Mutex<BTreeMap<Part, Cases>>,
    singly: u64,
    named: Mutex<Named>,
    /// Hashes of the paths that a plan removes.
    planned: Mutex<Vec<u128>>,
}

/// Entries of the target that a report names, at most [`MAX_PLANNED_FILES`] of each.
#[derive(Debug, Default)]
struct Named {
    changed: Vec<PlannedObject>,
    removed: Vec<Removal>,
    failed: Vec<RestoreFailure>,
}

/// The counts before a removal.
#[derive(Debug)]
pub(super) struct BeforeRemoval {
    removed: u64,
    named: usize,
}

impl Tally {
    /// Begins to count; of `totals` the expected numbers are used.
    pub(super) fn new(events: Events, totals: Progress) -> Self {
        let singly = if rustix::process::geteuid().is_root() { SINGLY } else { 0 };
        Self {
            stage: StageProgress::start(&events, Stage::Restore, totals),
            events,
            files_written: AtomicU64::new(0),
            files_unchanged: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
            kept: Mutex::default(),
            total_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            verified_bytes: AtomicU64::new(0),
            warnings: AtomicU64::new(0),
            trouble: Mutex::default(),
            singly,
            named: Mutex::default(),
            planned: Mutex::default(),
        }
    }

    /// Counts entries and bytes that are done.
    pub(super) fn done(&self, items: u64, bytes: u64) {
        self.stage.done(items, bytes);
    }

    /// Takes back bytes that were counted as done but have to be written after all.
    pub(super) fn undone(&self, bytes: u64) {
        self.stage.undone(bytes);
    }

    /// Reports something the user must know.
    pub(super) fn warn(
        &self,
        kind: WarningKind,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.warnings.fetch_add(1, Relaxed);
        self.events.warn(kind, path, message);
    }

    /// Notes that `part` of the entry at `path` could not be restored. Whoever is not root gets one
    /// warning per kind at the end instead of one per file.
    pub(super) fn trouble(&self, part: Part, path: &EntryPath, reason: Errno) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Cases { first: path.to_string(), reason, reported: 0, waiting: 0 };
        let cases = trouble.entry(part).or_insert_with(new);
        if cases.reported < self.singly {
            cases.reported += 1;
            drop(trouble);
            self.warn(
                part.kind(),
                path.to_string(),
                format!("{}: {}", part.describe(), std::io::Error::from(reason)),
            );
            return;
        }
        if cases.waiting == 0 {
            cases.first = path.to_string();
            cases.reason = reason;
        }
        cases.waiting += 1;
    }

    /// Names an existing entry that a restore would change or replace.
    pub(super) fn plan_change(&self, kind: &str, name: String) {
        let mut named = self.named();
        if named.changed.len() < MAX_PLANNED_FILES {
            let existing = Some(ExistingObject::default());
            let kind = kind.to_owned();
            named.changed.push(PlannedObject { kind, name, count: None, existing });
        }
    }

    /// Begins the removal of an entry, which may be a directory with others in it.
    pub(super) fn begin_removal(&self) -> BeforeRemoval {
        BeforeRemoval { removed: self.removed.load(Relaxed), named: self.named().removed.len() }
    }

    /// Notes an entry that a plan removes, by the hash of its path.
    pub(super) fn plan_removal(&self, hash: u128) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).push(hash);
    }

    /// Counts a removed entry. A plan names it: a directory in place of the entries in it, with
    /// their number.
    pub(super) fn end_removal(
        &self,
        before: &BeforeRemoval,
        kind: &str,
        name: String,
        is_dir: bool,
        really: bool,
    ) {
        let inside = self.removed.fetch_add(1, Relaxed).saturating_sub(before.removed);
        let mut named = self.named();
        named.removed.truncate(before.named);
        if !really && named.removed.len() < MAX_PLANNED_FILES {
            let (kind, count) = (kind.to_owned(), is_dir.then_some(inside));
            named.removed.push(Removal { kind, name, count, estimate: None });
        }
    }

    /// Counts an entry that the snapshot lacks and that stays, because of these doubts.
    pub(super) fn keep(&self, doubt: Doubt) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match doubt {
            Doubt { unknown: true, .. } => kept.unknown += 1,
            Doubt { excluded: true, .. } => kept.excluded += 1,
            Doubt { .. } => kept.present += 1,
        }
    }

    /// Counts and names an entry that could not be restored.
    pub(super) fn fail(&self, path: &EntryPath, shown: String, error: &SourceError) {
        self.failures.fetch_add(1, Relaxed);
        if error.kind() == SourceErrorKind::Mismatch {
            self.mismatches.fetch_add(1, Relaxed);
        }
        self.warn(WarningKind::Other, path.to_string(), format!("failed: {}", error.chain()));
        let mut named = self.named();
        if named.failed.len() < MAX_PLANNED_FILES {
            let (reason, hint) = (error.chain(), error.hint().map(str::to_owned));
            named.failed.push(RestoreFailure { object: shown, reason, hint });
        }
    }

    /// Number of files that differ from the snapshot after they were written.
    pub(super) fn mismatches(&self) -> u64 {
        self.mismatches.load(Relaxed)
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports what is still to be reported, and says what was done.
    pub(super) fn finish(&self) -> RestoreReport {
        let trouble =
            std::mem::take(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner));
        for (part, cases) in trouble.into_iter().filter(|(_, cases)| cases.waiting > 0) {
            let more = if cases.reported > 0 { "more " } else { "" };
            let count = cases.waiting;
            let entries = if count == 1 { "entry" } else { "entries" };
            let message = format!(
                "{} for {count} {more}{entries}, of which this is the first: {}",
                part.describe(),
                std::io::Error::from(cases.reason)
            );
            self.warn(part.kind(), cases.first, message);
        }
        self.stage.finish();
        let named = std::mem::take(&mut *self.named());
        let planned =
            std::mem::take(&mut *self.planned.lock().unwrap_or_else(PoisonError::into_inner));
        let mut objects = named.changed;
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        RestoreReport {
            objects,
            removals: named.removed,
            planned: Arc::new(PlannedPaths::new(planned)),
            failed: named.failed,
            failures: self.failures.load(Relaxed),
            kept: *self.kept.lock().unwrap_or_else(PoisonError::into_inner),
            entries: self.stage.totals().done_items,
            files_written: self.files_written.load(Relaxed),
            files_unchanged: self.files_unchanged.load(Relaxed),
            removed: self.removed.load(Relaxed),
            total_bytes: self.total_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            verified_bytes: self.verified_bytes.load(Relaxed),
            warnings: self.warnings.load(Relaxed),
            ..RestoreReport::default()
        }
    }
}
