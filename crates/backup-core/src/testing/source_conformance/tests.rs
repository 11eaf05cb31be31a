//! Good sources pass; sources with one defect each are found out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::*;
use crate::context::Context;
use crate::log::{Position, Watermark};
use crate::repository::SnapshotReader;
use crate::source::{
    BackupReader, BackupRequest, BlockingContent, Checkpoint, Content, ContentReader, Digest,
    Entry, EntryPath, IfExists, Item, LogReader, LogSegment, Probe, RestoreReport, RestoreRequest,
    Selection, SourceCapabilities, SourceError, SourceErrorKind, SourceIdentity, SourceResult,
};
use crate::testing::{Data, ScriptedEntry, ScriptedSource};

fn script() -> ScriptedSource {
    ScriptedSource::new()
        .dir("/a")
        .file("/a/text", "some text")
        .file("/a/empty", "")
        .file("/a/deep/er/file", Data::generated(3_000_000, 1))
        .with(ScriptedEntry::file("/stream", Data::generated(1_000_000, 2)).streamed())
        .with(ScriptedEntry::symlink("/link", "a/text"))
        .with(ScriptedEntry::file("/[odd] *name?", "x").xattr("user.x", &[0, 255]))
}

/// A new place to restore to: what is restored is kept in the script itself.
fn target(script: &ScriptedSource) -> SourceTarget {
    script.clear_restored();
    let script = script.clone();
    SourceTarget::new(None, move || {
        let digest = script.restored_digest(&Selection::all());
        async move { Ok(digest) }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts() {
    for script in [script(), script().shuffled(7), script().shuffled(8).closing()] {
        let source = Arc::new(script.clone());
        source_conformance(source, async || target(&script), SourceDifferences::default()).await;
        let calls = script.calls();
        assert_eq!(calls.dropped, 0);
        assert_eq!(calls.opened, calls.finished + calls.aborted);
    }
}

/// What is wrong with a source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Defect {
    ProbeChanges,
    SomethingComesAfterClose,
    EntriesRepeat,
    ContentsEndWithTheNextItem,
    SelectionsAreIgnored,
    LogIsEmpty,
    CancellingIsIgnored,
    SessionsLeak,
    RestoreForgets,
    RestoreReplaces,
    DryRunWrites,
}

const DEFECTS: [(Defect, &str); 11] = [
    (Defect::ProbeChanges, "a_probe_changes_nothing"),
    (Defect::SomethingComesAfterClose, "items_are_consistent"),
    (Defect::EntriesRepeat, "items_are_consistent"),
    (Defect::ContentsEndWithTheNextItem, "contents_may_be_read_late_and_together"),
    (Defect::SelectionsAreIgnored, "a_selection_leaves_out_what_it_excludes"),
    (Defect::LogIsEmpty, "a_log_is_there_if_it_is_declared"),
    (Defect::CancellingIsIgnored, "a_cancelled_call_ends_soon"),
    (Defect::SessionsLeak, "giving_up_releases_everything"),
    (Defect::RestoreForgets, "what_is_restored_is_what_was_there"),
    (Defect::RestoreReplaces, "what_exists_is_not_replaced"),
    (Defect::DryRunWrites, "a_dry_run_writes_nothing"),
];

#[derive(Debug, Clone)]
struct Defective {
    inner: ScriptedSource,
    defect: Defect,
    sessions: Arc<AtomicU64>,
}

impl fmt::Display for Defective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.defect)
    }
}

impl Defective {
    fn has(&self, defect: Defect) -> bool {
        self.defect == defect
    }
}

#[async_trait]
impl Source for Defective {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn identity(&self) -> SourceIdentity {
        self.inner.identity()
    }

    fn capabilities(&self) -> SourceCapabilities {
        self.inner.capabilities()
    }

    async fn probe(&self, cx: &Context) -> SourceResult<Probe> {
        if self.has(Defect::ProbeChanges) {
            self.inner.set(ScriptedEntry::file("/probed", "x"));
        }
        self.inner.probe(cx).await
    }

