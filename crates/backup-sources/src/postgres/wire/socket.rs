//! TCP or Unix sockets, plain or under TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::error::{WireError, invalid};
use super::super::options::{Host, Keepalive, PostgresOptions, TlsMode};
use super::tls;
use super::watch::{Watch, Watched};
use crate::waits::Stalled;

/// Longest wait for one host without `connect_timeout`.
const CONNECTING: Duration = Duration::from_secs(15);

/// A connected socket.
#[derive(Debug)]
pub(in super::super) struct Socket {
    stream: Stream,
    /// What SCRAM binds to: the hash of the server's certificate.
    pub(super) binding: Option<Vec<u8>>,
    /// Whether nobody can read along: local, or TLS with a server whose certificate was checked.
    pub(super) private: bool,
    watch: Watch,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Connects to `host`.
    pub(super) async fn connect(options: &PostgresOptions, host: &Host) -> Result<Self, WireError> {
        let waits = options.waits.at_most(options.connection.connect_timeout.unwrap_or(CONNECTING));
        let opened = waits.limit(&host.to_string(), None, Self::open(options, host)).await;
        opened.map_err(|stalled: Stalled| WireError::Source(stalled.into()))?
    }

    /// Where a question to the server is set, whose answers keep statements alive that take longer
    /// than the time-out.
    pub(super) fn watched(&self) -> Arc<Watched> {
        self.watch.watched()
    }

    async fn open(options: &PostgresOptions, host: &Host) -> Result<Self, WireError> {
        let methods = options.connection.methods.clone();
        let mut watch = Watch::new(&options.waits, host.to_string(), methods);
        #[cfg(unix)]
        if host.address.is_none() && host.name.starts_with('/') {
            let stream =
                UnixStream::connect(format!("{}/.s.PGSQL.{}", host.name, host.port)).await?;
            return Ok(Self { stream: Stream::Unix(stream), binding: None, private: true, watch });
        }
        let mut tcp = match host.address {
            Some(address) => TcpStream::connect((address, host.port)).await?,
            None => TcpStream::connect((&*host.name, host.port)).await?,
        };
        tcp.set_nodelay(true)?;
        probe_silence(&tcp, options.connection.keepalive).map_err(io::Error::from)?;
        let local = tcp.peer_addr()?.ip().is_loopback();
        let is_direct = options.connection.direct_tls;
        if options.tls == TlsMode::Disable || !is_direct && !wants_tls(&mut tcp).await? {
            if options.tls > TlsMode::Prefer {
                return Err(invalid("the server does not support TLS")
                    .with_hint("switch on ssl on the server")
                    .into());
            }
            if local && !options.weak_passwords {
                watch.warn_of_weak_password();
            }
            return Ok(Self { stream: Stream::Tcp(tcp), binding: None, private: local, watch });
        }
        let (config, checked) = tls::config(options).await?;
        let name = ServerName::try_from(host.name.clone())
            .map_err(|_| invalid(format!("{:?} is not a host name", host.name)))?;
        let stream =
            TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(tls_failed)?;
        let session = stream.get_ref().1;
        if is_direct && session.alpn_protocol() != Some(tls::PROTOCOL) {
            let text = "the server does not support TLS without a request for it";
            return Err(invalid(text).with_hint("leave sslnegotiation out").into());
        }
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.filter(|_| !options.connection.no_channel_binding);
        let binding = certificate.and_then(|certificate| tls::binding(certificate));
        if local && !checked && !options.weak_passwords {
            watch.warn_of_weak_password();
        }
        Ok(Self {
            stream: Stream::Tls(Box::new(stream)),
            binding,
            private: checked || local,
            watch,
        })
    }
}

/// Lets the system probe a connection that is silent.
fn probe_silence(tcp: &TcpStream, keepalive: Keepalive) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(tcp, keepalive.enabled)?;
    #[cfg(target_os = "linux")]
    if let Some(limit) = keepalive.user_timeout {
        sockopt::set_tcp_user_timeout(tcp, u32::try_from(limit.as_millis()).unwrap_or(u32::MAX))?;
    }
    if !keepalive.enabled {
        return Ok(());
    }
    if let Some(idle) = keepalive.idle {
        sockopt::set_tcp_keepidle(tcp, idle)?;
    }
    if let Some(interval) = keepalive.interval {
        sockopt::set_tcp_keepintvl(tcp, interval)?;
    }
    keepalive.count.map_or(Ok(()), |count| sockopt::set_tcp_keepcnt(tcp, count))
}

