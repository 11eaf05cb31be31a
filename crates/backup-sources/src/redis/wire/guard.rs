//! Limits on the replies that the `redis` crate reads.
//!
//! The crate reads replies of any size and refuses status lines that are not UTF-8, though servers
//! repeat arguments in their errors. A [`Guard`] lies between the crate and the socket: it ends the
//! connection when a reply is too long, and replaces bytes of status lines that are not ASCII.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Longest reply to a request, in bytes. Values of keys come over other connections.
const MAX_REPLY: usize = 64 << 20;
/// Most parts of a reply, with those within parts. Replies with names of keys have hundreds.
const MAX_PARTS: usize = 1 << 20;
/// Longest text of a number in a reply, in bytes.
const MAX_NUMBER: usize = 32;

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server has closed it.
    Closed,
    /// A reply is too long.
    TooLong,
    /// With the text of the error.
    Io(io::ErrorKind, String),
}

/// The traffic of a connection, shared with its [`Guard`].
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Size of the reply so far.
    bytes: AtomicUsize,
    parts: AtomicUsize,
    moved: Notify,
    failure: Mutex<Option<Failure>>,
}

impl Traffic {
    /// Begins a new reply.
    pub(super) fn expect_reply(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.parts.store(0, Ordering::Relaxed);
    }

    /// Ends when bytes were sent or received. Cancel safe.
    pub(super) async fn progress(&self) {
        self.moved.notified().await;
    }

    /// Why the connection has ended, if it has.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the first cause.
    fn fail(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    /// Counts received bytes; false if the reply is too long.
    fn count(&self, bytes: usize, parts: usize) -> bool {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let parts = self.parts.fetch_add(parts, Ordering::Relaxed) + parts;
        bytes <= MAX_REPLY && parts <= MAX_PARTS
    }
}

/// A stream with limits.
#[derive(Debug)]
pub(super) struct Guard<S> {
    inner: S,
    traffic: Arc<Traffic>,
    scanner: Scanner,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, traffic: Arc<Traffic>) -> Self {
        Self { inner, traffic, scanner: Scanner::default() }
    }

    fn failed(&self, error: io::Error) -> io::Error {
        self.traffic.fail(Failure::Io(error.kind(), error.to_string()));
        error
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let has_room = buf.remaining() > 0;
        if let Err(error) = ready!(Pin::new(&mut this.inner).poll_read(cx, buf)) {
            return Poll::Ready(Err(this.failed(error)));
        }
        let received = &mut buf.filled_mut()[before..];
        if received.is_empty() && has_room {
            this.traffic.fail(Failure::Closed);
            return Poll::Ready(Ok(()));
        }
        let parts = this.scanner.scan(received);
        if !this.traffic.count(received.len(), parts) {
            this.traffic.fail(Failure::TooLong);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        this.traffic.moved.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes));
        this.traffic.moved.notify_one();
        Poll::Ready(written.map_err(|error| this.failed(error)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.inner).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| this.failed(error)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Finds the lines of replies that arrive in pieces.
#[derive(Debug, Default)]
struct Scanner {
    at: At,
    /// The last byte of the line was a carriage return.
    is_ending: bool,
    /// The number of the line that is being read.
    number: Vec<u8>,
}

/// The place of the next byte.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The first byte of a line.
    #[default]
    Start,
    /// A line with text.
    Text,
    /// A line with the length of the bytes behind it.
    Length,
    /// A line with a number.
    Number,
    /// In bytes of a string; this many follow.
    Bytes(usize),
}

impl Scanner {
    /// Reads the next bytes, and replaces those of texts that are not ASCII; returns how many parts
    /// begin in them.
    fn scan(&mut self, bytes: &mut [u8]) -> usize {
        let mut parts = 0;
        let mut rest = bytes;
        while let Some((first, after)) = std::mem::take(&mut rest).split_first_mut() {
            if let At::Bytes(left) = self.at {
                let len = left.min(after.len() + 1);
                self.at = if left > len { At::Bytes(left - len) } else { At::Start };
                rest = &mut after[len - 1..];
                continue;
            }
            if self.at == At::Start {
                parts += 1;
                self.begin(*first);
            } else {
                self.line(first);
            }
            rest = after;
        }
        parts
    }

    fn begin(&mut self, kind: u8) {
        self.number.clear();
        self.is_ending = kind == b'\r';
        self.at = match kind {
            b'+' | b'-' => At::Text,
            b'$' | b'=' | b'!' => At::Length,
            _ => At::Number,
        };
    }

    fn line(&mut self, byte: &mut u8) {
        if self.is_ending && *byte == b'\n' {
            self.is_ending = false;
            self.at = match (self.at, self.length()) {
                // With the line end behind them.
                (At::Length, Some(length)) => At::Bytes(length.saturating_add(2)),
                _ => At::Start,
            };
            return;
        }
        self.is_ending = *byte == b'\r';
        match self.at {
            At::Text => make_ascii(std::slice::from_mut(byte)),
            At::Length if self.number.len() < MAX_NUMBER => self.number.push(*byte),
            _ => {}
        }
    }

    /// The length that the line contains; `None` for strings that do not exist.
    fn length(&self) -> Option<usize> {
        usize::try_from(str::from_utf8(&self.number).ok()?.trim().parse::<i64>().ok()?).ok()
    }
}

/// Replaces bytes that are not ASCII by question marks.
pub(super) fn make_ascii(line: &mut [u8]) {
    for byte in line.iter_mut().filter(|byte| !byte.is_ascii()) {
        *byte = b'?';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans `bytes` in pieces of `len`.
    fn scanned(bytes: &[u8], len: usize) -> (Vec<u8>, usize) {
        let (mut bytes, mut scanner) = (bytes.to_vec(), Scanner::default());
        let parts = bytes.chunks_mut(len).map(|piece| scanner.scan(piece)).sum();
        assert_eq!(scanner.at, At::Start);
        (bytes, parts)
    }

    #[test]
    fn only_texts_are_made_ascii() {
        let reply = b"*4\r\n-ERR \xff\n\rx\r\n$4\r\n\xfe\r\n+\r\n$-1\r\n$0\r\n\r\n+\xc3\xa4\r\n";
        let expected = b"*4\r\n-ERR ?\n\rx\r\n$4\r\n\xfe\r\n+\r\n$-1\r\n$0\r\n\r\n+??\r\n";
        for len in 1..reply.len() {
            assert_eq!(scanned(reply, len), (expected.to_vec(), 6), "{len}");
        }
    }

    #[test]
    fn any_bytes_are_scanned() {
        for bytes in [&b"$99999999999999999999\r\nx"[..], b"$x\r\n\r\n", b"\r\n\r\n", b"$\xff\r\n"]
        {
            let mut scanner = Scanner::default();
            scanner.scan(&mut bytes.to_vec());
        }
        let mut scanner = Scanner::default();
        scanner.scan(&mut b"$9223372036854775807\r\nabc".to_vec());
        assert!(matches!(scanner.at, At::Bytes(left) if left > 1 << 62));
    }

    #[test]
    fn limits_hold_for_each_reply() {
        let traffic = Traffic::default();
        assert!(traffic.count(MAX_REPLY, MAX_PARTS));
        assert!(!traffic.count(1, 0));
        traffic.expect_reply();
        assert!(traffic.count(1, MAX_PARTS));
        assert!(!traffic.count(1, 1));
    }
}
