//! Which snapshots the target has already.

use std::collections::HashMap;

use crate::format::Snapshot;
use crate::id::SnapshotId;
use crate::repository::SnapshotInfo;

/// Snapshots of the target, by all names under which they were ever known.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<SnapshotId, Vec<(SnapshotId, Snapshot)>>);

impl Known {
    pub(super) fn new(there: &[SnapshotInfo]) -> Self {
        let mut known = Self::default();
        for info in there {
            known.add(info.id, info.id, &info.snapshot);
        }
        known
    }

    /// A snapshot that is called `name` in the source is in the target as `id`.
    pub(super) fn add(&mut self, name: SnapshotId, id: SnapshotId, snapshot: &Snapshot) {
        let original = snapshot.original.filter(|original| *original != name);
        for name in [name].into_iter().chain(original) {
            self.0.entry(name).or_default().push((id, snapshot.clone()));
        }
    }

    /// The name of this snapshot in the target, if it is there. Tools that change a snapshot also
    /// leave the original's name in it, so the content has to be the same as well.
    pub(super) fn find(&self, info: &SnapshotInfo) -> Option<SnapshotId> {
        let names = [Some(info.id), info.snapshot.original];
        let mut candidates =
            names.into_iter().flatten().filter_map(|name| self.0.get(&name)).flatten();
        candidates.find(|(_, there)| same(there, &info.snapshot)).map(|(id, _)| *id)
    }

    /// What a snapshot of the source is called in the target.
    pub(super) fn translate(&self, name: &SnapshotId) -> Option<SnapshotId> {
        self.0.get(name)?.first().map(|(id, _)| *id)
    }
}

fn same(a: &Snapshot, b: &Snapshot) -> bool {
    (a.tree, a.time, &a.hostname, &a.paths, &a.tags)
        == (b.tree, b.time, &b.hostname, &b.paths, &b.tags)
}
