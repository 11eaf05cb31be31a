//! What took how long in a run, beside earlier ones of its job.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Run;

/// Earlier runs that one is compared with.
pub const COMPARED: u32 = 20;
/// From here on a run took remarkably longer, or read or stored remarkably more, than others.
const REMARKABLE: f64 = 2.0;
/// A stage that takes such a share of a run is worth a word.
const LARGE: f64 = 0.3;
/// Nothing that is over so fast is worth one.
const SHORT: Duration = Duration::from_secs(5);

/// What took how long in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// How long the whole took, in milliseconds; until now if it goes on.
    pub millis: u64,
    /// Its stages, in their order.
    pub stages: Vec<StageAnalysis>,
    /// What was spent outside of them, in milliseconds: connecting, hooks, waiting before something
    /// was tried again.
    pub outside_millis: u64,
    /// The stage that took longest.
    pub longest: Option<String>,
    /// Successful runs of the same job and type before it; none if there are none.
    pub earlier: Option<Earlier>,
    /// What is remarkable, in words.
    pub remarks: Vec<String>,
}

/// What took how long in a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageAnalysis {
    /// Which.
    pub stage: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// Its share of the whole, from 0 to 1.
    pub share: f64,
    /// Entries or objects that went through it.
    pub items: u64,
    /// Bytes that went through it.
    pub bytes: u64,
    /// How fast, in bytes per second.
    pub bytes_per_second: Option<u64>,
    /// How long it took in the middle of earlier runs, in milliseconds.
    pub usual_millis: Option<u64>,
}

/// The middle of earlier runs: half of them are above, half below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Earlier {
    /// How many they are.
    pub runs: usize,
    /// How long they took, in milliseconds.
    pub millis: u64,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
}

/// Looks at a run beside `others` of its job, of which those count that did what they were to do,
/// with the same type, before it. Backups of parts are compared with backups of parts only.
#[must_use]
pub fn analyze(run: &Run, others: &[Run], now: Timestamp) -> Analysis {
    let counts = |other: &&Run| {
        other.state.is_success()
            && other.what == run.what
            && other.evidence.is_part == run.evidence.is_part
            && other.started < run.started
            && run
                .evidence
                .kind
                .as_ref()
                .is_none_or(|kind| other.evidence.kind.as_ref() == Some(kind))
    };
    let others: Vec<&Run> = others.iter().filter(counts).collect();
    let millis = took(run, now);
    let mut stages: Vec<StageAnalysis> = Vec::new();
    for stage in &run.evidence.stages {
        // One that was tried again counts as one.
        match stages.iter_mut().find(|known| known.stage == stage.stage) {
            Some(known) => {
                known.millis += stage.millis;
                (known.items, known.bytes) = (stage.items, known.bytes + stage.bytes);
            }
            None => stages.push(StageAnalysis {
                stage: stage.stage.clone(),
                millis: stage.millis,
                share: 0.0,
                items: stage.items,
                bytes: stage.bytes,
                bytes_per_second: None,
                usual_millis: middle(
                    others.iter().filter_map(|other| of_stage(other, &stage.stage)),
                ),
            }),
        }
    }
    for stage in &mut stages {
        stage.share = stage.millis as f64 / millis.max(1) as f64;
        let has_speed = stage.bytes > 0 && stage.millis > 0;
        stage.bytes_per_second = has_speed.then(|| stage.bytes.saturating_mul(1000) / stage.millis);
    }
    let earlier = middle(others.iter().map(|other| took(other, now))).map(|millis| Earlier {
        runs: others.len(),
        millis,
        bytes: middle(others.iter().map(|other| other.evidence.bytes)).unwrap_or(0),
        stored_bytes: middle(others.iter().map(|other| other.evidence.stored_bytes)).unwrap_or(0),
    });
    let inside: u64 = stages.iter().map(|stage| stage.millis).sum();
    let longest = stages.iter().max_by_key(|stage| stage.millis).map(|stage| stage.stage.clone());
    let outside_millis = millis.saturating_sub(inside);
    let mut analysis =
        Analysis { millis, stages, outside_millis, longest, earlier, remarks: Vec::new() };
    analysis.remarks = analysis.remarkable(run);
    analysis
}

