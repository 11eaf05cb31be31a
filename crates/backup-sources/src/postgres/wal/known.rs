//! What a log tells of the timelines of a cluster, and what it would have to tell.
//!
//! Where a timeline came from is noted where it begins. If that is lost, the timeline seems to have
//! come from nowhere, and the one before seems to end: a server that believed it would go on
//! without everything behind that.

use std::collections::BTreeSet;

use backup_core::log::Timeline;

use super::super::lsn::Lsn;
use super::history::History;

/// The timelines that a log knows, by their numbers.
#[derive(Debug)]
pub(super) struct Known<'t> {
    timeline: &'t Timeline,
    numbers: BTreeSet<u32>,
}

/// Where a timeline came from is not kept, though there were others before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rootless(pub(super) u32);

impl<'t> Known<'t> {
    pub(super) fn new(timeline: &'t Timeline) -> Self {
        let names = timeline.branch_names();
        let ways = names.iter().flat_map(|name| timeline.lineage(name));
        Self { timeline, numbers: ways.filter_map(|(name, _)| name.parse().ok()).collect() }
    }

    /// The oldest one: where it came from was never stored.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.numbers.first().copied()
    }

    /// Whether it is noted where a timeline left another one.
    pub(super) fn has_parent(&self, number: u32) -> bool {
        self.timeline.lineage(&number.to_string()).len() > 1
    }

    fn is_rootless(&self, number: u32) -> bool {
        self.oldest().is_some_and(|oldest| number > oldest) && !self.has_parent(number)
    }

    /// How a timeline came to be; `None` if there is none of that number, or it is the oldest one.
    /// Numbers are given one after the other: one in between that is not known is missing as well.
    pub(super) fn history(&self, number: u32) -> Result<Option<History>, Rootless> {
        if self.numbers.last().is_none_or(|newest| number > *newest) {
            return Ok(None);
        }
        let lineage = self.timeline.lineage(&number.to_string());
        let first = lineage.first().and_then(|(name, _)| name.parse().ok()).unwrap_or(number);
        if self.is_rootless(first) {
            return Err(Rootless(first));
        }
        let left: Vec<(u32, Lsn)> = lineage
            .iter()
            .filter_map(|(name, end)| Some((name.parse().ok()?, Lsn((*end)?))))
            .collect();
        Ok((!left.is_empty()).then_some(History(left)))
    }

    /// Where later timelines came off this one, by their numbers.
    pub(super) fn left(&self, number: u32) -> Vec<(u32, Lsn)> {
        let name = number.to_string();
        let later = self.numbers.range(number.saturating_add(1)..).copied();
        let left = later.filter_map(|later| {
            let lineage = self.timeline.lineage(&later.to_string());
            lineage
                .into_iter()
                .find(|(one, _)| *one == name)
                .and_then(|(_, at)| Some((later, Lsn(at?))))
        });
        left.collect()
    }

    /// A later timeline that may have left this one behind what is kept of it.
    pub(super) fn may_have_left(&self, number: u32) -> Option<Rootless> {
        let later = self.numbers.range(number.saturating_add(1)..).copied();
        later.filter(|later| self.is_rootless(*later)).map(Rootless).next()
    }
}

#[cfg(test)]
mod tests {
    use backup_core::log::{Branch, Place, Position, Stretch};

    use super::*;

    /// A log of these pieces, and of timelines that left others.
    fn log(pieces: &[(u32, u64, u64)], parents: &[(u32, Option<(u32, u64)>)]) -> Timeline {
        let stretches = pieces.iter().map(|(branch, from, to)| Stretch {
            branch: branch.to_string(),
            from: *from,
            to: *to,
            ticks: Vec::new(),
            place: Place::Slice(format!("{branch}/{from}")),
            bytes: 1,
        });
        let branches = parents.iter().map(|(name, parent)| Branch {
            name: name.to_string(),
            parent: parent.map(|(before, at)| Position::new(before.to_string(), at)),
        });
        Timeline::new(Vec::new(), stretches, branches, Vec::new())
    }

    #[test]
    fn a_timeline_without_its_beginning_is_no_timeline_that_never_was() {
        let timeline = log(&[(1, 0, 100), (2, 200, 300)], &[(2, None)]);
        let known = Known::new(&timeline);
        assert_eq!(known.history(2), Err(Rootless(2)));
        assert_eq!(known.may_have_left(1), Some(Rootless(2)));
        assert_eq!((known.history(3), known.may_have_left(2)), (Ok(None), None));
        let whole = log(&[(1, 0, 100), (2, 200, 300)], &[(2, Some((1, 120)))]);
        let known = Known::new(&whole);
        assert_eq!(known.history(2), Ok(Some(History(vec![(1, Lsn(120))]))));
        assert_eq!(known.may_have_left(1), None);
    }

    #[test]
    fn a_history_is_whole_or_none() {
        // The second one is only known as the parent of the third.
        let timeline = log(&[(1, 0, 100), (3, 200, 300)], &[(3, Some((2, 150)))]);
        let known = Known::new(&timeline);
        assert_eq!((known.history(2), known.history(3)), (Err(Rootless(2)), Err(Rootless(2))));
        assert_eq!(known.may_have_left(1), Some(Rootless(2)));
        let whole = log(&[(1, 0, 100), (3, 200, 300)], &[(2, Some((1, 100))), (3, Some((2, 150)))]);
        let history = Known::new(&whole).history(3).unwrap().unwrap();
        assert_eq!(history, History(vec![(1, Lsn(100)), (2, Lsn(150))]));
        assert_eq!(Known::new(&whole).left(1), [(2, Lsn(100)), (3, Lsn(100))]);
        assert_eq!(Known::new(&whole).left(2), [(3, Lsn(150))]);
    }

    #[test]
    fn a_number_that_was_left_out_is_missing() {
        let timeline = log(&[(1, 0, 100), (3, 100, 300)], &[(3, Some((1, 100)))]);
        let known = Known::new(&timeline);
        assert_eq!(known.history(2), Err(Rootless(2)));
        assert!(known.history(3).unwrap().is_some());
        assert_eq!(known.history(4), Ok(None));
    }

    #[test]
    fn a_cluster_may_be_older_than_its_log() {
        let timeline = log(&[(5, 100, 200), (6, 200, 300)], &[(5, None), (6, Some((5, 200)))]);
        let known = Known::new(&timeline);
        assert_eq!(
            (known.history(4), known.history(5), known.may_have_left(5)),
            (Ok(None), Ok(None), None)
        );
        assert_eq!(known.history(6), Ok(Some(History(vec![(5, Lsn(200))]))));
        assert_eq!(Known::new(&Timeline::default()).history(2), Ok(None));
    }
}
