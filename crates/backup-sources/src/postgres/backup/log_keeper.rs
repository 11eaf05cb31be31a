//! The temporary replication slot that keeps the log while a backup runs.

use backup_core::context::Context;
use backup_core::source::SourceResult;
use jiff::Timestamp;

use crate::postgres::cluster::Cluster;
use crate::postgres::error::{WireError, code};
use crate::postgres::options::PostgresOptions;
use crate::postgres::wire::{Connection, Slot};

/// A slot of another connection keeps the log while it is needed; the server takes it away when the
/// connection ends, however it does. Without a free one the server keeps what `wal_keep_size` says,
/// and tells if that was not enough.
pub(super) async fn keep_log(
    cx: &Context,
    cluster: &Cluster,
    options: &PostgresOptions,
    beside: &Connection,
    now: Timestamp,
) -> SourceResult<Option<(Connection, String)>> {
    let doing = "cannot reserve the WAL";
    let connected = Connection::to(options, &beside.host).await;
    let mut connection = connected.map_err(|error| error.into_source(doing))?;
    cluster.require_same(&mut connection).await?;
    let name = format!("backup_{}_{}", std::process::id(), now.as_nanosecond());
    match connection.create_slot(&name, Slot::Temporary).await {
        Ok(_) => Ok(Some((connection, name))),
        Err(error) if is_full(&error) => {
            cx.events.note(
                "no replication slot is free: only wal_keep_size retains the WAL of the backup",
            );
            Ok(None)
        }
        Err(error) => Err(error.into_source(doing)),
    }
}

fn is_full(error: &WireError) -> bool {
    error.code() == Some(code::CONFIGURATION_LIMIT)
}
