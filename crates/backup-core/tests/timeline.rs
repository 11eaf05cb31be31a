//! The planner beside a naive model: a history is a tree of events; what is kept of it is random. A
//! moment can be restored exactly if a base before it is connected with it by kept events, one by
//! one.

#![expect(clippy::unwrap_used, reason = "tests: what must not happen fails them")]

use backup_core::id::SnapshotId;
use backup_core::log::{
    Base, Branch, Place, Position, Stretch, Target, Tick, Timeline, latest_common,
};
use jiff::Timestamp;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// One branch: event `n` leads from offset `n` to `n + 1`.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    parent: Option<(usize, u64)>,
    end: u64,
    /// Times of the events by the offset at which they end.
    times: Vec<i64>,
    /// Whether the event that ends there is kept.
    kept: Vec<bool>,
}

#[derive(Debug)]
struct Model {
    lines: Vec<Line>,
    /// Line, offset from which the log is needed, offset of the state, whether it is that state by
    /// itself.
    bases: Vec<(usize, u64, u64, bool)>,
    timeline: Timeline,
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

impl Line {
    fn start(&self) -> u64 {
        self.parent.map_or(0, |(_, at)| at)
    }

    fn time_at(&self, offset: u64) -> i64 {
        self.times[usize::try_from(offset - self.start()).unwrap()]
    }
}

impl Model {
    fn random(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut lines: Vec<Line> = Vec::new();
        for number in 0..rng.random_range(1..4_usize) {
            let parent = (number > 0).then(|| {
                let parent = rng.random_range(0..number);
                (parent, rng.random_range(lines[parent].start()..=lines[parent].end))
            });
            let start = parent.map_or(0, |(_, at)| at);
            let end = start + rng.random_range(0..30);
            let mut now = parent.map_or(1000, |(parent, at)| lines[parent].time_at(at));
            let mut times = vec![now];
            for _ in start..end {
                // Several events in a second, and now and then the clock is turned back.
                now += if rng.random_bool(0.05) { -5 } else { rng.random_range(0..4) };
                times.push(now);
            }
            let kept = (start..=end).map(|_| rng.random_range(0..12) > 0).collect();
            lines.push(Line { name: format!("line-{number}"), parent, end, times, kept });
        }
        let bases: Vec<_> = (0..rng.random_range(0..5))
            .map(|_| {
                let line = rng.random_range(0..lines.len());
                let at = rng.random_range(lines[line].start()..=lines[line].end);
                (
                    line,
                    at - rng.random_range(0..=(at - lines[line].start()).min(3)),
                    at,
                    rng.random_bool(0.3),
                )
            })
            .collect();
        let timeline = timeline(&lines, &bases, &mut rng);
        Self { lines, bases, timeline }
    }

    fn is_kept(&self, line: usize, from: u64, to: u64) -> bool {
        let line = &self.lines[line];
        (from..to).all(|offset| line.kept[usize::try_from(offset + 1 - line.start()).unwrap()])
    }

    /// One event after the other, from the base to the position.
    fn leads_to(&self, base: (usize, u64, u64, bool), line: usize, offset: u64) -> bool {
        let (base_line, needs, at, is_whole) = base;
        if !self.is_kept(base_line, needs, at) {
            return is_whole && (base_line, at) == (line, offset);
        }
        if base_line == line {
            return at <= offset && self.is_kept(line, at, offset);
        }
        let Some((parent, left)) = self.lines[line].parent else { return false };
        self.is_kept(line, left, offset) && self.leads_to(base, parent, left)
    }

