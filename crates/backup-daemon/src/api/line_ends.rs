//! Line ends in the heads of requests: a line feed without a carriage return is refused.
//!
//! The parser accepts a bare line feed, as RFC 9112 section 2.2 allows. A proxy in front may not,
//! and would then see other requests in the same bytes.
//!
//! ```text
//!  head ── CRLF CRLF ─▶ body of Content-Length bytes ─▶ next head
//!    │                        (Transfer-Encoding: not followed; `guard` closes the connection)
//!    └─ bare LF becomes NUL, which the parser refuses with the status 400
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a head that are inspected, at most: more than the parser accepts.
const MAX_HEAD: usize = 64 << 10;

/// A connection whose requests have no bare line feed in their heads.
#[derive(Debug)]
pub(super) struct LineEnds<S> {
    stream: S,
    part: Part,
}

/// The part of a request that comes next.
#[derive(Debug)]
enum Part {
    /// The bytes of the head so far.
    Head(Vec<u8>),
    /// Remaining bytes of the body.
    Body(u64),
    /// The end of the request is unknown, or the parser has refused it: no request follows.
    Last,
}

impl<S> LineEnds<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, part: Part::Head(Vec::new()) }
    }
}

impl Part {
    fn inspect(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match self {
                Self::Last => return,
                Self::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        *self = Self::Head(Vec::new());
                    }
                    taken
                }
                Self::Head(head) => {
                    let byte = &mut bytes[0];
                    if *byte == b'\n' && head.last() != Some(&b'\r') {
                        *byte = 0;
                    }
                    head.push(*byte);
                    if head.ends_with(b"\r\n\r\n") {
                        *self = Self::behind(head);
                    } else if head.len() > MAX_HEAD {
                        *self = Self::Last;
                    }
                    1
                }
            };
            bytes = &mut bytes[taken..];
        }
    }

    /// The part behind a head. The parser refuses a length that is invalid here.
    fn behind(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut length = 0;
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let name = name.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Self::Last;
            }
            if name.eq_ignore_ascii_case("content-length") {
                let Ok(bytes) = value.trim().parse() else { return Self::Last };
                length = bytes;
            }
        }
        if length == 0 { Self::Head(Vec::new()) } else { Self::Body(length) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LineEnds<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.part.inspect(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LineEnds<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes as the parser gets them, whole and byte by byte.
    fn inspected(text: &str) -> String {
        let mut whole = text.as_bytes().to_vec();
        Part::Head(Vec::new()).inspect(&mut whole);
        let (mut part, mut single) = (Part::Head(Vec::new()), text.as_bytes().to_vec());
        single.chunks_mut(1).for_each(|byte| part.inspect(byte));
        assert_eq!(whole, single);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn bare_line_feeds_of_heads_become_invalid() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
        let sound = format!("\r\n{head}a\n\nbGET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(inspected(&sound), sound, "bodies are not inspected");
        let second = format!("{head}a\n\nbGET / HTTP/1.1\nHost: x\r\n\r\n");
        assert_eq!(inspected(&second), second.replace("1.1\nHost", "1.1\0Host"));
        assert_eq!(inspected("GET / HTTP/1.1\n\n"), "GET / HTTP/1.1\0\0");
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n";
        assert_eq!(inspected(chunked), chunked);
    }
}
