//! The replication slot: making it, and how it is.

use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use serde::Serialize;

use super::super::error::{WireError, code, invalid, of_sql};
use super::super::options::{Host, PostgresOptions};
use super::super::wire::{Connection, Slot, Sql, Tries, timely};

/// Whether the server still has what a slot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// It has, and not more of it than without the slot.
    Reserved,
    /// It keeps more than `max_wal_size` because of the slot.
    Extended,
    /// It may remove what the slot needs at the next checkpoint.
    Unreserved,
    /// It has removed that.
    Lost,
}

/// How a replication slot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotHealth {
    /// Whether the server has what it needs.
    pub state: SlotState,
    /// Whether somebody reads from it.
    pub active: bool,
    /// For how long nobody has; `None` if somebody does, and of servers before 17, which do not
    /// remember it.
    pub unread_for: Option<Duration>,
    /// Log that the server keeps because of it, bytes.
    pub retained_bytes: u64,
    /// How much more may be written before the slot is in danger, bytes; `None` without
    /// `max_slot_wal_keep_size`: then the log grows until the disk is full.
    pub safe_bytes: Option<u64>,
}

/// How the slot `name` is; `None` if there is none. Needs no rights.
pub(in super::super) async fn health(
    options: &PostgresOptions,
    name: &str,
) -> SourceResult<Option<SlotHealth>> {
    let (mut tries, mut has_answer) = (Tries::default(), false);
    // The server that is followed has it. Another one may have a slot of the same name from the time
    // when it was followed.
    let mut unread = None;
    for host in options.hosts_in_order() {
        match Sql::to(options, host, &options.database).await {
            Ok(sql) => match health_on(&sql, name).await? {
                Some(health) if health.active => return Ok(Some(health)),
                found => {
                    has_answer = true;
                    unread = unread.or(found);
                }
            },
            Err(error) => tries.failed("cannot connect to", host, error),
        }
    }
    if has_answer { Ok(unread) } else { Err(tries.error()) }
}

async fn health_on(sql: &Sql, name: &str) -> SourceResult<Option<SlotHealth>> {
    const ASKING: &str = "SELECT wal_status, active, safe_wal_size, CASE WHEN pg_is_in_recovery() \
                          THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END - \
                          restart_lsn, extract(epoch FROM now() - (to_jsonb(slot) ->> \
                          'inactive_since')::timestamptz)::float8 FROM (SELECT * FROM \
                          pg_replication_slots WHERE slot_name = $1 AND slot_type = 'physical') \
                          slot";
    let doing = "cannot read the state of the replication slot";
    // The difference of places is a number without bounds, which the driver does not know. (Older
    // servers have no column `inactive_since`: of a row as JSON it may be asked all the same.)
    let asking = format!(
        "SELECT wal_status, active, safe_wal_size, retained::bigint, unread FROM ({ASKING}) \
         slot(wal_status, active, safe_wal_size, retained, unread)"
    );
    let row =
        sql.client.query_opt(&asking, &[&name]).await.map_err(|error| of_sql(&error, doing))?;
    let Some(row) = row else { return Ok(None) };
    let get = |error| of_sql(&error, doing);
    let state: Option<String> = row.try_get(0).map_err(get)?;
    let (safe, retained): (Option<i64>, Option<i64>) =
        (row.try_get(2).map_err(get)?, row.try_get(3).map_err(get)?);
    let (active, unread): (bool, Option<f64>) =
        (row.try_get(1).map_err(get)?, row.try_get(4).map_err(get)?);
    let unread = unread
        .filter(|_| !active)
        .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    Ok(Some(SlotHealth {
        state: match state.as_deref() {
            Some("reserved") => SlotState::Reserved,
            Some("extended") => SlotState::Extended,
            Some("lost") => SlotState::Lost,
            // It was never used: it needs nothing yet.
            None => SlotState::Reserved,
            // Including words of servers to come: only what is known to be lost may be dropped.
            Some(_) => SlotState::Unreserved,
        },
        active,
        unread_for: unread,
        retained_bytes: retained.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        safe_bytes: safe.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
    }))
}

/// Makes sure that the slot is there, and that it is one for the log as it is: what the server says
/// of another one when it is asked for its log cannot be told from the log being gone.
pub(super) async fn ensure(
    connection: &mut Connection,
    options: &PostgresOptions,
    name: &str,
) -> SourceResult<()> {
    let doing = format!("cannot create the replication slot {name}");
    let made = timely(connection.create_slot(name, Slot::Lasting)).await;
    if made.map_err(|error| error.into_source(&doing))? {
        return Ok(());
    }
    let asked = timely(connection.is_logical(name)).await;
    let logical = asked.map_err(|error| error.into_source(&doing))?
        || connection.major() < 15
            && is_logical(&on(options, connection), name).await.unwrap_or(false);
    if !logical {
        return Ok(());
    }
    let error =
        invalid(format!("the replication slot {name} is a logical slot of another application"));
    Err(error.with_hint("name another slot for the backup"))
}

/// Until 14 only SQL tells, which may not be allowed.
async fn is_logical(options: &PostgresOptions, name: &str) -> SourceResult<bool> {
    const ASKING: &str =
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND slot_type = 'logical'";
    let sql = Sql::open(options, &options.database).await?;
    let row = sql.client.query_one(ASKING, &[&name]).await;
    let count: i64 = row
        .and_then(|row| row.try_get(0))
        .map_err(|error| of_sql(&error, "cannot read the state of the replication slot"))?;
    Ok(count > 0)
}

/// The same, of that very server.
fn on(options: &PostgresOptions, connection: &Connection) -> PostgresOptions {
    PostgresOptions { hosts: vec![connection.host.clone()], ..options.clone() }
}

/// Drops a slot that its server has given up, and returns the connection; `None` if the slot is
/// none of these, or cannot be dropped.
pub(super) async fn drop_lost(
    options: &PostgresOptions,
    host: &Host,
    name: &str,
) -> Option<Connection> {
    let mut connection = Connection::to(options, host).await.ok()?;
    drop_if_lost(options, &mut connection, name).await.then_some(connection)
}

/// Drops a slot only if it is known to be lost, and of that very server: others may have one of the
/// same name. Returns `false` if the slot stays.
async fn drop_if_lost(options: &PostgresOptions, connection: &mut Connection, name: &str) -> bool {
    let found = health(&on(options, connection), name).await;
    let is_lost = found.is_ok_and(|slot| slot.is_some_and(|slot| slot.state == SlotState::Lost));
    is_lost && connection.drop_slot(name).await.is_ok()
}

/// Whether the server says that it has not got the log any more.
pub(super) fn is_gone(error: &WireError) -> bool {
    matches!(error.code(), Some(code::UNDEFINED_FILE | code::NOT_IN_PREREQUISITE_STATE))
}

/// What was to be read is gone. A slot that has lost it is of no use any more: it makes room for a
/// new one.
pub(super) async fn gap(
    error: WireError,
    options: &PostgresOptions,
    connection: Option<Connection>,
    doing: &str,
) -> SourceError {
    let error = error.into_source(doing);
    let gap = SourceError::new(
        SourceErrorKind::LogGap,
        format!("the server no longer has the WAL: {error}"),
    );
    let mut hint =
        "run a full backup, and raise max_slot_wal_keep_size so that the server keeps more WAL"
            .to_owned();
    if let (Some(name), Some(mut connection)) = (&options.slot, connection)
        && !drop_if_lost(options, &mut connection, name).await
    {
        hint.push_str(&format!("; if the slot is lost: SELECT pg_drop_replication_slot('{name}')"));
    }
    gap.with_hint(hint)
}
