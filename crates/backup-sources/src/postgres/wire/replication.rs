//! Slots, identity, histories of timelines.

use bytes::Bytes;

use super::super::error::{ServerError, WireError, code, malformed};
use super::super::identifier::quoted;
use super::super::lsn::Lsn;
use super::connection::Connection;

/// What a cluster is, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct System {
    /// Made up when the cluster was, and the same in all its copies.
    pub(in super::super) id: u64,
    pub(in super::super) timeline: u32,
    /// Up to here the log is on the server's disk.
    pub(in super::super) at: Lsn,
}

/// A replication slot that is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Slot {
    /// It stays.
    Lasting,
    /// It ends with the connection.
    Temporary,
}

impl Connection {
    /// Which cluster this is.
    pub(in super::super) async fn identify(&mut self) -> Result<System, WireError> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let row = rows.first().ok_or_else(|| malformed("reply to IDENTIFY_SYSTEM"))?;
        Ok(System {
            id: row.need("systemid")?,
            timeline: row.need("timeline")?,
            at: row.need("xlogpos")?,
        })
    }

    /// Creates a physical slot that keeps the log from now on. `false` if it was there already.
    pub(in super::super) async fn create_slot(
        &mut self,
        name: &str,
        kind: Slot,
    ) -> Result<bool, WireError> {
        let name = quoted(name);
        // Without RESERVE_WAL nothing is kept until somebody reads.
        let command = match kind {
            Slot::Lasting => format!("CREATE_REPLICATION_SLOT {name} PHYSICAL RESERVE_WAL"),
            Slot::Temporary => {
                format!("CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL RESERVE_WAL")
            }
        };
        match self.query(&command).await {
            Ok(_) => Ok(true),
            Err(WireError::Server(ServerError { code, .. })) if code == code::DUPLICATE_OBJECT => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a slot is for something else than the log as it is: only from 15 on this can be
    /// asked.
    pub(in super::super) async fn is_logical(&mut self, name: &str) -> Result<bool, WireError> {
        if self.major() < 15 {
            return Ok(false);
        }
        match self.query(&format!("READ_REPLICATION_SLOT {}", quoted(name))).await {
            Ok(_) => Ok(false),
            Err(WireError::Server(ServerError { code, .. })) if code == code::NOT_SUPPORTED => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a slot.
    pub(in super::super) async fn drop_slot(&mut self, name: &str) -> Result<(), WireError> {
        self.query(&format!("DROP_REPLICATION_SLOT {}", quoted(name))).await.map(|_| ())
    }

    /// The name of a timeline's history file, and what is in it. Timeline 1 has none.
    pub(in super::super) async fn timeline_history(
        &mut self,
        timeline: u32,
    ) -> Result<(String, Bytes), WireError> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let row = rows.first().ok_or_else(|| malformed("timeline history"))?;
        Ok((row.need("filename")?, row.need::<String>("content")?.into()))
    }
}
