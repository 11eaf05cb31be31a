//! The loop that takes items from the source and results from the workers.

mod dirs;
mod keep;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::FusedFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::assembler::{Assembler, DirId};
use super::buffers::Buffers;
use super::content::{FileJob, Finished, SMALL, Stage, StreamJob};
use super::items::Items;
use super::options::{BackupOptions, EntryCounts};
use super::parent::Parent;
use super::skipped::SkippedList;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Warning, WarningKind};
use crate::format::{BlobKind, IncompleteEntry, MAX_INCOMPLETE, ManifestTotals, Node};
use crate::id::{BlobId, SnapshotId};
use crate::pipeline::Meter;
use crate::repository::cpu::{CpuPool, panicked};
use crate::repository::{BlobReader, BlobWriter, IndexedRepository};
use crate::source::{Content, Entry, EntryPath, Item, Metadata, Selection, SourceError};

/// A batch is complete with so many bytes or files.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_FILES: usize = 128;

/// Most files (or batches of small ones) that are read at a time.
const MAX_READERS: usize = 8;

/// One backup on its way from items to a root directory.
pub(super) struct Run {
    stage: Stage,
    reader: BlobReader,
    parent: Option<Parent>,
    zone: jiff::tz::TimeZone,
    assembler: Assembler,
    jobs: JoinSet<Result<Vec<Finished>>>,
    max_jobs: usize,
    /// One fewer may read large files at a time: each of these holds a chunk of megabytes.
    large: Arc<Semaphore>,
    batch: Vec<FileJob>,
    batch_bytes: u64,
    pub(super) files: EntryCounts,
    pub(super) dirs: EntryCounts,
    pub(super) totals: ManifestTotals,
    /// The first entries that are missing or incomplete.
    pub(super) incomplete: Vec<IncompleteEntry>,
    /// The list of the entries that the source leaves out.
    pub(super) skipped: SkippedList,
}

impl Run {
    pub(super) fn new(
        cx: &Context,
        indexed: &IndexedRepository,
        writer: BlobWriter,
        parent: Option<Parent>,
        options: &BackupOptions,
        meter: Meter,
    ) -> Self {
        let repository = indexed.repository().clone();
        // A reader more than there are cores: one may wait for the disk. Readers and the chunks
        // they wait for run on the same blocking threads, so there must be far fewer readers than
        // the runtime has of these.
        let max_jobs = (repository.cpu().threads() + 1).min(MAX_READERS);
        Self {
            stage: Stage {
                cx: cx.clone(),
                repository,
                writer,
                meter,
                buffers: Buffers::default(),
                max_bytes: options.max_bytes,
            },
            reader: indexed.reader(),
            parent,
            zone: options.time_zone.clone(),
            assembler: Assembler::default(),
            jobs: JoinSet::new(),
            max_jobs,
            large: Arc::new(Semaphore::new(max_jobs - 1)),
            batch: Vec::new(),
            batch_bytes: 0,
            files: EntryCounts::default(),
            dirs: EntryCounts::default(),
            totals: ManifestTotals::default(),
            incomplete: Vec::new(),
            skipped: SkippedList::default(),
        }
    }

    pub(super) fn parent_id(&self) -> Option<SnapshotId> {
        self.parent.map(|parent| parent.id)
    }

    /// Takes everything the source has; returns when all contents are stored and all directories
    /// but the root.
    pub(super) async fn collect(&mut self, items: &mut Items) -> Result<()> {
        let cancel = self.stage.cx.cancel.clone();
        loop {
            if self.jobs.len() < self.max_jobs {
                match items.next().now_or_never() {
                    Some(Some(item)) => {
                        self.item(item?).await?;
                        if cancel.is_cancelled() {
                            return Err(Error::cancelled());
                        }
                        continue;
                    }
                    Some(None) => break,
                    // The source is slower than we are: no sense in waiting for the batch to fill.
                    None if self.jobs.is_empty() => self.start_batch(),
                    None => {}
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    self.arrived(done.map_err(panicked)??).await?;
                }
                item = items.next(), if self.jobs.len() < self.max_jobs => match item {
                    Some(item) => self.item(item?).await?,
                    None => break,
                },
            }
        }
        self.start_batch();
        while let Some(done) = self.jobs.join_next().await {
            self.arrived(done.map_err(panicked)??).await?;
            self.stage.cx.check_cancelled()?;
        }
        // What is taken over from the parent is counted, too.
        self.stage.require_room(self.totals.bytes)?;
        self.close(&EntryPath::root()).await
    }

    /// Waits until no content is read any more; they notice the cancellation at their next chunk.
    /// Threads that cannot go on, because reading has `stalled`, are left behind.
    pub(super) async fn stop(
        &mut self,
        stalled: &mut (impl FusedFuture<Output = SourceError> + Unpin),
    ) {
        self.batch.clear();
        while !stalled.is_terminated() && !self.jobs.is_empty() {
            tokio::select! {
                _ended = self.jobs.join_next() => {}
                _stalled = &mut *stalled => {}
            }
        }
        // Those that have not begun to read end now.
        self.large.close();
        self.jobs.detach_all();
    }

