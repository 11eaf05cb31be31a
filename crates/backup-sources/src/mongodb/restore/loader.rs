//! Inserting the documents of one collection in batches, several at a time.
//!
//! 1000 documents or 4 MB per command and few connections saturate a server (mongo.md section 5). A
//! command whose answer got lost is sent again; what it had inserted already is then a duplicate,
//! and must be the same document.

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::RawDocumentBuf;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::writer::Place;
use crate::mongodb::catalog::Collection;
use crate::mongodb::digest::Sum;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::options::WriteConcern;
use crate::mongodb::raw::document;
use crate::mongodb::server::{Server, unless_cancelled};
use crate::pace::Pace;

/// Limits of one command.
const DOCUMENTS: usize = 1000;
const BYTES: usize = 4 << 20;
/// Commands of one collection that are under way at the same time.
const PARALLEL: usize = 3;
/// Those of all collections: what is read faster than the server takes it waits in at most so many
/// batches.
const TOGETHER: usize = 8;

/// What all loaders of one restore share.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pace: Pace,
    batches: Arc<Semaphore>,
    write_concern: WriteConcern,
}

impl Flow {
    pub(super) fn new(pace: Pace, write_concern: WriteConcern) -> Self {
        Self { pace, batches: Arc::new(Semaphore::new(TOGETHER)), write_concern }
    }

    /// Waits until so many bytes may be sent.
    async fn pass(&self, bytes: usize) -> SourceResult<OwnedSemaphorePermit> {
        let closed = |error| {
            SourceError::new(SourceErrorKind::Target, "the restore ended unexpectedly")
                .with_source(error)
        };
        let permit = Arc::clone(&self.batches).acquire_owned().await.map_err(closed)?;
        self.pace.pass(bytes).await;
        Ok(permit)
    }
}

/// What was loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) sum: Sum,
    /// Bytes read back by now.
    pub(super) verified: u64,
    /// The collection existed and may hold other documents.
    pub(super) merged: bool,
}

pub(super) struct Loader {
    place: Place,
    flow: Flow,
    batch: Vec<Bytes>,
    bytes: usize,
    /// Nothing is sent before the end: users and roles are few, and must not lie about.
    waits: bool,
    running: JoinSet<SourceResult<u64>>,
    loaded: Loaded,
}

impl Loader {
    /// A loader for `collection`, which errors call `shown`; `existed` says that it may hold
    /// documents already.
    pub(super) fn new(
        (cx, server): (&Context, &Server),
        (collection, shown): (&Collection, Namespace),
        flow: &Flow,
        existed: bool,
        verify: bool,
    ) -> Self {
        let waits = collection.namespace.is_authorization();
        let place = Place {
            // An insertion that is given up could still come after what it went to was dropped.
            cx: if waits { Context::silent() } else { cx.clone() },
            server: server.clone(),
            namespace: super::target::loading_name(&collection.namespace),
            shown,
            merge: existed,
            ordered: collection.is_capped(),
            write_concern: flow.write_concern,
            verify,
        };
        let loaded = Loaded { sum: Sum::default(), verified: 0, merged: existed };
        let (batch, running) = (Vec::new(), JoinSet::new());
        Self { place, flow: flow.clone(), batch, bytes: 0, waits, running, loaded }
    }

    pub(super) async fn insert(&mut self, document: Bytes) -> SourceResult<()> {
        // What the blobs hold was verified when they were read: the sum is there to be compared
        // with what the server has.
        if self.place.verify {
            self.loaded.sum.add(&document);
        } else {
            self.loaded.sum.measure(&document);
        }
        self.push(document).await
    }

    async fn push(&mut self, document: Bytes) -> SourceResult<()> {
        self.bytes += document.len();
        self.batch.push(document);
        if self.batch.len() >= DOCUMENTS || self.bytes >= BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// All documents so far.
    pub(super) fn sum(&self) -> &Sum {
        &self.loaded.sum
    }

    /// What waits for the end.
    pub(super) fn waiting(&self) -> SourceResult<Vec<RawDocumentBuf>> {
        self.batch.iter().map(|bytes| Ok(document(bytes)?.to_owned())).collect()
    }

    /// Sends what there is; waits if too much is under way.
    pub(super) async fn flush(&mut self) -> SourceResult<()> {
        if self.batch.is_empty() || self.waits {
            return Ok(());
        }
        let limit = if self.place.ordered { 1 } else { PARALLEL };
        while self.running.len() >= limit {
            self.join().await?;
        }
        let permit = unless_cancelled(&self.place.cx, self.flow.pass(self.bytes)).await?;
        let (batch, place) = (std::mem::take(&mut self.batch), self.place.clone());
        self.bytes = 0;
        self.running.spawn(async move {
            let cx = place.cx.clone();
            let written = unless_cancelled(&cx, place.write(&batch)).await;
            drop((batch, permit));
            written
        });
        Ok(())
    }

    async fn join(&mut self) -> SourceResult<()> {
        if let Some(outcome) = self.running.join_next().await {
            let failed = |error| {
                SourceError::new(SourceErrorKind::Target, "a writer ended unexpectedly")
                    .with_source(error)
            };
            self.loaded.verified += outcome.map_err(failed)??;
        }
        Ok(())
    }

    /// Waits until everything so far is written.
    pub(super) async fn settle(&mut self) -> SourceResult<()> {
        self.flush().await?;
        while !self.running.is_empty() {
            self.join().await?;
        }
        Ok(())
    }

    /// Waits until everything is written.
    pub(super) async fn finish(mut self) -> SourceResult<Loaded> {
        if std::mem::take(&mut self.waits) {
            self.bytes = 0;
            for document in std::mem::take(&mut self.batch) {
                self.push(document).await?;
            }
        }
        self.settle().await?;
        Ok(self.loaded)
    }
}
