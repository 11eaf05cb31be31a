//! The messages that a standby received from the server that writes the log (`pg_stat_wal_receiver`): a standby vouches for nothing by itself.

use std::time::Duration;

use super::super::error::{WireError, of_sql};
use super::super::lsn::Lsn;
use super::super::options::{Host, PostgresOptions};
use super::super::wire::{Connection, Sql};
use super::records::EPOCH;

/// A standby or its upstream that takes longer vouches for nothing.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The end of the log as the last message of the sender gave it, and when that was sent, by the
/// sender's clock. A user without the right to see them gets NULL.
const RECEIVER: &str = "SELECT pid, sender_host, sender_port, latest_end_lsn::text, (extract(epoch \
                        FROM last_msg_send_time) * 1000000)::bigint FROM pg_stat_wal_receiver \
                        WHERE status = 'streaming'";

/// A standby that is followed.
#[derive(Debug)]
pub(super) struct Upstream {
    standby: Host,
    session: Option<Sql>,
    /// The process of the standby that receives from a server known to write the log. A server ends
    /// these connections when it becomes a standby.
    receiver: Option<i32>,
}

/// The state of a standby's receiver.
struct Receiver {
    process: i32,
    sender: Host,
    end: Lsn,
    sent: i64,
}

impl Upstream {
    pub(super) fn of(standby: Host) -> Self {
        Self { standby, session: None, receiver: None }
    }

    /// The end of the log, and the time (microseconds since 2000) of this message of the server
    /// that writes it. `None` while the standby does not receive from that server, or this user may
    /// not see that.
    pub(super) async fn heard(&mut self, options: &PostgresOptions) -> Option<(Lsn, i64)> {
        let heard = tokio::time::timeout(TIMEOUT, self.ask(options)).await;
        if let Ok(Ok(Some(receiver))) = heard {
            return Some((receiver.end, receiver.sent));
        }
        (self.session, self.receiver) = (None, None);
        None
    }

    async fn ask(&mut self, options: &PostgresOptions) -> Result<Option<Receiver>, WireError> {
        let Some(receiver) = self.receiver(options).await? else { return Ok(None) };
        if self.receiver != Some(receiver.process) {
            // A standby that sends to another one may itself be cut off.
            let mut upstream = Connection::to(options, &receiver.sender).await?;
            if upstream.in_recovery().await? {
                return Ok(None);
            }
            self.receiver = Some(receiver.process);
        }
        Ok(Some(receiver))
    }

    async fn receiver(&mut self, options: &PostgresOptions) -> Result<Option<Receiver>, WireError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Sql::to(options, &self.standby, &options.database).await?,
        };
        let failed = |error| of_sql(&error, "cannot read the state of the WAL receiver");
        let row = session.client.query_opt(RECEIVER, &[]).await;
        let row = row.map_err(|error| WireError::Source(failed(error)))?;
        self.session = Some(session);
        Ok(row.and_then(|row| {
            let host: Option<String> = row.try_get(1).ok()?;
            let port: Option<i32> = row.try_get(2).ok()?;
            let end: Option<String> = row.try_get(3).ok()?;
            let sent: Option<i64> = row.try_get(4).ok()?;
            Some(Receiver {
                process: row.try_get::<_, Option<i32>>(0).ok()??,
                sender: Host { name: host?, address: None, port: u16::try_from(port?).ok()? },
                end: end?.parse().ok()?,
                sent: sent?.checked_sub(EPOCH * 1_000_000)?,
            })
        }))
    }
}
