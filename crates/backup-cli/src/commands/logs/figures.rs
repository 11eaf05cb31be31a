//! What a repository says of a log, as figures.

use std::time::Duration;

use backup_control::logs::lsn_of;
use backup_core::log::{Gap, LogView, Position, SliceHeader, Timeline};
use backup_core::repository::LeaseState;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::lines::position;
use crate::human;

/// How far a captured log has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct Figures {
    /// Everything up to here is stored.
    pub(in crate::commands) position: Option<Position>,
    /// The same as servers of PostgreSQL write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) lsn: Option<String>,
    /// Up to when everything that happened is stored, by the clock of the source.
    pub(in crate::commands) time: Option<Timestamp>,
    /// Who captures, or did so last.
    pub(in crate::commands) holder: Option<String>,
    /// When the last slice was captured, by the clock of the capturer.
    pub(in crate::commands) captured: Option<Timestamp>,
    /// Slices that are in no snapshot yet.
    pub(in crate::commands) waiting_slices: u64,
    /// Their bytes, as the source has them.
    pub(in crate::commands) waiting_bytes: u64,
    /// All slices, also those that wait to be removed.
    pub(in crate::commands) slices: u64,
    /// Their bytes, as stored.
    pub(in crate::commands) slice_bytes: u64,
    /// What is missing.
    pub(in crate::commands) gaps: Vec<Missing>,
    /// Slices that cannot be read.
    pub(in crate::commands) damaged: Vec<DamagedSlice>,
    #[serde(skip)]
    lease: Option<LeaseState>,
}

/// A gap, with times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct Missing {
    #[serde(flatten)]
    pub(in crate::commands) gap: Gap,
    /// When the last event before it was.
    pub(in crate::commands) from_time: Option<Timestamp>,
    /// When the first event behind it was.
    pub(in crate::commands) to_time: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct DamagedSlice {
    pub(in crate::commands) slice: String,
    pub(in crate::commands) message: String,
}

impl Figures {
    pub(in crate::commands) fn of(view: &LogView, timeline: &Timeline) -> Self {
        let waiting: Vec<&SliceHeader> = view
            .slices()
            .filter(|slice| slice.to > slice.from && !is_rolled_up(view, slice))
            .collect();
        let position = last_stored(view).map(|mut at| {
            at.offset = timeline.reach(&at.branch, at.offset);
            at
        });
        let time = position.as_ref().and_then(|at| timeline.moment_at(&at.branch, at.offset));
        let slices: Vec<&SliceHeader> = view.slices().collect();
        let holder = slices
            .iter()
            .rev()
            .find_map(|slice| slice.takes_over.as_ref())
            .map(|note| note.holder.clone());
        let holder = view.lease().map(|lease| lease.holder.clone()).or(holder);
        let damaged = view.damaged().iter();
        Self {
            lsn: position.as_ref().and_then(lsn_of),
            position,
            time,
            holder: holder.filter(|holder| !holder.is_empty()),
            captured: slices.last().map(|slice| slice.captured),
            waiting_slices: waiting.len() as u64,
            waiting_bytes: waiting.iter().flat_map(|slice| &slice.parts).map(|part| part.len).sum(),
            slices: slices.len() as u64,
            slice_bytes: view.lane_bytes(),
            gaps: missing(view, timeline),
            damaged: damaged
                .map(|(slice, error)| DamagedSlice { slice: slice.clone(), message: error.chain() })
                .collect(),
            lease: view.lease().cloned(),
        }
    }

    /// Returns `true` if the log is captured at `now`.
    pub(in crate::commands) fn is_captured(&self, now: Timestamp) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_held(now))
    }

    /// How long before `now` everything that had happened was stored. The lag grows without a
    /// capturer, and while the source vouches for nothing.
    pub(in crate::commands) fn lag(&self, now: Timestamp) -> Option<Duration> {
        self.time.map(|time| human::between(time, now))
    }
}

/// Where the log ends that is stored: in slices, else in snapshots, else where it would go on from
/// a backup.
fn last_stored(view: &LogView) -> Option<Position> {
    let logs = || view.snapshots().filter_map(|info| info.snapshot.x_log.as_ref());
    let slice = view.slices().filter(|slice| slice.to > slice.from).last().map(SliceHeader::end);
    let extent = || {
        let newest = logs()
            .flat_map(|log| &log.extents)
            .max_by_key(|extent| (extent.last.map(|last| last.time), extent.to));
        newest.map(|extent| Position::new(extent.branch.clone(), extent.to))
    };
    let base = || logs().max_by_key(|log| log.time).map(|log| log.start.at.clone());
    slice.or_else(extent).or_else(base)
}

fn is_rolled_up(view: &LogView, slice: &SliceHeader) -> bool {
    let mut extents = view
        .snapshots()
        .filter_map(|info| info.snapshot.x_log.as_ref())
        .flat_map(|log| &log.extents);
    extents.any(|extent| {
        extent.branch == slice.branch && extent.from <= slice.from && slice.to <= extent.to
    })
}

