//! Contents that go on where they were interrupted.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use backup_core::sink::{Key, Operation, Sink, SinkError, SinkErrorKind, SinkResult};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::policy::{Attempts, RetryPolicy};

/// So many bytes are received before the first are delivered. An interruption before that starts
/// from the beginning, so that of small objects, which may be replaced while they are read, nobody
/// gets parts of two versions.
const HOLD: u64 = 1 << 20;

/// Reads an object or a range of it.
pub(super) async fn get<S: Sink + ?Sized>(
    inner: Arc<S>,
    policy: RetryPolicy,
    key: Key,
    range: Option<Range<u64>>,
) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
    let mut content = Content {
        inner,
        key,
        range,
        received: 0,
        holding: true,
        pieces: VecDeque::new(),
        attempts: Attempts::new(policy),
        stream: None,
    };
    // An error of the request itself belongs to the caller before there is a stream.
    while let Err(error) = content.connect().await {
        content.attempts.again(error).await?;
    }
    let pieces = stream::try_unfold(content, |mut content| async move {
        Ok(content.next().await?.map(|piece| (piece, content)))
    });
    Ok(pieces.boxed())
}

struct Content<S: ?Sized> {
    inner: Arc<S>,
    key: Key,
    /// What was asked for. If that was everything, the end becomes known when it is needed.
    range: Option<Range<u64>>,
    /// Bytes that need not be received again.
    received: u64,
    /// Nothing has been delivered yet.
    holding: bool,
    /// Received but not delivered.
    pieces: VecDeque<Bytes>,
    attempts: Attempts,
    stream: Option<BoxStream<'static, SinkResult<Bytes>>>,
}

impl<S: Sink + ?Sized> Content<S> {
    /// Asks for what has not been received.
    async fn connect(&mut self) -> SinkResult<()> {
        if self.range.is_none() && self.received > 0 {
            let size = self.inner.head(&self.key).await?.size;
            if size < self.received {
                return Err(SinkError::new(SinkErrorKind::Other, Operation::Get, &self.key)
                    .with_source("the object was replaced while it was read"));
            }
            self.range = Some(0..size);
        }
        let rest =
            self.range.clone().map(|range| range.start.saturating_add(self.received)..range.end);
        let stream = match rest {
            // All is there; only the end of the stream was lost.
            Some(rest) if self.received > 0 && rest.start >= rest.end => stream::empty().boxed(),
            rest => self.inner.get(&self.key, rest).await?,
        };
        self.stream = Some(stream);
        Ok(())
    }

    async fn next(&mut self) -> SinkResult<Option<Bytes>> {
        loop {
            if !self.holding
                && let Some(piece) = self.pieces.pop_front()
            {
                return Ok(Some(piece));
            }
            match self.receive().await {
                Ok(Some(piece)) => {
                    self.received += piece.len() as u64;
                    self.pieces.push_back(piece);
                    if !self.holding || self.received >= HOLD {
                        self.holding = false;
                        self.attempts.got_on();
                    }
                }
                Ok(None) if self.pieces.is_empty() => return Ok(None),
                Ok(None) => self.holding = false,
                Err(error) => {
                    self.stream = None;
                    if self.holding {
                        self.pieces.clear();
                        self.received = 0;
                    }
                    self.attempts.again(error).await?;
                }
            }
        }
    }

    async fn receive(&mut self) -> SinkResult<Option<Bytes>> {
        if self.stream.is_none() {
            self.connect().await?;
        }
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        if let Some(piece) = stream.try_next().await? {
            return Ok(Some(piece));
        }
        // It stays ended, also if somebody asks again.
        self.stream = Some(stream::empty().boxed());
        // Some stores close the connection without an error.
        match &self.range {
            Some(range) if self.received < range.end.saturating_sub(range.start) => {
                Err(SinkError::new(SinkErrorKind::Unavailable, Operation::Get, &self.key)
                    .with_source("the content ended early"))
            }
            _ => Ok(None),
        }
    }
}
