//! One blob at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::decode::{
    Decoded, decode_with, is_large_tree, large_tree, open, require_size, verify_blob,
};
use crate::crypto::MasterKey;
use crate::error::{Error, Result};
use crate::format::{BlobKind, Node, Tree};
use crate::id::{BlobId, PackId};
use crate::limits;
use crate::repository::index::BlobLocation;
use crate::repository::{IndexedRepository, layout};
use crate::sink::{SinkErrorKind, SinkOps};

/// Trees are small and lie close together: they are read in aligned windows, of which a few are
/// kept, each this part of what the sink likes to read at a time: in an object store, a whole pack
/// of them.
const WINDOW: u64 = 8;
const WINDOWS: usize = 8;

/// Reads blobs of a repository. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BlobReader {
    repository: IndexedRepository,
    windows: Arc<Mutex<VecDeque<Window>>>,
}

#[derive(Debug, Clone)]
struct Window {
    pack: PackId,
    start: u64,
    bytes: Bytes,
}

impl BlobReader {
    pub(crate) fn new(repository: &IndexedRepository) -> Self {
        Self { repository: repository.clone(), windows: Arc::default() }
    }

    pub(crate) fn repository(&self) -> &IndexedRepository {
        &self.repository
    }

    pub(crate) fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<BlobLocation> {
        if kind == BlobKind::Data
            && let Some(place) = self.repository.settled().get(id)
        {
            return Ok(place);
        }
        let found = self.repository.index().find(kind, id).ok_or_else(|| {
            let what = if kind == BlobKind::Tree { "directory" } else { "blob" };
            Error::damaged(format!("{what} {} is not in the index", id.short())).with_hint(
                "run `backup check` to list the affected files: an index object or a pack is lost",
            )
        })?;
        let Err(error) = require_size(&found.blob, self.max_data()) else {
            return Ok(found);
        };
        self.other_copies(&found).first().copied().ok_or(error)
    }

    /// The length of all blobs of a node together, by the index, in bytes.
    ///
    /// # Errors
    /// As [`Self::locate`].
    pub(crate) fn content_len(&self, node: &Node) -> Result<u64> {
        let len = |id| Ok(u64::from(self.locate(BlobKind::Data, id)?.blob.plain_len()));
        node.content.iter().map(len).sum()
    }

    /// The reason why a node cannot be restored, if all its blobs are in the index.
    pub(crate) fn misfit(&self, node: &Node) -> Option<(&'static str, String)> {
        node.misfit(self.content_len(node).ok()?)
    }

    fn max_data(&self) -> u32 {
        self.repository.repository().config().max_data_blob()
    }

    /// Reads and decodes a tree, from another copy if one is damaged.
    pub(crate) async fn tree(&self, id: &BlobId) -> Result<Tree> {
        self.sound_copy(BlobKind::Tree, id, |copy| self.tree_at(copy, id)).await
    }

    /// What `read` makes of a blob; of another copy if the first is damaged, and of the place in the
    /// header of a pack if no index entry leads to a sound copy.
    async fn sound_copy<T, F: Future<Output = Result<T>>>(
        &self,
        kind: BlobKind,
        id: &BlobId,
        read: impl Fn(BlobLocation) -> F,
    ) -> Result<T> {
        let failure = match self.locate(kind, id) {
            Ok(first) => match read(first).await {
                Err(error) if error.is_damage() => {
                    for copy in self.other_copies(&first) {
                        if let Ok(sound) = read(copy).await {
                            return Ok(sound);
                        }
                    }
                    error
                }
                result => return result,
            },
            Err(error) => error,
        };
        let repository = &self.repository;
        // Rare, and larger than the futures of all callers.
        for place in Box::pin(repository.places_in_headers(kind, id)).await? {
            if limits::blob_fault(&place.blob, self.max_data()).is_some() {
                continue;
            }
            match read(place).await {
                Err(error) if error.is_damage() => {}
                result => {
                    repository.note_contradiction(place.pack);
                    return result;
                }
            }
        }
        Err(failure)
    }