    async fn item(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Entry(entry) => self.entry(entry).await,
            Item::Keep(path) => self.keep(&path).await,
            Item::Close(path) => self.close(&path).await,
            Item::Warning(warning) => {
                self.warn(warning);
                Ok(())
            }
            Item::Skipped(skipped) => self.skip(&skipped).await,
        }
    }

    pub(super) fn writer(&self) -> &BlobWriter {
        &self.stage.writer
    }

    pub(super) fn cpu(&self) -> &CpuPool {
        self.stage.repository.cpu()
    }

    /// The complete nodes of an open directory.
    pub(super) fn nodes_of(&mut self, dir: DirId) -> Result<&[Node]> {
        Ok(&self.assembler.dir(dir)?.nodes)
    }

    /// Compares the selection with what was found. A pattern that matches nothing is a warning.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no include pattern matches anything: a misspelt selection must
    /// not become a snapshot.
    pub(super) fn require_matches(&mut self, selection: &Selection) -> Result<()> {
        let quoted = |pattern: &str| format!("{pattern:?}");
        if selection.has_no_match() {
            let include = selection.include();
            let patterns: Vec<String> = include.iter().map(|pattern| quoted(pattern)).collect();
            let text = format!("nothing in the source matches {}", patterns.join(", "));
            let hint = if include.iter().any(|pattern| pattern.contains(',')) {
                "give each pattern separately, not as a list with commas"
            } else {
                "correct the include patterns"
            };
            return Err(Error::new(ErrorKind::NotFound, text).with_hint(hint));
        }
        for pattern in selection.unmatched().into_iter().map(quoted) {
            let message = format!("the include pattern {pattern} matches nothing in the source");
            self.warn(Warning { kind: WarningKind::Other, path: String::new(), message });
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning) {
        self.totals.warnings += 1;
        if self.incomplete.len() < MAX_INCOMPLETE {
            let (path, message) = (warning.path.clone(), warning.message.clone());
            self.incomplete.push(IncompleteEntry { path, message });
        }
        self.stage.cx.events.emit(&Event::Warning(warning));
    }

    async fn entry(&mut self, entry: Entry) -> Result<()> {
        let Entry { path, metadata, content, chunking } = entry;
        if metadata.kind == crate::source::NodeKind::Dir {
            let dir = self.ensure_dir(&path).await?;
            self.assembler.dir(dir)?.metadata = Some(metadata);
            return Ok(());
        }
        let Some(parent) = path.parent() else {
            return Err(Error::new(
                ErrorKind::Source,
                "the source reports that / is not a directory",
            ));
        };
        let dir = self.ensure_dir(&parent).await?;
        let earlier = self.assembler.earlier(dir, path.name());
        let existed = earlier.is_some_and(Node::is_file);
        let known = earlier.and_then(|earlier| self.known_content(earlier, &metadata));
        match content {
            Content::Empty => {
                let node =
                    Node { name: path.name().into(), metadata, content: Vec::new(), subtree: None };
                if node.is_file() {
                    self.count_file(existed, false, 0);
                } else {
                    self.totals.others += 1;
                }
                self.assembler.dir(dir)?.nodes.push(node);
                self.stage.meter.add_items(1);
            }
            Content::Blocking(content) => {
                if let Some(known) = known {
                    self.count_file(true, true, metadata.size);
                    self.stage.meter.add_items(1);
                    self.stage.count(metadata.size)?;
                    let node =
                        Node { name: path.name().into(), metadata, content: known, subtree: None };
                    self.assembler.dir(dir)?.nodes.push(node);
                    return Ok(());
                }
                self.assembler.expect(dir)?;
                self.start_file(FileJob { dir, path, metadata, chunking, existed, content });
            }
            Content::Stream(content) => {
                self.assembler.expect(dir)?;
                let stage = self.stage.clone();
                let job = StreamJob { dir, path, metadata, chunking, existed, content };
                self.jobs.spawn(async move { Ok(vec![stage.read_stream(job).await?]) });
            }
        }
        Ok(())
    }

    /// The blobs of a file that has not changed, if the repository still has them all.
    fn known_content(&self, earlier: &Node, metadata: &Metadata) -> Option<Vec<BlobId>> {
        let unchanged = self.parent.is_some_and(|parent| parent.is_unchanged(earlier, metadata));
        let knows = |id| self.stage.writer.knows(BlobKind::Data, id);
        (unchanged && earlier.content.iter().all(knows)).then(|| earlier.content.clone())
    }

    fn start_file(&mut self, job: FileJob) {
        if job.metadata.size > SMALL {
            let stage = self.stage.clone();
            let (handle, large) = (Handle::current(), Arc::clone(&self.large));
            self.jobs.spawn_blocking(move || {
                let _turn =
                    handle.block_on(large.acquire_owned()).map_err(|_closed| Error::cancelled())?;
                Ok(vec![stage.read_large(job, &handle)?])
            });
            return;
        }
        self.batch_bytes += job.metadata.size;
        self.batch.push(job);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES {
            self.start_batch();
        }
    }

    fn start_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let jobs = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let stage = self.stage.clone();
        let handle = Handle::current();
        self.jobs.spawn_blocking(move || stage.read_small(jobs, &handle));
    }

    fn count_file(&mut self, existed: bool, same: bool, bytes: u64) {
        self.totals.files += 1;
        self.totals.bytes += bytes;
        match (existed, same) {
            (true, true) => self.files.unmodified += 1,
            (true, false) => self.files.changed += 1,
            (false, _) => self.files.new += 1,
        }
    }

    async fn arrived(&mut self, finished: Vec<Finished>) -> Result<()> {
        for Finished { dir, node, warning, existed, skipped } in finished {
            if let Some(skipped) = skipped {
                self.skip_failed(&skipped).await?;
            }
            if let Some(warning) = warning {
                self.warn(warning);
            }
            if let Some(node) = &node {
                self.count_file(existed, false, node.metadata.size);
            }
            self.assembler.arrived(dir, node)?;
            self.store_upwards(dir).await?;
        }
        Ok(())
    }
}
