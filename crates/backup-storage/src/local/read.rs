//! Reading: a small range in one go and on one thread, a large one in pieces.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use backup_core::chunker::MAX_CHUNK;
use backup_core::repository::WriteSettings;
use backup_core::sink::{Key, ObjectMeta, Operation, SinkError, SinkErrorKind, SinkResult};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::{blocking, reading};
use super::root::Root;

/// A range up to this many bytes comes in one piece: a pack does, of the size that suits a
/// directory.
const ONE_PIECE: u64 = (WriteSettings::LOCAL_PACK_SIZE + MAX_CHUNK) as u64;
/// Larger ones come in pieces of so many bytes.
const PIECE: u64 = 4 << 20;

/// A range of a file that is being read.
#[derive(Debug)]
struct Reading {
    key: Key,
    file: File,
    at: u64,
    end: u64,
}

impl Reading {
    /// Opens an object and checks the range. Blocks.
    fn open(root: &Root, key: Key, range: Option<Range<u64>>) -> SinkResult<Self> {
        let failed = |errno: Errno| reading(errno, Operation::Get, key.as_str());
        // Not blocking: somebody may have put a pipe here.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            rustix::fs::openat(&root.fd, key.as_str(), flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        let size = size(&stat).ok_or_else(|| missing(Operation::Get, &key))?;
        let Range { start, end } = range.unwrap_or(0..size);
        if start > end || end > size {
            let message =
                format!("bytes {start} to {end} are outside of the object, which has {size} bytes");
            return Err(SinkError::new(SinkErrorKind::Invalid, Operation::Get, &key)
                .with_source(message)
                .without_effect());
        }
        Ok(Self { key, file: file.into(), at: start, end })
    }

    /// Reads the next piece. Blocks.
    fn piece(&mut self) -> SinkResult<Bytes> {
        let left = self.end - self.at;
        let length = if left <= ONE_PIECE { left } else { PIECE };
        let piece = read_exact(&self.file, self.at, length as usize)
            .map_err(|error| reading(error, Operation::Get, self.key.as_str()))?;
        self.at += length;
        Ok(piece)
    }
}

/// Reads into memory that nobody has to fill with zeros first.
fn read_exact(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let at = offset + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    buffer.truncate(length);
    Ok(buffer.into())
}

/// Size of a regular file; `None` for anything else.
fn size(stat: &Stat) -> Option<u64> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).ok(),
        _ => None,
    }
}

fn missing(operation: Operation, key: &Key) -> SinkError {
    SinkError::new(SinkErrorKind::NotFound, operation, key).without_effect()
}

/// What is known about an object; `None` for what is not a regular file.
pub(super) fn meta(key: Key, stat: &Stat) -> Option<ObjectMeta> {
    Some(ObjectMeta {
        key,
        size: size(stat)?,
        last_modified: i32::try_from(stat.st_mtime_nsec)
            .ok()
            .and_then(|nanoseconds| Timestamp::new(stat.st_mtime, nanoseconds).ok()),
        etag: None,
    })
}

/// Size and identity of an object. Blocks.
pub(super) fn head(root: &Root, key: Key) -> SinkResult<ObjectMeta> {
    let stat = rustix::fs::statat(&root.fd, key.as_str(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| reading(errno, Operation::Head, key.as_str()))?;
    let object = missing(Operation::Head, &key);
    meta(key, &stat).ok_or(object)
}

/// Reads an object or a range of it.
pub(super) async fn get(
    root: Arc<Root>,
    key: Key,
    range: Option<Range<u64>>,
) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
    let what = key.as_str().to_owned();
    let (first, rest) = blocking(Operation::Get, &what, move || {
        let mut reading = Reading::open(&root, key, range)?;
        Ok((reading.piece()?, reading))
    })
    .await?;
    let first = stream::iter([Ok(first)]);
    if rest.at == rest.end {
        return Ok(first.boxed());
    }
    let rest = stream::try_unfold(rest, |mut reading| async move {
        if reading.at == reading.end {
            return Ok(None);
        }
        let what = reading.key.as_str().to_owned();
        blocking(Operation::Get, &what, move || Ok(Some((reading.piece()?, reading)))).await
    });
    Ok(first.chain(rest).boxed())
}
