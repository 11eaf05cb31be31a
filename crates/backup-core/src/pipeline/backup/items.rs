//! The items of a source, polled by the loop itself: no task and no queue between the two, and yet
//! `next` of the source is never dropped half way.

use std::future::poll_fn;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::source::{BackupReader, Item, SourceResult};

type Reader = Box<dyn BackupReader>;
type Next = BoxFuture<'static, (Reader, SourceResult<Option<Item>>)>;

/// Reads a source item by item.
pub(super) struct Items(State);

enum State {
    Idle(Reader),
    Reading(Next),
    /// The last call has been answered with an end or an error.
    Ended(Reader),
    Taken,
}

impl Items {
    pub(super) fn new(reader: Reader) -> Self {
        Self(State::Idle(reader))
    }

    /// The next item. Dropping the future loses nothing: the next call goes on where it was.
    pub(super) async fn next(&mut self) -> Option<SourceResult<Item>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SourceResult<Item>>> {
        loop {
            match std::mem::replace(&mut self.0, State::Taken) {
                State::Idle(mut reader) => {
                    let next = async move {
                        let item = reader.next().await;
                        (reader, item)
                    };
                    self.0 = State::Reading(next.boxed());
                }
                State::Reading(mut next) => match next.poll_unpin(cx) {
                    Poll::Pending => {
                        self.0 = State::Reading(next);
                        return Poll::Pending;
                    }
                    Poll::Ready((reader, item)) => {
                        let item = item.transpose();
                        let goes_on = matches!(item, Some(Ok(_)));
                        self.0 = if goes_on { State::Idle(reader) } else { State::Ended(reader) };
                        return Poll::Ready(item);
                    }
                },
                State::Ended(reader) => {
                    self.0 = State::Ended(reader);
                    return Poll::Ready(None);
                }
                State::Taken => return Poll::Ready(None),
            }
        }
    }

    /// The reader back, to finish or abort it; waits for a call that is under way.
    pub(super) async fn into_reader(self) -> Option<Reader> {
        match self.0 {
            State::Idle(reader) | State::Ended(reader) => Some(reader),
            State::Reading(next) => Some(next.await.0),
            State::Taken => None,
        }
    }
}
