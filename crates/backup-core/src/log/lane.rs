//! The lane: slices in the repository, each created once under a name that rivals would choose as
//! well.

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::Stream;
use super::slice::{Slice, SliceHeader};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::repository::{Repository, layout};
use crate::sink::{SinkErrorKind, SinkOps};

/// The end of a slice that is read to learn what it says: most headers are smaller.
const TAIL: u64 = 8 << 10;

/// The slices of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    repository: Repository,
    stream: String,
}

/// A slice in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StoredSlice {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) size: u64,
    pub(crate) written: Option<Timestamp>,
}

impl StoredSlice {
    /// As it is called in a timeline.
    pub(crate) fn name(&self) -> String {
        format!("{:016x}/{:016x}", self.epoch, self.sequence)
    }
}

impl Lane {
    pub(crate) fn new(repository: &Repository, stream: &Stream) -> Self {
        Self { repository: repository.clone(), stream: stream.name() }
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The name of the stream.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// All slices, in the order in which they were written.
    pub(crate) async fn list(&self) -> Result<Vec<StoredSlice>> {
        let mut slices = Vec::new();
        let mut listing = self.repository.sink().list(&layout::lane(&self.stream));
        while let Some(meta) = listing.try_next().await? {
            let mut names = meta.key.as_str().rsplit('/');
            let mut number = || u64::from_str_radix(names.next()?, 16).ok();
            if let (Some(sequence), Some(epoch)) = (number(), number()) {
                slices.push(StoredSlice {
                    epoch,
                    sequence,
                    size: meta.size,
                    written: meta.last_modified,
                });
            }
        }
        slices.sort_unstable();
        Ok(slices)
    }

    /// What a slice says; `None` if it is gone.
    pub(crate) async fn header(&self, slice: &StoredSlice) -> Result<Option<SliceHeader>> {
        let key = layout::slice(&self.stream, slice.epoch, slice.sequence);
        let from = slice.size.saturating_sub(TAIL);
        let tail = match self.repository.sink().get_range(&key, from..slice.size).await {
            Ok(tail) => tail,
            Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let header = SliceHeader::of_tail(&tail, slice.size, self.repository.key())?;
        let header = match header {
            Some(header) => header,
            None => match self.read(slice).await? {
                Some(slice) => slice.header,
                None => return Ok(None),
            },
        };
        self.require_own(&header)?;
        Ok(Some(header))
    }

    /// What these slices say, in order. Those that are gone are left out, damaged ones come as
    /// errors.
    pub(crate) async fn headers(
        &self,
        slices: &[StoredSlice],
        cx: &Context,
    ) -> Result<Vec<(StoredSlice, Result<SliceHeader>)>> {
        let concurrency = self.repository.sink().capabilities().concurrency.max(1);
        let read = |slice: StoredSlice| async move {
            cx.check_cancelled()?;
            match self.header(&slice).await {
                Ok(header) => Ok::<_, Error>(header.map(|header| (slice, Ok(header)))),
                Err(error) if error.is_damage() => Ok(Some((slice, Err(error)))),
                Err(error) => Err(error),
            }
        };
        let read: Vec<_> = futures::stream::iter(slices.iter().copied())
            .map(read)
            .buffered(concurrency)
            .try_collect()
            .await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// A whole slice; `None` if it is gone.
    pub(crate) async fn read(&self, slice: &StoredSlice) -> Result<Option<Slice>> {
        let key = layout::slice(&self.stream, slice.epoch, slice.sequence);
        let pack = match self.repository.sink().get_bytes(&key).await {
            Ok(pack) => pack,
            Err(error) if error.kind() == SinkErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let key = self.repository.key().clone();
        let opened = self.repository.cpu().run(move || Slice::open(&pack, &key)).await;
        let opened = opened.map_err(|error| error.context(format!("slice {}", slice.name())))?;
        self.require_own(&opened.header)?;
        Ok(Some(opened))
    }

    fn require_own(&self, header: &SliceHeader) -> Result<()> {
        if header.stream == self.stream {
            return Ok(());
        }
        Err(Error::damaged("the slice belongs to another log stream"))
    }

    /// Stores a slice unless its name is taken; says whether it did. A slice of the same bytes is
    /// as good as stored.
    pub(super) async fn create(
        &self,
        epoch: u64,
        sequence: u64,
        pack: bytes::Bytes,
    ) -> Result<bool> {
        let key = layout::slice(&self.stream, epoch, sequence);
        if self.repository.sink().create(&key, pack.clone()).await? {
            return Ok(true);
        }
        // An earlier attempt may have done it before it failed.
        Ok(self.repository.sink().get_bytes(&key).await? == pack)
    }

    /// Removes slices; those that are gone already are no error.
    pub(super) async fn remove(&self, slices: &[StoredSlice]) -> Result<()> {
        let keys =
            slices.iter().map(|slice| layout::slice(&self.stream, slice.epoch, slice.sequence));
        self.repository.sink().delete_all(keys.collect()).await?;
        Ok(())
    }
}
