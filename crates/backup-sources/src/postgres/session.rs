//! Sessions for those who keep something of their own in a database, over the same connections.

use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio_postgres::Client;

use super::PostgresOptions;
use super::error::{WireError, of_sql};
use super::identifier::readable;
use super::options::Host;
use super::wire::{Sql, Tries};

/// A session in the database of [`PostgresOptions::database`], on a server that takes writes. It
/// ends when this is dropped.
#[derive(Debug)]
pub struct PostgresSession(Sql);

impl PostgresSession {
    /// Connects to the first host that takes writes, each of which is waited for no longer than
    /// `patience`.
    ///
    /// # Errors
    /// [`SourceErrorKind::Unavailable`] if none can be reached or takes writes now,
    /// [`SourceErrorKind::Invalid`] if the address or the credentials are wrong. Neither holds a
    /// password.
    pub async fn open(options: &PostgresOptions, patience: Duration) -> SourceResult<Self> {
        let mut tries = Tries::default();
        for host in options.hosts_in_order() {
            let opened = tokio::time::timeout(patience, Box::pin(writable(options, host))).await;
            match opened.unwrap_or_else(|_| Err(silent(patience))) {
                Ok(sql) => return Ok(Self(sql)),
                Err(error) => tries.failed("cannot connect to", host, error),
            }
        }
        let error = tries.error();
        // A catalog needs a database instead of replication.
        let is_about_replication = error.hint().is_some_and(|hint| hint.contains("REPLICATION"));
        Err(if is_about_replication { error.with_hint(login(options)) } else { error })
    }

    /// What it is used by.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The same, for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.0.client
    }
}

/// Steps of an administrator that give access to a database of its own.
fn login(options: &PostgresOptions) -> String {
    let (user, database) = (readable(&options.user), readable(&options.database));
    format!(
        "CREATE ROLE {user} LOGIN PASSWORD '…'; CREATE DATABASE {database} OWNER {user}; and in \
         pg_hba.conf: hostssl {database} {user} ADDRESS scram-sha-256, then SELECT pg_reload_conf();"
    )
}

async fn writable(options: &PostgresOptions, host: &Host) -> Result<Sql, WireError> {
    let sql = Sql::to(options, host, &options.database).await?;
    let asked = sql.client.query_one("SELECT pg_is_in_recovery()", &[]).await;
    let answer = asked.and_then(|row| row.try_get(0));
    if answer.map_err(|error| of_sql(&error, "cannot check whether the server accepts writes"))? {
        return Err(SourceError::new(
            SourceErrorKind::Unavailable,
            "the server is a standby, which accepts no writes",
        )
        .into());
    }
    Ok(sql)
}

fn silent(patience: Duration) -> WireError {
    let text = format!("no answer within {} seconds", patience.as_secs());
    SourceError::new(SourceErrorKind::Unavailable, text).into()
}
