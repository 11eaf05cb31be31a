//! A connection whose bytes the caller writes and reads: for replication and for pipelines.

use std::time::Duration;

use backup_core::event::Events;
use backup_core::source::{SourceError, SourceErrorKind};
use bytes::BytesMut;
use redis::{Cmd, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::super::error::{WireError, malformed};
use super::super::options::RedisOptions;
use super::client::closed;
use super::guard::make_ascii;
use super::login::Secret;
use super::resp::{Reply, ReplyEnd, parse_reply};
use super::socket::Socket;
use crate::waits::Waits;

/// Bytes are read in pieces of this size.
const PIECE: usize = 128 << 10;
/// Longest reply of a single line, in bytes.
const MAX_LINE: usize = 64 << 10;

/// A connection whose bytes the caller writes and reads.
pub(in super::super) struct RawConnection {
    socket: Socket,
    /// Received bytes that were not taken.
    pub(super) input: BytesMut,
    waits: Waits,
    /// Name of the server in reports.
    server: String,
    /// The password, which must not reach an error.
    secret: Secret,
}

impl std::fmt::Debug for RawConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawConnection").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The error if a server has sent nothing for this long.
pub(in super::super) fn silent(silence: Duration) -> WireError {
    let text = format!("the server has sent nothing for {} seconds", silence.as_secs_f32());
    SourceError::new(SourceErrorKind::Unavailable, text).into()
}

impl RawConnection {
    pub(super) fn new(socket: Socket, options: &RedisOptions, secret: Secret) -> Self {
        let (waits, server) = (options.waits.clone(), options.label());
        Self { socket, input: BytesMut::new(), waits, server, secret }
    }

    /// Limits of waits, and the name of the server in reports.
    pub(in super::super) fn waits(&self) -> (Waits, String) {
        (self.waits.clone(), self.server.clone())
    }

    /// Turns reports off: from now on silence of some seconds is normal. It stays limited.
    pub(super) fn without_reports(&mut self) {
        self.waits = Waits::new(self.waits.timeout(), Events::silent());
    }

    /// Sends bytes. A server that takes none for the time-out is dead as well.
    pub(in super::super) async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let sending = async {
            self.socket.write_all(bytes).await?;
            Ok(self.socket.flush().await?)
        };
        self.waits.limit(&self.server, None, sending).await.map_err(SourceError::from)?
    }

    /// Waits for more bytes, which are then in `input`.
    pub(super) async fn fill(&mut self) -> Result<(), WireError> {
        self.input.reserve(PIECE);
        let reading = self.socket.read_buf(&mut self.input);
        // Without a second connection: a server that is busy with a command does not answer.
        let read = self.waits.limit(&self.server, None, reading).await;
        match read.map_err(SourceError::from)?? {
            0 => Err(closed().into()),
            _ => Ok(()),
        }
    }

    /// The next reply, of any kind and size: of a pipeline.
    pub(in super::super) async fn reply(&mut self) -> Result<Reply, WireError> {
        let mut end = ReplyEnd::default();
        loop {
            if end.is_in(&self.input)?
                && let Some(reply) = parse_reply(&mut self.input)?
            {
                return Ok(reply);
            }
            self.fill().await?;
        }
    }

    /// Runs a command whose reply is a single line.
    ///
    /// # Errors
    /// [`WireError::Server`] if the server refuses.
    pub(in super::super) async fn run(&mut self, command: &Cmd) -> Result<Value, WireError> {
        self.send(&command.get_packed_command()).await?;
        self.line().await
    }

    /// The refusal of a server, without the password.
    pub(super) fn refusal(&self, text: &str) -> WireError {
        self.secret.hide(WireError::Server(text.to_owned()))
    }

    /// The next reply, which is a single line. Bytes behind it stay in `input`.
    pub(super) async fn line(&mut self) -> Result<Value, WireError> {
        let mut line = loop {
            let window = &self.input[..self.input.len().min(MAX_LINE)];
            if let Some(end) = window.windows(2).position(|end| end == b"\r\n") {
                break self.input.split_to(end + 2);
            }
            if window.len() == MAX_LINE {
                return Err(malformed("reply from the server: it has no end").into());
            }
            self.fill().await?;
        };
        make_ascii(&mut line);
        match redis::parse_redis_value(&line) {
            Ok(Value::ServerError(error)) => Err(self.secret.hide(error.into())),
            Ok(value) => Ok(value),
            // The crate's error contains the line.
            Err(_) => Err(malformed("reply from the server").into()),
        }
    }

    /// Both directions, to be used at the same time.
    pub(in super::super) fn split(self) -> (ReadHalf<Socket>, WriteHalf<Socket>) {
        tokio::io::split(self.socket)
    }
}
