//! A source that follows a script.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`ScriptedSource`]: building and changing a script, counters, faults; the [`Source`] itself |
//! | `entry.rs` | [`ScriptedEntry`]: one entry with its content and its troubles |
//! | `data.rs` | [`Data`]: bytes, or a generator that makes them when they are read |
//! | `reader.rs` | the backup reader: order, `Close` items |
//! | `content.rs` | contents: blocking readers and async streams |
//! | `restored.rs` | restoring into memory, digests |

mod content;
mod data;
mod entry;
mod reader;
mod restored;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

pub use data::Data;
pub use entry::{ScriptedEntry, Trouble};
pub use restored::RestoredEntry;

use crate::context::Context;
use crate::event::{Warning, WarningKind};
use crate::log::Position;
use crate::repository::SnapshotReader;
use crate::source::{
    BackupReader, BackupRequest, Digest, EntryPath, LogReader, Probe, RestoreReport,
    RestoreRequest, Selection, Source, SourceCapabilities, SourceError, SourceErrorKind,
    SourceIdentity, SourceResult,
};

/// A source in memory that yields what a script says. Clones are handles on the same script and the
/// same counters.
///
/// ```
/// use backup_core::testing::{Data, ScriptedEntry, ScriptedSource};
///
/// let source = ScriptedSource::new()
///     .dir("/db")
///     .file("/db/small", "content")
///     .with(ScriptedEntry::file("/db/large", Data::generated(5 << 30, 7)).streamed())
///     .closing();
/// assert_eq!(source.calls().finished, 0);
/// ```
#[derive(Clone)]
pub struct ScriptedSource(Arc<Shared>);

/// How often a [`ScriptedSource`] was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCalls {
    /// Backups begun.
    pub opened: u64,
    /// Items asked for.
    pub next: u64,
    /// Contents that were opened, or whose stream was polled.
    pub contents: u64,
    /// Content bytes handed out.
    pub bytes: u64,
    /// Readers finished.
    pub finished: u64,
    /// Readers aborted.
    pub aborted: u64,
    /// Readers dropped without either, which the contract forbids.
    pub dropped: u64,
}

struct Shared {
    identity: SourceIdentity,
    script: Mutex<Script>,
    calls: Mutex<SourceCalls>,
    restored: Mutex<BTreeMap<EntryPath, RestoredEntry>>,
    /// Steps that can fail, so far; see [`ScriptedSource::fail_nth`].
    steps: AtomicU64,
    fault: Mutex<Option<Fault>>,
}

#[derive(Clone, Default)]
struct Script {
    entries: Vec<ScriptedEntry>,
    warnings: Vec<Warning>,
    shuffle: Option<u64>,
    closing: bool,
    fail_item: Option<(u64, SourceErrorKind)>,
    fail_finish: Option<SourceErrorKind>,
}

