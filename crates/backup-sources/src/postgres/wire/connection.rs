//! Commands of the replication protocol and their results.

use std::sync::Arc;
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;

use super::super::error::{WireError, code, malformed};
use super::super::options::{Host, PostgresOptions, ServerRole};
use super::frame::{Frames, Message};
use super::socket::Socket;
use super::startup;

/// Longest that a server may take to let us in, or to answer what it knows by heart.
const ANSWERING: Duration = Duration::from_secs(30);

/// One that accepts connections and says nothing more must not keep us from the others.
pub(in super::super) async fn timely<T>(
    asking: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    within(ANSWERING, asking).await
}

/// The same for a session that begins, which an address may limit.
pub(super) async fn in_time<T>(
    options: &PostgresOptions,
    beginning: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    within(options.connection.connect_timeout.unwrap_or(ANSWERING), beginning).await
}

async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = format!("no answer within {} seconds", limit.as_secs());
            Err(SourceError::new(SourceErrorKind::Unavailable, text).into())
        }
    }
}

/// Each host in turn, with the demand on it.
pub(super) fn tries_of<'a>(
    options: &PostgresOptions,
    hosts: &'a [&'a Host],
) -> impl Iterator<Item = (ServerRole, &'a Host)> {
    let rounds = options.connection.role.rounds();
    rounds.iter().flat_map(move |wanted| hosts.iter().map(move |host| (*wanted, *host)))
}

/// Another server than the address means.
pub(super) fn not_meant(wanted: ServerRole) -> WireError {
    let text = format!("the server does not fit target_session_attrs={}", wanted.name());
    SourceError::new(SourceErrorKind::Unavailable, text).into()
}

/// Names the connection pooler that has refused a parameter.
fn of_pooler(error: WireError) -> WireError {
    match error {
        WireError::Server(refusal)
            if refusal.code == code::PROTOCOL_VIOLATION
                && refusal.message.starts_with("unsupported startup parameter") =>
        {
            let text = format!("a connection pooler such as PgBouncer refuses it: {refusal}");
            SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("use the address of the server itself")
                .into()
        }
        other => other,
    }
}

/// Whether a server has answered: a refusal is an answer as well.
pub(super) fn answers<T>(connected: &Result<T, WireError>) -> bool {
    match connected {
        Ok(_) => true,
        // The error of a stalled connection is not the server's.
        Err(error) => error.code().is_some_and(|code| code != code::CONNECTION_FAILURE),
    }
}

/// Most rows of the result of a command: those of replication return one.
const MAX_ROWS: usize = 1000;

/// A connection to a server that sends its log and its files.
#[derive(Debug)]
pub(in super::super) struct Connection {
    pub(super) frames: Frames<Socket>,
    /// The server's version as a number, for instance 150018 of 15.18.
    pub(in super::super) version: u32,
    pub(in super::super) host: Host,
}

/// A row of a result: what the columns are called, and what is in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) columns: Vec<String>,
    pub(super) values: Vec<Option<Bytes>>,
}

impl Row {
    /// The value of a column as text; `None` if it is NULL or not there.
    pub(super) fn get(&self, column: &str) -> Option<String> {
        let at = self.columns.iter().position(|name| name == column)?;
        let value = self.values.get(at)?.as_ref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The value of a column that must be there.
    pub(super) fn need<T: std::str::FromStr>(&self, column: &str) -> SourceResult<T> {
        let parsed = self.get(column).and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| malformed(format!("reply from the server: {column}")))
    }
}

/// What came of trying one host after the other.
#[derive(Debug, Default)]
pub(in super::super) struct Tries(Option<SourceError>);

impl Tries {
    /// A host that cannot be used.
    pub(in super::super) fn failed(&mut self, doing: &str, host: &Host, error: WireError) {
        // The first one that is no trouble of the network tells most.
        if self.0.as_ref().is_none_or(|known| known.kind() == SourceErrorKind::Unavailable) {
            self.0 = Some(error.into_source(format!("{doing} {host}")));
        }
    }

    /// No host was left.
    pub(in super::super) fn error(self) -> SourceError {
        self.0.unwrap_or_else(|| {
            SourceError::new(SourceErrorKind::Invalid, "the address names no host")
        })
    }
}

impl Connection {
    /// Connects for replication to the first host that answers.
    pub(in super::super) async fn open(options: &PostgresOptions) -> SourceResult<Self> {
        let mut tries = Tries::default();
        let hosts = options.hosts_in_order();
        for (wanted, host) in tries_of(options, &hosts) {
            match Self::meant(options, host, wanted).await {
                Ok(connection) => return Ok(connection),
                Err(error) => tries.failed("cannot connect for replication to", host, error),
            }
        }
        Err(tries.error())
    }

