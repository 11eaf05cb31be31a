//! Idle sources: every moment up to which the source vouches for its log can be restored, and no other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backup_core::log::{
    Base, CaptureOptions, Gap, Place, Position, RollUpOptions, Stretch, Target, Tick, Timeline,
    Watermark, latest_common,
};
use backup_core::repository::Repository;
use backup_core::sink::{Operation, SinkErrorKind};
use backup_core::testing::{Fault, FaultRule, RecordingSink};
use jiff::{SignedDuration, Timestamp};

use super::{World, world};
use crate::support::logs::fast;
use crate::support::noise::noise;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// Waits until the lease was renewed and all events are stored.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(15)).await;
}

impl World {
    /// Events, one a second.
    fn events(&self, count: u64) {
        for number in 0..count {
            self.clock.advance(seconds(1));
            self.logged.source.push(self.logged.cx.clock.now(), noise(number, 200));
        }
    }

    fn last_event(&self) -> Timestamp {
        self.logged.source.time_of(self.logged.source.end().offset).unwrap()
    }

    async fn latest_moment(&self) -> Option<Timestamp> {
        self.logged.plan(&Target::Latest).await.unwrap().time
    }

    /// The state at a time is that of the first `events`.
    async fn assert_state_at(&self, time: Timestamp, events: u64) {
        let found = self.logged.restored(&Target::Time(time)).await;
        assert!(found == self.logged.source.bytes_up_to(events), "{time}: not {events} events");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_log_reaches_the_moment_that_the_source_vouches_for() {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    world.events(5);
    let capturing = logged.begin(fast());
    settle().await;
    let last = world.last_event();
    assert_eq!(world.latest_moment().await, Some(last), "the source vouches for nothing");
    assert!(logged.plan(&Target::Time(last)).await.is_err());
    let vouched = last + HOUR;
    logged.source.vouch(Some(vouched));
    settle().await;
    for rolled in [false, true] {
        assert_eq!(world.latest_moment().await, Some(vouched), "rolled up: {rolled}");
        for after in [0, 1, 1800, 3599] {
            world.assert_state_at(last + seconds(after), 5).await;
        }
        world.assert_state_at(last - SignedDuration::from_millis(1), 4).await;
        assert!(logged.plan(&Target::Time(vouched)).await.is_err(), "nothing is known of it");
        let ranges = logged.view().await.timeline().ranges();
        assert_eq!(ranges.last().unwrap().to_time, Some(vouched), "{ranges:?}");
        logged.roll_up().await;
    }
    world.clock.set(vouched + seconds(10));
    world.events(1);
    settle().await;
    world.assert_state_at(vouched - seconds(1), 5).await;
    world.assert_state_at(vouched + seconds(10), 5).await;
    capturing.stop().await.unwrap();
    assert_eq!(world.latest_moment().await, Some(world.last_event()));
}

#[tokio::test(start_paused = true)]
async fn idle_backup_reaches_the_moment_that_the_source_vouches_for() {
    let world = world().await;
    world.events(3);
    let capturing = world.logged.begin(fast());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The machine slept: the lease is lost, and taken again though there is nothing to store.
    world.clock.advance(seconds(60));
    world.logged.back_up().await;
    let backed_up = world.logged.cx.clock.now();
    assert_eq!(world.latest_moment().await, Some(backed_up), "it is newer than the log");
    let ranges = world.logged.view().await.timeline().ranges();
    assert_eq!((ranges[0].from_time, ranges[0].to_time), (Some(backed_up), Some(backed_up)));
    world.logged.source.vouch(Some(backed_up + HOUR));
    settle().await;
    world.assert_state_at(backed_up + seconds(3599), 3).await;
    capturing.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn clean_stop_records_at_once() {
    let world = world().await;
    world.logged.back_up().await;
    let capturing = world.logged.begin(CaptureOptions { holder: "me@here".into(), ..fast() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = world.logged.cx.clock.now();
    assert!(world.logged.view().await.lease().unwrap().is_held(now));
    world.events(2);
    let vouched = world.last_event() + HOUR;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.logged.source.vouch(Some(vouched));
    capturing.stop().await.unwrap();
    assert_eq!(world.latest_moment().await, Some(vouched));
    let view = world.logged.view().await;
    let lease = view.lease().unwrap();
    assert!(lease.holder == "me@here" && !lease.is_held(now), "{lease:?}");
    // The next capturer begins with the same record.
    world.logged.source.vouch(None);
    let capturing = world.logged.begin(fast());
    settle().await;
    assert_eq!(world.latest_moment().await, Some(vouched));
    capturing.kill().await;
    assert_eq!(world.latest_moment().await, Some(vouched));
}

#[tokio::test(start_paused = true)]
async fn events_that_wait_for_the_store_are_not_vouched_for() {
    let world = world().await;
    let faulty = Repository::open(Arc::new(world.faulty.clone()), &world.repo.passphrase).await;
    let logged = world.logged.through(&faulty.unwrap());
    world.logged.back_up().await;
    let capturing = logged.begin(fast());
    settle().await;
    let before = world.latest_moment().await;
    let outage = Fault::Before(SinkErrorKind::Unavailable);
    world.faulty.add(FaultRule::new(outage).under("x-lane").forever());
    world.events(3);
    let vouched = world.last_event() + HOUR;
    logged.source.vouch(Some(vouched));
    settle().await;
    assert_eq!(world.latest_moment().await, before);
    world.faulty.heal();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(world.latest_moment().await, Some(vouched));
    world.assert_state_at(vouched - seconds(1), 3).await;
    capturing.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn moments_before_a_gap_stay_restorable_up_to_the_disconnect() {
    // The log may be in a snapshot already when its end becomes known.
    for is_rolled_up_before in [false, true] {
        gap_after_an_idle_hour(is_rolled_up_before).await;
    }
}

async fn gap_after_an_idle_hour(is_rolled_up_before: bool) {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    world.events(5);
    let capturing = logged.begin(fast());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let vouched = world.last_event() + HOUR;
    logged.source.vouch(Some(vouched));
    settle().await;
    capturing.kill().await;
    if is_rolled_up_before {
        logged.roll_up().await;
    }
    // The next events are gone before they are captured.
    logged.source.vouch(None);
    world.clock.set(vouched + HOUR);
    world.events(3);
    logged.source.forget_before(8);
    let capturing = logged.begin(fast());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.events(2);
    logged.source.vouch(Some(world.last_event() + HOUR));
    settle().await;
    assert_eq!(capturing.stop().await.unwrap().gaps, 1);
    world.clock.advance(HOUR);
    logged.back_up().await;
    let at_once = RollUpOptions { grace: Duration::ZERO, ..RollUpOptions::default() };
    for rolled in 0..3 {
        world.assert_state_at(vouched - seconds(1), 5).await;
        assert!(logged.plan(&Target::Time(vouched)).await.is_err(), "rolled up {rolled} times");
        assert_eq!(logged.view().await.timeline().gaps().len(), 1);
        world.clock.advance(HOUR);
        logged.roll_up_with(&at_once).await;
    }
}

/// The next event may be hours away: alerts and a successor read the gap before it.
#[tokio::test(start_paused = true)]
async fn gap_is_stored_while_the_source_is_idle() {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    world.events(5);
    let capturing = logged.begin(fast());
    settle().await;
    capturing.kill().await;
    world.clock.advance(HOUR);
    world.events(3);
    logged.source.forget_before(8);
    logged.source.vouch(Some(world.last_event() + HOUR));
    let capturing = logged.begin(fast());
    settle().await;
    let gap = |gaps: &[Gap]| {
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!((gaps[0].from, gaps[0].to), (5, Some(8)));
        gaps[0].reason.clone().unwrap()
    };
    let reason = gap(&logged.view().await.timeline().gaps());
    assert!(reason.contains("forgotten") || reason.contains("kept"), "{reason}");
    assert_eq!(capturing.stop().await.unwrap().gaps, 1);
    // A successor continues behind the gap, and so do the events and the snapshots of the log.
    let capturing = logged.begin(fast());
    settle().await;
    world.events(2);
    settle().await;
    assert_eq!(capturing.stop().await.unwrap().gaps, 0);
    logged.back_up().await;
    let at_once = RollUpOptions { grace: Duration::ZERO, ..RollUpOptions::default() };
    for _ in 0..3 {
        assert_eq!(gap(&logged.view().await.timeline().gaps()), reason);
        world.clock.advance(HOUR);
        logged.roll_up_with(&at_once).await;
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_branch_does_not_vouch_after_the_fork() {
    let world = world().await;
    let logged = &world.logged;
    logged.back_up().await;
    world.events(5);
    let left = world.last_event();
    let capturing = logged.begin(fast());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The old primary is cut off, and still vouches for its branch.
    logged.source.vouch(Some(left + HOUR));
    settle().await;
    capturing.stop().await.unwrap();
    logged.source.vouch(None);
    logged.source.fork("b", 5);
    world.clock.advance(seconds(600));
    world.events(1);
    let promoted = world.last_event();
    let capturing = logged.begin(fast());
    settle().await;
    world.assert_state_at(promoted - seconds(1), 5).await;
    assert!(logged.plan(&Target::Time(promoted + seconds(60))).await.is_err());
    logged.source.vouch(Some(promoted + seconds(1200)));
    settle().await;
    world.assert_state_at(promoted + seconds(60), 6).await;
    capturing.stop().await.unwrap();
}

/// The figures of docs/logs.md.
#[tokio::test(start_paused = true)]
async fn idle_capture_costs_the_requests_of_the_lease() {
    let world = world().await;
    let recording = RecordingSink::new(Arc::new(world.sink.clone()));
    let opened = Repository::open(Arc::new(recording.clone()), &world.repo.passphrase).await;
    let logged = world.logged.through(&opened.unwrap());
    world.logged.back_up().await;
    let capturing = logged.begin(CaptureOptions::default());
    settle().await;
    logged.source.vouch(Some(world.logged.cx.clock.now() + HOUR));
    let before = recording.log().len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut counts: HashMap<(Operation, String), usize> = HashMap::new();
    for line in &recording.log()[before..] {
        if line.moment == backup_core::testing::Moment::Begun {
            let area = line.key.split('/').next().unwrap_or_default().to_owned();
            *counts.entry((line.operation, area)).or_default() += 1;
        }
    }
    capturing.stop().await.unwrap();
    let of = |operation, count| ((operation, "x-leases".to_owned()), count);
    let expected = [of(Operation::Get, 120), of(Operation::Put, 60), of(Operation::List, 120)];
    assert_eq!(counts, HashMap::from(expected), "every ten seconds");
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Ticks and the watermark of one member of a group, seconds.
fn member(ticks: &[i64], watermark: Option<i64>) -> Timeline {
    let end = ticks.len() as u64;
    let ticks = ticks.iter().zip(1..).map(|(at, offset)| Tick { offset, time: time(*at) });
    let stretch = Stretch {
        branch: String::new(),
        from: 0,
        to: end,
        ticks: ticks.collect(),
        place: Place::Slice("1".to_owned()),
        bytes: 1,
    };
    let base = Base {
        id: "a1".repeat(32).parse().unwrap(),
        needs: 0,
        at: Position::new("", 0),
        is_whole: false,
        time: time(0),
        bytes: 1,
        rate: None,
    };
    let watermark = watermark.map(|at| Watermark::new(Position::new("", end), time(at)));
    Timeline::new(vec![base], [stretch], [], Vec::new()).complete_up_to(watermark)
}

#[test]
fn latest_moment_of_a_group_includes_the_last_event_of_each_member() {
    let stops = |members: &[Timeline]| -> Vec<u64> {
        let latest = latest_common(members).unwrap();
        let stop = |one: &Timeline| one.plan(&Target::Time(latest)).unwrap().stop.offset;
        members.iter().map(stop).collect()
    };
    // All are idle, and have been for different times.
    let idle = [member(&[10], Some(1000)), member(&[10, 500], Some(1005)), member(&[], Some(995))];
    assert_eq!(stops(&idle), [1, 2, 0]);
    // One is busy: its last event is older than the moment that the idle ones vouch for.
    let busy = [member(&[10], Some(1000)), member(&[10, 500, 997, 998], Some(1004))];
    assert_eq!(stops(&busy), [1, 4]);
    // One has no capturer any more: it limits the others.
    let dead = [member(&[10], None), member(&[5, 9, 998], Some(1004))];
    assert_eq!(stops(&dead), [0, 2]);
}

/// Keepalives count in the offsets of Redis, and are not stored: the watermark stays where the last
/// event ends, and a backup of the idle server stands behind it.
#[test]
fn moments_after_a_backup_behind_the_last_event_are_known() {
    let backup = |at, offset| Base {
        id: "b2".repeat(32).parse().unwrap(),
        needs: offset,
        at: Position::new("", offset),
        is_whole: true,
        time: time(at),
        bytes: 1,
        rate: None,
    };
    let watermark = |at| Watermark::new(Position::new("", 10), time(at));
    let latest = |backed_up, vouched| {
        let timeline = Timeline::new(vec![backup(backed_up, 80)], [], [], Vec::new());
        let timeline = timeline.complete_up_to([watermark(vouched)]);
        let plan = timeline.plan(&Target::Latest).unwrap();
        (plan.stop.offset, plan.time.unwrap(), timeline)
    };
    let (stop, moment, timeline) = latest(1000, 1060);
    assert_eq!((stop, moment), (80, time(1060)));
    assert_eq!(timeline.plan(&Target::Time(time(1059))).unwrap().stop.offset, 80);
    assert!(timeline.plan(&Target::Time(time(1060))).is_err());
    // The watermark may be older than the backup.
    assert_eq!(latest(1000, 990).1, time(1000));
    // An event behind it is later.
    let event = Stretch {
        branch: String::new(),
        from: 10,
        to: 100,
        ticks: vec![Tick { offset: 100, time: time(1030) }],
        place: Place::Slice("one".into()),
        bytes: 1,
    };
    let timeline = Timeline::new(vec![backup(1000, 80)], [event], [], Vec::new());
    let timeline = timeline.complete_up_to([watermark(1020)]);
    assert_eq!(timeline.plan(&Target::Latest).unwrap().time, Some(time(1030)));
}