    fn can_restore(&self, line: usize, offset: u64) -> bool {
        self.bases.iter().any(|base| self.leads_to(*base, line, offset))
    }
}

fn base_id(number: usize) -> SnapshotId {
    SnapshotId::digest(&number.to_le_bytes())
}

/// The same, as pieces of random length that overlap here and there.
fn timeline(lines: &[Line], bases: &[(usize, u64, u64, bool)], rng: &mut SmallRng) -> Timeline {
    let mut stretches = Vec::new();
    for line in lines {
        let is_kept = |offset: u64| line.kept[usize::try_from(offset - line.start()).unwrap()];
        let mut from = line.start();
        while from < line.end {
            let most = rng.random_range(1..6);
            let len = (0..most).take_while(|n| from + n < line.end && is_kept(from + n + 1)).count()
                as u64;
            if len > 0 {
                let mut ticks: Vec<Tick> = Vec::new();
                for offset in from + 1..=from + len {
                    let tick = Tick { offset, time: time(line.time_at(offset)) };
                    // Not every one is noted, but the first and the last one are, and when the
                    // clock was turned back.
                    if let [.., before, last] = &ticks[..]
                        && (before.time..=tick.time).contains(&last.time)
                        && rng.random_bool(0.5)
                    {
                        ticks.pop();
                    }
                    ticks.push(tick);
                }
                stretches.push(Stretch {
                    branch: line.name.clone(),
                    from,
                    to: from + len,
                    ticks,
                    place: Place::Slice(format!("{}/{from}", line.name)),
                    bytes: len,
                });
            }
            from += len.max(1) - u64::from(len > 2 && rng.random_bool(0.3));
        }
    }
    let bases = bases.iter().enumerate().map(|(number, (line, needs, at, is_whole))| Base {
        id: base_id(number),
        needs: *needs,
        at: Position::new(lines[*line].name.clone(), *at),
        is_whole: *is_whole,
        time: time(lines[*line].time_at(*at)),
        bytes: 1000,
        rate: Some(500),
    });
    let branches = lines.iter().filter_map(|line| {
        let (parent, at) = line.parent?;
        Some(Branch {
            name: line.name.clone(),
            parent: Some(Position::new(lines[parent].name.clone(), at)),
        })
    });
    Timeline::new(bases.collect(), stretches, branches, Vec::new())
}

/// A plan does what it says: its pieces lead from its base to its end, and nothing is left out.
fn assert_follows(model: &Model, plan: &backup_core::log::Plan) {
    assert_eq!(plan.estimate_ms, Some(plan.bytes * 2));
    let number = (0..model.bases.len()).find(|number| base_id(*number) == plan.base.id).unwrap();
    let lineage = model.timeline.lineage(&plan.stop.branch);
    let mut at = Position::new(plan.base.at.branch.clone(), plan.base.needs);
    for piece in &plan.log {
        if piece.branch != at.branch {
            let place = lineage.iter().position(|(name, _)| *name == at.branch).unwrap();
            assert_eq!(
                lineage[place].1.unwrap(),
                at.offset.min(lineage[place].1.unwrap()),
                "left where it branched"
            );
            assert!(lineage[place].1.unwrap() <= at.offset, "not left before it branched");
            at = Position::new(piece.branch.clone(), lineage[place].1.unwrap());
        }
        assert!(piece.from <= at.offset && piece.to > at.offset, "{piece:?} at {at}");
        at.offset = piece.to;
    }
    let line = model.lines.iter().position(|line| line.name == plan.stop.branch).unwrap();
    assert!(model.leads_to(model.bases[number], line, plan.stop.offset), "{plan:#?}");
}

/// Two servers, one in the place of the other: a whole minute of each, with a snapshot where it
/// begins. The second one has also left a branch behind.
fn replaced() -> Timeline {
    let base = |number: usize, branch: &str, seconds: i64| Base {
        id: base_id(number),
        needs: 0,
        at: Position::new(branch, 0),
        is_whole: false,
        time: time(seconds),
        bytes: 1,
        rate: None,
    };
    let stretch = |branch: &str, from: u64, seconds: i64| Stretch {
        branch: branch.to_owned(),
        from,
        to: from + 60,
        ticks: vec![
            Tick { offset: from + 1, time: time(seconds) },
            Tick { offset: from + 60, time: time(seconds + 60) },
        ],
        place: Place::Slice(branch.to_owned()),
        bytes: 1,
    };
    let stretches = [stretch("b", 0, 1001), stretch("a", 0, 2001), stretch("a-left", 30, 2031)];
    let branches = [("b", None), ("a-left", Some(Position::new("a", 30))), ("a", None)]
        .map(|(name, parent)| Branch { name: name.to_owned(), parent });
    Timeline::new(vec![base(0, "b", 1000), base(1, "a", 2000)], stretches, branches, Vec::new())
}

#[test]
fn replaced_server_is_a_separate_history() {
    let timeline = replaced();
    let (of_first, of_second) = (time(1030), time(2030));
    assert!(timeline.plan(&Target::Time(of_first)).is_err(), "none of the second server");
    assert_eq!(timeline.plan(&Target::Time(of_second)).unwrap().base.id, base_id(1));
    let first = timeline.clone().of_history("b");
    assert_eq!(first.branch_names(), ["b"]);
    assert_eq!(first.plan(&Target::Time(of_first)).unwrap().base.id, base_id(0));
    assert!(first.plan(&Target::Time(of_second)).is_err());
    for name in ["a", "a-left"] {
        assert_eq!(timeline.clone().of_history(name).branch_names(), ["a-left", "a"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_position_that_can_be_restored_is_planned_and_no_other(seed in any::<u64>()) {
        let model = Model::random(seed);
        for (number, line) in model.lines.iter().enumerate() {
            for offset in line.start()..=line.end {
                let target = Position::new(line.name.clone(), offset);
                match model.timeline.plan(&Target::Position(target.clone())) {
                    Ok(plan) => {
                        prop_assert!(model.can_restore(number, offset), "{target}: {plan:#?}");
                        prop_assert_eq!(&plan.stop, &target);
                        assert_follows(&model, &plan);
                    }
                    Err(refusal) => {
                        prop_assert!(!model.can_restore(number, offset), "{}: {:?}", target, refusal);
                        for (near, _) in refusal.before.iter().chain(&refusal.after) {
                            let on = model.lines.iter().position(|line| line.name == near.branch).unwrap();
                            prop_assert!(model.can_restore(on, near.offset), "{target}: {near} is \
                                                                              offered");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_hold_what_can_be_restored_and_nothing_else(seed in any::<u64>()) {
        let model = Model::random(seed);
        let ranges = model.timeline.ranges();
        for (number, line) in model.lines.iter().enumerate() {
            for offset in line.start()..=line.end {
                let is_in = ranges.iter().any(|range| range.branch == line.name && (range.from..=range.to).contains(&offset));
                prop_assert_eq!(is_in, model.can_restore(number, offset), "{}@{}: {:?}", line.name, offset, ranges);
            }
        }
    }

    #[test]
    fn a_time_means_everything_up_to_it_and_nothing_later(seed in any::<u64>(), moment in 990_i64..1100) {
        let model = Model::random(seed);
        if let Ok(plan) = model.timeline.plan(&Target::Time(time(moment))) {
            assert_follows(&model, &plan);
            let line = model.lines.iter().find(|line| line.name == plan.stop.branch).unwrap();
            // Nothing that is applied after the base happened later.
            if plan.base.at.branch == plan.stop.branch {
                for offset in plan.base.at.offset + 1..=plan.stop.offset {
                    prop_assert!(line.time_at(offset) <= moment, "{offset} of {plan:#?}");
                }
            }
            // The pieces hold everything up to the first event that happened later, and that one.
            let later = (plan.stop.offset + 1..=line.end).find(|offset| line.time_at(*offset) > moment);
            let end = plan.log.iter().filter(|piece| piece.branch == line.name).map(|piece| piece.to).max();
            prop_assert!(later.is_some_and(|later| end >= Some(later)), "{later:?} is not in \
                                                                         {plan:#?}");
        }
    }

    #[test]
    fn the_latest_moment_is_the_end_of_a_range(seed in any::<u64>()) {
        let model = Model::random(seed);
        match model.timeline.plan(&Target::Latest) {
            Ok(plan) => {
                assert_follows(&model, &plan);
                prop_assert!(model.timeline.ranges().iter().any(|r| r.branch == plan.stop.branch && r.to == plan.stop.offset));
            }
            Err(_) => {
                let current = model.timeline.current_branch();
                for (name, left) in current.map(|branch| model.timeline.lineage(&branch)).unwrap_or_default() {
                    let line = model.lines.iter().position(|line| line.name == name).unwrap();
                    for offset in model.lines[line].start()..=left.unwrap_or(model.lines[line].end) {
                        prop_assert!(!model.can_restore(line, offset), "{}@{} is not offered", name, offset);
                    }
                }
            }
        }
    }

    #[test]
    fn the_latest_common_moment_is_one_of_all_and_none_is_later(seeds in proptest::collection::vec(any::<u64>(), 1..4)) {
        let timelines: Vec<Timeline> = seeds.iter().map(|seed| Model::random(*seed).timeline).collect();
        let is_there = |moment: Timestamp| timelines.iter().all(|one| one.plan(&Target::Time(moment)).is_ok());
        let latest = latest_common(&timelines);
        prop_assert!(latest.is_none_or(is_there));
        for moment in (990..1200).map(time) {
            prop_assert!(!is_there(moment) || latest.is_some_and(|latest| latest >= moment), "{moment} is later than {latest:?}");
        }
    }
}
