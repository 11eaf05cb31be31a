//! The backup reader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::source::{
    BackupReader, BackupRequest, Checkpoint, Chunking, Content, Entry, EntryPath, Item, Metadata, Selection,
    SourceResult,
};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp as Time;

use super::collection::{Purpose, content};
use super::oplog::{self, Kept};
use super::plan::{Plan, plan};
use super::{Pieces, Scan};
use crate::mongodb::catalog::{Collection, Kind};
use crate::mongodb::layout::{self, Layout};
use crate::mongodb::namespace::Filter;
use crate::mongodb::options::SnapshotReads;
use crate::mongodb::position::Position;
use crate::mongodb::server::Server;
use crate::mongodb::state::{Saved, State};

/// Begins a backup.
pub(in crate::mongodb) async fn open(
    cx: &Context,
    server: &Server,
    layout: Layout,
    request: &BackupRequest,
    snapshot_reads: SnapshotReads,
) -> SourceResult<Box<dyn BackupReader>> {
    server.refuse_sharded()?;
    let started = cx.clock.now();
    let filter = Filter::new(&request.selection)?;
    let plan = plan(cx, server, &filter, snapshot_reads).await?;
    let scan = Scan::new(cx, server, plan.snapshot);
    if plan.snapshot.is_some() && plan.collections.iter().any(Collection::is_capped) {
        // The server does not read capped collections at a moment of its history.
        scan.disturb();
    }
    tell(cx, server, &plan);
    let mut reader = Reader {
        scan,
        layout,
        filter,
        selection: request.selection.clone(),
        started,
        snapshot_time: plan.snapshot_time,
        beginning: plan.beginning,
        ended: Arc::default(),
        items: VecDeque::new(),
    };
    reader.prepare(plan.collections);
    Ok(Box::new(reader))
}

/// What consistency the backup has.
fn tell(cx: &Context, server: &Server, plan: &Plan) {
    let text = match (plan.snapshot, plan.beginning) {
        (Some(at), _) => format!("All collections are read as they were at {at}."),
        (None, Some(from)) => format!(
            "Collections are read one by one; the oplog from {from} on is stored with them and brings them to one moment."
        ),
        (None, None) => format!(
            "{} is a standalone server: every collection is read by itself, and collections that belong together may \
             not fit if they are written to meanwhile. A replica set of one member mends that.",
            if server.host.is_empty() { "This" } else { &server.host }
        ),
    };
    cx.events.note(text);
}

struct Reader {
    scan: Arc<Scan>,
    layout: Layout,
    filter: Filter,
    selection: Selection,
    started: Time,
    snapshot_time: Time,
    beginning: Option<Position>,
    /// The moment at which the stored oplog ends.
    ended: Arc<Mutex<Option<Position>>>,
    items: VecDeque<Next>,
}

/// What comes next. Contents are made when they are due: a list of thousands of collections costs little.
enum Next {
    Directory(EntryPath),
    /// A small file.
    Text(EntryPath, Bytes),
    Data(EntryPath, Box<Collection>),
    Oplog,
    Catalog(Vec<Saved>),
}

impl Reader {
    /// Puts the items in order: data first, then what depends on how reading it went.
    fn prepare(&mut self, collections: Vec<Collection>) {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for collection in &collections {
            *count.entry(collection.namespace.db.clone()).or_default() += 1;
        }
        let dump = self.layout.dump();
        let mut directories = BTreeSet::from([self.layout.set(), dump.clone()]);
        let (mut files, mut saved) = (VecDeque::new(), Vec::new());
        for collection in collections {
            let many = count.get(&collection.namespace.db).copied().unwrap_or(0);
            let files_of = layout::files(&dump, &collection, many);
            directories.insert(dump.join(collection.namespace.db.as_bytes()));
            directories.extend(files_of.data.iter().chain(&files_of.metadata).filter_map(EntryPath::parent));
            if let Some(path) = files_of.metadata {
                files.push_back(Next::Text(path, layout::metadata(&collection).into()));
            }
            let path = files_of.data.as_ref().map(|path| self.layout.relative(path));
            saved.push(Saved { collection: collection.clone(), path, digest: None, repeated: false });
            if let Some(path) = files_of.data {
                files.push_back(Next::Data(path, Box::new(collection)));
            }
        }
        self.items.extend(directories.into_iter().map(Next::Directory));
        self.items.append(&mut files);
        if self.beginning.is_some() {
            self.items.push_back(Next::Oplog);
        }
        self.items.push_back(Next::Catalog(saved));
    }

