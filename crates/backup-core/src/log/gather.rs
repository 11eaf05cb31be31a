//! What a repository has of a log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::lane::{Lane, StoredSlice};
use super::position::Mark;
use super::slice::SliceHeader;
use super::tape::read_detail;
use super::{Base, Branch, Gap, Place, Position, Stream, Stretch, Tick, Timeline, Watermark};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{LogExtent, SnapshotLog, SnapshotSummary};
use crate::id::SnapshotId;
use crate::repository::{
    IndexedRepository, Lease, LeaseState, Repository, SnapshotInfo, SnapshotList, layout,
};

/// How often snapshots are read again if others have appeared meanwhile.
const ROUNDS: usize = 4;
/// Who stored fewer bytes was busy with other things than storing.
const TELLING: u64 = 1 << 20;
/// Slices that are read together when only the newest are wanted.
const AT_ONCE: usize = 16;

/// The snapshots and slices of one stream, as they were when it was loaded.
#[derive(Debug, Default)]
pub struct LogView {
    /// With what they say of the log, oldest first.
    pub(super) snapshots: Vec<(SnapshotInfo, SnapshotLog)>,
    pub(super) slices: Vec<(StoredSlice, SliceHeader)>,
    damaged: Vec<(String, Error)>,
    /// Of any stream: whose they were cannot be told.
    damaged_snapshots: Arc<Vec<(SnapshotId, Error)>>,
    /// What happened when in pieces that were looked at closely, by snapshot and the name of the
    /// detail.
    details: HashMap<(SnapshotId, String), Vec<Tick>>,
    /// The lease of the capturer, if it can be read.
    lease: Option<LeaseState>,
}

