//! A session that is made when it is needed, and made anew when it is lost.

use std::sync::Arc;
use std::time::Duration;

use backup_sources::postgres::PostgresSession;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::error::{Cause, Error, Result};
use super::schema;
use super::server::{Refusal, Server};

/// What holds in every session: nobody waits for long, and a transaction of a machine that has gone
/// does not stay.
const SETTINGS: &str = "SET statement_timeout = '20s'; SET lock_timeout = '10s'; SET \
                        idle_in_transaction_session_timeout = '30s'; SET \
                        default_transaction_isolation = 'read committed'";
/// How long an answer is waited for here: the server gives up before.
const ANSWERING: Duration = Duration::from_secs(25);
/// How long to wait for a server to come back that was there.
const RETURNING: Duration = Duration::from_secs(10);
/// How long to wait before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long nobody tries again to connect to a server that is away, so that many who ask do not
/// wait for each other.
const RESTING: Duration = Duration::from_secs(5);
/// How often a statement is sent again over a new session.
const TRIES: u32 = 3;

/// SQLSTATE codes of servers that end, begin, or do not take writes any more: another session may
/// find a better one.
const LOST: [&str; 4] = ["57P01", "57P02", "57P03", "25006"];

/// What goes wrong with a session.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQL.
    Sql(tokio_postgres::Error),
    /// A newer version of this program has made the tables.
    Newer {
        /// Their version.
        version: i64,
    },
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Sessions {
    server: Server,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    session: Option<Arc<PostgresSession>>,
    /// When connecting failed last, and why.
    refused: Option<(Instant, Refusal)>,
}

impl Sessions {
    pub(super) fn new(server: Server) -> Self {
        Self { server, now: Mutex::default() }
    }

    /// The address of the catalog as it may be shown.
    pub(super) fn shown(&self) -> String {
        self.server.shown().to_owned()
    }

    /// Has a statement done that may be sent twice.
    pub(super) async fn ask(
        &self,
        text: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let mut tries = 0;
        loop {
            let patience = if tries == 0 { Duration::ZERO } else { RETURNING };
            let session = self.session(patience).await?;
            let Ok(answer) = timeout(ANSWERING, session.client().query(text, parameters)).await
            else {
                self.leave(&session).await;
                return Err(self.server.late(ANSWERING));
            };
            let error = match answer {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            let is_lost = is_lost(&session, &error);
            if is_lost {
                self.leave(&session).await;
            }
            tries += 1;
            if !is_lost || tries >= TRIES {
                return Err(self.told(&error));
            }
        }
    }

    /// The session; if it has to be made, the server is waited for so long.
    async fn session(&self, patience: Duration) -> Result<Arc<PostgresSession>> {
        let (mut now, began) = (self.now.lock().await, Instant::now());
        if let Some(session) = now.session.as_ref().filter(|session| !session.client().is_closed())
        {
            return Ok(Arc::clone(session));
        }
        // One that was there is waited for, also if it is only now seen to have gone.
        let patience = if now.session.take().is_some() { RETURNING } else { patience };
        if let Some((_, refusal)) = now.refused.as_ref().filter(|(at, _)| at.elapsed() < RESTING) {
            return Err(self.server.unreachable(refusal.clone()));
        }
        loop {
            match self.server.connect().await {
                Ok(session) => {
                    let session = Arc::new(self.prepared(session).await?);
                    *now = Now { session: Some(Arc::clone(&session)), refused: None };
                    return Ok(session);
                }
                Err(refusal) if refusal.is_away && began.elapsed() < patience => sleep(PAUSE).await,
                Err(refusal) => {
                    now.refused = Some((Instant::now(), refusal.clone()));
                    return Err(self.server.unreachable(refusal));
                }
            }
        }
    }

    /// A session whose tables are there.
    async fn prepared(&self, mut session: PostgresSession) -> Result<PostgresSession> {
        let prepare = async {
            session.client().batch_execute(SETTINGS).await?;
            schema::migrate(session.client_mut()).await
        };
        match timeout(ANSWERING, prepare).await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(Trouble::Newer { version })) => {
                let (catalog, known) = (self.shown(), schema::VERSION.into());
                Err(Error::Newer { catalog, version, known })
            }
            Ok(Err(Trouble::Sql(error))) => Err(self.told(&error)),
            Err(_) => Err(self.server.late(ANSWERING)),
        }
    }

    /// Does not use a session any more; somebody else may have made another one already.
    async fn leave(&self, session: &Arc<PostgresSession>) {
        let mut now = self.now.lock().await;
        if now.session.as_ref().is_some_and(|known| Arc::ptr_eq(known, session)) {
            now.session = None;
        }
    }

    /// Our error for one of the driver's.
    fn told(&self, error: &tokio_postgres::Error) -> Error {
        let code = error.code().map(|code| code.code());
        let cause: Cause = match error.as_db_error() {
            Some(says) => format!("{} (SQLSTATE {})", says.message(), says.code().code()).into(),
            None => crate::words::chain(error).into(),
        };
        Error::Server { catalog: self.shown(), hint: hint(code).to_owned(), cause }
    }

    /// An answer that makes no sense.
    pub(super) fn unreadable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let hint = "check whether another program writes to the catalog tables".to_owned();
        Error::Server { catalog: self.shown(), hint, cause: crate::words::chain(error).into() }
    }
}

fn is_lost(session: &PostgresSession, error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(|code| code.code());
    error.is_closed()
        || session.client().is_closed()
        || code.is_some_and(|code| code.starts_with("08") || LOST.contains(&code))
}

/// What can be done about what a server says.
fn hint(code: Option<&str>) -> &'static str {
    match code {
        Some("42501") => {
            "use the same database user on all machines: as owner of a database, or with GRANT \
             USAGE, CREATE ON SCHEMA public"
        }
        Some("25006") => "the server is read-only: name the server that accepts writes",
        Some("55P03" | "57014") => {
            "another session locks the catalog tables, or the server is overloaded; backups \
             continue without the catalog"
        }
        Some("53100") => "free space on the disk of the server: it is full",
        Some("42P01" | "42703") => {
            "drop backup_catalog, backup_runs and backup_flights, whose definitions were changed, \
             then run `backup catalog rebuild`"
        }
        _ => "see the log of the server; backups continue without the catalog",
    }
}
