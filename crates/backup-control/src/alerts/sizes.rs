//! Sizes of backups: the reference of `size_anomaly`.
//!
//! ```text
//!  complete backups, oldest first ─▶ in range of the median of the last 5 accepted ones?
//!                                      yes: accepted          no: an anomaly, never a reference
//! ```
//!
//! Backups of an anomaly are no reference, however many there are: an emptied database stays
//! unusual with its second backup. After [`MAX_ANOMALY`] the present sizes are the usual ones.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::runs::Run;
use crate::units::Share;
use crate::words;

/// Accepted backups whose median is the reference.
const REFERENCES: usize = 5;
/// Length of an anomaly after which its sizes are accepted.
pub(super) const MAX_ANOMALY: Duration = Duration::from_secs(30 * 86_400);

/// The size of the last complete backup of a job, and its reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeFacts {
    /// Identifier of the run.
    pub run: String,
    /// Bytes of the last complete backup.
    pub bytes: u64,
    /// Median of the accepted backups, in bytes.
    pub usual: u64,
    /// Number of the accepted backups.
    pub backups: usize,
    /// Snapshot of the last accepted backup, if the catalog still has it.
    pub snapshot: Option<String>,
    /// Start of the first backup of the anomaly; none if the size is usual.
    pub since: Option<Timestamp>,
}

/// Sizes of a job that one rule has accepted. Stored in the state of alerts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Sizes {
    /// The source. Backups of another one are not compared with it.
    source: String,
    /// Start and bytes of accepted backups, oldest first.
    accepted: Vec<(Timestamp, u64)>,
    /// Backups that started before this time do not count.
    from: Option<Timestamp>,
    /// Start of the first backup of the present anomaly.
    anomaly: Option<Timestamp>,
}

impl Sizes {
    /// Compares the newest of `runs`, which are complete backups, oldest first. None without an
    /// earlier backup to compare it with.
    pub(super) fn compare(
        &mut self,
        runs: &[&Run],
        limit: Share,
        now: Timestamp,
    ) -> Option<SizeFacts> {
        let last = *runs.last()?;
        if self.source != last.evidence.subject {
            *self = Self { source: last.evidence.subject.clone(), ..Self::default() };
        }
        if let Some(anomaly) = self.anomaly
            && words::between(anomaly, now) > MAX_ANOMALY
        {
            *self = Self { from: Some(anomaly), source: self.source.clone(), ..Self::default() };
        }
        let counts = |run: &&&Run| {
            run.evidence.subject == self.source && self.from.is_none_or(|from| run.started >= from)
        };
        let earlier = runs.iter().filter(counts).filter(|run| run.started < last.started);
        // An empty backup is no reference: every size differs from it by an infinite share.
        let earlier = earlier.map(|run| (run.started, run.evidence.bytes));
        let earlier: Vec<(Timestamp, u64)> = earlier.filter(|(_, bytes)| *bytes > 0).collect();
        self.accept(&earlier, limit);
        let before: Vec<u64> = self.before(last.started).map(|(_, bytes)| bytes).collect();
        let usual = median(&before)?;
        let bytes = last.evidence.bytes;
        self.anomaly = match is_usual(bytes, usual, limit) {
            true => None,
            false => Some(self.anomaly.unwrap_or(last.started)),
        };
        let reference = self.before(last.started).last();
        let reference = runs.iter().find(|run| Some(run.started) == reference.map(|(at, _)| at));
        Some(SizeFacts {
            run: last.id.to_string(),
            bytes,
            usual,
            backups: before.len(),
            snapshot: reference.and_then(|run| run.evidence.snapshot.clone()),
            since: self.anomaly,
        })
    }

    /// Accepted backups that started before a time.
    fn before(&self, time: Timestamp) -> impl Iterator<Item = (Timestamp, u64)> {
        self.accepted.iter().copied().filter(move |(started, _)| *started < time)
    }

    /// Accepts what is new among `earlier` and usual. Without an accepted backup, all are.
    fn accept(&mut self, earlier: &[(Timestamp, u64)], limit: Share) {
        if self.accepted.is_empty() {
            let newest = earlier.len().saturating_sub(REFERENCES);
            self.accepted = earlier[newest..].to_vec();
        }
        for (started, bytes) in earlier {
            let sizes: Vec<u64> = self.accepted.iter().map(|(_, bytes)| *bytes).collect();
            let is_new = self.accepted.last().is_some_and(|(newest, _)| started > newest);
            if is_new && median(&sizes).is_none_or(|usual| is_usual(*bytes, usual, limit)) {
                self.accepted.push((*started, *bytes));
                let surplus = self.accepted.len().saturating_sub(REFERENCES);
                self.accepted.drain(..surplus);
            }
        }
    }
}

fn is_usual(bytes: u64, usual: u64, limit: Share) -> bool {
    bytes.abs_diff(usual) as f64 <= usual as f64 * limit.0
}

/// The median; the mean of the two in the middle for an even number. None without values.
fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(lower.midpoint(upper))
}
