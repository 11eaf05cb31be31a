//! A backup that the server has begun, and the transfer of its files.

use std::collections::BTreeMap;

use super::super::lsn::Lsn;
use super::super::wire::BackupStream;
use super::earlier::Earlier;
use super::fetch::Fetch;
use super::thin::Thinning;

/// A backup that has begun.
pub(super) struct Begun {
    pub(super) way: Way,
    pub(super) from: Lsn,
    pub(super) timeline: u32,
}

/// Transfer of its files.
pub(super) enum Way {
    /// All of them.
    Full(BackupStream),
    /// The server leaves out unchanged pages, by its summaries.
    Summarized(BackupStream, Earlier),
    /// The server sends everything, and unchanged pages are dropped.
    Thinned(BackupStream, Thinning),
    /// Only changed pages are read.
    Fetched(Box<Fetch>, Thinning),
}

impl Way {
    /// The earlier backup that it builds on.
    pub(super) fn earlier(&self) -> Option<&Earlier> {
        match self {
            Self::Full(_) => None,
            Self::Summarized(_, earlier) => Some(earlier),
            Self::Thinned(_, thinning) | Self::Fetched(_, thinning) => Some(thinning.earlier()),
        }
    }

    pub(super) fn tablespaces(&self) -> BTreeMap<u32, String> {
        match self {
            Self::Full(stream) | Self::Summarized(stream, _) | Self::Thinned(stream, _) => {
                stream.tablespaces().into_iter().map(|one| (one.oid, one.location)).collect()
            }
            Self::Fetched(fetch, _) => fetch.tablespaces.clone(),
        }
    }
}
