//! Writing: a temporary file gets everything, is synced, and only then gets the object's name.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use backup_core::sink::{
    Key, Operation, Payload, PutMode, PutOutcome, SinkError, SinkErrorKind, SinkResult, Upload,
};
use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::{blocking, writing};
use super::root::{Root, TEMP_DIR, parent};
use super::{direct, leftovers};

/// A file without a name of its own yet. Dropped before it gets one, it vanishes.
#[derive(Debug)]
struct TempFile {
    root: Arc<Root>,
    name: String,
    file: File,
    renamed: bool,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.renamed {
            // If this fails as well, the file is removed as a leftover some day.
            rustix::fs::unlinkat(&self.root.fd, &self.name, AtFlags::empty()).ok();
        }
    }
}

impl TempFile {
    fn create(root: &Arc<Root>) -> io::Result<Self> {
        let temp = match Self::try_create(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                root.forget_dirs();
                Self::try_create(root)?
            }
            other => other?,
        };
        if !root.swept.swap(true, Ordering::Relaxed) {
            leftovers::remove(root, &temp.file);
        }
        Ok(temp)
    }

    fn try_create(root: &Arc<Root>) -> io::Result<Self> {
        root.ensure_dir(TEMP_DIR)?;
        let name = leftovers::new_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&root.fd, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { root: Arc::clone(root), name, file: file.into(), renamed: false })
    }

    fn write(&mut self, segments: &[Bytes]) -> io::Result<()> {
        let left = direct::write(&self.file, segments)?;
        let mut slices: Vec<_> = left.iter().map(|segment| IoSlice::new(segment)).collect();
        let mut rest = &mut slices[..];
        // Passes over empty segments: writing nothing is no progress.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the file its name, durably.
    fn publish(mut self, operation: Operation, key: &Key, mode: PutMode) -> SinkResult<()> {
        let before = |error: io::Error| writing(error, operation, key).without_effect();
        if self.root.fsync {
            self.file.sync_all().map_err(before)?;
        }
        let dir = parent(key.as_str());
        self.root.ensure_dir(dir).map_err(before)?;
        let renamed = match self.rename(key.as_str(), mode) {
            Err(Errno::NOENT) => {
                self.root.forget_dirs();
                self.root.ensure_dir(dir).map_err(before)?;
                self.rename(key.as_str(), mode)
            }
            other => other,
        };
        match renamed {
            Ok(()) => {}
            // A network file system may have done it before it failed.
            Err(errno @ (Errno::IO | Errno::STALE | Errno::TIMEDOUT)) => {
                return Err(writing(errno, operation, key));
            }
            Err(errno) => return Err(writing(errno, operation, key).without_effect()),
        }
        self.root.sync_dir(dir).map_err(|error| writing(error, operation, key))
    }

    fn rename(&mut self, to: &str, mode: PutMode) -> Result<(), Errno> {
        let fd = &self.root.fd;
        match mode {
            PutMode::Overwrite => rustix::fs::renameat(fd, &self.name, fd, to)?,
            PutMode::Create => {
                match rustix::fs::renameat_with(fd, &self.name, fd, to, RenameFlags::NOREPLACE) {
                    // This file system does not know the flag.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return self.link(to),
                    other => other?,
                }
            }
        }
        self.renamed = true;
        Ok(())
    }

    /// Gives the file a second name, which never replaces anything either. The first one goes when
    /// this is dropped.
    fn link(&self, to: &str) -> Result<(), Errno> {
        let fd = &self.root.fd;
        match rustix::fs::linkat(fd, &self.name, fd, to, AtFlags::empty()) {
            // Nor are there links.
            Err(Errno::PERM | Errno::NOSYS) => Err(Errno::OPNOTSUPP),
            other => other,
        }
    }
}

/// Stores an object. Blocks.
pub(super) fn put(
    root: &Arc<Root>,
    key: &Key,
    payload: &Payload,
    mode: PutMode,
) -> SinkResult<PutOutcome> {
    let before = |error| writing(error, Operation::Put, key).without_effect();
    let mut temp = TempFile::create(root).map_err(before)?;
    temp.write(payload.segments()).map_err(before)?;
    temp.publish(Operation::Put, key, mode)?;
    Ok(PutOutcome::default())
}

/// An upload in parts: one temporary file.
#[derive(Debug)]
pub(super) struct LocalUpload {
    key: Key,
    /// `None` after a part has failed or was dropped while it was written.
    temp: Option<TempFile>,
}

impl LocalUpload {
    pub(super) async fn begin(root: Arc<Root>, key: Key) -> SinkResult<Self> {
        let what = key.as_str().to_owned();
        blocking(Operation::Upload, &what, move || {
            let temp = TempFile::create(&root)
                .map_err(|error| writing(error, Operation::Upload, &key).without_effect())?;
            Ok(Self { key, temp: Some(temp) })
        })
        .await
    }

    fn take(&mut self) -> SinkResult<TempFile> {
        self.temp.take().ok_or_else(|| {
            SinkError::new(SinkErrorKind::Invalid, Operation::Upload, &self.key)
                .with_source("an earlier part was not written")
                .without_effect()
        })
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn put_part(&mut self, part: Bytes) -> SinkResult<()> {
        let mut temp = self.take()?;
        let key = self.key.clone();
        let work = move || match temp.write(&[part]) {
            Ok(()) => Ok(temp),
            Err(error) => Err(writing(error, Operation::Upload, &key).without_effect()),
        };
        self.temp = Some(blocking(Operation::Upload, self.key.as_str(), work).await?);
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> SinkResult<PutOutcome> {
        let temp = self.take()?;
        let key = self.key.clone();
        blocking(Operation::Upload, self.key.as_str(), move || {
            temp.publish(Operation::Upload, &key, PutMode::Overwrite)?;
            Ok(PutOutcome::default())
        })
        .await
    }

    async fn abort(mut self: Box<Self>) -> SinkResult<()> {
        let temp = self.temp.take();
        blocking(Operation::Upload, self.key.as_str(), move || {
            drop(temp);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_renaming_cannot_spare_what_exists_links_do() {
        let place = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(place.path(), String::new()).unwrap());
        let linked = |bytes: &'static [u8]| {
            let mut temp = TempFile::create(&root).unwrap();
            temp.write(&[Bytes::from_static(bytes)]).unwrap();
            temp.link("object")
        };
        assert_eq!(linked(b"first"), Ok(()));
        assert_eq!(linked(b"second"), Err(Errno::EXIST));
        assert_eq!(std::fs::read(place.path().join("object")).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(place.path().join(TEMP_DIR)).unwrap().count(), 0);
    }
}