    fn file(&self, path: EntryPath, content: Pieces) -> Item {
        let metadata = Metadata::stream(self.started);
        let content = Content::Stream(content);
        Item::Entry(Entry { path, metadata, content, chunking: Chunking::ContentDefined })
    }

    fn oplog(&self, from: Position) -> Pieces {
        let databases: BTreeSet<String> = self
            .items
            .iter()
            .filter_map(|next| match next {
                Next::Catalog(saved) => Some(saved.iter().map(|saved| saved.collection.namespace.db.clone())),
                _ => None,
            })
            .flatten()
            .collect();
        let kept = Kept { filter: self.filter.clone(), databases: databases.into_iter().collect() };
        oplog::content(&self.scan, from, kept, Arc::clone(&self.ended))
    }

    /// Written when everything else has been read: only then it is known how.
    fn catalog(&self, mut saved: Vec<Saved>) -> Pieces {
        let scan = Arc::clone(&self.scan);
        let (include, exclude) = (self.selection.include().to_vec(), self.selection.exclude().to_vec());
        stream::once(async move {
            scan.all_read().await?;
            let needs_oplog = scan.needs_oplog();
            for saved in &mut saved {
                let (digest, repeated) = scan.outcome(&saved.collection.namespace);
                // With an oplog to fold in, the dump stands for a later moment than the one these were taken at.
                saved.digest = digest.filter(|_| !needs_oplog);
                saved.repeated = repeated;
            }
            State { version: scan.server.version, needs_oplog, include, exclude, collections: saved }.encode()
        })
        .boxed()
    }
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        if self.scan.cx.cancel.is_cancelled() {
            return Err(backup_core::source::SourceError::cancelled());
        }
        let Some(next) = self.items.pop_front() else { return Ok(None) };
        Ok(Some(match next {
            Next::Directory(path) => {
                let metadata = Metadata::directory(self.started);
                Item::Entry(Entry { path, metadata, content: Content::Empty, chunking: Chunking::default() })
            }
            Next::Text(path, text) => self.file(path, stream::once(async { Ok(text) }).boxed()),
            Next::Data(path, collection) => {
                debug_assert_eq!(collection.kind, Kind::Collection, "views have no data");
                self.file(path, content(&self.scan, *collection, Purpose::Backup))
            }
            Next::Oplog => {
                let from = self.beginning.unwrap_or_default();
                self.file(self.layout.oplog(), self.oplog(from))
            }
            Next::Catalog(saved) => self.file(self.layout.catalog(), self.catalog(saved)),
        }))
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let stored = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (position, finished) = match (stored, self.scan.snapshot) {
            (Some(end), _) => (Some(end), self.scan.cx.clock.now()),
            (None, Some(at)) => (Some(at), self.snapshot_time),
            (None, None) if self.beginning.is_some() => {
                // Nobody has read the oplog: still a moment behind everything that was read.
                (Some(oplog::end(&self.scan).await?), self.scan.cx.clock.now())
            }
            (None, None) => (None, self.scan.cx.clock.now()),
        };
        Ok(Checkpoint { started: self.started, finished, position: position.map(|at| at.to_string()) })
    }

    async fn abort(self: Box<Self>) {
        // Cursors end with their contents, and the driver's sessions with them.
    }
}
