//! One snapshot.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::blob::BlobReader;
use super::walk::TreeWalk;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BlobKind, MANIFEST_PATH, Manifest, Node, Snapshot, Tree};
use crate::id::{BlobId, SnapshotId};
use crate::limits;
use crate::repository::index::BlobLocation;
use crate::repository::{IndexedRepository, Repository, SnapshotInfo};
use crate::sink::Sink;
use crate::source::{EntryPath, SourceError};

/// Reads one snapshot. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotReader {
    reader: BlobReader,
    info: SnapshotInfo,
}

impl SnapshotReader {
    pub(crate) fn new(reader: BlobReader, info: SnapshotInfo) -> Self {
        Self { reader, info }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.info.id
    }

    /// What it says.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.info.snapshot
    }

    /// The paths it was made of.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.info.snapshot.paths.clone()
    }

    /// Its root directory.
    #[must_use]
    pub fn root_id(&self) -> BlobId {
        self.info.snapshot.tree
    }

    /// Reads a directory, all of whose entries can be restored.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if it is lost or damaged, or has an entry that cannot be restored;
    /// those of the sink.
    pub async fn tree(&self, id: &BlobId) -> Result<Tree> {
        self.tree_with_faults(id).await?.sound()
    }

    /// Reads a directory with the faults of its entries.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if it is lost or damaged as a whole; those of the sink.
    pub async fn tree_with_faults(&self, id: &BlobId) -> Result<Tree> {
        let tree = self.reader.tree(id).await?;
        self.reader.settle(&tree).await?;
        Ok(tree)
    }

    /// All nodes, directories before their content, in order of their names' bytes. An entry that
    /// cannot be restored is an error; see [`TreeWalk::with_faults`].
    #[must_use]
    pub fn walk(&self) -> TreeWalk {
        TreeWalk::new(self.reader.clone(), self.root_id(), EntryPath::root())
    }

    /// All nodes below `path`, which is the directory `tree`.
    #[must_use]
    pub fn walk_below(&self, path: EntryPath, tree: BlobId) -> TreeWalk {
        TreeWalk::new(self.reader.clone(), tree, path)
    }

    /// The node at `path`; `None` if there is none. The root has no node.
    ///
    /// # Errors
    /// Those of [`Self::tree`].
    pub async fn find(&self, path: &EntryPath) -> Result<Option<Node>> {
        let mut tree = self.root_id();
        let mut names = path.segments().peekable();
        while let Some(name) = names.next() {
            let Some(node) = self.reader.tree(&tree).await?.get(name).cloned() else {
                return Ok(None);
            };
            match (names.peek(), node.subtree) {
                (None, _) => {
                    self.reader.settle_node(&node).await?;
                    return Ok(Some(node));
                }
                (Some(_), Some(subtree)) => tree = subtree,
                (Some(_), None) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The repository that it is in, with the index that it is read by: the same repository may
    /// hold more that belongs to it, such as the log of its source.
    #[must_use]
    pub fn indexed(&self) -> &IndexedRepository {
        self.reader.repository()
    }

    /// The repository that it is in.
    pub(crate) fn repository(&self) -> &Repository {
        self.reader.repository().repository()
    }

    /// Where its objects are.
    pub(crate) fn sink(&self) -> &Arc<dyn Sink> {
        self.reader.repository().repository().sink()
    }

    /// Where a data blob is.
    pub(crate) fn locate(&self, id: &BlobId) -> Result<BlobLocation> {
        self.reader.locate(BlobKind::Data, id)
    }

    /// Plain length of a data blob, from the index.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if it is not in the index.
    pub fn blob_len(&self, id: &BlobId) -> Result<u32> {
        Ok(self.locate(id)?.blob.plain_len())
    }

    /// Reads data blobs in the order in which they are stored, several pack ranges at a time and
    /// with bounded memory, and calls `handle` with the index of each in `blobs` and its verified
    /// content: on worker threads, concurrently, exactly once per index.
    ///
    /// # Errors
    /// The first error of reading or of `handle`; then the rest is given up.
    pub async fn fetch<F>(
        &self,
        cx: &Context,
        blobs: &[BlobId],
        handle: F,
    ) -> Result<(), SourceError>
    where
        F: Fn(usize, &[u8]) -> Result<(), SourceError> + Send + Sync + 'static,
    {
        self.reader.try_fetch(cx, blobs, move |at, content| handle(at, content?)).await
    }

    /// Like [`Self::fetch`], but goes on when a blob is damaged or lost and hands over the reason.
    ///
    /// # Errors
    /// The first error of the sink or of `handle`; then the rest is given up.
    pub async fn try_fetch<F>(
        &self,
        cx: &Context,
        blobs: &[BlobId],
        handle: F,
    ) -> Result<(), SourceError>
    where
        F: Fn(usize, Result<&[u8]>) -> Result<(), SourceError> + Send + Sync + 'static,
    {
        self.reader.try_fetch(cx, blobs, handle).await
    }

    /// The content of a file as a stream.
    #[must_use]
    pub fn content(&self, node: &Node) -> BoxStream<'static, Result<Bytes>> {
        self.blobs(node.content.clone())
    }

    /// Contents of blobs, in order.
    pub(crate) fn blobs(&self, ids: Vec<BlobId>) -> BoxStream<'static, Result<Bytes>> {
        self.reader.stream(ids)
    }

    /// What the snapshot says of itself in `.backup/manifest.json`; `None` if another tool made it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if it cannot be read or understood;
    /// [`ErrorKind::UnsupportedVersion`] if a newer schema wrote it.
    pub async fn manifest(&self) -> Result<Option<Manifest>> {
        let path = EntryPath::new(MANIFEST_PATH)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "invalid manifest path"))?;
        let Some(node) = self.find(&path).await? else {
            return Ok(None);
        };
        let mut json = Vec::new();
        let mut content = self.content(&node);
        while let Some(bytes) = content.try_next().await? {
            json.extend_from_slice(&bytes);
            if json.len() > limits::MAX_MANIFEST {
                return Err(Error::damaged("the manifest is too large"));
            }
        }
        if !limits::has_at_most(limits::MAX_MANIFEST_VALUES, &json) {
            return Err(Error::damaged("the manifest has too many values"));
        }
        Manifest::parse(&json).map(Some)
    }
}
