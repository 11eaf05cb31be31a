//! Blobs on their way to the files that they belong to, in the order in which they are stored:
//! written, or compared with what is there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backup_core::format::Node;
use backup_core::id::BlobId;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::delta::Combined;
use super::super::error::malformed;
use super::Job;
use super::target::{Target, failed};

/// Files that are open, and blobs that are fetched, at a time.
const FILES: usize = 256;
const BLOBS: usize = 4096;

/// What is done with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Writing,
    Comparing,
}

/// A part of a file that is there in full, or of one that is put together.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Whole,
    Of(Arc<Combined>, u8),
}

/// Blobs that are fetched together.
pub(super) struct Window {
    doing: Doing,
    blobs: Vec<BlobId>,
    /// Of each blob: its file, its place in what it is a part of, and that.
    places: Vec<(usize, u64, Part)>,
    files: Vec<Arc<Opened>>,
    /// Bytes that were written, or compared.
    done: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: File,
    doing: Doing,
    done: Arc<AtomicU64>,
}

impl Opened {
    fn take(&self, at: u64, data: &[u8]) -> SourceResult<()> {
        self.done.fetch_add(data.len() as u64, Ordering::Relaxed);
        match self.doing {
            Doing::Writing => {
                self.file.write_all_at(data, at).map_err(|error| failed(&self.path, error))
            }
            Doing::Comparing => {
                let mut there = vec![0; data.len()];
                match self.file.read_exact_at(&mut there, at) {
                    Ok(()) if there == data => Ok(()),
                    _ => {
                        let text =
                            format!("{} differs from the restored content", self.path.display());
                        Err(SourceError::new(SourceErrorKind::Mismatch, text))
                    }
                }
            }
        }
    }
}

impl Window {
    pub(super) fn new(doing: Doing) -> Self {
        Self {
            doing,
            blobs: Vec::new(),
            places: Vec::new(),
            files: Vec::new(),
            done: Arc::default(),
        }
    }

    pub(super) fn doing(&self) -> Doing {
        self.doing
    }

    /// Bytes so far.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// A file of `size` bytes, made or opened; `like` says whose it is.
    pub(super) async fn file(
        &mut self,
        job: &Job<'_>,
        target: &Target,
        (path, size, like): (PathBuf, u64, &Node),
    ) -> SourceResult<()> {
        if self.files.len() >= FILES {
            self.fetch(job).await?;
        }
        let file = match self.doing {
            Doing::Writing => {
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let file = made.and_then(|file| file.set_len(size).map(|()| file));
                let file = file.map_err(|error| failed(&path, error))?;
                target.own(&path, &like.metadata)?;
                file
            }
            Doing::Comparing => File::open(&path).map_err(|error| failed(&path, error))?,
        };
        let opened = Opened { path, file, doing: self.doing, done: Arc::clone(&self.done) };
        self.files.push(Arc::new(opened));
        Ok(())
    }

    /// Has the blobs of `node` fetched sooner or later, for the last file.
    pub(super) async fn blobs(
        &mut self,
        job: &Job<'_>,
        node: &Node,
        part: Part,
    ) -> SourceResult<()> {
        let mut at = 0;
        for blob in &node.content {
            let len = u64::from(job.snapshot.blob_len(blob)?);
            let is_needed = match &part {
                Part::Whole => true,
                Part::Of(combined, layer) => combined.needs(*layer, at, len),
            };
            if is_needed {
                if self.blobs.len() >= BLOBS {
                    let last = self.files.last().cloned();
                    self.fetch(job).await?;
                    self.files.extend(last);
                }
                self.blobs.push(*blob);
                self.places.push((self.files.len().saturating_sub(1), at, part.clone()));
            }
            at += len;
        }
        if at != node.metadata.size {
            let name = String::from_utf8_lossy(&node.name).into_owned();
            return Err(malformed(format!(
                "snapshot: {name} has {at} of {} bytes",
                node.metadata.size
            )));
        }
        Ok(())
    }

    /// Fetches everything that waits.
    pub(super) async fn fetch(&mut self, job: &Job<'_>) -> SourceResult<()> {
        let (places, files) = (std::mem::take(&mut self.places), std::mem::take(&mut self.files));
        let blobs = std::mem::take(&mut self.blobs);
        let handle = move |number: usize, data: &[u8]| {
            let (file, at, part) = &places[number];
            let file = &files[*file];
            match part {
                Part::Whole => file.take(*at, data),
                Part::Of(combined, layer) => {
                    combined.scatter(*layer, *at, data, |at, data| file.take(at, data))
                }
            }
        };
        job.snapshot.fetch(job.cx, &blobs, handle).await
    }
}
