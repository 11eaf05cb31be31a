//! The tables of a catalog in PostgreSQL, version by version. A version that was released is never
//! changed: what it lacks comes in the next one. A new kind of run or a new state is a new version
//! too: programs that do not know it must not read it.
//!
//! Names are not qualified: the tables lie where the user's `search_path` begins, and several
//! catalogs in one database are told apart by it.

use tokio_postgres::{Client, GenericClient};

use super::sessions::Trouble;

/// What leads from each version to the next; the number of the version is that of the steps.
const STEPS: [&str; 1] = [
    // Times of runs are milliseconds since 1970 by the clock of their host; those that are compared
    // here are the server's own. What is searched for has a column, everything else is JSON, as
    // text: JSON of PostgreSQL refuses what others allow. Names sort by bytes.
    "CREATE TABLE backup_runs (
        id text COLLATE \"C\" PRIMARY KEY,
        what text NOT NULL,
        job text COLLATE \"C\" NOT NULL,
        repository text COLLATE \"C\" NOT NULL,
        state text NOT NULL,
        started bigint NOT NULL,
        finished bigint,
        host text NOT NULL,
        \"user\" text NOT NULL,
        pid bigint NOT NULL,
        evidence text NOT NULL,
        written bigint NOT NULL,
        seen timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX backup_runs_by_time ON backup_runs (started, id);
    CREATE INDEX backup_runs_by_job ON backup_runs (job, started, id);
    CREATE INDEX backup_runs_by_repository ON backup_runs (repository, job, started, id) WHERE what = 'backup';
    CREATE INDEX backup_runs_unfinished ON backup_runs (started, id) WHERE finished IS NULL;
    CREATE INDEX backup_runs_failed ON backup_runs (started, id) WHERE state IN ('failed', 'cancelled');
    CREATE INDEX backup_runs_restores ON backup_runs (started, id) WHERE what = 'restore';
    CREATE TABLE backup_flights (
        key text COLLATE \"C\" PRIMARY KEY,
        run text NOT NULL,
        \"user\" text NOT NULL,
        host text NOT NULL,
        pid bigint NOT NULL,
        since bigint NOT NULL,
        seen timestamptz NOT NULL
    );",
];

/// The version that this program writes.
pub(in crate::catalog) const VERSION: u32 = STEPS.len() as u32;

/// The lock under which tables are made: of all who want to, one does.
const LOCK: i64 = 0x6261_636b_7570_6361;

/// The version of a catalog; 0 of an empty database.
async fn version(client: &impl GenericClient) -> Result<i64, Trouble> {
    let there: bool = client
        .query_one("SELECT to_regclass('backup_catalog') IS NOT NULL", &[])
        .await?
        .try_get(0)?;
    if !there {
        return Ok(0);
    }
    match client.query_opt("SELECT version FROM backup_catalog", &[]).await? {
        Some(row) => Ok(row.try_get::<_, i32>(0)?.into()),
        None => Ok(0),
    }
}

/// Brings a catalog to [`VERSION`].
pub(super) async fn migrate(client: &mut Client) -> Result<(), Trouble> {
    let known = i64::from(VERSION);
    match version(client).await? {
        version if version == known => return Ok(()),
        version if version > known => return Err(Trouble::Newer { version }),
        _ => {}
    }
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let table = "CREATE TABLE IF NOT EXISTS backup_catalog (
         single boolean PRIMARY KEY DEFAULT true CHECK (single),
         version integer NOT NULL,
         thinned timestamptz NOT NULL DEFAULT '-infinity'
     )";
    transaction.batch_execute(table).await?;
    // Somebody else may have done it meanwhile, or a newer program more than it.
    let reached = version(&transaction).await?;
    if reached > known {
        return Err(Trouble::Newer { version: reached });
    }
    for step in STEPS.iter().skip(usize::try_from(reached).unwrap_or(0)) {
        transaction.batch_execute(step).await?;
    }
    let note = "INSERT INTO backup_catalog (version) VALUES ($1::bigint) ON CONFLICT (single) DO \
                UPDATE SET version = excluded.version";
    transaction.execute(note, &[&known]).await?;
    Ok(transaction.commit().await?)
}
