//! Which collections there are, and at which moment they are read.

use backup_core::context::Context;
use backup_core::source::SourceResult;
use jiff::Timestamp as Time;

use super::oplog::{beginning, has_ddl};
use crate::mongodb::catalog::{self, Listed, databases};
use crate::mongodb::namespace::Filter;
use crate::mongodb::options::SnapshotReads;
use crate::mongodb::position::Position;
use crate::mongodb::server::{Server, unless_cancelled};

/// Data files up to this size (in bytes, compressed as they are) are expected to be read within 200
/// seconds, which leaves 100 of the history that a server keeps by default.
const SHORT: u64 = 4 << 30;
/// How often a moment is sought at which nobody creates or drops anything and no large transaction
/// is under way.
const TRIES: usize = 3;

/// How a backup is going to be read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) listed: Listed,
    /// Where the oplog must begin; `None` on servers without one.
    pub(super) beginning: Option<Position>,
    /// What is entered there has been read with the collections: only what comes behind it is
    /// needed.
    pub(super) is_read: bool,
    /// The one moment of all reads, if there is one.
    pub(super) snapshot: Option<Position>,
    /// When that was, by our clock.
    pub(super) snapshot_time: Time,
}

pub(super) async fn plan(
    cx: &Context,
    server: &Server,
    filter: &Filter,
    snapshot_reads: SnapshotReads,
) -> SourceResult<Plan> {
    if !server.is_replica_set() {
        let listed = catalog::read(cx, server, filter).await?;
        return Ok(Plan {
            listed,
            beginning: None,
            is_read: false,
            snapshot: None,
            snapshot_time: cx.clock.now(),
        });
    }
    let may_be_short = snapshot_reads == SnapshotReads::Auto && server.at_least(5, 0) && {
        let sizes = unless_cancelled(cx, databases(server)).await?;
        sizes.into_values().sum::<u64>() <= SHORT
    };
    let mut tries = 0;
    loop {
        let (from, is_read) = unless_cancelled(cx, beginning(server)).await?;
        let before = unless_cancelled(cx, server.majority_time()).await?;
        let listed = catalog::read(cx, server, filter).await?;
        let plan = Plan {
            listed,
            beginning: Some(from),
            is_read,
            snapshot: None,
            snapshot_time: cx.clock.now(),
        };
        if !may_be_short {
            return Ok(plan);
        }
        let now = unless_cancelled(cx, server.majority_time()).await?;
        // The list is right for this moment if nothing has changed it since before it was made. The
        // majority may not have seen yet what is listed already: changes are looked for up to the
        // member's last write. A log that is applied afterwards goes on behind `from`: transactions
        // that are under way there must be stored.
        if is_read && !unless_cancelled(cx, has_ddl(server, from, before)).await? {
            return Ok(Plan { snapshot: Some(now), ..plan });
        }
        tries += 1;
        if tries == TRIES {
            return Ok(plan);
        }
    }
}