    /// Connects to one host, if it is such a server as is `wanted`.
    async fn meant(
        options: &PostgresOptions,
        host: &Host,
        wanted: ServerRole,
    ) -> Result<Self, WireError> {
        let mut connection = Self::to(options, host).await?;
        connection.require(wanted).await?;
        Ok(connection)
    }

    /// Fails unless the server is such a one as is `wanted`.
    pub(in super::super) async fn require(&mut self, wanted: ServerRole) -> Result<(), WireError> {
        if wanted == ServerRole::Any {
            return Ok(());
        }
        let is_standby = self.in_recovery().await?;
        let is_read_only = self.show("default_transaction_read_only").await? == "on";
        if wanted.takes(is_standby, is_read_only) { Ok(()) } else { Err(not_meant(wanted)) }
    }

    /// Connects for replication to one host.
    pub(in super::super) async fn to(
        options: &PostgresOptions,
        host: &Host,
    ) -> Result<Self, WireError> {
        let connection = in_time(options, Box::pin(Self::connect(options, host))).await?;
        let (options, host) = (options.clone(), host.clone());
        let watched = connection.frames.socket().watched();
        watched.sends_files.get_or_init(|| ());
        watched.ask.get_or_init(|| {
            Arc::new(move || {
                let (options, host) = (options.clone(), host.clone());
                Box::pin(async move { answers(&Self::connect(&options, &host).await) })
            })
        });
        Ok(connection)
    }

    async fn connect(options: &PostgresOptions, host: &Host) -> Result<Self, WireError> {
        let mut frames = Frames::new(Socket::connect(options, host).await?);
        let connection = &options.connection;
        let name = ("application_name", &*connection.application_name);
        let mut parameters = vec![("replication", "true"), name];
        parameters.extend(connection.server_options.as_deref().map(|given| ("options", given)));
        let login = startup::Login { options, host };
        startup::start(&mut frames, login, &parameters).await.map_err(of_pooler)?;
        let mut connection = Self { frames, version: 0, host: host.clone() };
        let version = connection.show("server_version_num").await?;
        connection.version = version.parse().map_err(|_| malformed("server version"))?;
        if connection.version < 130_000 {
            let text = format!("PostgreSQL {} is too old", connection.version / 10_000);
            return Err(SourceError::new(SourceErrorKind::Unsupported, text)
                .with_hint("use PostgreSQL 13 or later")
                .into());
        }
        Ok(connection)
    }

    /// Major version.
    pub(in super::super) fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Whether it replays another one's log, or its own still.
    pub(in super::super) async fn in_recovery(&mut self) -> Result<bool, WireError> {
        // Until 13 there is no setting of just this; one whose owner made it so is taken for a
        // standby.
        let setting = if self.major() < 14 { "transaction_read_only" } else { "in_hot_standby" };
        Ok(self.show(setting).await? == "on")
    }

    /// The value of a setting.
    pub(in super::super) async fn show(&mut self, setting: &str) -> Result<String, WireError> {
        let rows = self.query(&format!("SHOW {setting}")).await?;
        let value = rows.first().and_then(|row| row.values.first()?.clone());
        let value = value.ok_or_else(|| malformed(format!("server setting {setting}")))?;
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    pub(super) async fn send_query(&mut self, command: &str) -> Result<(), WireError> {
        let mut out = BytesMut::new();
        frontend::query(command, &mut out)?;
        self.frames.send(&out).await
    }

    /// Runs a command that answers with rows.
    pub(super) async fn query(&mut self, command: &str) -> Result<Vec<Row>, WireError> {
        self.send_query(command).await?;
        let (mut rows, mut columns, mut failed) = (Vec::new(), Vec::new(), None);
        loop {
            let message = match (self.frames.next().await, &failed) {
                // Behind a fatal error nothing comes.
                (Err(_), Some(_)) => Message::Ready,
                (message, _) => message?,
            };
            match message {
                Message::Columns(names) => columns = names,
                Message::Row(_) if rows.len() == MAX_ROWS => {
                    return Err(malformed("reply to a command: it has too many rows").into());
                }
                Message::Row(values) => rows.push(Row { columns: columns.clone(), values }),
                Message::Error(error) => failed = Some(error),
                Message::Ready => {
                    return failed.map_or(Ok(rows), |error| Err(WireError::Server(error)));
                }
                Message::Complete
                | Message::Notice(_)
                | Message::Parameter(..)
                | Message::Other => {}
                _ => return Err(malformed("reply to a command").into()),
            }
        }
    }
}
