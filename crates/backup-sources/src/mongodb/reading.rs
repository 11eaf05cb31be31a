//! [`Reading`]: the documents of one file of a dump.

use backup_core::source::SourceResult;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use super::raw::{self, Documents};

/// Documents of one file, in order.
pub(super) struct Reading {
    content: BoxStream<'static, backup_core::error::Result<Bytes>>,
    cut: Documents,
    /// Whole documents that were not asked for yet.
    ready: Bytes,
    /// And those behind them.
    behind: Bytes,
}

impl Reading {
    pub(super) fn new(content: BoxStream<'static, backup_core::error::Result<Bytes>>) -> Self {
        Self { content, cut: Documents::default(), ready: Bytes::new(), behind: Bytes::new() }
    }

    /// The next documents, one after another: as many as there are at once.
    pub(super) async fn piece(&mut self) -> SourceResult<Option<Bytes>> {
        loop {
            for ready in [&mut self.ready, &mut self.behind] {
                if !ready.is_empty() {
                    return Ok(Some(std::mem::take(ready)));
                }
            }
            match self.content.try_next().await? {
                Some(bytes) => [self.ready, self.behind] = self.cut.whole(bytes)?,
                None => {
                    self.cut.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next document.
    pub(super) async fn next(&mut self) -> SourceResult<Option<Bytes>> {
        let Some(mut piece) = self.piece().await? else { return Ok(None) };
        let document = raw::first_of(&mut piece)?;
        // Where it was: what is ready is taken from the front.
        self.ready = piece;
        Ok(document)
    }
}
