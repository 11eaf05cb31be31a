//! What machines agree on: which runs live, and who executes which job.

use async_trait::async_trait;
use jiff::Timestamp;

use super::super::{FLIGHT, Result, SILENCE, Shared};
use super::Postgres;
use crate::runs::{Holder, Run, RunId};

#[async_trait]
impl Shared for Postgres {
    async fn beat(&self, run: &RunId) -> Result<()> {
        let text =
            "UPDATE backup_runs SET seen = clock_timestamp() WHERE id = $1 AND finished IS NULL";
        self.sessions.ask(text, &[&run.as_str()]).await.map(drop)
    }

    async fn silent(&self) -> Result<Vec<RunId>> {
        let text = "SELECT id FROM backup_runs \
                    WHERE finished IS NULL AND seen < clock_timestamp() - $1 * interval '1 second'";
        let rows = self.sessions.ask(text, &[&SILENCE.as_secs_f64()]).await?;
        let id = |row: &tokio_postgres::Row| row.try_get(0).map(RunId::stored);
        rows.iter().map(|row| id(row).map_err(|error| self.sessions.unreadable(&error))).collect()
    }

    async fn take_flight(&self, key: &str, run: &Run, dead: &[String]) -> Result<Option<Holder>> {
        let take = "INSERT INTO backup_flights AS held (key, run, \"user\", host, pid, since, \
                    seen) VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp()) ON CONFLICT (key) DO \
                    UPDATE SET run = excluded.run, \"user\" = excluded.\"user\", host = \
                    excluded.host, pid = excluded.pid, since = excluded.since, seen = \
                    excluded.seen WHERE held.run = excluded.run OR held.run = ANY($7) OR held.seen \
                    < clock_timestamp() - $8 * interval '1 second' RETURNING run";
        let (pid, since, lasts) =
            (i64::from(run.pid), run.started.as_millisecond(), FLIGHT.as_secs_f64());
        loop {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&key, &run.id.as_str(), &run.user, &run.host, &pid, &since, &dead, &lasts];
            if !self.sessions.ask(take, &values).await?.is_empty() {
                return Ok(None);
            }
            let text = "SELECT run, \"user\", host, pid, since FROM backup_flights WHERE key = $1";
            // Whoever had it may have given it back meanwhile: then it is free.
            if let Some(row) = self.sessions.ask(text, &[&key]).await?.first() {
                return holder(row).map(Some).map_err(|error| self.sessions.unreadable(&*error));
            }
        }
    }

    async fn keep_flight(&self, key: &str, run: &RunId) -> Result<bool> {
        let text = "UPDATE backup_flights SET seen = clock_timestamp() WHERE key = $1 AND run = $2 \
                    RETURNING run";
        Ok(!self.sessions.ask(text, &[&key, &run.as_str()]).await?.is_empty())
    }

    async fn end_flight(&self, key: &str, run: &RunId) -> Result<()> {
        let text = "DELETE FROM backup_flights WHERE key = $1 AND run = $2";
        self.sessions.ask(text, &[&key, &run.as_str()]).await.map(drop)
    }
}

fn holder(row: &tokio_postgres::Row) -> Result<Holder, super::super::error::Cause> {
    Ok(Holder {
        run: row.try_get(0)?,
        user: row.try_get(1)?,
        host: row.try_get(2)?,
        pid: row.try_get::<_, i64>(3)?.try_into()?,
        since: Timestamp::from_millisecond(row.try_get(4)?)?,
    })
}
