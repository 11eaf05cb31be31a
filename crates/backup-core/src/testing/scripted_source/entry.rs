//! One entry of a script.

use jiff::Timestamp;

use super::data::Data;
use crate::source::{Chunking, EntryPath, Metadata, NodeKind, SourceErrorKind, Xattr};

/// When every entry was changed that says nothing else: 14 November 2023.
const LONG_AGO: i64 = 1_700_000_000;

/// What goes wrong with a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It has vanished when it is opened.
    Vanished,
    /// Reading fails after so many bytes.
    FailsAt(u64, SourceErrorKind),
    /// Nothing comes after so many bytes, until the caller cancels.
    StallsAt(u64),
    /// At the end it says that it changed meanwhile. Only for blocking contents: streams have no
    /// way to say so.
    Changed,
}

/// One entry of a script: where it stands, what is known about it, its content, and what goes wrong
/// with it.
#[derive(Debug, Clone)]
pub struct ScriptedEntry {
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
    pub(super) data: Data,
    pub(super) chunking: Chunking,
    pub(super) streamed: bool,
    pub(super) trouble: Option<Trouble>,
}

/// # Panics
/// If `text` is no path.
#[track_caller]
pub(super) fn path(text: &str) -> EntryPath {
    match EntryPath::new(text) {
        Some(path) => path,
        None => panic!("{text:?} is not a path for a script"),
    }
}

impl ScriptedEntry {
    fn new(path: EntryPath, metadata: Metadata, data: Data) -> Self {
        let mut entry = Self {
            path,
            metadata,
            data,
            chunking: Chunking::default(),
            streamed: false,
            trouble: None,
        };
        // Files are taken to be unchanged by their inode as well: a stable number that is not 0.
        let hash = entry.path.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        entry.metadata.inode = (hash >> 1) | 1;
        entry
    }

    /// A file.
    #[must_use]
    pub fn file(path: &str, data: impl Into<Data>) -> Self {
        Self::file_at(self::path(path), data)
    }

    /// A file whose name need not be text.
    #[must_use]
    pub fn file_at(path: EntryPath, data: impl Into<Data>) -> Self {
        let data = data.into();
        let mut metadata = Metadata::stream(Timestamp::constant(LONG_AGO, 0));
        metadata.mode = 0o644;
        metadata.size = data.len();
        Self::new(path, metadata, data)
    }

    /// A directory.
    #[must_use]
    pub fn dir(path: &str) -> Self {
        let metadata = Metadata::directory(Timestamp::constant(LONG_AGO, 0));
        Self::new(self::path(path), metadata, Data::default())
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::other(path, NodeKind::Symlink { target: target.as_bytes().into() })
    }

    /// An entry without content of any other kind.
    #[must_use]
    pub fn other(path: &str, kind: NodeKind) -> Self {
        let mut metadata = Metadata::stream(Timestamp::constant(LONG_AGO, 0));
        metadata.kind = kind;
        Self::new(self::path(path), metadata, Data::default())
    }

    /// With an async stream as content, in place of a reader for a worker thread.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    /// With metadata that say nothing of the size, as those of a pipe.
    #[must_use]
    pub fn of_unknown_size(mut self) -> Self {
        self.metadata.size = 0;
        self
    }

    /// Cut in this way.
    #[must_use]
    pub fn chunked(mut self, chunking: Chunking) -> Self {
        self.chunking = chunking;
        self
    }

    /// With a content that fails in this way.
    #[must_use]
    pub fn with_trouble(mut self, trouble: Trouble) -> Self {
        self.trouble = Some(trouble);
        self
    }

    /// Changed at this time.
    #[must_use]
    pub fn changed_at(mut self, time: Timestamp) -> Self {
        self.metadata.mtime = time;
        self.metadata.atime = time;
        self.metadata.ctime = time;
        self
    }

    /// With these permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.metadata.mode = mode;
        self
    }

    /// With one more extended attribute.
    #[must_use]
    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.metadata.xattrs.push(Xattr { name: name.into(), value: value.into() });
        self
    }

    /// With other metadata altogether.
    #[must_use]
    pub fn metadata(mut self, change: impl FnOnce(&mut Metadata)) -> Self {
        change(&mut self.metadata);
        self
    }

    pub(super) fn is_file(&self) -> bool {
        self.metadata.kind == NodeKind::File
    }
}
