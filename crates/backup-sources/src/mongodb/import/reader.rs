//! The backup reader of a dump.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::source::{
    BackupKind, BackupReader, Checkpoint, Chunking, Content, Entry, EntryPath, Facts, IMPORTED,
    Item, Metadata, NOT_POINT_IN_TIME, ObjectDigest, SourceError, SourceErrorKind, SourceResult,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;

use super::contents::{Reading, stream};
use super::{Dump, special};
use crate::mongodb::catalog::{Collection, Kind};
use crate::mongodb::layout::{self, Arranged, Layout};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::server::unless_cancelled;
use crate::mongodb::state::{Saved, State};

type Pieces = BoxStream<'static, SourceResult<Bytes>>;

/// Digests of collections that were read, and contents that were not read to their end yet.
#[derive(Debug)]
struct Shared {
    digests: Mutex<BTreeMap<Namespace, ObjectDigest>>,
    open: watch::Sender<usize>,
}

impl Shared {
    fn digests(&self) -> BTreeMap<Namespace, ObjectDigest> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts a content until it is read or given up.
struct Ticket(Arc<Shared>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// The next item of the backup.
enum Next {
    Directory(EntryPath),
    /// A small file.
    Text(EntryPath, String),
    Data(EntryPath, Box<Collection>),
    Oplog(EntryPath),
    Catalog(Vec<Saved>),
}

pub(super) struct Reader {
    cx: Context,
    dump: Arc<Dump>,
    layout: Layout,
    time: Timestamp,
    shared: Arc<Shared>,
    items: VecDeque<Next>,
}

impl Dump {
    /// The catalog of the snapshot, before digests are known.
    pub(super) fn state(&self, needs_oplog: bool) -> State {
        let mut numbers = self.server_version.split(['.', '-']).map(|part| part.parse().ok());
        let mut next = || numbers.next().flatten().unwrap_or(0);
        State {
            version: [next(), next(), next()],
            needs_oplog,
            include: self.part().unwrap_or_default(),
            exclude: Vec::new(),
            since: None,
            collections: self.collections.iter().map(|one| Saved::of(one, None)).collect(),
        }
    }
}

impl Reader {
    pub(super) fn new(
        cx: &Context,
        dump: &Arc<Dump>,
        layout: Layout,
        time: Timestamp,
    ) -> SourceResult<Self> {
        let (digests, open) = (Mutex::default(), watch::Sender::new(0));
        let shared = Arc::new(Shared { digests, open });
        let (cx, dump, items) = (cx.clone(), Arc::clone(dump), VecDeque::new());
        let mut reader = Self { cx, dump, layout, time, shared, items };
        reader.prepare();
        Ok(reader)
    }

    fn prepare(&mut self) {
        let dump = Arc::clone(&self.dump);
        let collections: Vec<&Collection> = dump.collections.iter().collect();
        let Arranged { directories, files } = self.layout.arrange(&collections);
        self.items.extend(directories.into_iter().map(Next::Directory));
        let mut saved = Vec::new();
        for (collection, files) in dump.collections.iter().zip(files) {
            if let Some(path) = files.metadata {
                self.items.push_back(Next::Text(path, layout::metadata(collection)));
            }
            let path = files.data.as_ref().map(|path| self.layout.relative(path));
            saved.push(Saved::of(collection, path));
            if let Some(path) = files.data {
                self.items.push_back(Next::Data(path, Box::new(collection.clone())));
            }
        }
        if dump.oplog.is_some() {
            self.items.push_back(Next::Oplog(self.layout.oplog()));
        }
        self.items.push_back(Next::Catalog(saved));
    }

    fn file(&self, path: EntryPath, content: Pieces) -> Item {
        let (metadata, content) = (Metadata::stream(self.time), Content::Stream(content));
        Item::Entry(Entry { path, metadata, content, chunking: Chunking::ContentDefined })
    }

    /// The documents of a collection, wherever the dump has them.
    fn reading(&self, namespace: &Namespace) -> SourceResult<Reading> {
        let data = self.dump.files.data();
        let stored = match data.contains(&namespace) {
            true => namespace.clone(),
            false => data
                .into_iter()
                .find(|name| special(name).as_ref() == Some(namespace))
                .cloned()
                .unwrap_or_else(|| namespace.clone()),
        };
        self.dump.files.documents(&stored)
    }

    fn documents(&self, collection: Collection) -> SourceResult<Pieces> {
        let reading = self.reading(&collection.namespace)?;
        self.shared.open.send_modify(|open| *open += 1);
        let ticket = Ticket(Arc::clone(&self.shared));
        let is_exact = self.dump.oplog.is_none();
        let documents = stream(&self.cx, reading, move |sum| {
            let digest = sum.finish(&collection);
            // With an oplog, the snapshot stands for a later state than these documents.
            let digest = match is_exact {
                true => digest,
                false => ObjectDigest { digest: String::new(), ..digest },
            };
            let mut digests = ticket.0.digests.lock().unwrap_or_else(PoisonError::into_inner);
            digests.insert(collection.namespace, digest);
        });
        Ok(documents)
    }

    /// Written when everything else was read.
    fn catalog(&self, mut saved: Vec<Saved>) -> Pieces {
        let (shared, dump, cx) =
            (Arc::clone(&self.shared), Arc::clone(&self.dump), self.cx.clone());
        stream::once(async move {
            let mut open = shared.open.subscribe();
            unless_cancelled(&cx, async {
                let gone =
                    |_| SourceError::new(SourceErrorKind::Io, "the import ended unexpectedly");
                open.wait_for(|open| *open == 0).await.map(drop).map_err(gone)
            })
            .await?;
            let needs_oplog = dump.oplog.is_some();
            if !needs_oplog {
                let digests = shared.digests();
                for saved in &mut saved {
                    saved.digest = digests.get(&saved.collection.namespace).cloned();
                }
            }
            Ok(State { collections: saved, ..dump.state(needs_oplog) }.encode())
        })
        .boxed()
    }

    fn remarks(&self) -> Vec<String> {
        let Dump { server_version, tool_version, oplog, remarks, .. } = &*self.dump;
        let known = |version: &str| match version {
            "" => "of an unknown version".to_owned(),
            version => version.to_owned(),
        };
        let mut out = vec![format!(
            "Imported from a dump of mongodump {}, made of a server {}.",
            known(tool_version),
            known(server_version)
        )];
        out.push(match oplog.as_ref().and_then(|oplog| oplog.end) {
            Some(end) => format!("The oplog of the dump brings all collections to {end}."),
            None => {
                "The dump has no oplog: each collection was read at its own moment, so related \
                     collections may be inconsistent."
                    .to_owned()
            }
        });
        out.push("No captured log continues it: later moments need a later snapshot.".to_owned());
        out.extend(remarks.iter().cloned());
        out
    }
}

#[async_trait]
impl BackupReader for Reader {
    async fn next(&mut self) -> SourceResult<Option<Item>> {
        self.cx.check_cancelled().map_err(SourceError::from)?;
        let Some(next) = self.items.pop_front() else { return Ok(None) };
        Ok(Some(match next {
            Next::Directory(path) => {
                let metadata = Metadata::directory(self.time);
                let (content, chunking) = (Content::Empty, Chunking::default());
                Item::Entry(Entry { path, metadata, content, chunking })
            }
            Next::Text(path, text) => {
                self.file(path, stream::once(async { Ok(text.into()) }).boxed())
            }
            Next::Data(path, collection) => {
                debug_assert_eq!(collection.kind, Kind::Collection, "views have no data");
                self.file(path, self.documents(*collection)?)
            }
            Next::Oplog(path) => {
                let gone =
                    || SourceError::new(SourceErrorKind::Io, "the oplog of the dump is gone");
                let reading = self.dump.files.oplog()?.ok_or_else(gone)?;
                self.file(path, stream(&self.cx, reading, drop))
            }
            Next::Catalog(saved) => self.file(self.layout.catalog(), self.catalog(saved)),
        }))
    }

    fn facts(&self) -> Facts {
        let objects = self.shared.digests().into_iter();
        let has_moment = self.dump.oplog.as_ref().is_some_and(|oplog| oplog.end.is_some());
        let mut tags = vec![IMPORTED.to_owned()];
        tags.extend((!has_moment).then(|| NOT_POINT_IN_TIME.to_owned()));
        Facts {
            kind: Some(BackupKind::Full),
            server_version: Some(self.dump.server_version.clone()).filter(|text| !text.is_empty()),
            objects: objects.map(|(name, digest)| (name.to_string(), digest)).collect(),
            counted: self.dump.oplog.is_none(),
            remarks: self.remarks(),
            tags,
            ..Facts::default()
        }
    }

    /// A dump has no place in a log that is captured: which replica set its oplog is of is not
    /// recorded in it.
    async fn finish(self: Box<Self>) -> SourceResult<Checkpoint> {
        let end = self.dump.oplog.as_ref().and_then(|oplog| oplog.end);
        Ok(Checkpoint {
            started: self.time,
            finished: self.time,
            position: end.map(|end| end.to_string()),
            log: None,
        })
    }

    async fn abort(self: Box<Self>) {
        // Files are closed with their contents.
    }
}
