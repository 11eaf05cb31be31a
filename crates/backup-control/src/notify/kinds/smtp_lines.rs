//! A connection to a mail server that hands over one line at a time.
//!
//! With STARTTLS, an attacker on the network can append bytes to the last cleartext reply. The mail
//! library would keep them in its buffer, and take them for replies inside TLS. Here they reach the
//! TLS library, which refuses them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that are read at once.
const CHUNK: usize = 4 << 10;
/// Lines and bytes between two commands: a reply, or the server's part of a TLS handshake. The mail
/// library parses a reply from its beginning for each line, without a pause.
const MAX_LINES: usize = 256;
const MAX_REPLY: usize = 64 << 10;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Lines {
    stream: TcpStream,
    /// Received bytes that were not handed over.
    waiting: Vec<u8>,
    /// Bytes and lines since the last command.
    received: usize,
    lines: usize,
}

impl Lines {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, waiting: Vec::new(), received: 0, lines: 0 }
    }
}

impl AsyncRead for Lines {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, waiting, received, lines } = &mut *self;
        if waiting.is_empty() {
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(stream).poll_read(cx, &mut read))?;
            waiting.extend_from_slice(read.filled());
            *received += read.filled().len();
        }
        *lines += 1;
        if *received > MAX_REPLY || *lines > MAX_LINES {
            return Poll::Ready(Err(io::Error::other("the reply of the mail server is too long")));
        }
        let line =
            waiting.iter().position(|byte| *byte == b'\n').map_or(waiting.len(), |at| at + 1);
        let taken = line.min(buf.remaining());
        buf.put_slice(&waiting[..taken]);
        waiting.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        (self.received, self.lines) = (0, 0);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Lines {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
