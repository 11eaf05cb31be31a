//! An archive of mongodump: read once from its beginning to its end, and then by collection.
//!
//! ```text
//! magic   prelude: header, one document per collection, end marker   blocks
//! block:  header (database, collection, EOF, CRC), documents of that collection, end marker
//! ```
//!
//! Documents of several collections come by turns. An archive in a plain file is read where it lies;
//! documents of a compressed one, or of a pipe, wait in a file without a name. The checksum of a
//! collection is the CRC-64/XZ of its documents, and stands in its last block.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::{RawBsonRef, RawDocument};
use crc_fast::{CrcAlgorithm, Digest};

use super::contents::{Bytestream, Parts, require_sound};
use crate::foreign::{self, Opened};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::{self, LARGEST};

/// The end of a list of documents, in place of a length.
pub(in crate::mongodb) const END: [u8; 4] = [0xff; 4];
/// Longest header of a block: two names.
const LONGEST_HEADER: usize = 4096;
/// Most descriptions of collections, and most bytes of all of them.
const MAX_DESCRIPTIONS: usize = 1 << 20;
const MAX_PRELUDE: usize = 256 << 20;
/// Most parts that the documents of an archive lie in: each takes 16 bytes of memory. Tools write up
/// to 16 MiB into one.
const MAX_PARTS: usize = 4 << 20;

/// The prelude: server, tool, and every collection.
#[derive(Debug, Default)]
pub(super) struct Prelude {
    pub(super) server_version: String,
    pub(super) tool_version: String,
    pub(super) described: Vec<Described>,
}

/// One collection or view of the prelude.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) namespace: Namespace,
    /// Text of the description; empty if the tool has not written one.
    pub(super) metadata: String,
    pub(super) kind: String,
}

/// Where the documents of a collection lie.
#[derive(Debug, Default)]
struct Found {
    places: Vec<(u64, u64)>,
    has_ended: bool,
}

/// An archive that was read to its end.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) prelude: Prelude,
    file: Arc<File>,
    places: BTreeMap<Namespace, Arc<Vec<(u64, u64)>>>,
}

impl Archive {
    /// Reads the whole archive and checks every document and checksum. Waits for the file.
    ///
    /// # Errors
    /// If the archive is truncated or damaged, a checksum is wrong, or a document is no BSON.
    pub(super) fn read(cx: &Context, path: &Path, opened: Opened) -> SourceResult<Self> {
        let is_plain =
            !opened.is_gzip && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let spool = if is_plain { None } else { Some(Spool::new()?) };
        let mut reader =
            Reader { cx, path, bytes: opened.bytes, at: 0, buffer: Vec::new(), spool, parts: 0 };
        let prelude = reader.prelude()?;
        let found = reader.blocks()?;
        refuse_missing(path, &prelude, &found)?;
        let file = match reader.spool {
            Some(spool) => spool.finish()?,
            None => File::open(path).map_err(|error| foreign::unreadable(path, error))?,
        };
        let places = found.into_iter().map(|(name, found)| (name, Arc::new(found.places)));
        Ok(Self { prelude, file: Arc::new(file), places: places.collect() })
    }

    /// The collections that have documents, or could have some.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.places.keys()
    }

    /// Bytes of the documents of a collection.
    pub(super) fn bytes(&self, namespace: &Namespace) -> Bytestream {
        let places = self.places.get(namespace).cloned().unwrap_or_default();
        Box::new(Parts { file: Arc::clone(&self.file), places, next: 0, done: 0 })
    }
}

/// A collection that is described has a last block, also if it is empty: else the archive was cut
/// off at the end of a block.
fn refuse_missing(
    path: &Path,
    prelude: &Prelude,
    found: &BTreeMap<Namespace, Found>,
) -> SourceResult<()> {
    let unended = found.iter().find(|(_, found)| !found.has_ended).map(|(name, _)| name.clone());
    let stored = |described: &&Described| match &*described.kind {
        "view" => None,
        "timeseries" => Some(described.namespace.buckets()),
        "" if described.metadata.contains("\"viewOn\"") => None,
        _ => Some(described.namespace.clone()),
    };
    let described: BTreeSet<Namespace> =
        prelude.described.iter().filter_map(|described| stored(&described)).collect();
    let has = |name: &Namespace| {
        // From 8.3 on, time-series collections are stored under their own names.
        found.contains_key(name) || (name.is_buckets() && found.contains_key(&name.visible()))
    };
    match unended.or_else(|| described.into_iter().find(|name| !has(name))) {
        None => Ok(()),
        Some(name) => {
            let text = format!(
                "the archive {} is truncated: it ends before the end of {}",
                path.display(),
                shown(&name)
            );
            Err(SourceError::new(SourceErrorKind::Mismatch, text).with_hint(HINT))
        }
    }
}