/// The gaps, and when the events around them were.
fn missing(view: &LogView, timeline: &Timeline) -> Vec<Missing> {
    let first_behind = |branch: &str, from: u64| {
        let slice = view
            .slices()
            .find(|slice| slice.branch == branch && slice.from == from && slice.to > from);
        let of_slice = slice.and_then(|slice| slice.ticks.first());
        let mut extents = view
            .snapshots()
            .filter_map(|info| info.snapshot.x_log.as_ref())
            .flat_map(|log| &log.extents);
        let extent = extents.find(|extent| extent.branch == branch && extent.from == from);
        of_slice.copied().or_else(|| extent.and_then(|extent| extent.first)).map(|tick| tick.time)
    };
    let gaps = timeline.gaps().into_iter();
    gaps.map(|gap| Missing {
        from_time: timeline.time_at(&gap.branch, gap.from),
        to_time: gap.to.and_then(|to| first_behind(&gap.branch, to)),
        gap,
    })
    .collect()
}

impl Missing {
    /// One line for people.
    pub(in crate::commands) fn words(&self, zone: &TimeZone) -> String {
        let at = |time: Option<Timestamp>, offset: u64| {
            let place = position(&Position::new(self.gap.branch.clone(), offset));
            time.map_or_else(
                || place.clone(),
                |time| format!("{} ({place})", human::full_time(time, zone)),
            )
        };
        let until = match self.gap.to {
            Some(to) => format!("to {}", at(self.to_time, to)),
            None => "on".to_owned(),
        };
        let reason = self.gap.reason.as_deref().unwrap_or("unknown reason");
        format!(
            "from {} {until}: {}",
            at(self.from_time, self.gap.from),
            human::text(reason.as_bytes())
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backup_core::context::Context;
    use backup_core::crypto::Passphrase;
    use backup_core::log::{RollUpOptions, Stream, roll_up};
    use backup_core::pipeline::{BackupOptions, backup};
    use backup_core::repository::{InitOptions, Repository};
    use backup_core::source::Source;
    use backup_core::testing::{MemorySink, ScriptedLog, capture_all};

    use super::*;

    async fn figures(repository: &Repository, source: &ScriptedLog) -> Figures {
        let stream = Stream::of(&source.identity());
        let view = LogView::load(repository, &stream, &Context::silent()).await.unwrap();
        Figures::of(&view, &view.timeline())
    }

    #[tokio::test]
    async fn what_is_stored_waits_and_is_missing() {
        let (cx, sink) = (Context::silent(), Arc::new(MemorySink::new()));
        let repository =
            Repository::init(sink, &Passphrase::generate(), &InitOptions::default(), &cx)
                .await
                .unwrap();
        let source = ScriptedLog::new();
        let at = |hour: i8| {
            jiff::civil::date(2026, 3, 1)
                .at(hour, 0, 0, 0)
                .to_zoned(TimeZone::UTC)
                .unwrap()
                .timestamp()
        };
        let nothing = figures(&repository, &source).await;
        assert_eq!((nothing.position, nothing.slices, nothing.holder), (None, 0, None));
        source.push(at(10), "one");
        backup(&repository, &source, &BackupOptions::default(), &cx).await.unwrap();
        let base = figures(&repository, &source).await;
        assert_eq!(
            (base.position.map(|at| at.offset), base.time.is_some()),
            (Some(1), true),
            "the backup itself"
        );

        source.push(at(11), "two");
        capture_all(&repository, &source, || ()).await;
        let stored = figures(&repository, &source).await;
        assert_eq!(
            (stored.position.clone().map(|at| at.offset), stored.time),
            (Some(2), Some(at(11)))
        );
        assert_eq!((stored.waiting_slices, stored.holder.as_deref()), (1, Some("me@here")));
        assert_eq!(stored.lag(at(12)), Some(Duration::from_secs(3600)));
        assert!(stored.waiting_bytes > 0 && stored.slice_bytes > 0 && stored.gaps.is_empty());

        roll_up(&repository, &Stream::of(&source.identity()), &RollUpOptions::default(), &cx)
            .await
            .unwrap();
        let rolled = figures(&repository, &source).await;
        assert_eq!(
            (rolled.waiting_slices, rolled.waiting_bytes, rolled.time),
            (0, 0, Some(at(11)))
        );

        // The source forgets what nobody captured: the log is followed from what happens next.
        source.push(at(12), "three");
        source.forget_before(3);
        capture_all(&repository, &source, || _ = source.push(at(13), "four")).await;
        let gaps = figures(&repository, &source).await.gaps;
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!((gaps[0].gap.from, gaps[0].from_time), (2, Some(at(11))));
        let words = gaps[0].words(&TimeZone::UTC);
        assert!(words.starts_with("from 2026-03-01 11:00:00 UTC (@2) "), "{words}");
    }
}
