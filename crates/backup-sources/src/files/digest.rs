//! Content digests of directory trees, to compare a restored copy with its origin.
//!
//! The digest of a tree is the sum, modulo 2²⁵⁶, of one SHA-256 per entry, so the order of the
//! entries does not matter. Each of these covers the path relative to the top of the tree, type,
//! mode, modification time, owner, group, link target or device number, extended attributes in the
//! order of their names, and the SHA-256 of the content; hard links count as separate files. Equal
//! trees at different places have equal digests.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::source::{
    Content, Digest, Entry, EntryPath, Item, Metadata, NodeKind, ObjectDigest, SourceError,
    SourceErrorKind, SourceResult,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::reader::FilesReader;
use super::scan::Rules;

/// Bytes of content handed to one worker in one go, so that workers get even shares.
const SHARE: u64 = 8 << 20;
/// Entries handed to one worker in one go.
const SHARE_ENTRIES: usize = 256;

/// Digests of the trees at `roots`, one object each.
pub(super) async fn digest(
    cx: &Context,
    rules: Arc<Rules>,
    roots: &[EntryPath],
) -> SourceResult<Digest> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let mut reader = FilesReader::start(cx, rules, roots.to_vec());
    let mut sums = vec![Sum::default(); roots.len()];
    let mut running: JoinSet<SourceResult<Vec<(usize, Sum)>>> = JoinSet::new();
    let (mut share, mut share_bytes) = (Vec::new(), 0);
    loop {
        let items = reader.receive().await?;
        let done = items.is_empty();
        for item in items {
            if let Some((root, entry)) = relevant(item, roots)? {
                share_bytes += entry.metadata.size;
                share.push((root, entry));
            }
            if share_bytes >= SHARE || share.len() >= SHARE_ENTRIES {
                share_bytes = 0;
                spawn(&mut running, cx, roots, std::mem::take(&mut share));
            }
            while running.len() > workers {
                collect(&mut running, &mut sums).await?;
            }
        }
        if done {
            break;
        }
    }
    spawn(&mut running, cx, roots, share);
    while !running.is_empty() {
        collect(&mut running, &mut sums).await?;
    }
    let names = names(roots);
    Ok(Digest { objects: names.into_iter().zip(sums.into_iter().map(Sum::finish)).collect() })
}

/// The entry behind `item` and the index of the given path it belongs to; directories above those
/// do not count. What cannot be read makes the digest meaningless and is an error.
fn relevant(item: Item, roots: &[EntryPath]) -> SourceResult<Option<(usize, Entry)>> {
    match item {
        Item::Entry(entry) => {
            let root = roots.iter().position(|root| entry.path.starts_with(root));
            Ok(root.map(|root| (root, entry)))
        }
        // Nothing is kept where there is no earlier snapshot.
        Item::Close(_) | Item::Keep(_) | Item::Skipped(_) => Ok(None),
        Item::Warning(warning) => {
            let message = format!("cannot compare {}: {}", warning.path, warning.message);
            Err(SourceError::new(SourceErrorKind::Io, message))
        }
    }
}

/// Names of the objects: the last name of each given path, numbered where it is not unique.
fn names(roots: &[EntryPath]) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    roots
        .iter()
        .map(|root| {
            let name = if root.is_root() {
                "/".to_owned()
            } else {
                String::from_utf8_lossy(root.name()).into_owned()
            };
            let count = seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
            if *count == 1 { name } else { format!("{name}#{count}") }
        })
        .collect()
}

type Share = Vec<(usize, Entry)>;

fn spawn(
    running: &mut JoinSet<SourceResult<Vec<(usize, Sum)>>>,
    cx: &Context,
    roots: &[EntryPath],
    share: Share,
) {
    let cx = cx.clone();
    let roots = roots.to_vec();
    running.spawn_blocking(move || {
        let mut buffer = vec![0; 128 << 10];
        let one = |(root, entry): (usize, Entry)| {
            cx.check_cancelled()?;
            let base = roots.get(root).map_or(0, |root| root.as_bytes().len());
            Ok((root, Sum::of(entry, base, &mut buffer)?))
        };
        share.into_iter().map(one).collect()
    });
}

async fn collect(
    running: &mut JoinSet<SourceResult<Vec<(usize, Sum)>>>,
    sums: &mut [Sum],
) -> SourceResult<()> {
    if let Some(result) = running.join_next().await {
        let parts = result.map_err(|error| {
            SourceError::new(
                SourceErrorKind::Io,
                "the worker that compares files ended unexpectedly",
            )
            .with_source(error)
        })??;
        for (root, part) in parts {
            sums[root].add(&part);
        }
    }
    Ok(())
}

/// A sum of entry digests.
#[derive(Debug, Clone, Default)]
struct Sum {
    count: u64,
    bytes: u64,
    digest: [u8; 32],
}

impl Sum {
    /// The digest of one entry whose path is taken relative to its first `base` bytes.
    fn of(entry: Entry, base: usize, buffer: &mut [u8]) -> SourceResult<Self> {
        let mut hash = Sha256::new();
        let relative = entry.path.as_bytes().get(base..).unwrap_or_default();
        field(&mut hash, relative.strip_prefix(b"/").unwrap_or(relative));
        metadata(&mut hash, &entry.metadata);
        let mut bytes = 0;
        if let Content::Blocking(content) = entry.content {
            let mut reader = content.open()?;
            let mut inner = Sha256::new();
            loop {
                match reader.read(buffer).map_err(SourceError::from) {
                    Ok(0) => break,
                    Ok(length) => {
                        bytes += length as u64;
                        inner.update(&buffer[..length]);
                    }
                    Err(error) => return Err(error.context(&entry.path)),
                }
            }
            field(&mut hash, &inner.finalize());
        }
        Ok(Self { count: 1, bytes, digest: hash.finalize().into() })
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        let mut carry = 0;
        for (left, right) in self.digest.iter_mut().zip(other.digest).rev() {
            let sum = u16::from(*left) + u16::from(right) + carry;
            *left = sum as u8;
            carry = sum >> 8;
        }
    }

    fn finish(self) -> ObjectDigest {
        let digest = self.digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            text
        });
        ObjectDigest { count: self.count, bytes: self.bytes, digest }
    }
}

/// Length first, so that no two lists of fields look alike.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn metadata(hash: &mut Sha256, metadata: &Metadata) {
    let (kind, detail): (u8, Vec<u8>) = match &metadata.kind {
        NodeKind::File => (0, Vec::new()),
        NodeKind::Dir => (1, Vec::new()),
        NodeKind::Symlink { target } => (2, target.to_vec()),
        NodeKind::BlockDevice { device } => (3, device.to_le_bytes().to_vec()),
        NodeKind::CharDevice { device } => (4, device.to_le_bytes().to_vec()),
        NodeKind::Fifo => (5, Vec::new()),
        NodeKind::Socket => (6, Vec::new()),
    };
    field(hash, &[kind]);
    field(hash, &detail);
    field(hash, &metadata.mode.to_le_bytes());
    field(hash, &metadata.mtime.as_nanosecond().to_le_bytes());
    field(hash, &metadata.uid.to_le_bytes());
    field(hash, &metadata.gid.to_le_bytes());
    let mut xattrs: Vec<_> = metadata.xattrs.iter().collect();
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    for xattr in xattrs {
        field(hash, xattr.name.as_bytes());
        field(hash, &xattr.value);
    }
}