impl Analysis {
    fn remarkable(&self, run: &Run) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(earlier) = self.earlier {
            let stored = (run.evidence.stored_bytes, earlier.stored_bytes);
            for (what, (now, usual)) in [
                ("the duration is", (self.millis, earlier.millis)),
                ("the size of the snapshot is", (run.evidence.bytes, earlier.bytes)),
                ("the stored amount is", stored),
            ] {
                let factor = now as f64 / usual.max(1) as f64;
                if usual > 0 && factor >= REMARKABLE {
                    remarks.push(format!("{what} {factor:.1} times the usual one"));
                } else if usual > 0
                    && factor <= 1.0 / REMARKABLE
                    && what == "the size of the snapshot is"
                {
                    remarks.push(format!(
                        "{what} {factor:.2} times the usual one: check the source for missing data"
                    ));
                }
            }
        }
        if Duration::from_millis(self.millis) < SHORT {
            return remarks;
        }
        for (stage, words) in [
            (
                "load_index",
                "loading the index took long: check that the cache of this user is kept, and that \
                 --no-cache is not given",
            ),
            (
                "commit",
                "waiting for the store at the end took long: see `uploads` and `limit_upload` of \
                 the repository",
            ),
        ] {
            if self.stages.iter().any(|known| known.stage == stage && known.share >= LARGE) {
                remarks.push(words.to_owned());
            }
        }
        if self.outside_millis as f64 >= LARGE * self.millis as f64 {
            remarks.push(
                "much time was spent outside of the stages: connecting, hooks, pauses before \
                 retries"
                    .to_owned(),
            );
        }
        remarks
    }
}

fn took(run: &Run, now: Timestamp) -> u64 {
    let end = run.finished.unwrap_or(now);
    u64::try_from(end.duration_since(run.started).as_millis()).unwrap_or(0)
}

fn of_stage(run: &Run, stage: &str) -> Option<u64> {
    let of_it = run.evidence.stages.iter().filter(|known| known.stage == stage);
    of_it.map(|known| known.millis).reduce(|sum, millis| sum + millis)
}

/// The value in the middle.
fn middle(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::{StageTime, State, What};
    use super::*;
    use crate::machine::Machine;

    fn run(minute: i64, seconds: i64, bytes: u64, stages: &[(&str, u64)]) -> Run {
        let machine =
            Machine { host: "host".into(), user: "me".into(), zone: crate::zone::Zone::UTC };
        let started = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        let mut run = Run::new(What::Backup, "docs", "/repo", &machine, started);
        (run.state, run.finished) =
            (State::Verified, Some(started + SignedDuration::from_secs(seconds)));
        (run.evidence.kind, run.evidence.bytes) = (Some("full".to_owned()), bytes);
        let stage = |(stage, millis): &(&str, u64)| StageTime {
            stage: (*stage).to_owned(),
            millis: *millis,
            bytes: bytes / 2,
            items: 3,
        };
        run.evidence.stages = stages.iter().map(stage).collect();
        run
    }

    #[test]
    fn is_beside_earlier_ones_of_its_kind() {
        let usual =
            |minute, seconds| run(minute, seconds, 1000, &[("load_index", 100), ("backup", 1000)]);
        let mut others: Vec<Run> = (0..5).map(|at| usual(at, 10 + at)).collect();
        others[0].state = State::Failed;
        others[1].evidence.kind = Some("incremental".to_owned());
        let stages =
            [("load_index", 20_000), ("backup", 1_000), ("backup", 3_000), ("commit", 1_000)];
        let slow = run(60, 40, 4000, &stages);
        others.push(usual(61, 1));
        let analysis = analyze(&slow, &others, Timestamp::UNIX_EPOCH);
        assert_eq!((analysis.millis, analysis.outside_millis), (40_000, 15_000));
        assert_eq!(
            analysis.earlier,
            Some(Earlier { runs: 3, millis: 13_000, bytes: 1000, stored_bytes: 0 })
        );
        assert_eq!(analysis.longest.as_deref(), Some("load_index"));
        let backup = &analysis.stages[1];
        assert_eq!(
            (backup.millis, backup.bytes, backup.bytes_per_second),
            (4_000, 4_000, Some(1_000))
        );
        assert_eq!((backup.share, backup.usual_millis), (0.1, Some(1000)));
        let remarks = analysis.remarks.join("\n");
        for words in [
            "duration is 3.1 times",
            "snapshot is 4.0 times",
            "the index took long",
            "outside of the stages",
        ] {
            assert!(remarks.contains(words), "{words}: {remarks}");
        }
        assert!(
            !remarks.contains("waiting for the store") && !remarks.contains("stored amount"),
            "{remarks}"
        );
    }

    #[test]
    fn a_first_one_has_nothing_beside_it() {
        let first = run(0, 1, 10, &[("backup", 900)]);
        let analysis = analyze(&first, std::slice::from_ref(&first), Timestamp::UNIX_EPOCH);
        assert_eq!((analysis.earlier, analysis.remarks.len()), (None, 0));
        let little = analyze(&run(9, 1, 4, &[]), &[first], Timestamp::UNIX_EPOCH);
        assert!(little.remarks[0].contains("for missing data"), "{:?}", little.remarks);
        assert_eq!(little.longest, None);
    }
}
