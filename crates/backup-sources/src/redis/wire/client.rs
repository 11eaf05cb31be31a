//! Requests and replies, by the `redis` crate.

use std::sync::Arc;

use backup_core::source::{SourceError, SourceErrorKind};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, RedisError, Value};
use tokio_util::task::AbortOnDropHandle;

use super::super::error::{WireError, malformed};
use super::super::options::RedisOptions;
use super::guard::{Failure, Guard, Traffic};
use super::login::Secret;
use super::mismatch;
use super::socket::Socket;
use crate::waits::Waits;

/// A connection for requests. Each is answered before the next one is sent.
///
/// Not `Clone`: clones of the crate's connection share the selected database.
pub(in super::super) struct Client {
    connection: MultiplexedConnection,
    traffic: Arc<Traffic>,
    waits: Waits,
    /// Name of the server in reports.
    server: String,
    /// The password, which must not reach an error.
    secret: Secret,
    /// Settings of a server that has not answered yet.
    untried: Option<Box<RedisOptions>>,
    /// Reads and writes the stream; ends with the client, also if a reply is still missing.
    _driver: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Settings of the crate's connections: no limit on a reply as a whole, which is half a second by
/// default. [`Client::run`] limits the time without progress.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None)
}

/// No login, and no CLIENT SETINFO: some services refuse it.
fn settings() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

impl Client {
    /// Takes over a stream on which nothing was sent.
    pub(super) async fn open(
        socket: Socket,
        options: &RedisOptions,
        secret: Secret,
    ) -> Result<Self, WireError> {
        let traffic = Arc::new(Traffic::default());
        let guarded = Guard::new(socket, Arc::clone(&traffic));
        let opened = MultiplexedConnection::new_with_config(&settings(), guarded, config()).await;
        let (connection, driver) = opened.map_err(|error| failed(&error, None))?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(driver));
        let (waits, server) = (options.waits.clone(), options.label());
        let untried = Some(Box::new(options.clone()));
        Ok(Self { connection, traffic, waits, server, secret, untried, _driver })
    }

    /// Sends a command, and returns its reply.
    ///
    /// # Errors
    /// [`WireError::Server`] if the server refuses, [`WireError::Source`] if the server is silent
    /// for the time-out or if the reply is not a `T`.
    pub(in super::super) async fn run<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
    ) -> Result<T, WireError> {
        let replied = self.reply(command).await;
        let replied = match (replied, self.untried.take()) {
            (Err(error), Some(options)) => Err(mismatch::tls_port(&options, error).await),
            (replied, _) => replied,
        };
        match replied? {
            Value::ServerError(error) => Err(self.secret.hide(error.into())),
            // The crate's error may contain the reply.
            value => redis::from_redis_value(value).map_err(|_| unexpected_reply(command).into()),
        }
    }

    /// Waits for a reply as long as bytes are sent or received within the time-out.
    async fn reply(&mut self, command: &Cmd) -> Result<Value, WireError> {
        self.traffic.expect_reply();
        let mut request = Box::pin(self.connection.send_packed_command(command));
        loop {
            let step = async {
                tokio::select! {
                    biased;
                    replied = &mut request => Some(replied),
                    () = self.traffic.progress() => None,
                }
            };
            let step = self.waits.limit(&self.server, None, step).await;
            if let Some(replied) = step.map_err(SourceError::from)? {
                return replied.map_err(|error| failed(&error, self.traffic.failure()));
            }
        }
    }
}

fn unexpected_reply(command: &Cmd) -> SourceError {
    let name = command.args_iter().next();
    let name = match &name {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name),
        _ => "a command".into(),
    };
    malformed(format!("reply to {name}"))
}

/// The error for a failed request. The crate's text is left out: it may contain replies.
fn failed(error: &RedisError, failure: Option<Failure>) -> WireError {
    match failure {
        Some(Failure::Closed) => closed().into(),
        Some(Failure::TooLong) => malformed("reply from the server: it is too long").into(),
        Some(Failure::Io(kind, text)) => mismatch::refused(&text)
            .map_or_else(|| WireError::Io(std::io::Error::new(kind, text)), WireError::Source),
        None if error.is_connection_dropped() => closed().into(),
        None => malformed("reply from the server").into(),
    }
}

