//! The backup reader.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::event::Warning;
use backup_core::log;
use backup_core::source::{
    BackupKind, BackupReader, BackupRequest, Checkpoint, Chunking, Content, Entry, EntryPath,
    Facts, Item, LogStart, Metadata, Selection, SourceResult,
};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp as Time;

use super::collection::{Purpose, content};
use super::oplog::{self, Kept};
use super::plan::{Plan, plan};
use super::{Pieces, Scan, since};
use crate::mongodb::catalog::{Collection, Kind};
use crate::mongodb::history;
use crate::mongodb::layout::{self, Arranged, Layout};
use crate::mongodb::namespace::Filter;
use crate::mongodb::options::MongoOptions;
use crate::mongodb::position::Position;
use crate::mongodb::server::{Server, unless_cancelled};
use crate::mongodb::state::{Saved, State};
use crate::pace::Pace;

/// Begins a backup.
pub(in crate::mongodb) async fn open(
    cx: &Context,
    server: &Server,
    layout: Layout,
    request: &BackupRequest,
    options: &MongoOptions,
) -> SourceResult<Box<dyn BackupReader>> {
    server.refuse_sharded()?;
    if let Some(parent) = &request.parent
        && let Some(reader) = since::open(cx, server, &layout, request, parent, options).await?
    {
        return Ok(reader);
    }
    let started = cx.clock.now();
    let filter = Filter::new(&request.selection)?;
    let plan = plan(cx, server, &filter, options.snapshot_reads).await?;
    let scan = Scan::new(
        cx,
        server,
        plan.snapshot,
        options.cursors,
        Pace::of(options.max_bytes_per_second),
    );
    if plan.snapshot.is_some() && plan.listed.collections.iter().any(Collection::is_capped) {
        // The server does not read capped collections at a moment of its history.
        scan.disturb();
    }
    tell(cx, server, &plan);
    let remarks = unnamed(&plan.listed.unnamed);
    let warnings: Vec<Warning> = plan.listed.warnings().collect();
    let mut reader = Reader {
        scan,
        layout,
        filter,
        selection: request.selection.clone(),
        started,
        snapshot_time: plan.snapshot_time,
        beginning: plan.beginning,
        is_read: plan.is_read,
        ended: Arc::default(),
        items: VecDeque::new(),
        remarks,
    };
    reader.items.extend(warnings.into_iter().map(Next::Warning));
    reader.prepare(plan.listed.collections);
    Ok(Box::new(reader))
}

/// What consistency the backup has.
fn tell(cx: &Context, server: &Server, plan: &Plan) {
    let text = match (plan.snapshot, plan.beginning) {
        (Some(at), _) => format!("All collections are read as they were at {at}."),
        (None, Some(from)) => format!(
            "Collections are read one by one; the oplog from {from} on is stored with them and \
             brings them to one moment."
        ),
        (None, None) => format!(
            "{} is a standalone server: each collection is read at its own moment, so related \
             collections may be inconsistent. Convert it to a replica set of one member to avoid \
             this.",
            if server.host.is_empty() { "This" } else { &server.host }
        ),
    };
    cx.events.note(text);
    if server.at_least(7, 0) {
        cx.events.note(format!(
            "MongoDB {} is newer than the tested versions (4.4 to 6.0): the backup relies on \
             documented behaviour. Make a test restore.",
            server.version_text()
        ));
    }
}

/// Remarks on collections that cannot be named.
fn unnamed(names: &[String]) -> Vec<String> {
    let text = "was left out: its name is not valid UTF-8.";
    names.iter().map(|name| format!("{name} {text}")).collect()
}

/// What somebody should know who restores the snapshot by other means, or believes it to be one
/// moment.
fn remarks(scan: &Scan, listed: &[String]) -> Vec<String> {
    let mut remarks = listed.to_vec();
    if !scan.server.is_replica_set() {
        remarks.push(
            "From a standalone server: each collection was read at its own moment, so related \
             collections may be inconsistent."
                .to_owned(),
        );
    }
    if scan.needs_oplog() && scan.was_restructured() {
        remarks.push(
            "Collections were created, dropped, renamed or changed while they were read: stock \
             `mongorestore --oplogReplay` does not bring `dump/` to exactly one moment. Use \
             `backup restore`, or `backup export` for stock `mongorestore`."
                .to_owned(),
        );
    }
    remarks
}

