//! Snapshots that this process has read. Their objects never change, so that one with the same size
//! and date is not read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::format::Snapshot;
use crate::id::SnapshotId;
use crate::sink::ObjectMeta;

/// Bytes of snapshots, as JSON, that are kept at most.
const ROOM: usize = 16 << 20;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct KnownSnapshots(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<SnapshotId, Known>,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    size: u64,
    written: Timestamp,
    snapshot: Arc<Snapshot>,
}

impl KnownSnapshots {
    /// The content of an object that a listing reports; none if it was not read, or may have been
    /// replaced since.
    pub(super) fn find(&self, id: &SnapshotId, listed: &ObjectMeta) -> Option<Arc<Snapshot>> {
        let state = self.lock();
        let known = state.known.get(id)?;
        let is_same = known.size == listed.size && Some(known.written) == listed.last_modified;
        is_same.then(|| Arc::clone(&known.snapshot))
    }

    /// Keeps a snapshot of `bytes` bytes as JSON, if there is room and the store reports its date.
    pub(super) fn add(
        &self,
        id: SnapshotId,
        listed: &ObjectMeta,
        snapshot: &Arc<Snapshot>,
        bytes: usize,
    ) {
        let Some(written) = listed.last_modified else { return };
        let mut state = self.lock();
        let total = state.bytes.saturating_add(bytes);
        if total <= ROOM {
            state.bytes = total;
            let known = Known { size: listed.size, written, snapshot: Arc::clone(snapshot) };
            state.known.insert(id, known);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