/// The error if the server has closed a connection.
pub(super) fn closed() -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, "the server has closed the connection")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backup_core::event::Events;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn ping() -> Cmd {
        redis::cmd("PING")
    }

    /// A client, and the server's end of its connection.
    async fn connected() -> (Client, DuplexStream) {
        let (near, far) = duplex(1 << 20);
        let waits = Waits::new(TIMEOUT, Events::silent());
        // No second connection is made to a socket.
        let socket = Some("/nowhere".into());
        let options = RedisOptions { waits, socket, ..RedisOptions::default() };
        (Client::open(Box::new(near), &options, Secret::default()).await.unwrap(), far)
    }

    /// The result of a request that is answered by these bytes, after which the server hangs up.
    async fn answered<T: FromRedisValue>(bytes: Vec<u8>) -> Result<T, WireError> {
        let (mut client, mut server) = connected().await;
        let serving = tokio::spawn(async move {
            _ = server.read(&mut [0; 100]).await;
            _ = server.write_all(&bytes).await;
        });
        let answer = client.run(&ping()).await;
        serving.abort();
        answer
    }

    #[tokio::test]
    async fn first_bytes_on_the_wire_are_the_request() {
        let (mut client, mut server) = connected().await;
        let serving = tokio::spawn(async move {
            let mut received = [0; 100];
            let len = server.read(&mut received).await.unwrap();
            server.write_all(b"+PONG\r\n").await.unwrap();
            (received[..len].to_vec(), server)
        });
        assert_eq!(client.run::<String>(&ping()).await.unwrap(), "PONG");
        assert_eq!(serving.await.unwrap().0, b"*1\r\n$4\r\nPING\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_replies_are_waited_for_and_silence_ends() {
        let (mut client, mut server) = connected().await;
        let serving = tokio::spawn(async move {
            // Longer than the time-out altogether, but never silent for that long.
            for byte in b"+PONG\r\n" {
                sleep(TIMEOUT / 2).await;
                server.write_all(&[*byte]).await.unwrap();
            }
            server
        });
        let begun = Instant::now();
        assert_eq!(client.run::<String>(&ping()).await.unwrap(), "PONG");
        assert!(begun.elapsed() > 3 * TIMEOUT);
        let _server = serving.await.unwrap();
        let (begun, error) = (Instant::now(), client.run::<()>(&ping()).await.unwrap_err());
        let error = error.into_source("cannot ask");
        assert_eq!(error.kind(), SourceErrorKind::Unavailable);
        assert!(begun.elapsed() >= TIMEOUT && error.hint().is_some(), "{}", error.chain());
    }

    #[tokio::test]
    async fn refusals_are_repeated_in_any_encoding() {
        let refused = answered::<()>(b"-NOPERM no \xff permission\r\n".to_vec()).await;
        assert!(
            matches!(refused, Err(WireError::Server(text)) if text == "NOPERM no ? permission")
        );
        let refused = answered::<()>(b"-BUSY\r\n".to_vec()).await;
        assert!(matches!(refused, Err(WireError::Server(text)) if text == "BUSY"));
    }

    #[tokio::test]
    async fn broken_connections_are_unavailable() {
        for part in [&b""[..], b"+PON", b"*2\r\n+OK\r\n", b"$5\r\nab"] {
            let error = answered::<()>(part.to_vec()).await.unwrap_err().into_source("cannot ask");
            assert_eq!(error.kind(), SourceErrorKind::Unavailable, "{part:?}");
            assert!(error.chain().contains("closed the connection"), "{}", error.chain());
        }
    }

    #[tokio::test]
    async fn replies_that_are_too_long_are_refused() {
        let numbers = [&b"*9223372036854775807\r\n"[..], &b":1\r\n".repeat(1 << 20)].concat();
        let text = [&b"$2000000000\r\n"[..], &[b'x'; 65 << 20]].concat();
        for reply in [numbers, text] {
            let error = answered::<Value>(reply).await.unwrap_err();
            assert!(error.to_string().contains("too long"), "{error}");
        }
    }

    #[tokio::test]
    async fn errors_contain_no_reply() {
        for reply in [
            &b"?secret\r\n"[..],
            b":secret\r\n",
            b"$secret\r\n",
            b"$6\r\nsecret\r\n",
            b"*1\r\n$6\r\nsecretx\r\n",
            &b"*1\r\n".repeat(200),
        ] {
            let error = answered::<u64>(reply.to_vec()).await.unwrap_err();
            let shown = error.to_string() + &error.into_source("cannot ask").chain();
            assert!(shown.contains("invalid reply") && !shown.contains("secret"), "{shown}");
        }
    }
}