impl LogView {
    /// What there is of a stream.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn load(repository: &Repository, stream: &Stream, cx: &Context) -> Result<Self> {
        let mut views = Self::load_all(repository, std::slice::from_ref(stream), cx).await?;
        Ok(views.pop().unwrap_or_default())
    }

    /// The views of several streams, in their order. The snapshots are read once for all of them.
    ///
    /// # Errors
    /// Errors of the sink.
    pub async fn load_all(
        repository: &Repository,
        streams: &[Stream],
        cx: &Context,
    ) -> Result<Vec<Self>> {
        let lanes: Vec<Lane> = streams.iter().map(|stream| Lane::new(repository, stream)).collect();
        // A lease before the slices, which then cover its watermark. The snapshots last: a slice
        // that is rolled up in between is seen twice rather than not at all.
        let mut views = Vec::new();
        for (stream, lane) in streams.iter().zip(&lanes) {
            let lease = match Lease::state(repository, &stream.capture_lease()).await {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
                other => other?,
            };
            views.push(Self { lease, ..Self::of_lane(lane, cx).await? });
        }
        let listed = match lanes.is_empty() {
            true => SnapshotList::default(),
            false => all_snapshots(repository, cx).await?,
        };
        let damaged = Arc::new(listed.damaged);
        for (lane, view) in lanes.iter().zip(&mut views) {
            view.take_snapshots(lane, &listed.snapshots, &damaged);
        }
        Ok(views)
    }

    /// The snapshots that belong to the stream of a lane.
    fn take_snapshots(
        &mut self,
        lane: &Lane,
        listed: &[SnapshotInfo],
        damaged: &Arc<Vec<(SnapshotId, Error)>>,
    ) {
        let own = listed.iter().filter_map(|info| {
            let log = info.snapshot.x_log.clone().filter(|log| log.stream == lane.stream())?;
            Some((info.clone(), log))
        });
        self.snapshots = own.collect();
        self.damaged_snapshots = Arc::clone(damaged);
    }

    /// The same, but of the slices only the newest, back to one that begins at or before `from`. To
    /// be told whether what comes behind that is stored, whoever stores the log in its order need
    /// not read what thousands of slices say.
    ///
    /// # Errors
    /// Those of the sink.
    pub async fn since(
        repository: &Repository,
        stream: &Stream,
        from: &Position,
        cx: &Context,
    ) -> Result<Self> {
        let lane = Lane::new(repository, stream);
        let listed = lane.list().await?;
        let mut added = Self::default();
        for some in listed.rchunks(AT_ONCE) {
            let mut before = Self::of_slices(&lane, some, cx).await?;
            before.slices.append(&mut added.slices);
            before.damaged.append(&mut added.damaged);
            added = before;
            let is_behind =
                |header: &SliceHeader| header.branch == from.branch && header.from <= from.offset;
            if added.slices().any(|header| header.takes_over.is_none() && is_behind(header)) {
                break;
            }
        }
        let of_snapshots = Self::of_snapshots(&lane, cx).await?;
        Ok(Self { slices: added.slices, damaged: added.damaged, ..of_snapshots })
    }

    async fn of_lane(lane: &Lane, cx: &Context) -> Result<Self> {
        Self::of_slices(lane, &lane.list().await?, cx).await
    }

    async fn of_slices(lane: &Lane, slices: &[StoredSlice], cx: &Context) -> Result<Self> {
        let mut view = Self::default();
        for (slice, header) in lane.headers(slices, cx).await? {
            match header {
                Ok(header) => view.slices.push((slice, header)),
                Err(error) => view.damaged.push((slice.name(), error)),
            }
        }
        Ok(view)
    }

    /// Without the slices.
    pub(super) async fn of_snapshots(lane: &Lane, cx: &Context) -> Result<Self> {
        let mut view = Self::default();
        let listed = all_snapshots(lane.repository(), cx).await?;
        view.take_snapshots(lane, &listed.snapshots, &Arc::new(listed.damaged));
        Ok(view)
    }

    /// The snapshots that say where they are in this log, oldest first.
    pub fn snapshots(&self) -> impl Iterator<Item = &SnapshotInfo> {
        self.snapshots.iter().map(|(info, _)| info)
    }

    /// What the slices say that were not rolled up, or not removed yet, in the order in which they
    /// were written.
    pub fn slices(&self) -> impl Iterator<Item = &SliceHeader> {
        self.slices.iter().map(|(_, header)| header)
    }

    /// Slices that cannot be read, with the reason.
    #[must_use]
    pub fn damaged(&self) -> &[(String, Error)] {
        &self.damaged
    }

    /// Snapshots that cannot be read, with the reason. They may be of other logs.
    #[must_use]
    pub fn damaged_snapshots(&self) -> &[(SnapshotId, Error)] {
        &self.damaged_snapshots
    }

    /// The lease of the capturer; `None` before the first capture, and if this process may not read
    /// leases.
    #[must_use]
    pub fn lease(&self) -> Option<&LeaseState> {
        self.lease.as_ref()
    }

    /// Up to which times the log is known to be complete: by the lease, and before gaps.
    fn watermarks(&self) -> impl Iterator<Item = Watermark> {
        let noted = self.lease.iter().filter_map(LeaseState::note);
        let of_extent = |extent: &LogExtent| {
            let last = extent.last.filter(|_| extent.from == extent.to)?;
            Some(Watermark::new(Position::new(extent.branch.clone(), last.offset), last.time))
        };
        let extents = self.snapshots.iter().flat_map(|(_, log)| &log.extents);
        noted
            .chain(self.slices().filter_map(SliceHeader::watermark))
            .chain(extents.filter_map(of_extent))
    }

    /// Bytes of all slices in the store.
    #[must_use]
    pub fn lane_bytes(&self) -> u64 {
        self.slices.iter().map(|(slice, _)| slice.size).sum()
    }

    /// Looks closely at the pieces in which `time` lies: snapshots say only when a piece begins and
    /// ends. To be done before a moment is planned by its time.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::error::ErrorKind::Damaged); those of the sink.
    pub async fn refine(&mut self, indexed: &IndexedRepository, time: Timestamp) -> Result<()> {
        for (info, log) in &self.snapshots {
            let around = |extent: &&LogExtent| match (extent.first, extent.last) {
                (Some(first), Some(last)) => {
                    first.time.min(last.time) <= time && time <= first.time.max(last.time)
                }
                _ => false,
            };
            for extent in log.extents.iter().filter(around) {
                let detail = read_detail(&indexed.snapshot(info), extent).await?;
                self.details.insert((info.id, extent.detail.clone()), detail.ticks);
            }
        }
        Ok(())
    }

    /// Where the log ends that snapshots hold.
    pub(super) fn end(&self) -> Option<Mark> {
        self.newest_extent().map(|extent| Mark {
            at: Position::new(extent.branch.clone(), extent.to),
            state: extent.state.clone(),
        })
    }

    /// The newest part of the log that a snapshot holds.
    fn newest_extent(&self) -> Option<&LogExtent> {
        let extents = self.snapshots.iter().flat_map(|(_, log)| &log.extents);
        extents.max_by_key(|extent| (extent.last.map(|last| last.time), extent.to))
    }

    /// From where the log is needed for the newest backup.
    pub(super) fn newest_start(&self) -> Option<Mark> {
        let newest = self
            .snapshots
            .iter()
            .filter(|(_, log)| log.extents.is_empty())
            .max_by_key(|(_, log)| log.time);
        newest.map(|(_, log)| Mark {
            at: Position::new(log.start.at.branch.clone(), log.start.needs),
            state: log.start.state.clone(),
        })
    }

    /// Only what belongs to a job: several jobs may back up the same source, each in part.
    #[must_use]
    pub fn of_job(mut self, job: &str) -> Self {
        self.snapshots.retain(|(info, _)| info.snapshot.tag("job") == Some(job));
        self
    }

    /// All branches; the one that the source goes on writing is the last.
    fn branches(&self) -> Vec<Branch> {
        let extents = || self.snapshots.iter().flat_map(|(_, log)| &log.extents);
        // Notes of who takes over hold nothing.
        let slices = || self.slices().filter(|header| header.takes_over.is_none());
        let rolled = extents().map(|extent| (&extent.branch, &extent.parent));
        let mut branches: Vec<Branch> = Vec::new();
        for (name, parent) in rolled.chain(slices().map(|header| (&header.branch, &header.parent)))
        {
            match branches.iter_mut().find(|branch| branch.name == *name) {
                Some(known) if known.parent.is_none() => known.parent.clone_from(parent),
                Some(_) => {}
                None => branches.push(Branch { name: name.clone(), parent: parent.clone() }),
            }
        }
        let current = self.current_branch(&branches);
        for (_, log) in &self.snapshots {
            let name = &log.start.at.branch;
            if branches.iter().all(|branch| branch.name != *name) {
                branches.push(Branch { name: name.clone(), parent: None });
            }
        }
        branches.sort_by_key(|branch| Some(&branch.name) == current);
        branches
    }

    /// The branch of the newest piece of the log, or of a later snapshot if `logged` lacks its
    /// branch: its log is not captured, or not yet.
    fn current_branch(&self, logged: &[Branch]) -> Option<&String> {
        let slice = self.slices().filter(|header| header.takes_over.is_none()).last();
        let of_slice = slice.map(|header| (&header.branch, header.ticks.last()));
        let of_extent = || self.newest_extent().map(|one| (&one.branch, one.last.as_ref()));
        let (branch, end) = of_slice.or_else(of_extent).unzip();
        let ends = end.flatten().map(|last| last.time);
        let newest = self.snapshots.iter().max_by_key(|(_, log)| log.time);
        let later = newest.filter(|(_, log)| {
            let is_logged = logged.iter().any(|branch| branch.name == log.start.at.branch);
            !is_logged && ends < Some(log.time)
        });
        later.map(|(_, log)| &log.start.at.branch).or(branch)
    }

    /// Which moments can be restored.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let bases = self.snapshots.iter().map(|(info, log)| Base {
            id: info.id,
            needs: log.start.needs,
            at: log.start.at.clone(),
            is_whole: log.start.state.is_some(),
            time: log.time,
            bytes: info
                .snapshot
                .summary
                .as_ref()
                .map_or(0, |summary| summary.total_bytes_processed),
            rate: info.snapshot.summary.as_ref().and_then(rate),
        });
        let rolled = self
            .snapshots
            .iter()
            .flat_map(|(info, log)| log.extents.iter().map(|extent| (info.id, extent)));
        let pieces = rolled.clone().filter(|(_, extent)| extent.to > extent.from);
        let stretches = pieces.map(|(id, extent)| self.of_extent(id, extent));
        let stretches = stretches
            .chain(self.slices.iter().filter_map(|(slice, header)| of_slice(slice, header)));
        let gap = |branch: &str, from: u64, reason: &Option<String>| {
            let reason = Some(reason.clone()?);
            Some(Gap { branch: branch.to_owned(), from, to: None, reason })
        };
        let gaps = rolled.filter_map(|(_, extent)| gap(&extent.branch, extent.from, &extent.gap));
        let gaps = gaps.chain(
            self.slices().filter_map(|header| gap(&header.branch, header.from, &header.gap)),
        );
        let mut gaps: Vec<Gap> = gaps.collect();
        gaps.dedup();
        Timeline::new(bases.collect(), stretches, self.branches(), gaps)
            .complete_up_to(self.watermarks())
    }
}

