//! Listing: a walk on a thread of its own, with a bounded channel between it and the reader.

use std::sync::Arc;

use backup_core::sink::{Key, ObjectMeta, Operation, Prefix, SinkResult};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::error::{ended, reading};
use super::read::meta;
use super::root::{Root, TEMP_DIR, or_dot};

/// Objects that are sent together.
const BATCH: usize = 256;
/// Batches that the walk may be ahead.
const AHEAD: usize = 4;

/// All objects under a prefix.
pub(super) fn list(root: Arc<Root>, prefix: Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
    // Nothing happens before somebody asks for the first object.
    stream::once(async move {
        let (batches, received) = mpsc::channel(AHEAD);
        let walk = Walk { root, batches, batch: Vec::new() };
        let top = prefix.as_str().to_owned();
        let walking = tokio::task::spawn_blocking(move || walk.run(top));
        stream::unfold(Some((received, walking)), move |state| {
            let prefix = prefix.clone();
            async move {
                let (mut received, walking) = state?;
                if let Some(batch) = received.recv().await {
                    return Some((
                        batch.into_iter().map(Ok).collect::<Vec<_>>(),
                        Some((received, walking)),
                    ));
                }
                // The end of the channel may be the end of a thread that failed: a list must never
                // seem complete then.
                let error = match walking.await {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error,
                    Err(error) => ended(Operation::List, prefix.as_str(), error),
                };
                Some((vec![Err(error)], None))
            }
        })
    })
    .flatten()
    .flat_map(stream::iter)
    .boxed()
}

/// A walk over directories.
struct Walk {
    root: Arc<Root>,
    batches: mpsc::Sender<Vec<ObjectMeta>>,
    batch: Vec<ObjectMeta>,
}

impl Walk {
    fn run(mut self, top: String) -> SinkResult<()> {
        let mut waiting = vec![top];
        while let Some(dir) = waiting.pop() {
            let listed = self.list_dir(&dir, &mut waiting);
            if let Err(errno) = listed {
                // What is gone by now, or was never there, has no objects.
                if !matches!(errno, Errno::NOENT | Errno::NOTDIR) {
                    return Err(reading(errno, Operation::List, &dir));
                }
            }
            if self.batches.is_closed() {
                return Ok(());
            }
        }
        self.send();
        Ok(())
    }

    fn list_dir(&mut self, dir: &str, waiting: &mut Vec<String>) -> Result<(), Errno> {
        let fd = self.root.open_dir(dir)?;
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let path = match dir {
                "" if name == TEMP_DIR => continue,
                "" => name.to_owned(),
                dir => format!("{dir}/{name}"),
            };
            // Also leaves out `.` and `..`.
            let Ok(key) = Key::new(path) else { continue };
            let kind = match entry.file_type() {
                FileType::RegularFile | FileType::Unknown => match self.look_at(&fd, name, &key)? {
                    Some(kind) => kind,
                    None => continue,
                },
                kind => kind,
            };
            match kind {
                FileType::Directory => waiting.push(key.as_str().to_owned()),
                FileType::Symlink if self.leads_down(key.as_str()) => {
                    waiting.push(key.as_str().to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes in a regular file, or says what else it is. What has vanished meanwhile is nothing.
    fn look_at(
        &mut self,
        dir: &std::os::fd::OwnedFd,
        name: &str,
        key: &Key,
    ) -> Result<Option<FileType>, Errno> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let Some(meta) = meta(key.clone(), &stat) else {
            return Ok(Some(FileType::from_raw_mode(stat.st_mode)));
        };
        self.batch.push(meta);
        if self.batch.len() == BATCH {
            self.send();
        }
        Ok(None)
    }

    /// Whether a link leads to a directory that is none of those above it. Objects are found
    /// through such links by name, so they belong into lists; a ring of links must end.
    fn leads_down(&self, path: &str) -> bool {
        let identity = |path: &str| {
            let stat = rustix::fs::statat(&self.root.fd, or_dot(path), AtFlags::empty()).ok()?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            is_dir.then_some((stat.st_dev, stat.st_ino))
        };
        let Some(target) = identity(path) else {
            return false;
        };
        let mut above = path;
        while !above.is_empty() {
            above = super::root::parent(above);
            if identity(above) == Some(target) {
                return false;
            }
        }
        true
    }

    /// Sends what has been gathered. If nobody listens any more, [`Self::run`] notices.
    fn send(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
            self.batches.blocking_send(batch).ok();
        }
    }
}
