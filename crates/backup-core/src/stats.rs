//! How much a repository holds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::format::BlobKind;
use crate::repository::{IndexedRepository, SnapshotInfo};

/// Snapshots of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct JobStats {
    /// How many.
    pub snapshots: u64,
    /// What restoring all of them would write, bytes.
    pub bytes: u64,
}

/// How much a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Snapshots.
    pub snapshots: u64,
    /// What restoring all of them would write, bytes.
    pub restore_bytes: u64,
    /// Bytes of all blobs before compression: what is left after deduplication.
    pub unique_bytes: u64,
    /// Bytes of all packs.
    pub stored_bytes: u64,
    /// Blobs, directories included.
    pub blobs: u64,
    /// Directories among them.
    pub trees: u64,
    /// Packs.
    pub packs: u64,
    /// Index objects.
    pub index_objects: u64,
    /// By job; snapshots of other tools have none and are counted under the empty name.
    pub per_job: BTreeMap<String, JobStats>,
}

/// Sums up a repository from its index and snapshots; reads no data.
///
/// # Errors
/// Those of the sink and of reading directories, and cancellation.
pub async fn stats(
    repository: &IndexedRepository,
    snapshots: &[SnapshotInfo],
    cx: &Context,
) -> Result<Stats> {
    let mut stats = Stats { index_objects: repository.index_objects() as u64, ..Stats::default() };
    repository.index().for_each_pack(&mut |pack| {
        stats.packs += 1;
        stats.stored_bytes += pack.size;
    });
    repository.index().for_each_blob(&mut |location| {
        stats.blobs += 1;
        stats.trees += u64::from(location.blob.kind == BlobKind::Tree);
        stats.unique_bytes += u64::from(location.blob.plain_len());
    });
    for info in snapshots {
        cx.check_cancelled()?;
        let bytes = match &info.snapshot.summary {
            Some(summary) => summary.total_bytes_processed,
            // Older tools wrote no summary: the files are counted.
            None => {
                let mut bytes = 0;
                let mut walk = repository.snapshot(info).walk().with_faults();
                while let Some((_, node)) = walk.next().await? {
                    let size = if node.is_file() { node.metadata.size } else { 0 };
                    bytes = size.saturating_add(bytes);
                }
                bytes
            }
        };
        stats.snapshots += 1;
        stats.restore_bytes = stats.restore_bytes.saturating_add(bytes);
        let job = stats
            .per_job
            .entry(info.snapshot.tag("job").unwrap_or_default().to_owned())
            .or_default();
        job.snapshots += 1;
        job.bytes = job.bytes.saturating_add(bytes);
    }
    Ok(stats)
}
