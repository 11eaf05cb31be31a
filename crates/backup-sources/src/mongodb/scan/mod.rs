//! Reading a server.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Scan`]: what all contents of one backup share: the moment, who is still reading, what went wrong |
//! | `collection.rs` | the documents of one collection as a stream of whole documents, through every disturbance |
//! | `oplog.rs` | the oplog of the scan's time, and moments to begin and end at |
//! | `plan.rs` | which collections there are, and at which moment they are read |
//! | `reader.rs` | the backup reader: directories, metadata files, data, oplog, catalog |

mod collection;
mod oplog;
mod plan;
mod reader;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::context::Context;
use backup_core::source::{ObjectDigest, SourceError, SourceErrorKind, SourceResult};
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::watch;

pub(super) use collection::{Purpose, content};
pub(super) use oplog::oldest_entry;
pub(super) use reader::open;

use super::namespace::Namespace;
use super::position::Position;
use super::server::Server;

/// What is shared by everything that reads for one backup.
#[derive(Debug)]
pub(super) struct Scan {
    cx: Context,
    server: Server,
    /// The one moment at which collections are read, if they are.
    snapshot: Option<Position>,
    /// Something was not read at that moment.
    disturbed: AtomicBool,
    /// How reading ended, by collection.
    outcomes: Mutex<BTreeMap<Namespace, Outcome>>,
    /// How many contents are not read to their end yet.
    open: watch::Sender<usize>,
}

impl Scan {
    fn new(cx: &Context, server: &Server, snapshot: Option<Position>) -> Arc<Self> {
        Arc::new(Self {
            cx: cx.clone(),
            server: server.clone(),
            snapshot,
            disturbed: AtomicBool::new(false),
            outcomes: Mutex::default(),
            open: watch::Sender::new(0),
        })
    }

    /// A scan whose disturbances are errors: for comparing what nobody changes.
    pub(super) fn at_once(cx: &Context, server: &Server) -> Arc<Self> {
        Self::new(cx, server, None)
    }

    /// Whether a collection changed its name or vanished, or its history was gone, while it was read.
    pub(super) fn was_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Acquire)
    }

    fn disturb(&self) {
        self.disturbed.store(true, Ordering::Release);
    }

    /// Whether the collections need the oplog to come to one moment.
    fn needs_oplog(&self) -> bool {
        self.server.is_replica_set() && (self.snapshot.is_none() || self.was_disturbed())
    }

    fn note(&self, namespace: &Namespace, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.insert(namespace.clone(), outcome);
    }

    /// The digest of a collection that was read at the one moment; whether documents of it may be there twice.
    fn outcome(&self, namespace: &Namespace) -> (Option<ObjectDigest>, bool) {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        match outcomes.get(namespace) {
            Some(Outcome::Exact(digest)) => (Some(digest.clone()), false),
            Some(Outcome::Repeated) => (None, true),
            None => (None, false),
        }
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
            let gone = |_| SourceError::new(SourceErrorKind::Io, "the scan has ended");
            open.wait_for(|open| *open == 0).await.map(drop).map_err(gone)
        })
        .await
    }
}

/// How reading a collection ended, if there is something to say.
#[derive(Debug)]
enum Outcome {
    /// Read at the one moment, with this digest.
    Exact(ObjectDigest),
    /// Started again after documents had been yielded.
    Repeated,
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
