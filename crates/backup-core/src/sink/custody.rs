//! What some stores do with objects beyond storing them.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Key, SinkResult};

/// Whether the bytes of an object can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Now.
    Ready,
    /// After a [thaw](Custody::thaw).
    Archived,
    /// Soon: a thaw is under way.
    Thawing,
    /// Now, and until then; afterwards it has to be thawed again.
    Thawed {
        /// When it will be archived again.
        until: Timestamp,
    },
}

/// How fast an archived object should become readable. Faster is dearer; stores tell how long each
/// takes (S3 Glacier Flexible Retrieval: minutes, 3–5 hours, 5–12 hours).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThawSpeed {
    /// Minutes, where the class offers it.
    Expedited,
    /// Hours.
    #[default]
    Standard,
    /// Half a day or longer, at the lowest price.
    Bulk,
}

/// Locks against deletion, archives, and uploads that were never finished.
///
/// # Contract
/// - A lock is never shortened or lifted.
/// - All methods can be repeated without harm.
/// - What a store does not have is
///   [`SinkErrorKind::Unsupported`](super::SinkErrorKind::Unsupported), never silently nothing; but
///   looking at the lock of an object that has none, and thawing one that is ready, succeed.
#[async_trait]
pub trait Custody: Debug + Send + Sync {
    /// For how long new objects below `data/`, `index/`, `snapshots/`, `keys/` and the
    /// configuration are locked when they are put; `None` if they are not.
    fn lock_period(&self) -> Option<Duration>;

    /// Until when the store refuses to delete the object; `None` if it is not locked.
    async fn locked_until(&self, key: &Key) -> SinkResult<Option<Timestamp>>;

    /// Locks an object against deletion until at least that time.
    async fn lock_until(&self, key: &Key, until: Timestamp) -> SinkResult<()>;

    /// Whether the object can be read now.
    async fn availability(&self, key: &Key) -> SinkResult<Availability>;

    /// Asks the store to make an archived object readable for so many days.
    async fn thaw(&self, key: &Key, days: u32, speed: ThawSpeed) -> SinkResult<()>;

    /// Throws away uploads in parts, under the names of this repository, that were begun before
    /// that time and never finished: they are invisible but cost money. Returns how many there
    /// were.
    async fn clear_unfinished(&self, before: Timestamp) -> SinkResult<u64>;
}
