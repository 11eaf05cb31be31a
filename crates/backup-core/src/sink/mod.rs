//! Where objects go.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the [`Sink`] trait and its contract |
//! | `key.rs` | [`Key`] and [`Prefix`]: validated object names |
//! | `payload.rs` | [`Payload`]: the bytes of a put |
//! | `custody.rs` | [`Custody`]: locks, archives and half-finished uploads, where a store has them |
//! | `ops.rs` | [`SinkOps`]: conveniences for every sink |
//! | `error.rs` | [`SinkError`]: kind, operation, key, and whether the effect may have happened |

mod custody;
mod error;
mod key;
mod ops;
mod payload;

use std::fmt::{Debug, Display};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use custody::{Availability, Custody, ThawSpeed};
pub use error::{Effect, Operation, SinkError, SinkErrorKind, SinkResult};
pub use key::{InvalidKey, Key, Prefix};
pub use ops::SinkOps;
pub use payload::Payload;

/// Size and identity of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's name.
    pub key: Key,
    /// Size in bytes.
    pub size: u64,
    /// When the store last wrote it, where the store says so.
    pub last_modified: Option<jiff::Timestamp>,
    /// The store's version tag, where it has one.
    pub etag: Option<String>,
}

/// What a successful put tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutOutcome {
    /// SHA-256 that the *store* computed over what it received, where the store does that. It
    /// counts as verification.
    pub sha256: Option<[u8; 32]>,
    /// The store's version tag, where it has one.
    pub etag: Option<String>,
}

/// Whether a put may replace an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PutMode {
    /// Replace what is there.
    #[default]
    Overwrite,
    /// Fail with [`SinkErrorKind::AlreadyExists`] if the key exists.
    Create,
}

/// What a sink can do. Callers decide by this, never by the sink's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkCapabilities {
    /// [`PutMode::Create`] is atomic: of many rivals exactly one wins.
    pub conditional_put: bool,
    /// [Cold](Payload::cold) objects are put into another storage class than the others.
    pub storage_classes: bool,
    /// Objects are locked against deletion when they are put; see [`Custody::lock_period`].
    pub retention_locks: bool,
    /// [`ObjectMeta::last_modified`] comes from a clock that is not that of this machine.
    pub own_clock: bool,
    /// How many requests at a time suit this sink.
    pub concurrency: usize,
    /// So many bytes are worth a request, where they lie together.
    pub read_size: u64,
}

/// A flat store of immutable objects under validated keys.
///
/// # Contract
/// - **Atomic.** A put object is visible whole or not at all, also after a crash at any point. A
///   reader never sees a part, and a failed or dropped put leaves nothing under the key.
/// - **Durable.** When `put` or [`Upload::complete`] returns `Ok`, the object survives the loss of
///   power.
/// - **Read your writes.** An object put successfully is seen by the next `get`, `head` and `list`,
///   of any handle.
/// - **Create.** With [`PutMode::Create`] of many rivals at most one succeeds, if the capabilities
///   say `conditional_put`; the others get [`SinkErrorKind::AlreadyExists`] and change nothing.
/// - **Errors say what is known.** [`SinkError::effect`] is [`Effect::None`] only if the operation
///   certainly did not happen.
/// - **Cancellation.** Dropping a future may leave the operation done or not done, never half done.
/// - **Listing.** `list` yields every object under the prefix exactly once, with its size, in no
///   particular order. Objects whose names are not valid [`Key`]s (somebody else's) are left out. A
///   prefix without objects yields nothing; that is not an error. Objects put while the list runs
///   may or may not appear.
/// - **Deleting** an object that is not there is a success. The stream yields one result per key,
///   in any order.
/// - **Not trusted.** Callers verify what they read by its hash; a sink need not.
///
/// # Wrappers
/// A wrapper implements *every* method, including those with defaults, and is held to it by
/// `#[deny(clippy::missing_trait_methods)]`.
///
/// Implementations prove themselves with `testing::sink_conformance` (feature `testing`).
#[async_trait]
pub trait Sink: Debug + Display + Send + Sync + 'static {
    /// What this sink can do.
    fn capabilities(&self) -> SinkCapabilities;

    /// Stores an object.
    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome>;

    /// Begins an upload in parts, for objects too large for memory. Nothing is visible before
    /// [`Upload::complete`]; a dropped upload leaves nothing under the key.
    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>>;

    /// Reads an object, or the bytes `range` of it. A range that does not lie within the object is
    /// [`SinkErrorKind::Invalid`].
    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>>;

    /// Size and identity of an object.
    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta>;

    /// All objects whose key begins with `prefix/`.
    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>>;

    /// Deletes objects.
    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>>;

    /// How many bytes can still be stored, where there is such a limit and it can be told at once.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// What the store can do with objects beyond storing them; `None` where that is nothing.
    fn custody(&self) -> Option<Arc<dyn Custody>> {
        None
    }
}

/// An upload in parts; see [`Sink::upload`].
#[async_trait]
pub trait Upload: Debug + Send {
    /// Appends the next part.
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()>;

    /// Makes the object visible and durable.
    async fn complete(self: Box<Self>) -> SinkResult<PutOutcome>;

    /// Throws away what was uploaded.
    async fn abort(self: Box<Self>) -> SinkResult<()>;
}