    /// The first place where a blob can be read.
    pub(super) async fn sound_place(&self, kind: BlobKind, id: &BlobId) -> Result<BlobLocation> {
        self.sound_copy(kind, id, |at| async move {
            self.decoded_at(at, Arc::new(|_: Decoded<'_>| ())).await.map(|()| at)
        })
        .await
    }

    /// The content of the copy of a blob at this place matches its name.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if it does not; those of the sink.
    pub(crate) async fn require_sound(&self, at: BlobLocation) -> Result<()> {
        let sealed = self.sealed(&at).await?;
        let key = Arc::clone(self.repository.repository().key());
        let work = move || verify_blob(&key, &at.blob, &sealed);
        self.repository.repository().cpu().run(work).await
    }

    /// Where else a blob is.
    fn other_copies(&self, known: &BlobLocation) -> Vec<BlobLocation> {
        let mut copies = self.repository.index().find_all(known.blob.kind, &known.blob.id);
        let max_data = self.max_data();
        copies.retain(|copy| copy != known && limits::blob_fault(&copy.blob, max_data).is_none());
        copies
    }

    async fn tree_at(&self, at: BlobLocation, id: &BlobId) -> Result<Tree> {
        let sealed = self.windowed(&at).await?;
        let key = self.repository.repository().key();
        let id = *id;
        let decode_tree = move |key: &MasterKey, sealed: &[u8]| {
            let tree = if is_large_tree(&at.blob) {
                open(key, &at.blob, sealed)
                    .and_then(|opened| large_tree(&at.blob, &opened, sealed.len()))
            } else {
                decode_with(key, &at.blob, sealed, |decoded| Tree::from_json(decoded?.plain))
            };
            tree.map_err(|error| error.context(format!("directory {}", id.short())))
        };
        // Most trees take less time than handing them to another thread.
        if at.blob.plain_len() < 64 << 10 {
            return decode_tree(key, &sealed);
        }
        let key = Arc::clone(key);
        self.repository.repository().cpu().run(move || decode_tree(&key, &sealed)).await
    }

    /// Reads one blob, from another copy if one is damaged.
    pub(crate) async fn blob(&self, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>> {
        self.decoded(kind, id, |decoded| decoded.plain.to_vec()).await
    }

    /// A blob as it is stored; trees through the windows, because others of the same pack will
    /// follow.
    async fn sealed(&self, at: &BlobLocation) -> Result<Bytes> {
        if at.blob.kind == BlobKind::Tree {
            return self.windowed(at).await;
        }
        let start = u64::from(at.blob.offset);
        self.range(&at.pack, start..start + u64::from(at.blob.len)).await
    }

    /// Hands over a blob in all its forms, from another copy if one is damaged, on a worker thread.
    pub(crate) async fn decoded<T: Send + 'static>(
        &self,
        kind: BlobKind,
        id: &BlobId,
        take: impl Fn(Decoded<'_>) -> T + Send + Sync + 'static,
    ) -> Result<T> {
        let take = Arc::new(take);
        self.sound_copy(kind, id, |copy| self.decoded_at(copy, Arc::clone(&take))).await
    }

    /// Hands over a directory as it is stored, and its entries, from another copy if one is
    /// damaged, on a worker thread. The plain content of a large one is left out.
    pub(crate) async fn decoded_tree<T: Send + 'static>(
        &self,
        id: &BlobId,
        take: impl Fn(Decoded<'_>, Tree) -> T + Send + Sync + 'static,
    ) -> Result<T> {
        let take = Arc::new(take);
        self.sound_copy(BlobKind::Tree, id, |at| {
            let take = Arc::clone(&take);
            async move {
                let sealed = self.sealed(&at).await?;
                let key = Arc::clone(self.repository.repository().key());
                let work = move || {
                    if !is_large_tree(&at.blob) {
                        return decode_with(&key, &at.blob, &sealed, |decoded| {
                            let decoded = decoded?;
                            Ok(take(decoded, Tree::from_json(decoded.plain)?))
                        });
                    }
                    let opened = open(&key, &at.blob, &sealed)?;
                    let tree = large_tree(&at.blob, &opened, sealed.len())?;
                    let (blob, opened) = (&at.blob, &opened[..]);
                    Ok(take(Decoded { blob, sealed: &sealed, opened, plain: &[] }, tree))
                };
                self.repository.repository().cpu().run(work).await
            }
        })
        .await
    }

    async fn decoded_at<T: Send + 'static>(
        &self,
        at: BlobLocation,
        take: Arc<impl Fn(Decoded<'_>) -> T + Send + Sync + 'static>,
    ) -> Result<T> {
        let sealed = self.sealed(&at).await?;
        let key = Arc::clone(self.repository.repository().key());
        let work = move || {
            decode_with(&key, &at.blob, &sealed, |decoded| decoded.map(|decoded| take(decoded)))
        };
        self.repository.repository().cpu().run(work).await
    }

    /// Reads a part of a pack.
    pub(crate) async fn range(&self, pack: &PackId, range: std::ops::Range<u64>) -> Result<Bytes> {
        let expected = range.end - range.start;
        let key = layout::pack(pack);
        match self.repository.repository().sink().get_range(&key, range).await {
            Ok(bytes) if bytes.len() as u64 == expected => Ok(bytes),
            Ok(_) => Err(Error::damaged(format!(
                "pack {} is shorter than the index states",
                pack.short()
            ))),
            Err(error) => match error.kind() {
                SinkErrorKind::NotFound => {
                    Err(Error::damaged(format!("pack {} is missing", pack.short()))
                        .with_source(error))
                }
                SinkErrorKind::Invalid => Err(Error::damaged(format!(
                    "pack {} is shorter than the index states",
                    pack.short()
                ))
                .with_source(error)),
                _ => Err(error.into()),
            },
        }
    }

    async fn windowed(&self, at: &BlobLocation) -> Result<Bytes> {
        let (start, len) = (u64::from(at.blob.offset), u64::from(at.blob.len));
        let window = (self.repository.repository().sink().capabilities().read_size / WINDOW).max(1);
        let window_start = start / window * window;
        if start + len > window_start + window {
            return self.range(&at.pack, start..start + len).await;
        }
        let cut = |window: &Window| {
            let from = usize::try_from(start - window.start).unwrap_or(usize::MAX);
            let to = from.saturating_add(at.blob.len as usize);
            (to <= window.bytes.len()).then(|| window.bytes.slice(from..to))
        };
        let found = {
            let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            windows.iter().find(|w| w.pack == at.pack && w.start == window_start).and_then(cut)
        };
        if let Some(bytes) = found {
            return Ok(bytes);
        }
        let end = (window_start + window).min(at.pack_end);
        let bytes = match self.range(&at.pack, window_start..end).await {
            Ok(bytes) => bytes,
            // Damage elsewhere in the window must not hide this blob.
            Err(error) if error.is_damage() => {
                return self.range(&at.pack, start..start + len).await;
            }
            Err(error) => return Err(error),
        };
        let window = Window { pack: at.pack, start: window_start, bytes };
        let pack = at.pack.short();
        let sealed = cut(&window).ok_or_else(|| {
            Error::damaged(format!("the index states a blob beyond the end of pack {pack}"))
        })?;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have read it meanwhile.
        if !windows.iter().any(|known| known.pack == window.pack && known.start == window.start) {
            if windows.len() == WINDOWS {
                windows.pop_front();
            }
            windows.push_back(window);
        }
        Ok(sealed)
    }
}
