//! Objects as files below a directory.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`LocalSink`]: opening, creating, the [`Sink`] itself |
//! | `root.rs` | the directory that holds everything, and durable directories below it |
//! | `write.rs` | temporary file, sync, rename, sync of the directory; uploads in parts |
//! | `direct.rs` | writing large objects past the page cache |
//! | `leftovers.rs` | names of temporary files; removing those of dead processes |
//! | `read.rs` | reading objects and ranges |
//! | `list.rs` | listing by a walk |
//! | `error.rs` | what the system's errors mean |

mod direct;
mod error;
mod leftovers;
mod list;
mod read;
mod root;
mod write;

use std::fmt;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::sink::{
    Custody, Key, ObjectMeta, Operation, Payload, Prefix, PutMode, PutOutcome, Sink,
    SinkCapabilities, SinkError, SinkErrorKind, SinkResult, Upload,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use root::{Root, TEMP_DIR};

/// Requests at a time: enough to overlap one put's syncs with the writing of others.
const CONCURRENCY: usize = 4;
/// Larger pieces are not read faster.
const READ_SIZE: u64 = 4 << 20;
/// Deletions that share a thread hop.
const DELETE_TOGETHER: usize = 256;

/// Objects as files below a directory; a key is the file's path. Cheap to clone.
///
/// Files have mode 0600, directories 0700. An object is written to the directory `x-tmp`, synced,
/// and renamed, and the directory that it is renamed into is synced: it is there whole and for
/// good, or not at all. Everything must lie on one file system. A key cannot be the beginning of
/// another one (`a` and `a/b`): such a put fails with [`SinkErrorKind::Invalid`]. Links to
/// directories are followed, other links are no objects.
#[derive(Debug, Clone)]
pub struct LocalSink(Arc<Root>);

impl LocalSink {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`SinkErrorKind::NotFound`] if nothing is there, [`SinkErrorKind::Invalid`] if it is not a
    /// directory, [`SinkErrorKind::PermissionDenied`].
    pub fn open(path: impl AsRef<Path>) -> SinkResult<Self> {
        let path = path.as_ref();
        let (path, name) = absolute(path, Operation::Head)?;
        match Root::open(&path, name.clone()) {
            Ok(root) => Ok(Self(Arc::new(root))),
            Err(errno) => Err(error::at_root(errno, Operation::Head, &name)),
        }
    }

    /// Opens a directory and makes it, and those above it, if it is not there. It may hold things
    /// already.
    ///
    /// # Errors
    /// [`SinkErrorKind::Invalid`] if something else is there, [`SinkErrorKind::PermissionDenied`],
    /// [`SinkErrorKind::StorageFull`].
    pub fn create(path: impl AsRef<Path>) -> SinkResult<Self> {
        let path = path.as_ref();
        let (path, name) = absolute(path, Operation::Put)?;
        make(&path).map_err(|error| error::at_root(error, Operation::Put, &name))?;
        Self::open(path)
    }

    /// The same place without syncing anything: a loss of power may lose or damage what was stored.
    /// For tests that store thousands of objects, and for nothing else.
    ///
    /// # Errors
    /// Those of [`Self::create`].
    pub fn without_fsync(path: impl AsRef<Path>) -> SinkResult<Self> {
        let path = path.as_ref();
        let (path, name) = absolute(path, Operation::Put)?;
        let failed = |error: std::io::Error| error::at_root(error, Operation::Put, &name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let mut root = Root::open(&path, name.clone()).map_err(|errno| failed(errno.into()))?;
        root.fsync = false;
        Ok(Self(Arc::new(root)))
    }
}

/// The path from the root of the file system, and how it is called in messages.
fn absolute(path: &Path, operation: Operation) -> SinkResult<(PathBuf, String)> {
    let name = path.display().to_string();
    match std::path::absolute(path) {
        Ok(path) => Ok((path, name)),
        Err(error) => Err(error::at_root(error, operation, &name)),
    }
}

/// Makes a directory and those above it, each of them durable.
fn make(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    make(parent)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        // Opening it will tell if this is not a directory.
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    root::sync(&std::fs::File::open(parent)?.into())?;
    Ok(())
}

/// Whether a key lies where temporary files are; there are no objects there.
fn is_reserved(key: &Key) -> bool {
    key.as_str().strip_prefix(TEMP_DIR).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn refuse_reserved(key: &Key, operation: Operation, kind: SinkErrorKind) -> SinkResult<()> {
    if !is_reserved(key) {
        return Ok(());
    }
    Err(SinkError::new(kind, operation, key)
        .with_source("this directory is reserved for temporary files")
        .without_effect())
}

/// Deletes one object. Blocks.
fn delete(root: &Root, key: Key) -> SinkResult<Key> {
    if is_reserved(&key) {
        return Ok(key);
    }
    match rustix::fs::unlinkat(&root.fd, key.as_str(), AtFlags::empty()) {
        // Nothing, or a directory, or something below a file: no object of this name is there.
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::NOTDIR) => Ok(key),
        Err(errno) => Err(error::writing(errno, Operation::Delete, &key)),
    }
}

impl fmt::Display for LocalSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for LocalSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            conditional_put: true,
            storage_classes: false,
            retention_locks: false,
            own_clock: false,
            concurrency: CONCURRENCY,
            read_size: READ_SIZE,
        }
    }

    async fn put(&self, key: &Key, payload: Payload, mode: PutMode) -> SinkResult<PutOutcome> {
        refuse_reserved(key, Operation::Put, SinkErrorKind::Invalid)?;
        let (root, name) = (Arc::clone(&self.0), key.clone());
        error::blocking(Operation::Put, key.as_str(), move || {
            write::put(&root, &name, &payload, mode)
        })
        .await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        refuse_reserved(key, Operation::Upload, SinkErrorKind::Invalid)?;
        let upload = write::LocalUpload::begin(Arc::clone(&self.0), key.clone()).await?;
        Ok(Box::new(upload))
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        refuse_reserved(key, Operation::Get, SinkErrorKind::NotFound)?;
        read::get(Arc::clone(&self.0), key.clone(), range).await
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        refuse_reserved(key, Operation::Head, SinkErrorKind::NotFound)?;
        let (root, name) = (Arc::clone(&self.0), key.clone());
        error::blocking(Operation::Head, key.as_str(), move || read::head(&root, name)).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        if Key::new(prefix.as_str()).is_ok_and(|key| is_reserved(&key)) {
            return stream::empty().boxed();
        }
        list::list(Arc::clone(&self.0), prefix.clone())
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        let root = Arc::clone(&self.0);
        keys.ready_chunks(DELETE_TOGETHER)
            .then(move |keys| {
                let root = Arc::clone(&root);
                let count = keys.len();
                let what = keys.first().map(ToString::to_string).unwrap_or_default();
                async move {
                    let work = move || Ok(keys.into_iter().map(|key| delete(&root, key)).collect());
                    let done: SinkResult<Vec<_>> =
                        error::blocking(Operation::Delete, &what, work).await;
                    // A worker that ended badly owes one answer per key as well.
                    done.unwrap_or_else(|error| {
                        let kind = error.kind();
                        let others =
                            (1..count).map(|_| Err(SinkError::on(kind, Operation::Delete, &*what)));
                        others.chain([Err(error)]).collect()
                    })
                }
            })
            .flat_map(stream::iter)
            .boxed()
    }

    fn free_bytes(&self) -> Option<u64> {
        let statistics = rustix::fs::fstatvfs(&self.0.fd).ok()?;
        statistics.f_bavail.checked_mul(statistics.f_frsize)
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        None
    }
}