struct Fault {
    at: u64,
    kind: SourceErrorKind,
    fired: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for ScriptedSource {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptedSource {
    /// A source with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::named("script")
    }

    /// A source with nothing in it whose identity and host are `id`.
    #[must_use]
    pub fn named(id: &str) -> Self {
        Self(Arc::new(Shared {
            identity: SourceIdentity {
                kind: "scripted".to_owned(),
                id: id.to_owned(),
                host: id.to_owned(),
                paths: vec!["/".to_owned()],
            },
            script: Mutex::default(),
            calls: Mutex::default(),
            restored: Mutex::default(),
            steps: AtomicU64::new(0),
            fault: Mutex::default(),
        }))
    }

    /// Adds an entry, or replaces the one at its path.
    #[must_use]
    pub fn with(self, entry: ScriptedEntry) -> Self {
        self.set(entry);
        self
    }

    /// Adds a directory. Directories above entries need not be added; they get default metadata
    /// then.
    #[must_use]
    pub fn dir(self, path: &str) -> Self {
        self.with(ScriptedEntry::dir(path))
    }

    /// Adds a file whose content is read by a worker thread.
    #[must_use]
    pub fn file(self, path: &str, data: impl Into<Data>) -> Self {
        self.with(ScriptedEntry::file(path, data))
    }

    /// Adds a warning that comes before everything else.
    #[must_use]
    pub fn warning(self, kind: WarningKind, path: &str, message: &str) -> Self {
        lock(&self.0.script).warnings.push(Warning {
            kind,
            path: path.to_owned(),
            message: message.to_owned(),
        });
        self
    }

    /// Yields the entries in a random order, the same for the same seed.
    #[must_use]
    pub fn shuffled(self, seed: u64) -> Self {
        lock(&self.0.script).shuffle = Some(seed);
        self
    }

    /// Closes every directory (but the root) as soon as nothing more comes below it.
    #[must_use]
    pub fn closing(self) -> Self {
        lock(&self.0.script).closing = true;
        self
    }

    /// Lets every backup fail at item number `n`, counted from 0. The number of items means: after
    /// the last one.
    #[must_use]
    pub fn failing_at_item(self, n: u64, kind: SourceErrorKind) -> Self {
        lock(&self.0.script).fail_item = Some((n, kind));
        self
    }

    /// Lets every `finish` fail.
    #[must_use]
    pub fn failing_finish(self, kind: SourceErrorKind) -> Self {
        lock(&self.0.script).fail_finish = Some(kind);
        self
    }

    /// Adds an entry to later backups, or replaces the one at its path.
    pub fn set(&self, entry: ScriptedEntry) {
        let mut script = lock(&self.0.script);
        match script.entries.iter_mut().find(|old| old.path == entry.path) {
            Some(old) => *old = entry,
            None => script.entries.push(entry),
        }
    }

    /// Adds entries whose paths are new. Unlike [`Self::set`] this does not look for them, and
    /// suits a million.
    pub fn extend(&self, entries: impl IntoIterator<Item = ScriptedEntry>) {
        lock(&self.0.script).entries.extend(entries);
    }

    /// Removes an entry and everything below it from later backups.
    pub fn remove(&self, path: &str) {
        let path = entry::path(path);
        lock(&self.0.script).entries.retain(|entry| !entry.path.starts_with(&path));
    }

    /// How often it was called so far.
    #[must_use]
    pub fn calls(&self) -> SourceCalls {
        *lock(&self.0.calls)
    }

    /// Counts from 0 again.
    pub fn reset_calls(&self) {
        *lock(&self.0.calls) = SourceCalls::default();
    }

    /// Lets the `n`-th step from here on fail once, counted from 0. Steps are: opening a backup,
    /// each item, opening and each piece of a content, its end, `finish`. A sweep increases `n`
    /// until a backup no longer meets the fault; see [`Self::fault_fired`]. (What `Read` returns
    /// can only be of kind [`NotFound`](SourceErrorKind::NotFound),
    /// [`PermissionDenied`](SourceErrorKind::PermissionDenied) or [`Io`](SourceErrorKind::Io):
    /// other kinds become `Io` while a blocking content is read.)
    pub fn fail_nth(&self, n: u64, kind: SourceErrorKind) {
        self.0.steps.store(0, Ordering::SeqCst);
        *lock(&self.0.fault) = Some(Fault { at: n, kind, fired: false });
    }

    /// Whether the fault of [`Self::fail_nth`] has happened.
    #[must_use]
    pub fn fault_fired(&self) -> bool {
        lock(&self.0.fault).as_ref().is_some_and(|fault| fault.fired)
    }

    /// What was restored.
    #[must_use]
    pub fn restored(&self) -> BTreeMap<EntryPath, RestoredEntry> {
        lock(&self.0.restored).clone()
    }

    /// Forgets what was restored.
    pub fn clear_restored(&self) {
        lock(&self.0.restored).clear();
    }

    /// Digest of what was restored; equal to [`Source::digest`] of the source it came from.
    #[must_use]
    pub fn restored_digest(&self, selection: &Selection) -> Digest {
        restored::digest_of_restored(&lock(&self.0.restored), selection)
    }
}

impl Shared {
    /// One more step; fails if it is the one that is to fail.
    fn step(&self, doing: &str) -> SourceResult<()> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        match lock(&self.fault).as_mut() {
            Some(fault) if fault.at == step => {
                fault.fired = true;
                Err(scripted(fault.kind, doing))
            }
            _ => Ok(()),
        }
    }

    fn count(&self, count: impl FnOnce(&mut SourceCalls)) {
        count(&mut lock(&self.calls));
    }
}

/// An error that a script asks for.
fn scripted(kind: SourceErrorKind, doing: &str) -> SourceError {
    SourceError::new(kind, format!("{doing}: a fault of the script"))
}

fn check_cancelled(cx: &Context) -> SourceResult<()> {
    if cx.cancel.is_cancelled() { Err(SourceError::cancelled()) } else { Ok(()) }
}

impl fmt::Debug for ScriptedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedSource({} entries)", lock(&self.0.script).entries.len())
    }
}

impl fmt::Display for ScriptedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.identity.id)
    }
}

#[async_trait]
impl Source for ScriptedSource {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn identity(&self) -> SourceIdentity {
        self.0.identity.clone()
    }

    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities { incremental: true, log_capture: false }
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        check_cancelled(cx)?;
        let script = lock(&self.0.script);
        let files = script.entries.iter().filter(|entry| entry.is_file());
        Ok(Probe {
            estimated_objects: Some(script.entries.len() as u64),
            estimated_bytes: Some(files.map(|file| file.data.len()).sum()),
            ..Probe::default()
        })
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        check_cancelled(cx)?;
        self.0.step("opening a backup")?;
        self.0.count(|calls| calls.opened += 1);
        let script = lock(&self.0.script).clone();
        Ok(Box::new(reader::Reader::new(Arc::clone(&self.0), script, cx, &request.selection)))
    }

    async fn open_log(
        &self,
        _cx: &Context,
        _from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        Err(SourceError::new(SourceErrorKind::Unsupported, "a script has no log"))
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        restored::restore(&self.0, cx, request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        let entries = lock(&self.0.script).entries.clone();
        restored::digest_of_script(cx, entries, selection).await
    }
}
