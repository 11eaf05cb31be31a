//! Watching a connection: how long the server may be silent depends on the messages so far.
//!
//! | state | silence |
//! |---|---|
//! | nothing was requested | is normal |
//! | a statement was sent | lasts while the server answers over a second connection |
//! | the server sends files | counts |
//! | the server sends rows: its filter may find none for long | as of a statement |
//! | the server receives a copy, or both send (the log) | is normal; pending writes count |
//!
//! A connection that stalls ends with an error message of the server's kind, with the SQLSTATE that
//! client libraries use for failed connections: drivers then hand it to the statement that waits.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::super::error::code;
use super::super::options::Methods;
use super::limits::Limits;
use super::login::Login;
use crate::waits::{Ask, Stalled, Waits};

/// Lengths of the requests for a cleartext and for an MD5 password. All requests of SASL are
/// longer. (PostgreSQL's documentation, "Message Formats".)
const WEAK_REQUESTS: [u64; 2] = [8, 12];

/// Shared with the owner of the connection.
#[derive(Default)]
pub(super) struct Watched {
    /// A question to the server over a second connection; set once the session has begun.
    pub(super) ask: OnceLock<Ask>,
    /// Set for replication: copies are files and come without a break.
    pub(super) sends_files: OnceLock<()>,
    /// Number of the server's process that serves the session, as the login stated it.
    pub(super) process: OnceLock<i32>,
    /// Why the connection was ended.
    pub(super) stalled: OnceLock<Stalled>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("stalled", &self.stalled).finish_non_exhaustive()
    }
}

/// Messages of one direction: their tags, wherever the bytes are cut.
#[derive(Debug, Default)]
struct Tags {
    header: [u8; 5],
    filled: usize,
    skip: usize,
}

impl Tags {
    /// Of a direction that begins with a message without a tag.
    fn untagged() -> Self {
        Self { filled: 1, ..Self::default() }
    }

    fn each(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, u64)) {
        while !bytes.is_empty() {
            let within = self.skip.min(bytes.len());
            self.skip -= within;
            bytes = &bytes[within..];
            let taken = (5 - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == 5 {
                let [tag, len @ ..] = std::mem::take(&mut self.header);
                let len = u32::from_be_bytes(len);
                self.skip = (len as usize).saturating_sub(4);
                self.filled = 0;
                seen(tag, len.into());
            }
        }
    }

    /// True behind a complete message.
    fn is_between(&self) -> bool {
        self.filled == 0 && self.skip == 0
    }
}

/// Direction of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copying {
    No,
    Out,
    In,
    Both,
}

/// The meaning of silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Normal,
    /// Unless the server answers over a second connection.
    OfStatement,
    OfStream,
}

/// Requests without an answer.
#[derive(Debug)]
struct Requests {
    pending: u32,
    copying: Copying,
    /// The last request was a Sync, not a simple query.
    ends_with_sync: bool,
}

impl Requests {
    fn received(&mut self, tag: u8) {
        match tag {
            b'H' => self.copying = Copying::Out,
            b'G' => {
                self.copying = Copying::In;
                // Servers ignore the Sync behind the statement that begins to receive a copy.
                self.pending -= u32::from(self.ends_with_sync && self.pending > 0);
            }
            b'W' => self.copying = Copying::Both,
            b'c' if self.copying == Copying::Out => self.copying = Copying::No,
            b'E' if self.copying != Copying::Both => self.copying = Copying::No,
            b'Z' => {
                self.pending = self.pending.saturating_sub(1);
                self.copying = Copying::No;
            }
            _ => {}
        }
    }

    fn sent(&mut self, tag: u8) {
        match tag {
            // Query and Sync; the message that begins the session has no tag.
            0 | b'Q' | b'S' if self.copying != Copying::In => {
                self.pending += 1;
                self.ends_with_sync = tag == b'S';
            }
            b'c' | b'f' if self.copying == Copying::In => self.copying = Copying::No,
            _ => {}
        }
    }

    fn silence(&self) -> Silence {
        match self.copying {
            Copying::In | Copying::Both => Silence::Normal,
            _ if self.pending == 0 => Silence::Normal,
            Copying::No => Silence::OfStatement,
            Copying::Out => Silence::OfStream,
        }
    }
}

