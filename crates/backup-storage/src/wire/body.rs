//! Bodies that are paced, and whose standstill is noticed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody};
use tokio::time::{Instant, Sleep};

use super::WireError;
use crate::limit::{Pace, SLICE};

/// What the buffers of a connection hold at most, by the defaults of Linux.
const BUFFERED: u64 = 4 << 20;

/// So slow may a link be that empties them, in bytes per second.
const SLOWEST: f64 = 64.0 * 1024.0;

/// When a request last got on.
///
/// What was handed to the connection may still be in its buffers, and may take a while on a slow
/// link: so much more time there is. That the other side is gone is noticed earlier, by the system,
/// which waits for acknowledgements no longer than the time-out (`client.rs`).
#[derive(Debug)]
pub(super) struct Progress {
    stall: Duration,
    state: Mutex<(Instant, u64)>,
}

impl Progress {
    pub(super) fn new(stall: Duration) -> Self {
        Self { stall, state: Mutex::new((Instant::now(), 0)) }
    }

    /// It gets on at that moment, with so many bytes. One in the future is when it will be allowed
    /// to.
    fn at(&self, moment: Instant, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (moment, state.1 + bytes as u64);
    }

    /// When it has not got on for too long.
    fn end(&self) -> Instant {
        let (last, sent) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        last + self.stall + Duration::from_secs_f64(sent.min(BUFFERED) as f64 / SLOWEST)
    }

    /// Ends when the request has not got on for too long.
    pub(super) async fn stalled(&self) {
        loop {
            let end = self.end();
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// The body of a request, handed to the connection a slice at a time. The connection asks for the
/// next slice when there is room for it: that is how a slow link differs from a dead one.
pub(super) struct Outgoing {
    body: HttpRequestBody,
    slice: Bytes,
    left: u64,
    progress: Arc<Progress>,
    pace: Option<Arc<Pace>>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Outgoing {
    pub(super) fn new(
        body: HttpRequestBody,
        progress: Arc<Progress>,
        pace: Option<Arc<Pace>>,
    ) -> Self {
        let left = body.content_length() as u64;
        Self { body, slice: Bytes::new(), left, progress, pace, wait: None }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        while this.slice.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(frame) => this.slice = frame?.into_data().unwrap_or_default(),
            }
        }
        let len = this.slice.len().min(SLICE);
        if let Some(pace) = &this.pace {
            let wait = this.wait.get_or_insert_with(|| {
                let begin = pace.take(len);
                this.progress.at(begin.max(Instant::now()), 0);
                Box::pin(tokio::time::sleep_until(begin))
            });
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
        }
        this.progress.at(Instant::now(), len);
        this.left = this.left.saturating_sub(len as u64);
        Poll::Ready(Some(Ok(Frame::data(this.slice.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of a response. Time counts only while somebody waits for it.
pub(super) struct Incoming {
    body: reqwest::Body,
    slice: Bytes,
    stall: Duration,
    pace: Option<Arc<Pace>>,
    wait: Option<Pin<Box<Sleep>>>,
    watch: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(body: reqwest::Body, stall: Duration, pace: Option<Arc<Pace>>) -> Self {
        Self { body, slice: Bytes::new(), stall, pace, wait: None, watch: None }
    }

    /// The next bytes of the connection.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HttpError>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.watch = None;
                    match frame {
                        None => return Poll::Ready(None),
                        Some(Err(error)) => {
                            return Poll::Ready(Some(Err(failed(WireError::transport(&error)))));
                        }
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                            _ => {}
                        },
                    }
                }
                Poll::Pending => {
                    let stall = self.stall;
                    let watch =
                        self.watch.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
                    ready!(watch.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(failed(WireError::Stalled(stall)))));
                }
            }
        }
    }
}

fn failed(error: WireError) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if this.slice.is_empty() {
            match ready!(this.receive(cx)) {
                None => return Poll::Ready(None),
                Some(bytes) => this.slice = bytes?,
            }
        }
        let Some(pace) = &this.pace else {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.slice)))));
        };
        let len = this.slice.len().min(SLICE);
        let wait =
            this.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(pace.take(len))));
        ready!(wait.as_mut().poll(cx));
        this.wait = None;
        Poll::Ready(Some(Ok(Frame::data(this.slice.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.slice.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Not exact while a slice is held back.
        SizeHint::default()
    }
}
