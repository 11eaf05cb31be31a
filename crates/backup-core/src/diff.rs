//! What differs between two snapshots. Equal directories are not entered: their trees have the same
//! name.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::WarningKind;
use crate::format::{METADATA_DIR, Node, Tree};
use crate::id::BlobId;
use crate::limits;
use crate::repository::SnapshotReader;
use crate::source::EntryPath;

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second snapshot has it.
    Added,
    /// Only the first snapshot has it.
    Removed,
    /// Its content differs.
    Modified,
    /// It is of another type.
    TypeChanged,
    /// Its content is the same, its metadata differs.
    MetadataOnly,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffEntry {
    /// How it differs.
    pub change: Change,
    /// Where.
    pub path: EntryPath,
    /// Whether it is a directory, in the second snapshot if it is there.
    pub is_dir: bool,
    /// Size of the file in the first snapshot, bytes.
    pub before: Option<u64>,
    /// Size of the file in the second snapshot, bytes.
    pub after: Option<u64>,
}

/// Sums of all differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DiffTotals {
    /// Entries only in the second snapshot.
    pub added: u64,
    /// Entries only in the first snapshot.
    pub removed: u64,
    /// Entries whose content or type differs.
    pub changed: u64,
    /// Entries whose metadata alone differs.
    pub metadata_only: u64,
    /// Bytes of files that were added, and by which changed files have grown.
    pub added_bytes: u64,
    /// Bytes of files that were removed, and by which changed files have shrunk.
    pub removed_bytes: u64,
    /// Entries that are not compared, because one of the snapshots has one that cannot be restored.
    pub not_compared: u64,
}

/// Compares two snapshots of one or two repositories; differences come in order of their paths.
/// `.backup` is left out. An entry that cannot be restored is a warning, and is not compared.
///
/// # Errors
/// Those of reading directories, [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged) if a
/// snapshot repeats its directories too many times, and cancellation.
pub async fn diff(
    a: &SnapshotReader,
    b: &SnapshotReader,
    cx: &Context,
    on_entry: &mut (dyn FnMut(DiffEntry) + Send),
) -> Result<DiffTotals> {
    let mut totals = DiffTotals::default();
    let mut stack = vec![Pair {
        path: EntryPath::root(),
        a: Some(a.root_id()),
        b: Some(b.root_id()),
        report: None,
    }];
    let mut entries = limits::Entries::default();
    while let Some(pair) = stack.pop() {
        cx.check_cancelled()?;
        if let Some(entry) = pair.report {
            totals.count(&entry);
            on_entry(entry);
        }
        if pair.a == pair.b {
            continue;
        }
        let trees = [read(a, pair.a).await?, read(b, pair.b).await?];
        let stored = || a.indexed().directory_bytes().saturating_add(b.indexed().directory_bytes());
        entries
            .enter(trees.iter().map(Tree::entries).sum(), stored)
            .map_err(|message| Error::damaged(format!("a snapshot {message}")))?;
        let [left, right] = without_lost(trees, &pair.path, &mut totals, cx);
        let mut below: Vec<_> = merge(left, right)
            .filter_map(|(a, b)| Pair::of(&pair.path, a.as_ref(), b.as_ref()))
            .collect();
        below.reverse();
        stack.append(&mut below);
    }
    Ok(totals)
}

async fn read(snapshot: &SnapshotReader, tree: Option<BlobId>) -> Result<Tree> {
    match tree {
        Some(tree) => snapshot.tree_with_faults(&tree).await,
        None => Ok(Tree { nodes: Vec::new(), faults: Vec::new() }),
    }
}

/// The entries of the same directory in both snapshots, without those that cannot be restored in one
/// of them. These are warnings.
fn without_lost(
    mut trees: [Tree; 2],
    path: &EntryPath,
    totals: &mut DiffTotals,
    cx: &Context,
) -> [Vec<Node>; 2] {
    let mut lost = BTreeSet::new();
    for tree in &trees {
        for fault in tree.faults.iter().filter(|fault| fault.is_left_out()) {
            let shown = path.join(fault.entry.as_bytes()).display().into_owned();
            cx.events.warn(WarningKind::Unreadable, shown, format!("the entry {}", fault.message));
            totals.not_compared += 1;
            // Of two entries of one name the first one counts.
            if tree.get(fault.entry.as_bytes()).is_none() {
                lost.insert(fault.entry.clone());
            }
        }
    }
    for tree in &mut trees {
        tree.nodes.retain(|node| {
            std::str::from_utf8(&node.name).map_or(true, |name| !lost.contains(name))
        });
    }
    trees.map(|tree| tree.nodes)
}

/// Pairs nodes of the same name; both lists are sorted.
fn merge(a: Vec<Node>, b: Vec<Node>) -> impl Iterator<Item = (Option<Node>, Option<Node>)> {
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    std::iter::from_fn(move || {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        Some((
            if order == Ordering::Greater { None } else { a.next() },
            if order == Ordering::Less { None } else { b.next() },
        ))
    })
}

/// One path in both snapshots: what to report of it, and the directories to compare below it.
struct Pair {
    path: EntryPath,
    a: Option<BlobId>,
    b: Option<BlobId>,
    report: Option<DiffEntry>,
}

impl Pair {
    fn of(above: &EntryPath, a: Option<&Node>, b: Option<&Node>) -> Option<Self> {
        let node = b.or(a)?;
        if above.is_root() && *node.name == *METADATA_DIR.as_bytes() {
            return None;
        }
        let path = above.join(&node.name);
        let size =
            |node: Option<&Node>| node.filter(|node| node.is_file()).map(|node| node.metadata.size);
        let report = change(a, b).map(|change| DiffEntry {
            change,
            path: path.clone(),
            is_dir: node.is_dir(),
            before: size(a),
            after: size(b),
        });
        let subtree = |node: Option<&Node>| node.and_then(|node| node.subtree);
        let (a, b) = (subtree(a), subtree(b));
        (report.is_some() || a != b).then_some(Self { path, a, b, report })
    }
}

fn change(a: Option<&Node>, b: Option<&Node>) -> Option<Change> {
    let (a, b) = match (a, b) {
        (None, None) => return None,
        (None, Some(_)) => return Some(Change::Added),
        (Some(_), None) => return Some(Change::Removed),
        (Some(a), Some(b)) => (a, b),
    };
    if std::mem::discriminant(&a.metadata.kind) != std::mem::discriminant(&b.metadata.kind) {
        return Some(Change::TypeChanged);
    }
    if a.content != b.content || a.metadata.kind != b.metadata.kind {
        return Some(Change::Modified);
    }
    // What the file system changes by itself (inode, ctime) is not a difference that people mean.
    let (a, b) = (&a.metadata, &b.metadata);
    let same =
        (a.mode, a.mtime, a.uid, a.gid, &a.xattrs) == (b.mode, b.mtime, b.uid, b.gid, &b.xattrs);
    (!same).then_some(Change::MetadataOnly)
}

impl DiffTotals {
    fn count(&mut self, entry: &DiffEntry) {
        match entry.change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Modified | Change::TypeChanged => self.changed += 1,
            Change::MetadataOnly => self.metadata_only += 1,
        }
        let (before, after) = (entry.before.unwrap_or(0), entry.after.unwrap_or(0));
        self.added_bytes += after.saturating_sub(before);
        self.removed_bytes += before.saturating_sub(after);
    }
}
