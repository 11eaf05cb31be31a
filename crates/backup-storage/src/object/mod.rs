//! Objects in an object store: S3 and what speaks its language, Google Cloud Storage, Azure Blob
//! Storage.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`ObjectSink`]: the sink; names of objects |
//! | `proof.rs` | whether a store looks at what it confirms |
//! | `put.rs` | storing objects, in one request or in parts |
//! | `parts.rs` | uploads in parts: beginning, parts, completion that was lost and found |
//! | `upload.rs` | uploads of unknown length |
//! | `read.rs` | contents, ranges, sizes |
//! | `list.rs` | listing |
//! | `delete.rs` | deleting, in bulk where the store can |
//! | `error.rs` | errors, with what to do about them |
//! | `build/` | from settings to a sink |
//! | `custody/` | locks, archives, unfinished uploads |
//!
//! Requests go by way of `wire/`, which knows about time-outs, signatures, rates and the number of
//! requests at a time. Nothing here tries again but the parts of an upload, with the means of
//! `retry/`.

pub(crate) mod build;
mod custody;
mod delete;
mod error;
mod list;
mod parts;
mod proof;
mod put;
mod read;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backup_core::chunker::MAX_CHUNK;
use backup_core::repository::WriteSettings;
use backup_core::sink::{
    Custody, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkError, SinkErrorKind, SinkResult, Upload,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;

pub use error::RefusedCredentials;
pub(crate) use proof::Proof;

use error::Place;

use crate::retry::RetryPolicy;
use crate::settings::LockMode;
use crate::wire::Gate;

/// A whole pack, with the blob that made it full: each request takes a round trip, and costs money
/// in most stores.
const READ_SIZE: u64 = (WriteSettings::PACK_SIZE + MAX_CHUNK) as u64;

/// What is needed of a store of `object_store`.
pub(crate) trait Store: ObjectStore + MultipartStore {}

impl<S: ObjectStore + MultipartStore> Store for S {}

/// Whose store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Gcs,
    Azure,
}

/// Locks of new objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lock {
    pub(crate) mode: LockMode,
    pub(crate) days: u32,
}

impl Lock {
    pub(crate) fn period(self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 24 * 60 * 60)
    }
}

/// What a sink is made of.
pub(crate) struct Parts {
    pub(crate) kind: Kind,
    pub(crate) store: Arc<dyn Store>,
    /// The same store without bulk deletion, for those that do not have it.
    pub(crate) one_by_one: Arc<dyn Store>,
    /// The address, with the endpoint that is really talked to and without settings that do not
    /// tell stores apart.
    pub(crate) name: String,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) gate: Arc<Gate>,
    /// For the parts of uploads.
    pub(crate) policy: RetryPolicy,
    /// Whether what the store confirms is believed.
    pub(crate) proof: Proof,
    /// Class of what is read only by restores.
    pub(crate) storage_class: Option<String>,
    pub(crate) lock: Option<Lock>,
    /// A key of SSE-C goes with the requests.
    pub(crate) customer_key: bool,
    pub(crate) custody: Option<Arc<dyn Custody>>,
}

/// Objects below a prefix of a bucket. Made by the [resolver](crate::resolver).
///
/// A store that ignores conditions of requests without saying so still has the capability
/// `conditional_put` here: only trying it out tells, and that is for the repository to do.
#[derive(Clone)]
pub struct ObjectSink(Arc<Parts>);

impl ObjectSink {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Parts {
    /// The name of an object in the bucket.
    fn path(&self, key: &Key, operation: Operation) -> SinkResult<Path> {
        self.join(key.as_str()).map_err(|error| {
            SinkError::new(SinkErrorKind::Invalid, operation, key)
                .with_source(error)
                .without_effect()
        })
    }

    fn join(&self, name: &str) -> Result<Path, object_store::path::Error> {
        match (&*self.prefix, name) {
            ("", name) => Path::parse(name),
            (prefix, "") => Path::parse(prefix),
            (prefix, name) => Path::parse(format!("{prefix}/{name}")),
        }
    }

    /// The key of an object in the bucket; `None` for somebody else's.
    fn key(&self, path: &Path) -> Option<Key> {
        let name = match &*self.prefix {
            "" => path.as_ref(),
            prefix => path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Key::new(name).ok()
    }

    fn error(&self, error: &object_store::Error, operation: Operation, key: &Key) -> SinkError {
        error::map(self.place(), error, operation, key.as_str())
    }

    fn place(&self) -> Place<'_> {
        Place {
            bucket: &self.bucket,
            kind: self.kind,
            customer_key: self.customer_key,
            locks: self.lock.is_some(),
        }
    }
}

impl fmt::Debug for ObjectSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectSink({})", self.0.name)
    }
}

impl fmt::Display for ObjectSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

#[async_trait]
impl Sink for ObjectSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            conditional_put: true,
            storage_classes: self.0.storage_class.is_some(),
            retention_locks: self.0.lock.is_some(),
            own_clock: true,
            concurrency: self.0.gate.most(),
            read_size: READ_SIZE,
        }
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        put::put(&self.0, key, payload, mode).await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        Ok(Box::new(upload::ObjectUpload::new(Arc::clone(&self.0), key.clone())))
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        read::get(&self.0, key, range).await
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        read::head(&self.0, key, Operation::Head).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        list::list(Arc::clone(&self.0), prefix)
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        delete::delete(Arc::clone(&self.0), keys)
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        self.0.custody.clone()
    }
}
