//! Blobs that snapshots need and that cannot be read, and where else they are.

use std::collections::HashSet;

use super::Run;
use crate::context::Context;
use crate::error::Result;
use crate::format::{BlobKind, Fault};
use crate::id::BlobId;
use crate::repository::{BlobWriter, Decoded, IndexedRepository};

/// Blobs that are needed and cannot be read.
pub(super) type Missing = HashSet<(BlobKind, BlobId)>;

/// State of the directories of all snapshots.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) missing: Missing,
    /// True if entries cannot be restored although none of their blobs is missing.
    pub(super) has_unfit: bool,
}

/// Follows directories and collects missing blobs. `has_data` decides whether a data blob exists. The
/// content of a directory that cannot be read stays unknown.
pub(super) async fn needs(
    indexed: &IndexedRepository,
    roots: &[BlobId],
    has_data: impl Fn(&BlobId) -> bool + Send,
    cx: &Context,
) -> Result<Needs> {
    let reader = indexed.reader();
    let Needs { mut missing, mut has_unfit } = Needs::default();
    let mut visited = HashSet::new();
    let mut stack: Vec<BlobId> = roots.to_vec();
    while let Some(id) = stack.pop() {
        cx.check_cancelled()?;
        if !visited.insert(id) {
            continue;
        }
        let tree = match reader.tree(&id).await {
            Ok(tree) => tree,
            Err(error) if error.is_damage() => {
                missing.insert((BlobKind::Tree, id));
                continue;
            }
            Err(error) => return Err(error),
        };
        // Lengths that do not add up lead to false index entries.
        reader.settle(&tree).await?;
        has_unfit |= tree.faults.iter().any(Fault::is_lost)
            || tree.nodes.iter().any(|node| reader.misfit(node).is_some());
        for node in tree.nodes {
            let lost = node.content.iter().filter(|blob| !has_data(blob));
            missing.extend(lost.map(|blob| (BlobKind::Data, *blob)));
            stack.extend(node.subtree);
        }
    }
    Ok(Needs { missing, has_unfit })
}

/// Stores what other copies have of it; returns how much that was.
pub(super) async fn take_from_copies(
    run: &mut Run<'_>,
    missing: &Missing,
    writer: &BlobWriter,
) -> Result<u64> {
    let mut found = 0;
    for (kind, id) in missing {
        run.cx.check_cancelled()?;
        if take_one(run, *kind, *id, writer).await? {
            found += 1;
            let what = if *kind == BlobKind::Tree { "directory" } else { "blob" };
            run.repaired(format!("{what} {}", id.short()), "recovered from another repository");
        }
    }
    Ok(found)
}

async fn take_one(run: &Run<'_>, kind: BlobKind, id: BlobId, writer: &BlobWriter) -> Result<bool> {
    // It may be in the index, and unreadable where that says it is.
    writer.distrust(kind, id);
    for copy in &run.copies {
        if copy.index().find(kind, &id).is_none() {
            continue;
        }
        let same_key =
            copy.repository().key().derive("copy") == run.repository().key().derive("copy");
        let writer = writer.clone();
        let store = move |decoded: Decoded<'_>| writer.store_copy(&decoded, same_key);
        match copy.reader().decoded(kind, &id, store).await {
            Ok(stored) => {
                stored?;
                return Ok(true);
            }
            // Perhaps the next copy has it.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// What is missing after everything was done. A dry run has stored nothing: there, what could be
/// had counts as stored.
pub(super) fn still_missing(run: &Run<'_>, missing: Missing) -> Missing {
    let elsewhere = |kind: BlobKind, id: &BlobId| {
        run.bad.saved.contains(&(kind, *id))
            || run.copies.iter().any(|copy| copy.index().find(kind, id).is_some())
    };
    missing.into_iter().filter(|(kind, id)| !run.options.dry_run || !elsewhere(*kind, id)).collect()
}
