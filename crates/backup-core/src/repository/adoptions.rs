//! Adoptions: records of maintainers that the own time of a snapshot counts although the store's
//! time contradicts it.
//!
//! A record is an object `x-adopted/<id>`; its presence decides, so that one listing reads all of
//! them. Whoever may seal snapshots can seal a record: the store must refuse the prefix to writers,
//! see `docs/policies`. The object `x-adopted/begun` says that earlier snapshots were adopted.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::effective_time::{AGREEMENT, EffectiveTime, TimeEvidence};
use super::{Repository, SnapshotInfo, layout};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Snapshot, seal_json};
use crate::id::SnapshotId;
use crate::sink::{ObjectMeta, SinkErrorKind, SinkOps, SinkResult};

/// Largest assumed difference between the clocks of this process and the store.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);

/// Content of the object `x-adopted/begun`; only its presence counts.
pub(super) const BEGUN: &[u8] = b"begun\n";

/// The stored record.
#[derive(Debug, Serialize, Deserialize)]
struct Adoption {
    /// Time of the snapshot that the maintainer vouches for.
    time: Timestamp,
    /// Time of the adoption.
    adopted: Timestamp,
}

/// The adoptions of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoptions {
    /// Adopted snapshots.
    pub ids: BTreeSet<SnapshotId>,
    /// True if a maintainer adopted the snapshots of the time before adoptions existed, or if there
    /// were none.
    pub has_begun: bool,
}

impl Repository {
    /// Reads the adoptions: one listing.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn adoptions(&self) -> Result<Adoptions> {
        let named = self.sink().list_all(&layout::adoptions()).await?;
        let has_begun = named.iter().any(|meta| meta.key == layout::adoptions_begun());
        let ids = named.iter().filter_map(|meta| meta.key.file_name().parse().ok()).collect();
        Ok(Adoptions { ids, has_begun })
    }

    /// The evidence about times of snapshots, of which `objects` is a listing.
    pub(super) async fn time_evidence(
        &self,
        objects: &[ObjectMeta],
        cx: &Context,
    ) -> Result<TimeEvidence> {
        let stored =
            |meta: &ObjectMeta| Some((meta.key.file_name().parse().ok()?, meta.last_modified?));
        let mut stored: HashMap<SnapshotId, Timestamp> =
            objects.iter().filter_map(stored).collect();
        let has_clock = self.sink().capabilities().own_clock;
        if !has_clock {
            // Written by a clock that was ahead: no evidence against the snapshot's own time.
            let limit = cx.clock.now().checked_add(AGREEMENT).unwrap_or(Timestamp::MAX);
            stored.retain(|_, time| *time <= limit);
        }
        let adoptions = match self.adoptions().await {
            // Without the right to read them, none is known.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Adoptions::default(),
            adoptions => adoptions?,
        };
        Ok(TimeEvidence { stored, has_clock, adoptions })
    }

    /// The evidence about the times of all snapshots: two listings, and no request per snapshot.
    pub(crate) async fn read_time_evidence(&self, cx: &Context) -> Result<TimeEvidence> {
        let objects = self.list(&layout::snapshots()).await?;
        self.time_evidence(&objects, cx).await
    }

    /// Vouches for the own times of snapshots, and records that adoptions have begun. Requires
    /// credentials of a maintainer.
    ///
    /// # Errors
    /// Those of the sink; then some of them may be adopted already.
    pub async fn adopt(&self, snapshots: &[SnapshotInfo], cx: &Context) -> Result<()> {
        self.require_writable()?;
        let concurrency = self.sink().capabilities().concurrency.max(1);
        let store = |info: SnapshotInfo| async move {
            cx.check_cancelled()?;
            self.put_adoption(&info.id, &info.snapshot, cx).await?.map_err(|error| {
                Error::from(error).context(format!("cannot adopt snapshot {}", info.id.short()))
            })
        };
        futures::stream::iter(snapshots.to_vec())
            .map(store)
            .buffer_unordered(concurrency)
            .try_collect::<()>()
            .await?;
        // Last: an interrupted adoption is repeated.
        self.sink().put_bytes(&layout::adoptions_begun(), BEGUN).await?;
        Ok(())
    }

    /// Vouches for a snapshot that this process has stored as a copy or a rewrite of one whose time
    /// is not disputed, if the store's time will contradict its own. Without the right to adopt, the
    /// snapshot stays disputed.
    pub(crate) async fn vouch_for(
        &self,
        id: &SnapshotId,
        snapshot: &Snapshot,
        cx: &Context,
    ) -> Result<()> {
        let now = cx.clock.now();
        let latest = now.checked_add(MARGIN).unwrap_or(Timestamp::MAX);
        let is_disputed_at =
            |stored: Timestamp| EffectiveTime::of(snapshot, Some(stored), false).is_disputed();
        // A time in the future stays disputed: a clock is wrong.
        if snapshot.time > now || !(is_disputed_at(now) || is_disputed_at(latest)) {
            return Ok(());
        }
        self.vouch(id, snapshot, cx).await
    }

    /// Vouches for the time of a snapshot that this process has stored of a dump of the past: the
    /// store confirms the end of the run, and not the dump. Without the right to adopt, the snapshot
    /// counts for the end of the run.
    pub(crate) async fn vouch_for_import(
        &self,
        id: &SnapshotId,
        snapshot: &Snapshot,
        cx: &Context,
    ) -> Result<()> {
        // A time in the future is no time of a dump.
        if snapshot.time > cx.clock.now() {
            return Ok(());
        }
        self.vouch(id, snapshot, cx).await
    }

    async fn vouch(&self, id: &SnapshotId, snapshot: &Snapshot, cx: &Context) -> Result<()> {
        match self.put_adoption(id, snapshot, cx).await? {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == SinkErrorKind::PermissionDenied => {
                cx.events.note(format!(
                    "Snapshot {} is older than its object, and these credentials may not vouch for \
                     its time: policies keep it until `backup cleanup --adopt`.",
                    id.short()
                ));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn put_adoption(
        &self,
        id: &SnapshotId,
        snapshot: &Snapshot,
        cx: &Context,
    ) -> Result<SinkResult<()>> {
        let record = Adoption { time: snapshot.time, adopted: cx.clock.now() };
        let sealed = seal_json(self.key(), &record)?;
        Ok(self.sink().put_bytes(&layout::adoption(id), sealed).await.map(drop))
    }
}