    async fn open_backup(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> SourceResult<Box<dyn BackupReader>> {
        let mut request = request.clone();
        if self.has(Defect::SelectionsAreIgnored) {
            request.selection = Selection::all();
        }
        if self.has(Defect::SessionsLeak) && self.sessions.fetch_add(1, Ordering::Relaxed) > 40 {
            return Err(SourceError::new(SourceErrorKind::Unavailable, "too many sessions"));
        }
        let silent = Context::silent();
        let cx = if self.has(Defect::CancellingIsIgnored) { &silent } else { cx };
        let inner = self.inner.open_backup(cx, &request).await?;
        Ok(Box::new(Reader { inner, source: self.clone(), asked: Arc::default(), closed: false }))
    }

    async fn open_log(
        &self,
        cx: &Context,
        from: Option<&Position>,
    ) -> SourceResult<Box<dyn LogReader>> {
        if self.has(Defect::LogIsEmpty) {
            return Ok(Box::new(NoLog));
        }
        self.inner.open_log(cx, from).await
    }

    async fn restore(
        &self,
        cx: &Context,
        request: &RestoreRequest,
        snapshot: &SnapshotReader,
    ) -> SourceResult<RestoreReport> {
        let mut request = request.clone();
        match self.defect {
            Defect::RestoreForgets => {
                request.selection =
                    Selection::new(Vec::new(), vec!["/a/empty".to_owned()]).unwrap();
            }
            Defect::RestoreReplaces => request.if_exists = IfExists::Replace,
            Defect::DryRunWrites => request.dry_run = false,
            _ => {}
        }
        self.inner.restore(cx, &request, snapshot).await
    }

    async fn digest(&self, cx: &Context, selection: &Selection) -> SourceResult<Digest> {
        self.inner.digest(cx, selection).await
    }
}

struct NoLog;

#[async_trait]
impl LogReader for NoLog {
    async fn next(&mut self) -> SourceResult<LogSegment> {
        std::future::pending().await
    }

    fn vouched_for(&self) -> Option<Watermark> {
        None
    }

    async fn acknowledge(&mut self, _position: &Position) -> SourceResult<()> {
        Ok(())
    }
}

struct Reader {
    inner: Box<dyn BackupReader>,
    source: Defective,
    asked: Arc<AtomicU64>,
    closed: bool,
}

impl Reader {
    fn change(&self, mut entry: Entry) -> Entry {
        let is = |path: &str| Some(&entry.path) == EntryPath::new(path).as_ref();
        match self.source.defect {
            Defect::EntriesRepeat if is("/link") => entry.path = EntryPath::new("/a/text").unwrap(),
            Defect::ContentsEndWithTheNextItem => {
                if let Content::Blocking(content) = entry.content {
                    let made = self.asked.load(Ordering::Relaxed);
                    let hasty = Hasty { content, made, asked: Arc::clone(&self.asked) };
                    entry.content = Content::Blocking(Box::new(hasty));
                }
            }
            _ => {}
        }
        entry
    }
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.source.has(Defect::SomethingComesAfterClose) && asked == 2 && !self.closed {
            self.closed = true;
            return Ok(Some(Item::Close(EntryPath::new("/a").unwrap())));
        }
        Ok(match self.inner.next().await? {
            Some(Item::Entry(entry)) => Some(Item::Entry(self.change(entry))),
            other => other,
        })
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        self.source.sessions.fetch_sub(1, Ordering::Relaxed);
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

/// A content that must be opened before the next item is asked for.
struct Hasty {
    content: Box<dyn BlockingContent>,
    made: u64,
    asked: Arc<AtomicU64>,
}

impl BlockingContent for Hasty {
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>> {
        if self.asked.load(Ordering::Relaxed) > self.made {
            return Err(SourceError::new(SourceErrorKind::Io, "too late"));
        }
        self.content.open()
    }
}

/// The message with which the suite refuses a source.
fn verdict(defect: Defect) -> String {
    let suite = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let inner = script();
        let source = Defective { inner: inner.clone(), defect, sessions: Arc::default() };
        runtime.block_on(source_conformance(
            Arc::new(source),
            async || target(&inner),
            SourceDifferences::default(),
        ));
    };
    match std::thread::spawn(suite).join() {
        Ok(()) => "nothing".to_owned(),
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    }
}

#[test]
fn every_defect_is_found() {
    for (defect, check) in DEFECTS {
        let verdict = verdict(defect);
        assert!(verdict.contains(check), "{defect:?}: {verdict}");
    }
}
