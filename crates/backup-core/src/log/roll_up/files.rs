//! Files that grow: what slices hold is appended, cut anew into blobs of the usual size.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::{BlobKind, Node};
use crate::id::BlobId;
use crate::log::slice::{Part, Slice};
use crate::repository::{BlobReader, BlobWriter, SnapshotReader};
use crate::source::EntryPath;

/// Blobs are cut here, counted from the beginning of the file.
const BLOB: usize = 4 << 20;

/// The files of one log snapshot.
pub(super) struct Files<'a> {
    /// What is there already.
    before: SnapshotReader,
    reader: &'a BlobReader,
    writer: &'a BlobWriter,
    files: BTreeMap<String, Growing>,
    /// The file that has bytes which are no blob yet.
    open: Option<(String, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Growing {
    /// Place of its first byte in the file that it stands beside.
    begins: u64,
    size: u64,
    content: Vec<BlobId>,
}

impl Growing {
    fn end(&self) -> u64 {
        self.begins + self.size
    }
}

impl<'a> Files<'a> {
    pub(super) fn new(
        before: SnapshotReader,
        reader: &'a BlobReader,
        writer: &'a BlobWriter,
    ) -> Self {
        Self { before, reader, writer, files: BTreeMap::new(), open: None }
    }

    /// Appends the parts of a slice, as far as the files do not have them; says where its bytes
    /// are.
    pub(super) async fn append(&mut self, slice: &Slice) -> Result<Vec<Part>> {
        let mut places = Vec::new();
        let mut data = slice.data.clone();
        for part in &slice.header.parts {
            let len = usize::try_from(part.len).ok().filter(|len| *len <= data.len());
            let bytes =
                data.split_to(len.ok_or_else(|| {
                    Error::damaged("the slice is shorter than its header states")
                })?);
            let path = self.place_for(&part.path, part.at, &bytes).await?;
            self.append_at(&path, part.at, bytes).await?;
            let begins = self.files.get(&path).map_or(0, |file| file.begins);
            places.push(Part { path, at: part.at - begins, ..part.clone() });
        }
        Ok(places)
    }

    /// A part that leaves a hole in its file gets one of its own beside it: what is not known is
    /// not made up. So does one that has other bytes than are there.
    async fn place_for(&mut self, path: &str, at: u64, bytes: &[u8]) -> Result<String> {
        if at <= self.file(path, 0).await?.end() && self.agrees(path, at, bytes).await? {
            return Ok(path.to_owned());
        }
        for begins in self.beside(path).await? {
            let name = format!("{path}@{begins}");
            let fits = begins <= at && at <= self.file(&name, begins).await?.end();
            if fits && self.agrees(&name, at, bytes).await? {
                return Ok(name);
            }
        }
        let name = format!("{path}@{at}");
        self.file(&name, at).await?;
        Ok(name)
    }

    /// Whether a file has the same bytes as far as it has any there. What cannot be read yet is not
    /// the same.
    async fn agrees(&self, path: &str, at: u64, bytes: &[u8]) -> Result<bool> {
        let Some(file) = self.files.get(path).filter(|file| at < file.end()) else {
            return Ok(true);
        };
        let (mut start, end) = (file.begins, file.end().min(at + bytes.len() as u64));
        for blob in &file.content {
            if start >= end {
                return Ok(true);
            }
            let Ok(place) = self.reader.locate(BlobKind::Data, blob) else { return Ok(false) };
            let next = start + u64::from(place.blob.plain_len());
            if next > at {
                let content = self.reader.blob(BlobKind::Data, blob).await?;
                if !same(start, &content, at, bytes) {
                    return Ok(false);
                }
            }
            start = next;
        }
        match &self.open {
            Some((open, tail)) if open == path => Ok(same(start, tail, at, bytes)),
            _ => Ok(true),
        }
    }

    /// Where the files beside `path` begin that hold what comes behind a hole in it.
    async fn beside(&self, path: &str) -> Result<Vec<u64>> {
        let begins = |name: &str| name.strip_prefix('@')?.parse::<u64>().ok();
        let mut found: Vec<u64> =
            self.files.keys().filter_map(|name| begins(name.strip_prefix(path)?)).collect();
        let Some(entry) = EntryPath::new(path) else { return Ok(found) };
        let parent = match entry.parent() {
            Some(parent) => self.before.find(&parent).await?,
            None => None,
        };
        if let Some(tree) = parent.and_then(|parent| parent.subtree) {
            for node in self.before.tree(&tree).await?.nodes {
                let rest = node
                    .name
                    .strip_prefix(entry.name())
                    .and_then(|rest| std::str::from_utf8(rest).ok());
                found.extend(rest.and_then(begins));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    async fn append_at(&mut self, path: &str, at: u64, bytes: Bytes) -> Result<()> {
        let end = self.files.get(path).map_or(0, Growing::end);
        let known = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        if known >= bytes.len() {
            return Ok(());
        }
        self.open(path).await?;
        let Some((_, tail)) = &mut self.open else { return Ok(()) };
        tail.extend_from_slice(&bytes[known..]);
        if let Some(file) = self.files.get_mut(path) {
            file.size += (bytes.len() - known) as u64;
        }
        self.store_tail(BLOB).await
    }

    async fn file(&mut self, path: &str, begins: u64) -> Result<&mut Growing> {
        if !self.files.contains_key(path) {
            let node = match EntryPath::new(path) {
                Some(path) => self.before.find(&path).await?.filter(Node::is_file),
                None => {
                    return Err(Error::damaged(format!(
                        "{path:?} is not a valid path of a log file"
                    )));
                }
            };
            let (size, content) =
                node.map_or_else(Default::default, |node| (node.metadata.size, node.content));
            let file = Growing { begins, size, content };
            self.files.insert(path.to_owned(), file);
        }
        self.files
            .get_mut(path)
            .ok_or_else(|| Error::internal("an open log file is missing from the roll-up"))
    }

    /// Makes `path` the file that grows; its last blob is taken back if it is short.
    async fn open(&mut self, path: &str) -> Result<()> {
        if self.open.as_ref().is_some_and(|(open, _)| open == path) {
            return Ok(());
        }
        self.store_tail(1).await?;
        let reader = self.reader;
        let file = self
            .files
            .get_mut(path)
            .ok_or_else(|| Error::internal("an open log file is missing from the roll-up"))?;
        let mut tail = Vec::new();
        if !file.size.is_multiple_of(BLOB as u64)
            && let Some(last) = file.content.last()
            // What was stored just now cannot be read yet: it stays as short as it is.
            && reader.locate(BlobKind::Data, last).is_ok()
        {
            let short = reader.blob(BlobKind::Data, last).await?;
            // Another program may have cut it elsewhere.
            if short.len() < BLOB {
                file.content.pop();
                tail = short;
            }
        }
        self.open = Some((path.to_owned(), tail));
        Ok(())
    }

    /// Stores what is open as blobs, as long as there are `at_least` bytes.
    async fn store_tail(&mut self, at_least: usize) -> Result<()> {
        let Some((path, tail)) = &mut self.open else { return Ok(()) };
        while !tail.is_empty() && tail.len() >= at_least {
            let rest = tail.split_off(tail.len().min(BLOB));
            let blob = std::mem::replace(tail, rest);
            let writer = self.writer.clone();
            let store = move || Ok(writer.store(BlobKind::Data, &blob)?.id);
            let id = self.reader.repository().repository().cpu().run(store).await?;
            if let Some(file) = self.files.get_mut(path) {
                file.content.push(id);
            }
        }
        Ok(())
    }

    /// The files that were looked at: path, size, content.
    pub(super) async fn finish(mut self) -> Result<Vec<(EntryPath, u64, Vec<BlobId>)>> {
        self.store_tail(1).await?;
        let grown = self.files.into_iter().filter(|(_, file)| file.size > 0);
        let with_path = |(path, file): (String, Growing)| {
            Some((EntryPath::new(&path)?, file.size, file.content))
        };
        Ok(grown.filter_map(with_path).collect())
    }
}

/// Whether two pieces of a file have the same bytes where they overlap.
fn same(start: u64, content: &[u8], at: u64, bytes: &[u8]) -> bool {
    let (from, to) = (start.max(at), (start + content.len() as u64).min(at + bytes.len() as u64));
    if from >= to {
        return true;
    }
    let of = |piece: &[u8], begins: u64| {
        let range = usize::try_from(from - begins).ok()?..usize::try_from(to - begins).ok()?;
        piece.get(range).map(<[u8]>::to_vec)
    };
    of(content, start) == of(bytes, at)
}