/// Hint for a damaged archive.
const HINT: &str = "copy the archive again from where it was made, or import another one";

/// A name in errors; the oplog has no database.
fn shown(namespace: &Namespace) -> String {
    if namespace.db.is_empty() { namespace.name.clone() } else { namespace.to_string() }
}

struct Reader<'a> {
    cx: &'a Context,
    path: &'a Path,
    bytes: Bytestream,
    /// Bytes that were read.
    at: u64,
    /// The last document.
    buffer: Vec<u8>,
    /// Where documents wait; none if they are read where they lie.
    spool: Option<Spool>,
    parts: usize,
}

/// The next item of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A document, which is in the buffer.
    Document,
    /// The end of a list.
    End,
    /// The end of the archive.
    Nothing,
}

impl Reader<'_> {
    fn damaged(&self, what: &str) -> SourceError {
        let text =
            format!("the archive {} is damaged at byte {}: {what}", self.path.display(), self.at);
        SourceError::new(SourceErrorKind::Mismatch, text).with_hint(HINT)
    }

    fn truncated(&self) -> SourceError {
        let text = format!("the archive {} is truncated at byte {}", self.path.display(), self.at);
        SourceError::new(SourceErrorKind::Mismatch, text).with_hint(HINT)
    }

    fn failed(&self, error: io::Error) -> SourceError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated().with_source(error),
            _ => foreign::unreadable(self.path, error),
        }
    }

    /// Reads a document of at most `most` bytes, or an end.
    fn next(&mut self, most: usize) -> SourceResult<Next> {
        let mut head = [0; 4];
        let mut filled = 0;
        while filled < head.len() {
            match self.bytes.read(&mut head[filled..]) {
                Ok(0) if filled == 0 => return Ok(Next::Nothing),
                Ok(0) => return Err(self.truncated()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        if head == END {
            self.at += 4;
            return Ok(Next::End);
        }
        let length = usize::try_from(i32::from_le_bytes(head)).unwrap_or(0);
        if !(5..=most.min(LARGEST)).contains(&length) {
            return Err(self.damaged("neither a document nor the end of a list"));
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&head);
        // The memory grows as the bytes come: the length may be a lie.
        let rest = length as u64 - 4;
        let read = (&mut self.bytes).take(rest).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| self.failed(error))?;
        if (read as u64) < rest {
            return Err(self.truncated());
        }
        self.at += length as u64;
        Ok(Next::Document)
    }

    fn document(&self) -> SourceResult<&RawDocument> {
        raw::document(&self.buffer).map_err(|_| self.damaged("no document"))
    }

    fn prelude(&mut self) -> SourceResult<Prelude> {
        let mut magic = [0; 4];
        self.bytes.read_exact(&mut magic).map_err(|error| self.failed(error))?;
        self.at = 4;
        if self.next(LONGEST_HEADER)? != Next::Document {
            return Err(self.damaged("no header"));
        }
        let header = self.document()?;
        let text = |key: &str| header.get_str(key).unwrap_or_default().to_owned();
        if text("version") != "0.1" {
            let text = "the archive has an unknown version of its format";
            return Err(SourceError::new(SourceErrorKind::Unsupported, text).with_hint(
                "restore it with the mongorestore of its time, and back up that server",
            ));
        }
        let mut prelude = Prelude {
            server_version: text("server_version"),
            tool_version: text("tool_version"),
            described: Vec::new(),
        };
        let mut bytes = 0;
        loop {
            match self.next(LARGEST)? {
                Next::End => return Ok(prelude),
                Next::Nothing => return Err(self.truncated()),
                Next::Document => {}
            }
            bytes += self.buffer.len();
            if bytes > MAX_PRELUDE || prelude.described.len() == MAX_DESCRIPTIONS {
                return Err(self.damaged("its descriptions of collections are too large"));
            }
            let document = self.document()?;
            let text = |key: &str| document.get_str(key).unwrap_or_default().to_owned();
            let namespace = Namespace::new(text("db"), text("collection"));
            if namespace.name.is_empty() {
                return Err(self.damaged("a collection without a name"));
            }
            let described = Described { namespace, metadata: text("metadata"), kind: text("type") };
            prelude.described.push(described);
        }
    }

    fn blocks(&mut self) -> SourceResult<BTreeMap<Namespace, Found>> {
        let mut found: BTreeMap<Namespace, Found> = BTreeMap::new();
        let mut sums: BTreeMap<Namespace, Digest> = BTreeMap::new();
        loop {
            match self.next(LONGEST_HEADER)? {
                Next::Nothing => return Ok(found),
                Next::End => return Err(self.damaged("a block without a header")),
                Next::Document => {}
            }
            let (namespace, end) = self.header()?;
            let known = found.entry(namespace.clone()).or_default();
            if known.has_ended {
                let text = format!("another block of {} behind its last one", shown(&namespace));
                return Err(self.damaged(&text));
            }
            let Some(crc) = end else {
                let sum = sums.entry(namespace.clone()).or_insert_with(new_sum);
                self.block(&namespace, known, sum)?;
                continue;
            };
            if self.next(LONGEST_HEADER)? != Next::End {
                return Err(self.damaged("documents in the last block of a collection"));
            }
            known.has_ended = true;
            let sum = sums.remove(&namespace).unwrap_or_else(new_sum).finalize();
            if sum != crc {
                let text = format!("the checksum of {} is wrong", shown(&namespace));
                return Err(self.damaged(&text));
            }
        }
    }

    /// The collection of a block, and the checksum of the whole collection if the block is its last.
    fn header(&self) -> SourceResult<(Namespace, Option<u64>)> {
        let broken = || self.damaged("no header of a block");
        let header = self.document()?;
        let text = |key: &str| header.get_str(key).map_err(|_| broken());
        let namespace = Namespace::new(text("db")?, text("collection")?);
        let crc = match header.get("CRC").ok().flatten() {
            Some(RawBsonRef::Int64(crc)) => crc,
            Some(RawBsonRef::Int32(crc)) => i64::from(crc),
            _ => return Err(broken()),
        };
        let is_last = header.get_bool("EOF").map_err(|_| broken())?;
        Ok((namespace, is_last.then_some(crc.cast_unsigned())))
    }

    fn block(
        &mut self,
        namespace: &Namespace,
        found: &mut Found,
        sum: &mut Digest,
    ) -> SourceResult<()> {
        loop {
            let from = self.at;
            match self.next(LARGEST)? {
                Next::End => return self.cx.check_cancelled().map_err(SourceError::from),
                Next::Nothing => return Err(self.truncated()),
                Next::Document => {}
            }
            require_sound(&self.buffer, &shown(namespace), from)?;
            sum.update(&self.buffer);
            let from = match &mut self.spool {
                Some(spool) => spool.push(&self.buffer)?,
                None => from,
            };
            let to = from + self.buffer.len() as u64;
            match found.places.last_mut() {
                Some((_, end)) if *end == from => *end = to,
                _ => {
                    self.parts += 1;
                    if self.parts > MAX_PARTS {
                        return Err(self.damaged("its collections come by turns too often"));
                    }
                    found.places.push((from, to));
                }
            }
        }
    }
}

/// The checksum of nothing.
pub(in crate::mongodb) fn new_sum() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Xz)
}

/// Documents that wait in a file without a name.
struct Spool {
    file: BufWriter<File>,
    end: u64,
}

impl Spool {
    fn new() -> SourceResult<Self> {
        let file = tempfile::tempfile().map_err(spool_failed)?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), end: 0 })
    }

    /// Adds a document, and returns its place.
    fn push(&mut self, document: &[u8]) -> SourceResult<u64> {
        self.file.write_all(document).map_err(spool_failed)?;
        let from = self.end;
        self.end += document.len() as u64;
        Ok(from)
    }

    fn finish(self) -> SourceResult<File> {
        self.file.into_inner().map_err(|error| spool_failed(error.into_error()))
    }
}

fn spool_failed(error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, "cannot use a temporary file")
        .with_source(error)
        .with_hint("point TMPDIR at a disk with room for the decompressed archive")
}
