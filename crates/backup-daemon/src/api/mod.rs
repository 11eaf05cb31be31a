//! The API: who asks what of the daemon, over a Unix socket or by TCP.
//!
//! ```text
//!  socket, TCP (TLS) ─▶ server ─▶ guard: whose token ▸ how many ▸ which role ▸ whole body ─▶ routes ─┬─▶ Engine
//!        Peer                        │                                                               ├─▶ Reads: catalog, alerts, audit
//!                                    └─▶ told: the audit log, of all that changes something          └─▶ Program: backup … --json
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Settings`]; [`serve`]: all of it |
//! | `server.rs`, `tls.rs`, `peer.rs` | listening, connections, certificates, who is at the other end |
//! | `line_ends.rs`, `hosts.rs` | requests that are refused before anything else: bare line feeds, foreign hosts |
//! | `anchoring.rs` | anchors of the audit log within a minute |
//! | `restore_roots.rs` | where operators may restore |
//! | `guard.rs`, `limits.rs`, `told.rs` | what every request goes through; how much is answered; what is recorded |
//! | `document.rs` | the OpenAPI document, and what it says about who may what |
//! | `routes/` | the routes, by what they are about |
//! | `orders.rs`, `views.rs` | what is asked for; what is answered |
//! | `problem.rs` | what is answered when something is not done |
//! | `reads.rs`, `program.rs` | what is known without the engine; asking the program |
//! | `words.rs`, `verbs.rs` | words of requests that become words of a command line |
//!
//! To add a route: a function with `#[utoipa::path(…)]` in `routes/`, with the role that it takes
//! as its `security`, a line in `routes/mod.rs`, and `UPDATE_DOCS=1`. The test of all routes and
//! roles finds it by the document.

mod anchoring;
mod document;
mod guard;
mod hosts;
mod limits;
mod line_ends;
mod orders;
mod peer;
mod problem;
mod program;
mod reads;
mod restore_roots;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod told;
mod verbs;
mod views;
mod words;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use backup_control::config::ApiConfig;
use tokio_util::sync::CancellationToken;

pub(crate) use problem::Problem;
pub use program::{Child, Program, Spoken, Unheard};
pub use reads::Reads;
pub use tls::TlsFiles;

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::tokens::{self, Checker, Tokens};
use document::Document;
use limits::Limits;
use server::Serving;
use tls::Tls;

/// The name of the Unix socket in the state directory.
pub const SOCKET: &str = "backupd.sock";
/// Requests a second that are answered to each, unless the configuration says otherwise.
const RATE: u32 = 50;
/// How often repositories are looked into, unless the configuration says otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether tokens were used.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Where the API answers, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The address besides.
    pub listen: Option<SocketAddr>,
    /// The certificate, with TLS.
    pub tls: Option<TlsFiles>,
    /// The file with the tokens.
    pub tokens: PathBuf,
    /// Requests a second that are answered to each.
    pub rate: u32,
    /// How often repositories are looked into for metrics.
    pub look_every: Duration,
}

