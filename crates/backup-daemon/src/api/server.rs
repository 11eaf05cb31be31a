//! Listening, and serving connections: as many as fit, none for longer than it may take, and to
//! their end when the server ends.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Error;
use super::limits::{Limits, patience};
use super::line_ends::LineEnds;
use super::peer::{self, Peer};
use super::tls::Tls;

/// Connections at the same time, of each listener: whoever fills one does not fill the other.
const CONNECTIONS: usize = 256;
/// Bytes of the head of a request, and of what is read ahead.
const MAX_HEAD: usize = 16 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// How long is waited when the system cannot accept connections: it has no file descriptors left.
const BREATH: Duration = Duration::from_millis(200);

/// What connections are served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) limits: Arc<Limits>,
    pub(super) shutdown: CancellationToken,
    /// The user of this process.
    pub(super) uid: u32,
}

/// The Unix socket at `path`, for this user alone. One that nobody listens on any more is replaced.
pub(super) async fn bind_socket(path: &Path) -> Result<UnixListener, Error> {
    let failed = |error| Error::Listen(path.display().to_string(), error);
    backup_control::cache::create(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    if let Ok(known) = std::fs::symlink_metadata(path) {
        if !known.file_type().is_socket() {
            return Err(failed(io::Error::other("the path exists and is not a socket")));
        }
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    // Under a name that nobody knows until it has its permissions; then under its own.
    let new = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    _ = std::fs::remove_file(&new);
    let bound = || {
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        std::fs::rename(&new, path)?;
        Ok(listener)
    };
    bound().map_err(failed)
}

/// Listens at an address.
pub(super) async fn bind_address(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen(address.to_string(), error))
}

/// Serves the Unix socket until the server ends.
pub(super) async fn serve_socket(listener: UnixListener, serving: Serving) {
    let (ending, rooms) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Some(room) = room(&rooms, &serving.shutdown).await else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => { breathe(&error).await; continue }
            },
            () = serving.shutdown.cancelled() => break,
        };
        // The permissions keep others out; this keeps them out wherever they do not count.
        let uid = match stream.peer_cred() {
            Ok(known) if known.uid() == serving.uid || known.uid() == 0 => known.uid(),
            _ => continue,
        };
        let connection = connection(stream, Peer::of_user(uid), &serving);
        let watched = ending.watch(connection);
        tokio::spawn(async move {
            _ = watched.await;
            drop(room);
        });
    }
    end(ending).await;
}

/// Serves an address until the server ends.
pub(super) async fn serve_address(listener: TcpListener, tls: Option<Arc<Tls>>, serving: Serving) {
    let (ending, rooms) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Some(room) = room(&rooms, &serving.shutdown).await else { break };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => { breathe(&error).await; continue }
            },
            () = serving.shutdown.cancelled() => break,
        };
        let Some(counted) = serving.limits.connection(peer::network(address)) else { continue };
        let (serving, tls, watcher) = (serving.clone(), tls.clone(), ending.watcher());
        tokio::spawn(async move {
            let peer = Peer::Network { address };
            match tls {
                None => _ = watcher.watch(connection(stream, peer, &serving)).await,
                Some(tls) => {
                    let acceptor = tls.acceptor();
                    // Whoever does not agree in time is told nothing.
                    if let Ok(Ok(stream)) =
                        tokio::time::timeout(patience::HANDSHAKE, acceptor.accept(stream)).await
                    {
                        _ = watcher.watch(connection(stream, peer, &serving)).await;
                    }
                }
            }
            drop((room, counted));
        });
    }
    end(ending).await;
}

/// Room for another connection; none if the server ends.
async fn room(
    rooms: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<tokio::sync::OwnedSemaphorePermit> {
    tokio::select! {
        room = Arc::clone(rooms).acquire_owned() => room.ok(),
        () = shutdown.cancelled() => None,
    }
}

async fn breathe(error: &io::Error) {
    tracing::warn!("cannot accept a connection: {error}");
    tokio::time::sleep(BREATH).await;
}

/// Waits for what goes on, but not for ever.
async fn end(ending: GracefulShutdown) {
    if tokio::time::timeout(patience::END, ending.shutdown()).await.is_err() {
        tracing::warn!("closing connections that did not end in time");
    }
}

/// Serves a connection.
fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    peer: Peer,
    serving: &Serving,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send + 'static {
    // Whoever does not read what is answered does not keep it.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience::WRITE));
    let router = serving.router.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience::HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(LineEnds::new(Box::pin(stream))), service)
}