/// What TLS itself finds wrong stays wrong; a way that breaks meanwhile may be whole in a moment.
fn tls_failed(error: io::Error) -> WireError {
    if !error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return error.into();
    }
    let hint = "check sslmode and sslrootcert, and the server's certificate";
    invalid(format!("TLS failed: {error}")).with_hint(hint).into()
}

/// Asks the server for TLS.
async fn wants_tls(tcp: &mut TcpStream) -> Result<bool, WireError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    // One byte and no more: what somebody slips in behind it would be taken for encrypted later.
    match tcp.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An error comes before any request is read: it cannot start another process, say. What it
        // says could be anybody's.
        b'E' => Err(SourceError::new(
            SourceErrorKind::Unavailable,
            "the server cannot accept connections now",
        )
        .into()),
        _ => Err(invalid("this is not a PostgreSQL server").into()),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, watch, .. } = &mut *self;
        if watch.is_over() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        match polled {
            Poll::Pending => watch.poll_silent(cx, buf),
            Poll::Ready(done) => {
                Poll::Ready(done.and_then(|()| watch.received(&buf.filled()[before..])))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, watch, .. } = &mut *self;
        let polled = match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        match polled {
            Poll::Pending => watch.poll_full(cx).map(Err),
            Poll::Ready(done) => {
                if let Ok(len) = done {
                    watch.sent(&buf[..len]);
                }
                Poll::Ready(done)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, watch, .. } = &mut *self;
        let polled = match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        match polled {
            // Under TLS, bytes that were written may still wait here.
            Poll::Pending => watch.poll_full(cx).map(Err),
            Poll::Ready(done) => {
                watch.flushed();
                Poll::Ready(done)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What connecting fails with if the server answers to the request for TLS with `answer` and
    /// hangs up.
    async fn answered(answer: &'static [u8]) -> SourceErrorKind {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host {
            name: "127.0.0.1".to_owned(),
            address: None,
            port: listener.local_addr().unwrap().port(),
        };
        let server = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            tcp.read_exact(&mut request).await.unwrap();
            tcp.write_all(answer).await.unwrap();
            if !answer.is_empty() {
                // What lies unread when it hangs up would break the way, whatever was answered.
                _ = tcp.read(&mut [0; 4096]).await;
            }
        });
        let options = PostgresOptions { tls: TlsMode::Require, ..PostgresOptions::default() };
        let error = Socket::connect(&options, &host).await.unwrap_err();
        server.await.unwrap();
        error.into_source("connecting").kind()
    }

    #[tokio::test]
    async fn probes_of_silence_are_set() {
        use rustix::net::sockopt;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let seconds = |count| Some(Duration::from_secs(count));
        let keepalive = Keepalive {
            enabled: true,
            idle: seconds(5),
            interval: seconds(6),
            count: Some(7),
            user_timeout: seconds(8),
        };
        probe_silence(&tcp, keepalive).unwrap();
        assert!(sockopt::socket_keepalive(&tcp).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), Duration::from_secs(5));
        assert_eq!(sockopt::tcp_keepintvl(&tcp).unwrap(), Duration::from_secs(6));
        assert_eq!(sockopt::tcp_keepcnt(&tcp).unwrap(), 7);
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&tcp).unwrap(), 8000);
        probe_silence(&tcp, Keepalive { enabled: false, ..keepalive }).unwrap();
        assert!(!sockopt::socket_keepalive(&tcp).unwrap());
    }

    #[tokio::test]
    async fn a_way_that_breaks_is_tried_again() {
        assert_eq!(answered(b"").await, SourceErrorKind::Unavailable);
        assert_eq!(answered(b"S").await, SourceErrorKind::Unavailable);
        assert_eq!(answered(b"E").await, SourceErrorKind::Unavailable);
        assert_eq!(answered(b"N").await, SourceErrorKind::Invalid);
        assert_eq!(answered(b"S\x15\x03\x03\x00\x02\x02\x28").await, SourceErrorKind::Invalid);
    }
}