impl Settings {
    /// What the configuration says, with `state` as the state directory.
    #[must_use]
    pub fn of(config: &ApiConfig, state: &Path) -> Self {
        let tls = config
            .tls_cert
            .clone()
            .zip(config.tls_key.clone())
            .map(|(cert, key)| TlsFiles { cert, key });
        Self {
            socket: config.socket.clone().unwrap_or_else(|| state.join(SOCKET)),
            listen: config.listen,
            tls,
            tokens: config.tokens_file.clone().unwrap_or_else(|| state.join(tokens::FILE)),
            rate: config.rate.unwrap_or(RATE),
            look_every: config
                .look_every
                .as_ref()
                .map_or(LOOK_EVERY, backup_control::units::Time::length),
        }
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody can be listened to there.
    #[error("cannot listen on {0}")]
    Listen(String, #[source] io::Error),
    /// The certificate or its key cannot be used.
    #[error("cannot use {} for TLS", .0.display())]
    Tls(PathBuf, #[source] io::Error),
    /// Tokens would be read on the way.
    #[error("{0} is reachable from other machines, but TLS is not configured")]
    Open(SocketAddr),
    /// Nobody could use it.
    #[error("{0} requires tokens, but there is no valid token")]
    NoTokens(SocketAddr),
    /// The file with the tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
}

impl Error {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Listen(place, error) if error.kind() == io::ErrorKind::AddrInUse => {
                format!("stop the other process that listens on {place}, perhaps another `backupd`")
            }
            Self::Listen(..) => "check `socket` and `listen` in `[api]`".into(),
            Self::Tls(..) => "check `tls_cert` and `tls_key` in `[api]`: both are PEM files".into(),
            Self::Open(_) => {
                "add `tls_cert` and `tls_key` to `[api]`, or listen on 127.0.0.1 only".into()
            }
            Self::NoTokens(_) => "create one with `backupd token create NAME --role ROLE`".into(),
            Self::Tokens(error) => error.hint(),
        }
    }
}

/// What all routes have.
pub(crate) struct Api {
    engine: Arc<dyn Engine>,
    reads: Reads,
    limits: Arc<Limits>,
    checker: Arc<Checker>,
    document: Document,
    metrics: Arc<Metrics>,
    /// Notified of each new audit record.
    recorded: Arc<tokio::sync::Notify>,
    /// Held from the check of a restore until it is queued.
    restores: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
}

type Shared = Arc<Api>;

/// Serves the API until `shutdown` is cancelled, and what goes on then has ended. `ready` is called
/// when it listens.
///
/// # Errors
/// [`Error`]: it cannot begin.
pub async fn serve(
    settings: Settings,
    engine: Arc<dyn Engine>,
    reads: Reads,
    shutdown: CancellationToken,
    ready: impl FnOnce(Listening),
) -> Result<(), Error> {
    let checker = Arc::new(Checker::new(Tokens::at(settings.tokens.clone())));
    let limits = Arc::new(Limits::new(settings.rate));
    let metrics = Arc::new(Metrics::new(Arc::clone(&engine), reads.clone()));
    let tls = settings.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
    let address = match settings.listen {
        Some(address) => Some(listen(address, tls.is_some(), &checker, &reads).await?),
        None => None,
    };
    let socket = server::bind_socket(&settings.socket).await?;
    let recorded = Arc::new(tokio::sync::Notify::new());
    let router = router(Api {
        engine,
        reads: reads.clone(),
        limits: Arc::clone(&limits),
        checker: Arc::clone(&checker),
        document: document::document().1,
        metrics: Arc::clone(&metrics),
        recorded: Arc::clone(&recorded),
        restores: tokio::sync::Mutex::default(),
        shutdown: shutdown.clone(),
    });
    let serving = Serving {
        router,
        limits,
        shutdown: shutdown.clone(),
        uid: nix::unistd::geteuid().as_raw(),
    };
    ready(Listening {
        socket: settings.socket.clone(),
        address: address.as_ref().and_then(|listener| listener.local_addr().ok()),
    });
    let by_address = {
        let serving = serving.clone();
        async move {
            if let Some(listener) = address {
                server::serve_address(listener, tls, serving).await;
            }
        }
    };
    tokio::join!(
        server::serve_socket(socket, serving),
        by_address,
        metrics.look(settings.look_every, shutdown.clone()),
        note(checker, &reads, &shutdown),
        anchoring::anchor(&reads, &recorded, &shutdown),
    );
    _ = std::fs::remove_file(&settings.socket);
    Ok(())
}

/// Where the API answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The address besides.
    pub address: Option<SocketAddr>,
}

async fn listen(
    address: SocketAddr,
    has_tls: bool,
    checker: &Checker,
    reads: &Reads,
) -> Result<tokio::net::TcpListener, Error> {
    if !address.ip().is_loopback() && !has_tls {
        return Err(Error::Open(address));
    }
    let now = reads.now();
    if checker.entries()?.iter().all(|token| token.is_over(now)) {
        return Err(Error::NoTokens(address));
    }
    server::bind_address(address).await
}

/// All routes, behind the guard.
fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let (routes, _) = document::document();
    routes
        .fallback(routes::none)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard::guard))
        .with_state(api)
}

/// Writes down which tokens were used, from time to time and at the end.
async fn note(checker: Arc<Checker>, reads: &Reads, shutdown: &CancellationToken) {
    loop {
        let is_end = tokio::select! {
            () = tokio::time::sleep(NOTE_EVERY) => false,
            () = shutdown.cancelled() => true,
        };
        let (checker, now) = (Arc::clone(&checker), reads.now());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || checker.note(now, is_end)).await
        {
            tracing::warn!(
                "cannot record the last use of tokens: {}",
                backup_control::words::chain(&error)
            );
        }
        if is_end {
            return;
        }
    }
}
