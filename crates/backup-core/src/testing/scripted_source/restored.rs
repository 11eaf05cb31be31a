//! Restoring into memory, and digests of scripts and of what was restored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::TryStreamExt;
use sha2::{Digest as _, Sha256};

use super::{ScriptedEntry, Shared, check_cancelled, lock};
use crate::context::Context;
use crate::format::{METADATA_DIR, Node};
use crate::repository::SnapshotReader;
use crate::source::{
    Digest, EntryPath, IfExists, Metadata, NodeKind, ObjectDigest, RestoreReport, RestoreRequest,
    Selection, SourceError, SourceErrorKind, SourceResult,
};

/// Contents up to this many bytes are kept; of larger ones only the digest.
const KEEP: u64 = 64 << 20;
/// Name of the one object that a digest has.
const OBJECT: &str = "script";

/// What was restored of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredEntry {
    /// What was known about it.
    pub metadata: Metadata,
    /// Length of its content in bytes.
    pub len: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its content; `None` if that is larger than 64 MiB.
    pub bytes: Option<Bytes>,
}

pub(super) async fn restore(
    shared: &Shared,
    cx: &Context,
    request: &RestoreRequest,
    snapshot: &SnapshotReader,
) -> SourceResult<RestoreReport> {
    check_cancelled(cx)?;
    if request.if_exists == IfExists::Fail && !lock(&shared.restored).is_empty() {
        return Err(SourceError::new(
            SourceErrorKind::TargetExists,
            "something was restored here already",
        ));
    }
    let mut report = RestoreReport::default();
    let mut found = BTreeMap::new();
    let mut walk = snapshot.walk();
    while let Some((path, node)) = walk.next().await? {
        check_cancelled(cx)?;
        if *path.as_bytes() == *format!("/{METADATA_DIR}").as_bytes() {
            walk.skip_content();
            continue;
        }
        if !request.selection.covers(&path) {
            continue;
        }
        let entry = read(cx, snapshot, node, request.dry_run).await?;
        report.entries += 1;
        if entry.metadata.kind == NodeKind::File {
            report.files_written += 1;
            report.total_bytes += entry.len;
            report.written_bytes += entry.len;
        }
        found.insert(path, entry);
    }
    if request.dry_run {
        return Ok(report);
    }
    if request.verify {
        report.verified_bytes = report.total_bytes;
    }
    let mut restored = lock(&shared.restored);
    if request.if_exists == IfExists::Replace {
        report.removed = restored.keys().filter(|path| !found.contains_key(*path)).count() as u64;
        restored.clear();
    }
    restored.extend(found);
    Ok(report)
}

async fn read(
    cx: &Context,
    snapshot: &SnapshotReader,
    node: Node,
    dry_run: bool,
) -> SourceResult<RestoredEntry> {
    let mut content = snapshot.content(&node);
    let keep = node.metadata.size <= KEEP;
    let (mut hash, mut len, mut kept) = (Sha256::new(), 0, Vec::new());
    while !dry_run && let Some(piece) = content.try_next().await? {
        check_cancelled(cx)?;
        hash.update(&piece);
        len += piece.len() as u64;
        if keep {
            kept.extend_from_slice(&piece);
        }
    }
    if len != node.metadata.size && node.is_file() && !dry_run {
        return Err(SourceError::new(
            SourceErrorKind::Mismatch,
            format!("{len} bytes were restored of a file of {}", node.metadata.size),
        ));
    }
    Ok(RestoredEntry {
        metadata: node.metadata,
        len,
        sha256: hash.finalize().into(),
        bytes: keep.then(|| kept.into()),
    })
}

/// The sum of one digest per entry, so that their order does not matter. Directories count with
/// their paths only, and also those that no entry describes: a snapshot has them, with metadata
/// that the pipeline chose.
#[derive(Default)]
struct Sum {
    dirs: BTreeSet<EntryPath>,
    count: u64,
    bytes: u64,
    digest: [u8; 32],
}

impl Sum {
    fn add(&mut self, path: &EntryPath, metadata: &Metadata, len: u64, sha256: &[u8; 32]) {
        let mut above = path.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            above = dir.parent();
            self.dirs.insert(dir);
        }
        if metadata.kind == NodeKind::Dir {
            self.dirs.insert(path.clone());
            return;
        }
        let described = format!(
            "{:?} {:?} {:o} {} {} {} {:?} {len} {}",
            path.as_bytes(),
            metadata.kind,
            metadata.mode,
            metadata.mtime,
            metadata.uid,
            metadata.gid,
            metadata.xattrs,
            hex::encode(sha256),
        );
        self.bytes += len;
        self.add_one(described.as_bytes());
    }

    fn add_one(&mut self, described: &[u8]) {
        self.count += 1;
        let mut carry = 0;
        let one: [u8; 32] = Sha256::digest(described).into();
        for (sum, byte) in self.digest.iter_mut().zip(one).rev() {
            let added = u16::from(*sum) + u16::from(byte) + carry;
            *sum = added as u8;
            carry = added >> 8;
        }
    }

    fn finish(mut self) -> Digest {
        for dir in std::mem::take(&mut self.dirs) {
            self.add_one(dir.as_bytes());
        }
        let object =
            ObjectDigest { count: self.count, bytes: self.bytes, digest: hex::encode(self.digest) };
        Digest { objects: [(OBJECT.to_owned(), object)].into() }
    }
}

pub(super) async fn digest_of_script(
    cx: &Context,
    entries: Vec<ScriptedEntry>,
    selection: &Selection,
) -> SourceResult<Digest> {
    let mut sum = Sum::default();
    for entry in entries.iter().filter(|entry| selection.covers(&entry.path)) {
        let (mut hash, mut at) = (Sha256::new(), 0);
        loop {
            check_cancelled(cx)?;
            let piece = entry.data.piece(at);
            if piece.is_empty() {
                break;
            }
            hash.update(&piece);
            at += piece.len() as u64;
            tokio::task::yield_now().await;
        }
        sum.add(&entry.path, &entry.metadata, at, &hash.finalize().into());
    }
    Ok(sum.finish())
}

pub(super) fn digest_of_restored(
    restored: &BTreeMap<EntryPath, RestoredEntry>,
    selection: &Selection,
) -> Digest {
    let mut sum = Sum::default();
    for (path, entry) in restored.iter().filter(|(path, _)| selection.covers(path)) {
        sum.add(path, &entry.metadata, entry.len, &entry.sha256);
    }
    sum.finish()
}
