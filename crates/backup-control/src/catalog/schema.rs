//! The tables of a catalog in SQLite, version by version. A version that was released is never
//! changed: what it lacks comes in the next one. A new kind of run or a new state is a new version
//! too: programs that do not know it must not read it.

use rusqlite::{Connection, TransactionBehavior};

/// What leads from each version to the next; the number of the version is that of the steps.
const STEPS: [&str; 2] = [
    // Times are milliseconds since 1970. What is searched for has a column, everything else is
    // JSON.
    "CREATE TABLE runs (
        id TEXT NOT NULL PRIMARY KEY,
        what TEXT NOT NULL,
        job TEXT NOT NULL,
        repository TEXT NOT NULL,
        state TEXT NOT NULL,
        started INTEGER NOT NULL,
        finished INTEGER,
        host TEXT NOT NULL,
        user TEXT NOT NULL,
        pid INTEGER NOT NULL,
        evidence TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_time ON runs (started, id);
    CREATE INDEX runs_by_job ON runs (job, started, id);
    CREATE INDEX runs_unfinished ON runs (started, id) WHERE finished IS NULL;",
    "-- `what` may be `group`",
];

/// The version that this program writes.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// The version of a catalog; 0 of an empty file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a catalog to [`VERSION`]. Of several processes that want to, one does.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    if version(connection)? >= i64::from(VERSION) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let reached = usize::try_from(version(&transaction)?).unwrap_or(0);
    for step in STEPS.iter().skip(reached) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