/// A wait for the server. Never locked: the mutex makes the connection `Sync`.
type Wait = Mutex<Option<Pin<Box<dyn Future<Output = Stalled> + Send>>>>;

/// Watches the bytes of one connection.
pub(super) struct Watch {
    waits: Waits,
    server: String,
    watched: Arc<Watched>,
    from_server: Tags,
    to_server: Tags,
    requests: Requests,
    /// Length of the last authentication request.
    authentication: u64,
    /// Warn if the server gets a cleartext or MD5 password.
    warns_of_weak_password: bool,
    limits: Limits,
    login: Login,
    /// Waits since the last bytes in either direction.
    reading: Wait,
    writing: Wait,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(waits: &Waits, server: String, methods: Methods) -> Self {
        Self {
            waits: waits.clone(),
            server,
            watched: Arc::default(),
            from_server: Tags::default(),
            to_server: Tags::untagged(),
            requests: Requests { pending: 0, copying: Copying::No, ends_with_sync: false },
            authentication: 0,
            warns_of_weak_password: false,
            limits: Limits::default(),
            login: Login::by(methods),
            reading: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// The connection is neither a Unix socket nor TLS with a verified certificate: warn if the
    /// server gets a cleartext or MD5 password.
    pub(super) fn warn_of_weak_password(&mut self) {
        self.warns_of_weak_password = true;
    }

    pub(super) fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }

    /// True once the connection has stalled: no more data follows.
    pub(super) fn is_over(&self) -> bool {
        self.watched.stalled.get().is_some()
    }

    /// # Errors
    /// The server has sent more than [`Limits`] allow, or [`Login`] refuses its demand.
    pub(super) fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.moved();
        let Self { requests, limits, authentication, .. } = self;
        self.from_server.each(bytes, |tag, len| {
            limits.message(tag, len);
            if tag == b'R' {
                *authentication = len;
            }
            requests.received(tag);
        });
        limits.check()?;
        self.login.received(bytes)?;
        if let Some(process) = self.login.process() {
            self.watched.process.get_or_init(|| process);
        }
        Ok(())
    }

    pub(super) fn sent(&mut self, bytes: &[u8]) {
        self.moved();
        let Self { requests, authentication, .. } = self;
        let mut is_weak = false;
        self.to_server.each(bytes, |tag, _| {
            requests.sent(tag);
            is_weak |= tag == b'p' && WEAK_REQUESTS.contains(authentication);
        });
        if is_weak && self.warns_of_weak_password {
            self.waits.warn_once(|| {
                format!(
                    "the server {} gets the password in cleartext or as MD5 over loopback, which \
                     version 0.3 refuses: use scram-sha-256 in pg_hba.conf, or set \
                     `weak_passwords = true`",
                    self.server
                )
            });
        }
    }

