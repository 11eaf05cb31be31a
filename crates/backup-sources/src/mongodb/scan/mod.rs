//! Reading a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Scan`]: what all contents of one backup share: the moment, who is still reading, what went wrong |
//! | `collection.rs` | the documents of one collection as a stream of whole documents, through every disturbance |
//! | `failure.rs` | the error of one step of that |
//! | `ranges.rs` | one large collection by several cursors |
//! | `oplog.rs` | the oplog of the scan's time, and moments to begin and end at |
//! | `plan.rs` | which collections there are, and at which moment they are read |
//! | `since.rs` | backups that build on an earlier snapshot: the oplog since |
//! | `slice.rs` | which of its entries are needed, and whether a fold will know what to do with them |
//! | `reader.rs` | the backup reader: directories, metadata files, data, oplog, catalog |

mod collection;
mod failure;
mod oplog;
mod plan;
mod ranges;
mod reader;
mod since;
mod slice;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::context::Context;
use backup_core::source::{ObjectDigest, SourceError, SourceErrorKind, SourceResult};
use bson::RawDocument;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, watch};

pub(super) use collection::{Purpose, content};
pub(super) use oplog::oldest_entry;
pub(super) use reader::open;

use super::catalog::Collection;
use super::digest::Sum;
use super::fold::restructures;
use super::namespace::Namespace;
use super::position::Position;
use super::server::Server;
use crate::pace::Pace;

/// What is shared by everything that reads for one backup.
#[derive(Debug)]
pub(super) struct Scan {
    cx: Context,
    server: Server,
    /// The one moment at which collections are read, if they are.
    snapshot: Option<Position>,
    /// Something was not read at that moment.
    disturbed: AtomicBool,
    /// The oplog of its time holds more than changes of documents.
    restructured: AtomicBool,
    /// How reading ended, by collection.
    outcomes: Mutex<BTreeMap<Namespace, Outcome>>,
    /// How many contents are not read to their end yet.
    open: watch::Sender<usize>,
    /// How many cursors may be open for one collection.
    cursors: usize,
    /// Those of them that read ahead, for all collections together.
    spare: Arc<Semaphore>,
    /// How fast everything together may be read.
    pace: Pace,
}

impl Scan {
    fn new(
        cx: &Context,
        server: &Server,
        snapshot: Option<Position>,
        cursors: usize,
        pace: Pace,
    ) -> Arc<Self> {
        Arc::new(Self {
            cx: cx.clone(),
            server: server.clone(),
            snapshot,
            disturbed: AtomicBool::new(false),
            restructured: AtomicBool::new(false),
            outcomes: Mutex::default(),
            open: watch::Sender::new(0),
            cursors,
            spare: Arc::new(Semaphore::new(cursors.saturating_sub(1))),
            pace,
        })
    }

    /// A scan whose disturbances are errors: for comparing what nobody changes.
    pub(super) fn at_once(cx: &Context, server: &Server) -> Arc<Self> {
        Self::new(cx, server, None, 1, Pace::default())
    }

    /// Whether a collection changed its name or vanished, or its history was gone, while it was
    /// read.
    pub(super) fn was_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Acquire)
    }

    fn disturb(&self) {
        self.disturbed.store(true, Ordering::Release);
    }

    /// Whether collections were created, dropped, renamed or changed while they were read, as far
    /// as the oplog has been read.
    fn was_restructured(&self) -> bool {
        self.restructured.load(Ordering::Acquire)
    }

    fn note_entry(&self, entry: &RawDocument) -> SourceResult<()> {
        if !self.was_restructured() && restructures(entry)? {
            self.restructured.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Whether the collections need the oplog to come to one moment.
    fn needs_oplog(&self) -> bool {
        self.server.is_replica_set() && (self.snapshot.is_none() || self.was_disturbed())
    }

    /// A collection is read again from its first document; it may vanish before it is read to its
    /// end.
    fn note_restart(&self, namespace: &Namespace) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = Outcome::Read { count: 0, bytes: 0, repeated: true };
        outcomes.insert(namespace.clone(), outcome);
    }

    /// A collection was read to its end, at the one moment of all reads or not.
    fn note_end(&self, collection: &Collection, is_exact: bool, sum: Sum) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = collection.namespace.clone();
        let repeated =
            matches!(outcomes.get(&namespace), Some(Outcome::Read { repeated: true, .. }));
        // The sum is that of the documents since the last start.
        let outcome = if is_exact && !repeated {
            Outcome::Exact(sum.finish(collection))
        } else {
            Outcome::Read { count: sum.count, bytes: sum.bytes, repeated }
        };
        outcomes.insert(namespace, outcome);
    }

    /// The digest of a collection that was read at the one moment; whether documents of it may be
    /// there twice.
    fn outcome(&self, namespace: &Namespace) -> (Option<ObjectDigest>, bool) {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        match outcomes.get(namespace) {
            Some(Outcome::Exact(digest)) => (Some(digest.clone()), false),
            Some(Outcome::Read { repeated, .. }) => (None, *repeated),
            None => (None, false),
        }
    }

    /// Documents and bytes of the collections as they were read, by `database.collection`. The
    /// digests are those of the snapshot's moment if all collections were read at it; else there
    /// are none.
    fn objects(&self) -> BTreeMap<String, ObjectDigest> {
        let has_digests = !self.needs_oplog();
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let object = |outcome: &Outcome| match outcome {
            Outcome::Exact(exact) if has_digests => exact.clone(),
            Outcome::Exact(exact) => ObjectDigest { digest: String::new(), ..exact.clone() },
            Outcome::Read { count, bytes, .. } => {
                ObjectDigest { count: *count, bytes: *bytes, digest: String::new() }
            }
        };
        outcomes.iter().map(|(name, outcome)| (name.to_string(), object(outcome))).collect()
    }

    /// Counts a content that will be read, or dropped.
    fn ticket(self: &Arc<Self>) -> Ticket {
        self.open.send_modify(|open| *open += 1);
        Ticket(Arc::clone(self))
    }

    /// Waits until no content is being read any more.
    async fn all_read(&self) -> SourceResult<()> {
        let mut open = self.open.subscribe();
        super::server::unless_cancelled(&self.cx, async {
            // The sender is this scan itself: it cannot be gone.
            let gone = |_| SourceError::new(SourceErrorKind::Io, "the scan ended unexpectedly");
            open.wait_for(|open| *open == 0).await.map(drop).map_err(gone)
        })
        .await
    }
}

/// How reading a collection ended.
#[derive(Debug)]
enum Outcome {
    /// Read at the one moment, with this digest.
    Exact(ObjectDigest),
    /// Read while it may have changed.
    Read {
        count: u64,
        bytes: u64,
        /// Started again after documents had been yielded.
        repeated: bool,
    },
}

/// Held by a content until it has been read or given up.
#[derive(Debug)]
struct Ticket(Arc<Scan>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Bytes of one entry.
type Pieces = BoxStream<'static, SourceResult<Bytes>>;
