//! SQL, over the same sockets.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Ready, ready};
use std::sync::Arc;

use backup_core::source::{MissingPassword, SourceError, SourceResult};
use tokio::task::AbortHandle;
use tokio_postgres::config::{ChannelBinding as Binding, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};

use super::super::error::{ServerError, WireError, invalid, of_sql};
use super::super::options::{Host, PostgresOptions};
use super::connection::{Tries, answers, timely};
use super::socket::Socket;
use super::watch::Watched;
use crate::waits::Ask;

/// A session for SQL; it ends when this is dropped.
#[derive(Debug)]
pub(in super::super) struct Sql {
    pub(in super::super) client: Client,
    /// Which of the hosts it is.
    pub(in super::super) host: Host,
    driver: AbortHandle,
    watched: Arc<Watched>,
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The socket speaks TLS already, if it is to.
struct Done;

impl TlsConnect<Socket> for Done {
    type Stream = Socket;
    type Error = Infallible;
    type Future = Ready<Result<Socket, Infallible>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(socket))
    }
}

impl TlsStream for Socket {
    fn channel_binding(&self) -> ChannelBinding {
        self.binding.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl Sql {
    /// Connects to `database` on the first host that answers.
    pub(in super::super) async fn open(
        options: &PostgresOptions,
        database: &str,
    ) -> SourceResult<Self> {
        let mut tries = Tries::default();
        for host in &options.hosts {
            match Self::to(options, host, database).await {
                Ok(sql) => return Ok(sql),
                Err(error) => tries.failed("cannot connect to", host, error),
            }
        }
        Err(tries.error())
    }

    /// Connects to `database` on one host.
    pub(in super::super) async fn to(
        options: &PostgresOptions,
        host: &Host,
        database: &str,
    ) -> Result<Self, WireError> {
        let sql = timely(Box::pin(Self::connect(options, host, database))).await?;
        sql.watched.ask.get_or_init(|| Self::ask(options, host, database));
        Ok(sql)
    }

    /// The error of a copy that ended because the server was silent: the driver only reports that
    /// the connection is closed.
    pub(in super::super) fn stalled(&self, doing: impl Display) -> Option<SourceError> {
        let stalled = self.watched.stalled.get()?.clone();
        Some(SourceError::from(stalled).context(doing))
    }

    /// A question to the server: whether a session for SQL can begin.
    pub(in super::super) fn ask(options: &PostgresOptions, host: &Host, database: &str) -> Ask {
        let (options, host, database) = (options.clone(), host.clone(), database.to_owned());
        Arc::new(move || {
            let (options, host, database) = (options.clone(), host.clone(), database.clone());
            Box::pin(async move { answers(&Self::connect(&options, &host, &database).await) })
        })
    }

    async fn connect(
        options: &PostgresOptions,
        host: &Host,
        database: &str,
    ) -> Result<Self, WireError> {
        let socket = Socket::connect(options, host).await?;
        let watched = socket.watched();
        let mut config = Config::new();
        config.user(&options.user).dbname(database).application_name("backup");
        // Not for the driver to negotiate.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        if options.channel_binding {
            config.channel_binding(Binding::Require);
        }
        if let Some(password) = options.password().await? {
            // The driver sends a password that can be read to whoever asks, unless it is to bind to
            // the certificate.
            match (socket.private || options.weak_passwords, &socket.binding) {
                (true, _) => {}
                (false, Some(_)) => _ = config.channel_binding(Binding::Require),
                (false, None) => {
                    let text = "SQL with a password needs verified TLS, TLS with channel binding, \
                                loopback or a Unix socket";
                    return Err(invalid(text).with_hint("use sslmode=verify-full").into());
                }
            }
            config.password(password);
        }
        let connected = config.connect_raw(socket, Done).await;
        let (client, driver) = connected.map_err(|error| match ServerError::of_sql(&error) {
            Some(refusal) => WireError::Server(refusal),
            None if is_password_missing(&error) => {
                let error = invalid("cannot log in: the server requires a password")
                    .with_hint("set the password, or a password file");
                WireError::Source(error.with_source(MissingPassword))
            }
            None => WireError::Source(of_sql(&error, "cannot log in")),
        })?;
        // Its end shows in the client, too.
        let driver = tokio::spawn(async move { _ = driver.await }).abort_handle();
        Ok(Self { client, host: host.clone(), driver, watched })
    }
}

/// True if the server requests a password and none is set. The driver has no kind for it, only this
/// text (tokio-postgres 0.7, `connect_raw.rs`).
fn is_password_missing(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.as_deref() == Some("password missing")
}