    /// Nothing can be read now: ends with an error message if that lasts too long.
    pub(super) fn poll_silent(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let silence = self.requests.silence();
        if silence == Silence::Normal {
            return Poll::Pending;
        }
        let may_ask = silence == Silence::OfStatement || self.watched.sends_files.get().is_none();
        let Self { waits, server, watched, reading, .. } = self;
        let Poll::Ready(stalled) = poll_wait(reading, waits, server, watched, may_ask, cx) else {
            return Poll::Pending;
        };
        let message = error_message(&stalled);
        if !self.from_server.is_between() || buf.remaining() < message.len() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, stalled)));
        }
        buf.put_slice(&message);
        Poll::Ready(Ok(()))
    }

    /// Nothing can be written now: an error if that lasts too long.
    pub(super) fn poll_full(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // Only a copy fills buffers. A server that takes none may wait for a lock.
        let Self { waits, server, watched, writing, .. } = self;
        poll_wait(writing, waits, server, watched, true, cx)
            .map(|stalled| io::Error::new(io::ErrorKind::TimedOut, stalled))
    }

    /// All bytes are on their way.
    pub(super) fn flushed(&mut self) {
        *self.writing.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Bytes were sent or received.
    fn moved(&mut self) {
        self.flushed();
        *self.reading.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn poll_wait(
    wait: &mut Wait,
    waits: &Waits,
    server: &str,
    watched: &Watched,
    may_ask: bool,
    cx: &mut Context<'_>,
) -> Poll<Stalled> {
    let wait = wait.get_mut().unwrap_or_else(PoisonError::into_inner);
    let going = wait.get_or_insert_with(|| {
        let (waits, server) = (waits.clone(), server.to_owned());
        let ask = watched.ask.get().filter(|_| may_ask).cloned();
        Box::pin(async move { waits.stalled(&server, ask.as_ref()).await })
    });
    let polled = going.as_mut().poll(cx);
    if let Poll::Ready(stalled) = &polled {
        *wait = None;
        watched.stalled.get_or_init(|| stalled.clone());
    }
    polled
}

/// ErrorResponse, as a server would send it.
fn error_message(stalled: &Stalled) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{}\0M{stalled}\0\0", code::CONNECTION_FAILURE);
    let len = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&b"E"[..], &len.to_be_bytes(), body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &len, body].concat()
    }

    #[test]
    fn tags_are_found_wherever_bytes_are_cut() {
        let startup = [&12_u32.to_be_bytes()[..], &[7; 8]].concat();
        let bytes =
            [startup, framed(b'Q', b"SELECT 1\0"), framed(b'S', b""), framed(b'd', &[b'Q'; 900])]
                .concat();
        for size in [1, 2, 3, 4, 5, 7, 64, 4096] {
            let (mut tags, mut found) = (Tags::untagged(), Vec::new());
            for piece in bytes.chunks(size) {
                tags.each(piece, |tag, _| found.push(tag));
            }
            assert_eq!(found, [0, b'Q', b'S', b'd'], "{size}");
            assert!(tags.is_between());
        }
    }

    /// States after messages: `>` was sent, `<` received.
    #[test]
    fn silence_counts_by_the_state_of_the_protocol() {
        use Silence::{Normal, OfStatement, OfStream};
        let mut requests = Requests { pending: 0, copying: Copying::No, ends_with_sync: false };
        let mut steps = |steps: &[(char, u8, Silence)]| {
            for &(direction, tag, expected) in steps {
                match direction {
                    '>' => requests.sent(tag),
                    _ => requests.received(tag),
                }
                assert_eq!(requests.silence(), expected, "{direction}{}", char::from(tag));
            }
        };
        // The start of a session, two pipelined statements.
        steps(&[('>', 0, OfStatement), ('<', b'R', OfStatement), ('<', b'Z', Normal)]);
        steps(&[('>', b'S', OfStatement), ('>', b'S', OfStatement), ('<', b'Z', OfStatement)]);
        steps(&[('<', b'Z', Normal)]);
        // Copies: to us, to the server (with a Sync that is ignored), in both directions.
        steps(&[('>', b'Q', OfStatement), ('<', b'H', OfStream), ('<', b'd', OfStream)]);
        steps(&[('<', b'c', OfStatement), ('<', b'C', OfStatement), ('<', b'Z', Normal)]);
        steps(&[('>', b'S', OfStatement), ('<', b'G', Normal), ('>', b'd', Normal)]);
        steps(&[('>', b'c', Normal), ('>', b'S', OfStatement), ('<', b'Z', Normal)]);
        // Of a simple query there is no Sync.
        steps(&[('>', b'Q', OfStatement), ('<', b'G', Normal), ('>', b'd', Normal)]);
        steps(&[('>', b'c', OfStatement), ('<', b'C', OfStatement), ('<', b'Z', Normal)]);
        // A copy, and a statement that is closed while its rows come.
        steps(&[('>', b'S', OfStatement), ('<', b'H', OfStream), ('>', b'S', OfStream)]);
        steps(&[('<', b'c', OfStatement), ('<', b'Z', OfStatement), ('>', b'S', OfStatement)]);
        steps(&[('<', b'Z', OfStatement), ('<', b'Z', Normal)]);
        steps(&[('>', b'Q', OfStatement), ('<', b'W', Normal), ('<', b'c', Normal)]);
        steps(&[('<', b'Z', Normal)]);
        // An error ends a copy.
        steps(&[('>', b'Q', OfStatement), ('<', b'H', OfStream), ('<', b'E', OfStatement)]);
        steps(&[('<', b'Z', Normal)]);
    }
}
