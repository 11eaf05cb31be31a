//! How much is stored, of what, and how it grows.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::context::Context;
use crate::error::Result;
use crate::repository::{IndexedRepository, Repository, SnapshotInfo};
use crate::sink::{Prefix, SinkOps};

/// Name of the file in the directory of a repository whose blocks are kept for full disks. The file
/// is no object, and no data.
pub const RESERVE: &str = "x-reserve";
/// Growth is measured over at most this many days.
const DAYS: i64 = 30;
/// The shortest history of snapshots, from the first to the last one, that a growth is computed
/// from.
const MIN_HISTORY: SignedDuration = SignedDuration::from_hours(24);

/// Objects of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ObjectTotals {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the snapshots of one job, type or tier come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// How many.
    pub snapshots: u64,
    /// What restoring all of them would write, bytes.
    pub source_bytes: u64,
    /// Bytes that they added to the repository when they were made, as stored.
    pub added_bytes: u64,
}

/// How much is stored, of what, and how it grows.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct StorageReport {
    /// By the first part of the objects' names: `data`, `index`, `snapshots`, …
    pub objects: BTreeMap<String, ObjectTotals>,
    /// All objects, without the reserve.
    pub total: ObjectTotals,
    /// Bytes of the reserve for full disks.
    pub reserved_bytes: u64,
    /// Bytes in packs that are marked for deletion.
    pub marked_bytes: u64,
    /// What restoring all snapshots would write, bytes.
    pub source_bytes: u64,
    /// Bytes of all blobs before compression: what is left after deduplication.
    pub unique_bytes: u64,
    /// Bytes of all packs that are not marked.
    pub packed_bytes: u64,
    /// By job; snapshots of other tools are counted under the empty name.
    pub by_job: BTreeMap<String, Usage>,
    /// By type.
    pub by_type: BTreeMap<String, Usage>,
    /// By tier.
    pub by_tier: BTreeMap<String, Usage>,
    /// Stored bytes that the snapshots of a day added, for the last 30 days that had one; days are
    /// those of UTC.
    pub added_per_day: BTreeMap<Date, u64>,
    /// Stored bytes added per day, on average of the last 30 days or of as many as there are; none
    /// if the snapshots span less than 24 hours.
    pub growth_per_day: Option<u64>,
    /// Bytes that can still be stored, where the sink can tell.
    pub free_bytes: Option<u64>,
}

impl StorageReport {
    /// Days until `more_bytes` are stored at the present growth; none if the repository does not
    /// grow, or its growth is unknown.
    #[must_use]
    pub fn days_until(&self, more_bytes: u64) -> Option<u64> {
        more_bytes.checked_div(self.growth_per_day?)
    }

    /// How many times smaller the data is after deduplication.
    #[must_use]
    pub fn deduplication(&self) -> Option<f64> {
        ratio(self.source_bytes, self.unique_bytes)
    }

