//! What a backup reader yields.

use std::fmt;
use std::io::Read;

use bytes::Bytes;
use futures::stream::BoxStream;

use super::{EntryPath, Metadata, Skipped, SourceError, SourceResult};
use crate::event::Warning;

/// One step of a backup.
#[derive(Debug)]
pub enum Item {
    /// A directory, file, stream, link or other node. A directory's own entry may come before or
    /// after its children; directories that never get one receive default metadata.
    Entry(Entry),
    /// What is at this path in the parent snapshot
    /// ([`BackupRequest::parent`](super::BackupRequest::parent)) is there as it was, with
    /// everything below it, without being read: only sources that were given a parent yield it.
    Keep(EntryPath),
    /// Nothing more comes at or below this directory.
    Close(EntryPath),
    /// Something selected is missing or incomplete; the run ends *completed with warnings*.
    Warning(Warning),
    /// Something is left out, by choice or because it cannot be read; in the latter case a warning
    /// comes as well.
    Skipped(Skipped),
}

/// One named node of a snapshot.
#[derive(Debug)]
pub struct Entry {
    /// Where it stands in the snapshot.
    pub path: EntryPath,
    /// What is known about it.
    pub metadata: Metadata,
    /// Its content, for files.
    pub content: Content,
    /// How to cut the content.
    pub chunking: Chunking,
}

/// How a stream is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chunking {
    /// At places chosen by the content (FastCDC): insertions move cuts only nearby.
    #[default]
    ContentDefined,
    /// Every `n` bytes: for page files, which change in place. `n` is at most 8 MiB.
    Fixed(u32),
}

/// Content of an entry. It is opened only if it must be read.
pub enum Content {
    /// None: everything but files and streams.
    Empty,
    /// Read by a worker thread; for local files.
    Blocking(Box<dyn BlockingContent>),
    /// Read by an async task; for network sources.
    Stream(BoxStream<'static, SourceResult<Bytes>>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Blocking(_) => "Blocking",
            Self::Stream(_) => "Stream",
        })
    }
}

/// Content that is opened and read by a worker thread.
pub trait BlockingContent: Send {
    /// Opens it. An error of kind [`NotFound`](super::SourceErrorKind::NotFound),
    /// [`PermissionDenied`](super::SourceErrorKind::PermissionDenied) or
    /// [`Io`](super::SourceErrorKind::Io), here or while reading, leaves this entry out of the
    /// snapshot with a warning; any other kind fails the run.
    ///
    /// # Errors
    /// As described.
    fn open(self: Box<Self>) -> SourceResult<Box<dyn ContentReader>>;
}

/// Opened content.
pub trait ContentReader: Read + Send {
    /// Called after the last byte: was it the same thing all the time?
    ///
    /// # Errors
    /// If that cannot be told.
    fn finish(self: Box<Self>) -> SourceResult<ContentEnd>;
}

/// What [`ContentReader::finish`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentEnd {
    /// The content did not change while it was read.
    Stable,
    /// The content did not change while it was read, but another file had taken the place of the
    /// one that was listed; this is its metadata.
    Replaced(Box<Metadata>),
    /// It changed: the snapshot holds what was read, with this metadata, and the run ends with a
    /// warning.
    Changed(Box<Metadata>),
}

impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        use super::SourceErrorKind;
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => SourceErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => SourceErrorKind::PermissionDenied,
            _ => SourceErrorKind::Io,
        };
        Self::new(kind, "cannot read").with_source(error)
    }
}