impl LogView {
    fn of_extent(&self, id: SnapshotId, extent: &LogExtent) -> Stretch {
        let close = self.details.get(&(id, extent.detail.clone())).cloned();
        Stretch {
            branch: extent.branch.clone(),
            from: extent.from,
            to: extent.to,
            ticks: close.unwrap_or_else(|| extent.first.into_iter().chain(extent.last).collect()),
            place: Place::Snapshot(id),
            bytes: extent.bytes,
        }
    }
}

/// All snapshots at one moment: while they are read one may take the place of another. Then the
/// newer one is not among them.
async fn all_snapshots(repository: &Repository, cx: &Context) -> Result<SnapshotList> {
    let mut list = repository.snapshots(cx).await?;
    for _ in 0..ROUNDS {
        let read: HashSet<SnapshotId> = list.ids().collect();
        let there = repository.list(&layout::snapshots()).await?;
        let mut there =
            there.iter().filter_map(|meta| meta.key.file_name().parse::<SnapshotId>().ok());
        if there.all(|id| read.contains(&id)) {
            break;
        }
        list = repository.snapshots(cx).await?;
    }
    Ok(list)
}

/// Bytes per second. What was there already took no time, and says nothing.
fn rate(summary: &SnapshotSummary) -> Option<u64> {
    let took = summary.backup_start.duration_until(summary.backup_end).as_millis();
    let took = u64::try_from(took).ok().filter(|took| *took > 0)?;
    (summary.data_added >= TELLING).then(|| summary.data_added.saturating_mul(1000) / took)
}

fn of_slice(slice: &StoredSlice, header: &SliceHeader) -> Option<Stretch> {
    (header.to > header.from).then(|| Stretch {
        branch: header.branch.clone(),
        from: header.from,
        to: header.to,
        ticks: header.ticks.clone(),
        place: Place::Slice(slice.name()),
        bytes: slice.size,
    })
}