    /// How many times smaller it is after compression.
    #[must_use]
    pub fn compression(&self) -> Option<f64> {
        ratio(self.unique_bytes, self.packed_bytes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(before: u64, after: u64) -> Option<f64> {
    (after > 0).then(|| before as f64 / after as f64)
}

/// Sums up a repository from its lists, index and snapshots; reads no data.
///
/// # Errors
/// Those of the sink, and cancellation.
pub async fn storage(repository: &Repository, cx: &Context) -> Result<StorageReport> {
    // In this order: the index has all that the snapshots need.
    let snapshots = repository.snapshots(cx).await?.snapshots;
    let indexed = repository.load_index(cx).await?;
    storage_of(&indexed, &snapshots, cx).await
}

/// [`storage`] of a repository whose index and snapshots are loaded: lists its objects once.
///
/// # Errors
/// Errors of the sink, and cancellation.
pub async fn storage_of(
    indexed: &IndexedRepository,
    snapshots: &[SnapshotInfo],
    cx: &Context,
) -> Result<StorageReport> {
    let repository = indexed.repository();
    let mut report =
        StorageReport { free_bytes: repository.sink().free_bytes(), ..StorageReport::default() };
    cx.check_cancelled()?;
    for meta in repository.sink().list_all(&Prefix::root()).await? {
        if meta.key.as_str() == RESERVE {
            report.reserved_bytes = meta.size;
            continue;
        }
        let first = meta.key.as_str().split('/').next().unwrap_or_default().to_owned();
        for totals in [report.objects.entry(first).or_default(), &mut report.total] {
            totals.objects += 1;
            totals.bytes += meta.size;
        }
    }
    count_packs(indexed, &mut report);
    let now = cx.clock.now();
    for info in snapshots {
        count_snapshot(info, now, &mut report);
    }
    report.growth_per_day = growth(snapshots, now);
    Ok(report)
}

fn count_packs(indexed: &IndexedRepository, report: &mut StorageReport) {
    let mut given_up = Vec::new();
    indexed.index().for_each_pack(&mut |pack| {
        let bytes =
            if pack.is_given_up() { &mut report.marked_bytes } else { &mut report.packed_bytes };
        *bytes += pack.size;
        given_up.push(pack.is_given_up());
    });
    indexed.index().for_each_copy(&mut |_, pack, blob| {
        if !given_up[pack as usize] {
            report.unique_bytes += u64::from(blob.plain_len());
        }
    });
}

fn added(info: &SnapshotInfo) -> u64 {
    info.snapshot.summary.as_ref().map_or(0, |summary| summary.data_added_packed)
}

fn count_snapshot(info: &SnapshotInfo, now: Timestamp, report: &mut StorageReport) {
    let source_bytes =
        info.snapshot.summary.as_ref().map_or(0, |summary| summary.total_bytes_processed);
    report.source_bytes += source_bytes;
    let tag = |name| info.snapshot.tag(name).unwrap_or_default().to_owned();
    let usages = [
        report.by_job.entry(tag("job")).or_default(),
        report.by_type.entry(tag("type")).or_default(),
        report.by_tier.entry(tag("tier")).or_default(),
    ];
    for usage in usages {
        usage.snapshots += 1;
        usage.source_bytes += source_bytes;
        usage.added_bytes += added(info);
    }
    if is_recent(info, now) {
        let day = info.time().to_zoned(TimeZone::UTC).date();
        *report.added_per_day.entry(day).or_default() += added(info);
    }
}

fn is_recent(info: &SnapshotInfo, now: Timestamp) -> bool {
    info.time().duration_until(now) < SignedDuration::from_hours(24 * DAYS)
}

/// The growth per day; none if the snapshots span less than [`MIN_HISTORY`]. The first backup is no
/// growth.
fn growth(snapshots: &[SnapshotInfo], now: Timestamp) -> Option<u64> {
    let times = || snapshots.iter().map(|info| info.time());
    let (first, last) = (times().min()?, times().max()?);
    if last.duration_since(first) < MIN_HISTORY {
        return None;
    }
    let days = (first.duration_until(now).as_hours() / 24).clamp(1, DAYS);
    let later = snapshots.iter().filter(|info| info.time() > first && is_recent(info, now));
    Some(later.map(added).sum::<u64>() / days.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(time: &str, stored: u64) -> SnapshotInfo {
        let json = serde_json::json!({
            "time": time, "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h",
            "username": "u", "summary": { "data_added_packed": stored },
        });
        SnapshotInfo::new("a1".repeat(32).parse().unwrap(), serde_json::from_value(json).unwrap())
    }

    #[test]
    fn growth_needs_a_day_of_history() {
        let first = made("2026-03-01T12:00:00Z", 1000);
        let soon = made("2026-03-02T11:59:59Z", 30);
        let later = made("2026-03-02T12:00:00Z", 50);
        let now = "2026-03-03T12:00:00Z".parse().unwrap();
        assert_eq!(growth(&[], now), None);
        assert_eq!(growth(std::slice::from_ref(&first), now), None);
        assert_eq!(growth(&[first.clone(), soon.clone()], now), None);
        // 80 bytes in the two days since the first backup.
        assert_eq!(growth(&[soon, later, first], now), Some(40));
        let known = StorageReport { growth_per_day: Some(40), ..StorageReport::default() };
        assert_eq!(known.days_until(100), Some(2));
        assert_eq!(StorageReport::default().days_until(100), None);
    }
}