/// The time of a moment: not before the server's own, so that nobody who wants what happened up to
/// a time gets more.
pub(super) async fn not_before(scan: &Scan, at: Position, time: Time) -> SourceResult<Time> {
    let Scan { cx, server, .. } = scan;
    let entry = unless_cancelled(cx, history::entry_at(server, at)).await?;
    let wall = entry.and_then(|entry| Time::from_millisecond(entry.wall?.timestamp_millis()).ok());
    Ok(wall.map_or(time, |wall| wall.max(time)))
}

struct Reader {
    scan: Arc<Scan>,
    layout: Layout,
    filter: Filter,
    selection: Selection,
    started: Time,
    snapshot_time: Time,
    beginning: Option<Position>,
    /// The entry there is in what is read.
    is_read: bool,
    /// The moment at which the stored oplog ends.
    ended: Arc<Mutex<Option<Position>>>,
    items: VecDeque<Next>,
    /// What is known when reading begins.
    remarks: Vec<String>,
}

/// What comes next. Contents are made when they are due: a list of thousands of collections costs
/// little.
enum Next {
    Warning(Warning),
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
        let Arranged { directories, files: paths } =
            self.layout.arrange(&collections.iter().collect::<Vec<_>>());
        let (mut files, mut saved) = (VecDeque::new(), Vec::new());
        for (collection, files_of) in collections.into_iter().zip(paths) {
            if let Some(path) = files_of.metadata {
                files.push_back(Next::Text(path, layout::metadata(&collection).into()));
            }
            saved.push(Saved::of(
                &collection,
                files_of.data.as_ref().map(|path| self.layout.relative(path)),
            ));
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
                Next::Catalog(saved) => {
                    Some(saved.iter().map(|saved| saved.collection.namespace.db.clone()))
                }
                _ => None,
            })
            .flatten()
            .collect();
        let kept = Kept {
            filter: self.filter.clone(),
            databases: databases.into_iter().collect(),
            behind: self.is_read.then_some(from),
        };
        oplog::content(&self.scan, from, kept, Arc::clone(&self.ended))
    }

    /// Written when everything else has been read: only then it is known how.
    fn catalog(&self, mut saved: Vec<Saved>) -> Pieces {
        let scan = Arc::clone(&self.scan);
        let (include, exclude) =
            (self.selection.include().to_vec(), self.selection.exclude().to_vec());
        stream::once(async move {
            scan.all_read().await?;
            let needs_oplog = scan.needs_oplog();
            for saved in &mut saved {
                let (digest, repeated) = scan.outcome(&saved.collection.namespace);
                // With an oplog to fold in, the dump stands for a later moment than the one these
                // were taken at.
                saved.digest = digest.filter(|_| !needs_oplog);
                saved.repeated = repeated;
            }
            let since = None;
            let version = scan.server.version;
            Ok(State { version, needs_oplog, include, exclude, since, collections: saved }.encode())
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
                Item::Entry(Entry {
                    path,
                    metadata,
                    content: Content::Empty,
                    chunking: Chunking::default(),
                })
            }
            Next::Warning(warning) => Item::Warning(warning),
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

    fn facts(&self) -> Facts {
        // A collection that was created while the others were read has no count.
        let counted = !self.scan.was_restructured();
        let objects = self.scan.objects();
        let server_version = Some(self.scan.server.version_text());
        Facts {
            kind: Some(BackupKind::Full),
            server_version,
            objects,
            counted,
            remarks: remarks(&self.scan, &self.remarks),
            ..Facts::default()
        }
    }

    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let stored = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.scan.cx.clock.now();
        let (position, needs, finished) = match (stored, self.scan.snapshot) {
            // The snapshot holds its own oplog up to there.
            (Some(end), _) => (Some(end), Some(end), now),
            // Transactions that began shortly before may end behind it.
            (None, Some(at)) => {
                (Some(at), self.beginning.map(|from| from.min(at)), self.snapshot_time)
            }
            // Nobody has read the oplog: still a moment behind everything that was read.
            (None, None) if self.beginning.is_some() => {
                (Some(oplog::end(&self.scan).await?), None, now)
            }
            (None, None) => (None, None, now),
        };
        let finished = match position {
            Some(at) => not_before(&self.scan, at, finished).await?,
            None => finished,
        };
        let branch = &*self.scan.server.branch;
        let log = position.zip(needs).map(|(at, needs)| {
            LogStart::new(needs.offset(), log::Position::new(branch, at.offset()))
        });
        Ok(Checkpoint {
            started: self.started,
            finished,
            position: position.map(|at| at.to_string()),
            log,
        })
    }

    async fn abort(self: Box<Self>) {
        // Cursors end with their contents, and the driver's sessions with them.
    }
}
