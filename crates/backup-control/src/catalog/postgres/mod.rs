//! The catalog in a database of PostgreSQL, which several machines may share.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Postgres`]: the catalog |
//! | `server.rs` | [`Server`]: which database, and how it is connected to |
//! | `sessions.rs` | [`Sessions`]: a session that is made when it is needed, and made anew when it is lost |
//! | `schema.rs` | its tables, version by version |
//! | `rows.rs` | runs as rows |
//! | `shared.rs` | what machines agree on: which runs live, and who executes which job |
//!
//! Every operation is one statement that may be sent twice: whether the first one had its effect is
//! not known when the session is lost.

mod rows;
mod schema;
mod server;
mod sessions;
mod shared;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

pub(super) use schema::VERSION;
pub use server::Server;

use sessions::Sessions;

use super::filter::clause;
use super::{Catalog, Error, Found, History, Result, RunFilter, Shared, future};
use crate::runs::{Run, RunId};

/// Runs that are remembered: more are thinned out to nine tenths of it, so that this is seldom
/// done.
const MAX_RUNS: i64 = 100_000;

/// A catalog in a database.
#[derive(Debug)]
pub(super) struct Postgres {
    sessions: Sessions,
}

impl Postgres {
    /// Nothing is connected to yet.
    pub(super) fn new(server: Server) -> Self {
        Self { sessions: Sessions::new(server) }
    }

    /// Removes the oldest runs if there are too many. One machine does it once an hour: counting
    /// takes its time.
    async fn thin_out(&self) -> Result<()> {
        let due = "UPDATE backup_catalog SET thinned = clock_timestamp() \
                   WHERE thinned < clock_timestamp() - interval '1 hour' RETURNING version";
        if !self.sessions.ask(due, &[]).await?.is_empty() {
            self.sessions.ask(THIN_OUT, &[&MAX_RUNS, &(MAX_RUNS - MAX_RUNS / 10)]).await?;
        }
        Ok(())
    }
}

impl Postgres {
    /// Runs by a filter.
    async fn selected(&self, filter: RunFilter) -> Result<Found> {
        let (clause, values) = clause(&filter, |number| format!("${number}"));
        let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let text = format!("SELECT {} FROM backup_runs{clause}", rows::COLUMNS);
        Ok(rows::found(&self.sessions.ask(&text, &parameters).await?))
    }

    /// The history of jobs.
    async fn history_of(&self, of: History) -> Result<Found> {
        let (jobs, repositories): (Vec<&str>, Vec<&str>) =
            of.jobs.iter().map(|(job, repository)| (job.as_str(), repository.as_str())).unzip();
        let until = of.until.map(Timestamp::as_millisecond);
        let parameters: [&(dyn ToSql + Sync); 4] = [&jobs, &repositories, &of.host, &until];
        Ok(rows::found(&self.sessions.ask(&rows::history(), &parameters).await?))
    }
}

#[async_trait]
impl Catalog for Postgres {
    async fn add(&self, run: &Run) -> Result<()> {
        // If the same statement comes twice, the second one finds its own row.
        let text = format!(
            "INSERT INTO backup_runs ({}, written) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
             $10, $11, $12) ON CONFLICT (id) DO UPDATE SET written = excluded.written WHERE \
             backup_runs.written = excluded.written RETURNING id",
            rows::COLUMNS
        );
        let written = rand::random::<i64>();
        let values = rows::values(run)?;
        let parameters: Vec<&(dyn ToSql + Sync)> =
            values.iter().map(|value| value as _).chain([&written as _]).collect();
        if self.sessions.ask(&text, &parameters).await?.is_empty() {
            return Err(Error::Known(self.sessions.shown()));
        }
        // The next one tries again. That the old ones stay is no reason to forget this one.
        _ = self.thin_out().await;
        Ok(())
    }

    async fn update(&self, run: &Run) -> Result<()> {
        // What was only presumed is replaced by what came of it. Within texts, quotes have a
        // backslash before them.
        let text = "UPDATE backup_runs SET state = $1, finished = $2, evidence = $3, seen = \
                    clock_timestamp() WHERE id = $4 AND (finished IS NULL OR evidence LIKE \
                    '%\"is_presumed\":true%')";
        let [id, _, _, _, state, _, finished, _, _, _, evidence] = rows::values(run)?;
        self.sessions.ask(text, &[&state, &finished, &evidence, &id]).await.map(drop)
    }

    async fn relocate(&self, run: &RunId, repository: &str) -> Result<()> {
        let text = "UPDATE backup_runs SET repository = $1 WHERE id = $2";
        self.sessions.ask(text, &[&repository, &run.as_str()]).await.map(drop)
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Found> {
        future::runs(filter, |filter| self.selected(filter)).await
    }

    async fn history(&self, of: &History) -> Result<Found> {
        future::history(of, |of| self.history_of(of)).await
    }

    async fn jobs(&self, repository: &str) -> Result<Vec<String>> {
        let rows = self.sessions.ask(JOBS, &[&repository]).await?;
        rows.iter()
            .map(|row| row.try_get(0).map_err(|error| self.sessions.unreadable(&error)))
            .collect()
    }

    async fn named(&self, beginning: &str) -> Result<Vec<Run>> {
        // Names are of ASCII, before the end of which everything that begins so sorts.
        let text = format!(
            "SELECT {} FROM backup_runs WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 2",
            rows::COLUMNS
        );
        let rows = self.sessions.ask(&text, &[&beginning, &format!("{beginning}~")]).await?;
        rows.iter()
            .map(|row| rows::read(row).map_err(|error| self.sessions.unreadable(&*error)))
            .collect()
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

/// Removes the oldest runs if there are more than $1, down to $2. The newest of every job stays,
/// and so do those that have not ended.
const THIN_OUT: &str = "DELETE FROM backup_runs AS old WHERE finished IS NOT NULL AND (SELECT \
                        count(*) FROM backup_runs) > $1 AND started < (SELECT started FROM \
                        backup_runs ORDER BY started DESC, id DESC OFFSET $2 LIMIT 1) AND id <> \
                        (SELECT id FROM backup_runs AS other WHERE other.job = old.job ORDER BY \
                        started DESC, id DESC LIMIT 1)";

/// From one job to the next by the index: there are few of them among many runs.
const JOBS: &str = "WITH RECURSIVE known (job) AS ( (SELECT job FROM backup_runs WHERE repository \
                    = $1 AND what = 'backup' ORDER BY job LIMIT 1) UNION ALL SELECT (SELECT job \
                    FROM backup_runs WHERE repository = $1 AND what = 'backup' AND job > known.job \
                    ORDER BY job LIMIT 1) FROM known WHERE known.job IS NOT NULL ) SELECT job FROM \
                    known WHERE job IS NOT NULL";
