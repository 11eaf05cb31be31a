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
use super::super::options::{Host, PostgresOptions, ServerRole};
use super::connection::{Tries, answers, in_time, not_meant, tries_of};
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
        let hosts = options.hosts_in_order();
        for (wanted, host) in tries_of(options, &hosts) {
            match Self::meant(options, host, database, wanted).await {
                Ok(sql) => return Ok(sql),
                Err(error) => tries.failed("cannot connect to", host, error),
            }
        }
        Err(tries.error())
    }

    /// Connects to one host, if it is such a server as is `wanted`.
    async fn meant(
        options: &PostgresOptions,
        host: &Host,
        database: &str,
        wanted: ServerRole,
    ) -> Result<Self, WireError> {
        let sql = Self::to(options, host, database).await?;
        if wanted == ServerRole::Any {
            return Ok(sql);
        }
        const ASKING: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
                              pg_catalog.current_setting('default_transaction_read_only') = 'on'";
        let row = sql.client.query_one(ASKING, &[]).await;
        let state = row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let (is_standby, is_read_only) =
            state.map_err(|error| of_sql(&error, "cannot read the state of the server"))?;
        if wanted.takes(is_standby, is_read_only) { Ok(sql) } else { Err(not_meant(wanted)) }
    }

    /// Returns `true` if another process runs the statements than the one that the login named: a
    /// connection pooler answers.
    pub(in super::super) async fn is_pooled(&self) -> SourceResult<bool> {
        let row = self.client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await;
        let process: i32 = row
            .and_then(|row| row.try_get(0))
            .map_err(|error| of_sql(&error, "cannot read the process of the session"))?;
        Ok(self.watched.process.get().is_some_and(|stated| *stated != process))
    }

    /// Connects to `database` on one host.
    pub(in super::super) async fn to(
        options: &PostgresOptions,
        host: &Host,
        database: &str,
    ) -> Result<Self, WireError> {
        let sql = in_time(options, Box::pin(Self::connect(options, host, database))).await?;
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
        let connection = &options.connection;
        config.user(&options.user).dbname(database);
        config.application_name(&connection.application_name);
        if let Some(given) = &connection.server_options {
            config.options(given);
        }
        // Not for the driver to negotiate.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        if options.channel_binding {
            config.channel_binding(Binding::Require);
        }
        if let Some(password) = options.password(host, database).await? {
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
                    .with_hint(options.password_hint());
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
