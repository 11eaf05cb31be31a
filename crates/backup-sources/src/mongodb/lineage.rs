//! The branch of a replica set in captured logs.
//!
//! Sets are often called `rs0`, and a new set takes the place of a lost one under its name. Their
//! oplogs have nothing in common: in a captured log each set is a branch of its own.
//!
//! The branch is the UUID of the collection `admin.system.version`. It is made when a set is
//! initiated, all members have it, and it outlives elections, resyncs and upgrades. Users with the
//! role `backup` may read it, but not the set's `replicaSetId`.
//!
//! Logs that were captured before version 0.2, or by a user who may not read the UUID, have the
//! branch `""`. The branch of the set whose oplog has their last entry continues them.

use backup_core::log::Position;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::catalog::uuid_at;
use super::error::{Explain as _, is_denied};
use super::namespace::Namespace;
use super::position::Position as Moment;
use super::server::Server;

/// The branch of the logs of a replica set: 32 hexadecimal digits, or nothing if the user may not
/// read the UUID.
pub(super) async fn branch_of(server: &Server) -> SourceResult<String> {
    match uuid_at(server, &Namespace::new("admin", "system.version")).await {
        Err(error) if is_denied(&error) => Ok(String::new()),
        found => {
            let uuid = found.reading("cannot list the collections of admin")?;
            Ok(uuid.map(hex::encode).unwrap_or_default())
        }
    }
}

/// The continuation of a log at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The branch of the next segments.
    pub(super) branch: String,
    /// Where it leaves another branch.
    pub(super) parent: Option<Position>,
}

impl Lineage {
    /// Of a log that begins at a server with this branch.
    pub(super) fn begin(branch: &str) -> Self {
        Self { branch: branch.to_owned(), parent: None }
    }

    /// Of a log that is followed from `from` at a server with this branch; `None` if that is
    /// another replica set.
    pub(super) fn go_on(branch: &str, from: &Position) -> Option<Self> {
        match (branch, &*from.branch) {
            (own, stored) if own == stored => Some(Self::begin(own)),
            // This user may not read it.
            ("", stored) => Some(Self::begin(stored)),
            (own, "") => Some(Self { parent: Some(from.clone()), ..Self::begin(own) }),
            _ => None,
        }
    }
}

/// The error for a log of another replica set.
pub(super) fn another_set(server: &Server, from: &Position) -> SourceError {
    let text = format!(
        "the stored log up to {} belongs to another replica set with the name {}",
        Moment::of_offset(from.offset),
        server.set_name()
    );
    SourceError::new(SourceErrorKind::LogGap, text)
        .with_hint("run a full backup: later moments can be restored from it on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sets_do_not_continue_a_log() {
        let from = |branch: &str| Position::new(branch, 7);
        let goes_on = |own: &str, stored: &str| Lineage::go_on(own, &from(stored));
        assert_eq!(goes_on("a", "a"), Some(Lineage::begin("a")));
        assert_eq!(goes_on("", ""), Some(Lineage::begin("")));
        assert_eq!(goes_on("", "a"), Some(Lineage::begin("a")));
        let left = Lineage { branch: "a".to_owned(), parent: Some(from("")) };
        assert_eq!(goes_on("a", ""), Some(left));
        assert_eq!(goes_on("a", "b"), None);
    }
}
