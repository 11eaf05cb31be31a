//! Moments within incremental and differential snapshots of MongoDB: each holds the log since the
//! snapshot that it builds on.

use backup_core::format::SnapshotLog;
use backup_core::log::Range;
use backup_core::repository::SnapshotInfo;

use crate::commands::restore::at;

/// Adds these ranges to those of the captured log.
pub(super) fn add(ranges: &mut Vec<Range>, snapshots: &[&SnapshotInfo]) {
    let log_of = |info: &SnapshotInfo| info.snapshot.x_log.clone();
    for info in snapshots.iter().filter(|info| at::holds_log_since(info)) {
        let parent = snapshots.iter().find(|parent| Some(parent.id) == info.snapshot.parent);
        let Some((from, to)) = parent.and_then(|parent| log_of(parent).zip(log_of(info))) else {
            continue;
        };
        join(ranges, between(&from, &to));
    }
}

fn between(from: &SnapshotLog, to: &SnapshotLog) -> Range {
    Range {
        branch: to.start.at.branch.clone(),
        from: from.start.at.offset,
        to: to.start.at.offset,
        from_time: Some(from.time),
        to_time: Some(to.time),
    }
}

/// Ranges that touch are one.
fn join(ranges: &mut Vec<Range>, mut joined: Range) {
    let touches = |range: &Range, joined: &Range| {
        range.branch == joined.branch && range.from <= joined.to && joined.from <= range.to
    };
    while let Some(at) = ranges.iter().position(|range| touches(range, &joined)) {
        let other = ranges.remove(at);
        if other.from <= joined.from {
            (joined.from, joined.from_time) = (other.from, other.from_time.or(joined.from_time));
        }
        if other.to >= joined.to {
            (joined.to, joined.to_time) = (other.to, other.to_time.or(joined.to_time));
        }
    }
    ranges.push(joined);
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn range(from: u64, to: u64) -> Range {
        let time = |offset: u64| Timestamp::from_second(i64::try_from(offset).unwrap()).ok();
        let (from_time, to_time) = (time(from), time(to));
        Range { branch: String::new(), from, to, from_time, to_time }
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut ranges = vec![range(10, 20), range(40, 40), range(60, 70)];
        join(&mut ranges, range(20, 40));
        join(&mut ranges, range(80, 90));
        ranges.sort_by_key(|range| range.from);
        assert_eq!(ranges, [range(10, 40), range(60, 70), range(80, 90)]);
    }

    #[test]
    fn incremental_snapshot_holds_the_moments_since_the_parent() {
        let info = |digit: &str, parent: Option<&str>, kind: &str, at: u64| {
            let start = serde_json::json!({ "at": { "branch": "", "offset": at }, "needs": at });
            let time = Timestamp::from_second(i64::try_from(at).unwrap()).unwrap();
            let json = serde_json::json!({
                "time": time, "tree": "00".repeat(32), "parent": parent.map(|digit| digit.repeat(64)),
                "tags": ["source=mongodb", format!("type={kind}")],
                "x_log": { "stream": "s", "start": start, "time": time },
            });
            let snapshot = serde_json::from_value(json).unwrap();
            SnapshotInfo::new(digit.repeat(64).parse().unwrap(), snapshot)
        };
        let all = [
            info("a", None, "full", 100),
            info("b", Some("a"), "incremental", 200),
            info("c", Some("b"), "incremental", 300),
            info("d", Some("c"), "full", 400),
        ];
        let mut ranges = [100, 200, 300, 400].map(|at| range(at, at)).to_vec();
        add(&mut ranges, &all.iter().collect::<Vec<_>>());
        ranges.sort_by_key(|range| range.from);
        assert_eq!(ranges, [range(100, 300), range(400, 400)]);
    }
}
