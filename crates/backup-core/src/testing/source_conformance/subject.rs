//! What a check is given.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use sha2::{Digest as _, Sha256};

use super::SourceDifferences;
use crate::context::Context;
use crate::source::{
    BackupReader, BackupRequest, Checkpoint, Content, Digest, Entry, EntryPath, Item, NodeKind,
    Selection, Source, SourceError, SourceErrorKind, SourceResult,
};

/// What must end soon ends within this time, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A place to restore to.
pub struct SourceTarget {
    address: Option<String>,
    digest: Box<dyn Fn() -> BoxFuture<'static, SourceResult<Digest>> + Send + Sync>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl SourceTarget {
    /// A place with the address that
    /// [`RestoreRequest::target`](crate::source::RestoreRequest::target) gets, and a way to take
    /// the digest of what was restored there. It must equal the digest of the source, names of
    /// objects included.
    pub fn new<F>(address: Option<String>, digest: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = SourceResult<Digest>> + Send + 'static,
    {
        Self { address, digest: Box::new(move || digest().boxed()), kept: Vec::new() }
    }

    /// A place where, after a restore, `restored` is a source of what was restored.
    pub fn with_source(address: impl Into<String>, restored: Arc<dyn Source>) -> Self {
        Self::new(Some(address.into()), move || {
            let restored = Arc::clone(&restored);
            async move { restored.digest(&Context::silent(), &Selection::all()).await }
        })
    }

    /// Keeps something as long as this place is needed: a temporary directory, a server.
    #[must_use]
    pub fn keeping(mut self, what: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    pub(super) fn address(&self) -> Option<String> {
        self.address.clone()
    }

    pub(super) async fn digest(&self) -> SourceResult<Digest> {
        (self.digest)().await
    }
}

impl fmt::Debug for SourceTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceTarget").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The source, and ways to fail with the name of the check.
pub(super) struct Subject {
    check: &'static str,
    pub(super) source: Arc<dyn Source>,
    pub(super) differences: SourceDifferences,
}

/// What was read of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) kind: NodeKind,
    pub(super) len: u64,
    pub(super) sha256: [u8; 32],
}

pub(super) fn everything() -> BackupRequest {
    BackupRequest::full(Selection::all())
}

impl Subject {
    pub(super) fn new(
        check: &'static str,
        source: Arc<dyn Source>,
        differences: SourceDifferences,
    ) -> Self {
        Self { check, source, differences }
    }

    #[track_caller]
    pub(super) fn fail(&self, what: impl fmt::Display) -> ! {
        panic!("source conformance of {}, {}: {what}", self.source, self.check)
    }

    #[track_caller]
    pub(super) fn ensure(&self, holds: bool, otherwise: impl fmt::Display) {
        if !holds {
            self.fail(otherwise);
        }
    }

    /// What must succeed.
    #[track_caller]
    pub(super) fn ok<T>(&self, result: SourceResult<T>, doing: &str) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.fail(format_args!("{doing} failed: {}", error.chain())),
        }
    }

    /// What must succeed in the repository or in the pipeline.
    #[track_caller]
    pub(super) fn done<T>(&self, result: crate::error::Result<T>, doing: &str) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.fail(format_args!("{doing} failed: {}", error.chain())),
        }
    }

    /// What must fail in this way.
    #[track_caller]
    pub(super) fn refused<T>(&self, result: SourceResult<T>, kind: SourceErrorKind, doing: &str) {
        match result {
            Ok(_) => self.fail(format_args!("{doing} succeeded; {kind:?} was expected")),
            Err(error) if error.kind() == kind => {}
            Err(error) => self.fail(format_args!(
                "{doing} failed with {:?} in place of {kind:?}: {}",
                error.kind(),
                error.chain()
            )),
        }
    }

    /// What must not take long.
    pub(super) async fn soon<T>(&self, future: impl Future<Output = T>, doing: &str) -> T {
        match tokio::time::timeout(SOON, future).await {
            Ok(value) => value,
            Err(_) => self.fail(format_args!("{doing} has not ended after {SOON:?}")),
        }
    }

    pub(super) async fn open(
        &self,
        cx: &Context,
        request: &BackupRequest,
    ) -> Box<dyn BackupReader> {
        self.ok(self.source.open_backup(cx, request).await, "beginning a backup")
    }

    pub(super) async fn digest(&self) -> Digest {
        let digest = self.source.digest(&Context::silent(), &Selection::all()).await;
        let digest = self.ok(digest, "computing the digest");
        self.ensure(!digest.objects.is_empty(), "the digest has no object");
        digest
    }

    /// All items of a backup, with contents that have not been opened; ends the backup only
    /// afterwards.
    pub(super) async fn items(&self, reader: &mut Box<dyn BackupReader>) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some(item) = self.ok(reader.next().await, "asking for an item") {
            items.push(item);
        }
        items
    }

    /// Reads everything in the order in which it comes.
    pub(super) async fn read_all(
        &self,
        selection: &Selection,
    ) -> (BTreeMap<EntryPath, Read>, Checkpoint) {
        let request = BackupRequest { selection: selection.clone(), ..everything() };
        let mut reader = self.open(&Context::silent(), &request).await;
        let mut found = BTreeMap::new();
        while let Some(item) = self.ok(reader.next().await, "asking for an item") {
            if let Item::Entry(entry) = item {
                let path = entry.path.clone();
                let read = self.ok(read(entry).await, &format!("reading {path}"));
                found.insert(path, read);
            }
        }
        (found, self.ok(reader.finish().await, "finishing"))
    }
}

/// Reads the content of an entry to its end.
pub(super) async fn read(entry: Entry) -> SourceResult<Read> {
    let kind = entry.metadata.kind;
    let (len, sha256) = match entry.content {
        Content::Empty => (0, Sha256::digest([])),
        Content::Blocking(content) => {
            let read = move || {
                let mut reader = content.open()?;
                let (mut buffer, mut len, mut hash) = (vec![0; 64 << 10], 0, Sha256::new());
                loop {
                    match std::io::Read::read(&mut reader, &mut buffer)? {
                        0 => break,
                        got => {
                            len += got as u64;
                            hash.update(&buffer[..got]);
                        }
                    }
                }
                reader.finish()?;
                Ok::<_, SourceError>((len, hash.finalize()))
            };
            let joined = tokio::task::spawn_blocking(read).await;
            joined.map_err(|error| {
                SourceError::new(SourceErrorKind::Io, "a reader panicked").with_source(error)
            })??
        }
        Content::Stream(mut pieces) => {
            let (mut len, mut hash) = (0, Sha256::new());
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                len += piece.len() as u64;
                hash.update(&piece);
            }
            (len, hash.finalize())
        }
    };
    Ok(Read { kind, len, sha256: sha256.into() })
}
