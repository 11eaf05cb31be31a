//! Clocks that are wrong for a while, on a disk, which has no other clock, and on a store with its
//! own: the latest snapshot, parents, and expiry.
#![expect(clippy::unwrap_used, reason = "tests: what must not happen fails them")]

use std::sync::Arc;

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::error::ErrorKind;
use backup_core::id::SnapshotId;
use backup_core::maintenance::{CleanupPlan, PruneOptions, plan_cleanup, prune};
use backup_core::pipeline::{BackupOptions, BackupReport, backup};
use backup_core::repository::{InitOptions, Repository, SnapshotFilter, SnapshotInfo};
use backup_core::retention::{Hold, Policy};
use backup_core::sink::{Sink, SinkOps as _};
use backup_core::testing::{FakeClock, MemorySink, ScriptedSource};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

/// The day of the first backup, at noon.
const FIRST: &str = "2026-03-01T12:00:00Z";

/// The right time, on a day counted from the first backup.
fn day(day: i64) -> Timestamp {
    FIRST.parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * day)
}

/// A wrong clock.
struct Case {
    name: &'static str,
    shows: fn(Timestamp) -> Timestamp,
    /// A disk must doubt the clock after a backup on the day before.
    is_doubted: bool,
    /// Own times are wrong by more than 48 hours.
    is_wrong: bool,
}

const CASES: [Case; 6] = [
    Case { name: "right", shows: |now| now, is_doubted: false, is_wrong: false },
    Case {
        name: "two hours ahead",
        shows: |now| now + SignedDuration::from_hours(2),
        is_doubted: false,
        is_wrong: false,
    },
    Case {
        name: "half a year ahead",
        shows: |now| now + SignedDuration::from_hours(183 * 24),
        is_doubted: true,
        is_wrong: true,
    },
    Case {
        name: "thirty years ahead",
        shows: |now| now + SignedDuration::from_hours(30 * 365 * 24),
        is_doubted: true,
        is_wrong: true,
    },
    Case {
        name: "a week behind",
        shows: |now| now - SignedDuration::from_hours(7 * 24),
        is_doubted: true,
        is_wrong: true,
    },
    Case { name: "1970", shows: |_| Timestamp::UNIX_EPOCH, is_doubted: true, is_wrong: true },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Disk,
    Store,
}

/// A repository, the clock of its machine and the right one, which the store has.
struct World {
    machine: Arc<FakeClock>,
    right: Arc<FakeClock>,
    repository: Repository,
    cx: Context,
}

impl World {
    async fn make(place: Place) -> Self {
        let (machine, right) = (FakeClock::at(day(0)), FakeClock::at(day(0)));
        let (machine, right) = (Arc::new(machine), Arc::new(right));
        let sink: Arc<dyn Sink> = match place {
            Place::Disk => Arc::new(MemorySink::on_disk(machine.clone())),
            Place::Store => Arc::new(MemorySink::on_clock(right.clone())),
        };
        let cx = Context { clock: machine.clone(), ..Context::silent() };
        let options = InitOptions::default();
        let repository =
            Repository::init(sink, &Passphrase::generate(), &options, &cx).await.unwrap();
        Self { machine, right, repository, cx }
    }

    fn set(&self, number: i64, shows: fn(Timestamp) -> Timestamp) {
        self.right.set(day(number));
        self.machine.set(shows(day(number)));
    }

    /// A backup on a day, by a clock.
    async fn back_up(&self, number: i64, shows: fn(Timestamp) -> Timestamp) -> BackupReport {
        self.set(number, shows);
        let source = ScriptedSource::named("a").dir("/a").file("/a/day", number.to_string());
        let options = BackupOptions { job: "a".to_owned(), ..BackupOptions::default() };
        backup(&self.repository, &source, &options, &self.cx).await.unwrap()
    }

    async fn list(&self) -> Vec<SnapshotInfo> {
        self.repository.snapshots(&self.cx).await.unwrap().snapshots
    }

    async fn plan(&self, policy: &str) -> CleanupPlan {
        let policy: Policy = serde_json::from_str(policy).unwrap();
        let (filter, zone) = (SnapshotFilter::default(), TimeZone::UTC);
        let present = self.repository.present(&self.cx).await.unwrap();
        let repository = &self.repository;
        plan_cleanup(repository, &filter, &policy, &zone, false, &present, &self.cx).await.unwrap()
    }
}

fn right(now: Timestamp) -> Timestamp {
    now
}

/// Days 0 to 4 with a right clock, day 5 with the wrong one, days 6 to 8 with the right one again.
#[tokio::test]
async fn one_wrong_backup_is_latest_for_a_day_only() {
    for (place, case) in both_places() {
        let about = format!("{} on a {place:?}", case.name);
        let world = World::make(place).await;
        let mut made = Vec::new();
        for number in 0..5 {
            made.push(world.back_up(number, right).await.snapshot.unwrap());
        }
        let report = world.back_up(5, case.shows).await;
        let is_doubted = case.is_doubted && place == Place::Disk;
        assert_eq!(report.clock_doubt.is_some(), is_doubted, "{about}");
        made.push(report.snapshot.unwrap());
        // The clock is right again: the wrong one is the newest, and no newer than the present.
        world.set(5, right);
        world.machine.advance(SignedDuration::from_hours(6));
        world.right.advance(SignedDuration::from_hours(6));
        let latest = world.list().await.pop().unwrap();
        assert_eq!(latest.id, made[5], "{about}");
        let range = day(4)..=day(5) + SignedDuration::from_hours(2);
        assert!(range.contains(&latest.time()), "{about}: {}", latest.time());
        assert_eq!(latest.effective.own(), (case.shows)(day(5)), "{about}");
        assert_eq!(latest.effective.is_disputed(), case.is_wrong, "{about}");
        for number in 6..9 {
            let report = world.back_up(number, right).await;
            assert_eq!(report.clock_doubt, None, "{about}");
            assert_eq!(report.parent, made.last().copied(), "{about}");
            made.push(report.snapshot.unwrap());
        }
        let list = world.list().await;
        let names: Vec<SnapshotId> = list.iter().map(|info| info.id).collect();
        assert_eq!(names, made, "{about}");
        assert_eq!(list.last().unwrap().time(), day(8), "{about}");
        // The newest of a moment before the wrong backup was made.
        let until = day(4) + SignedDuration::from_hours(1);
        let at = list.iter().rev().find(|info| info.time() <= until).unwrap();
        assert!(at.id == made[4] || at.time() == day(4) && at.id == made[5], "{about}");
        // Each of the right ones counts for its own time, still after half a year.
        world.set(200, right);
        for (number, info) in (0..9).zip(world.list().await).filter(|(number, _)| *number != 5) {
            assert_eq!((info.id, info.time()), (made[number as usize], day(number)), "{about}");
        }
    }
}

/// Days 0 to 13 with a right clock. With the wrong one, nothing may expire that the right one keeps.
#[tokio::test]
async fn wrong_clock_expires_no_snapshot() {
    for (place, case) in both_places() {
        let about = format!("{} on a {place:?}", case.name);
        let world = World::make(place).await;
        let mut made = Vec::new();
        for number in 0..14 {
            made.push(world.back_up(number, right).await.snapshot.unwrap());
        }
        world.repository.protect_job("a", Span::new().years(7), &world.cx).await.unwrap();
        let hold = Hold { until: Some(day(13 + 90)), reason: "audit".to_owned(), since: day(13) };
        world.repository.hold(&made[0], &hold).await.unwrap();
        world.set(14, right);
        let expected = world.plan(r#"{"within":"P7D"}"#).await;
        assert_eq!(expected.dropped().len(), 0, "seven years are promised");

        // Also after a backup by the wrong clock.
        let wrong = world.back_up(14, case.shows).await.snapshot.unwrap();
        let is_doubted = case.is_doubted && place == Place::Disk;
        let plan = world.plan(r#"{"within":"P7D"}"#).await;
        assert_eq!(plan.doubt.is_some(), is_doubted, "{about}");
        assert_eq!(plan.dropped(), [], "{about}");
        let infos = world.list().await;
        let protected = world.repository.protected(&infos, &world.cx).await.unwrap();
        let protected: Vec<SnapshotId> = protected.into_iter().map(|(id, _)| id).collect();
        for id in &made {
            assert!(protected.contains(id), "{about}: all are too young to be forgotten");
        }
        let refused = world.repository.forget(&made[..1], &world.cx).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{about}");
        let pruned = prune(&world.repository, &PruneOptions::default(), &world.cx).await;
        assert_eq!(pruned.is_err(), is_doubted, "{about}: {pruned:?}");

        // With the right clock again, as if nothing had been.
        world.set(15, right);
        assert_eq!(world.plan(r#"{"within":"P7D"}"#).await.doubt, None, "{about}");
        assert!(world.list().await.iter().any(|info| info.id == wrong), "{about}");
        prune(&world.repository, &PruneOptions::default(), &world.cx).await.unwrap();
    }
}

/// The trial: a clock half a year ahead made `within = "14d"` drop 13 of 14 snapshots.
#[tokio::test]
async fn policy_drops_by_the_right_time() {
    for (place, case) in both_places() {
        let about = format!("{} on a {place:?}", case.name);
        let world = World::make(place).await;
        let mut made = Vec::new();
        for number in 0..20 {
            made.push(world.back_up(number, right).await.snapshot.unwrap());
        }
        world.set(20, right);
        let policy = r#"{"within":"P14D"}"#;
        let expected = world.plan(policy).await.dropped();
        assert_eq!(expected, made[..7], "not younger than 14 days");
        world.set(20, case.shows);
        let plan = world.plan(policy).await;
        if place == Place::Store || !case.is_wrong {
            assert_eq!((plan.dropped(), plan.doubt), (expected.clone(), None), "{about}");
            continue;
        }
        // A person sees both times. The plan by the earlier of them drops no more than the right one.
        let doubt = plan.doubt.unwrap();
        assert_eq!((doubt.clock, doubt.seen), ((case.shows)(day(20)), day(19)), "{about}");
        let dropped = plan.dropped();
        assert!(dropped.iter().all(|id| expected.contains(id)), "{about}: {dropped:?}");
        // The person errs: now the clock counts.
        world.repository.confirm_clock(&world.cx).await.unwrap();
        assert_eq!(world.plan(policy).await.doubt, None, "{about}");
    }
}

/// A clock that is wrong for long does not become right by being read often.
#[tokio::test]
async fn doubt_does_not_wear_off() {
    let world = World::make(Place::Disk).await;
    world.back_up(0, right).await;
    let ahead = |now: Timestamp| now + SignedDuration::from_hours(8 * 365 * 24);
    for number in 1..5 {
        assert!(world.back_up(number, ahead).await.clock_doubt.is_some());
    }
    assert!(world.plan(r#"{"last":1}"#).await.doubt.is_some());
    // Monthly backups are not doubted, a longer pause is, until a person vouches for the clock.
    for number in [5, 36, 67] {
        assert_eq!(world.back_up(number, right).await.clock_doubt, None);
    }
    assert!(world.back_up(107, right).await.clock_doubt.is_some());
    world.repository.confirm_clock(&world.cx).await.unwrap();
    assert_eq!(world.back_up(108, right).await.clock_doubt, None);
}

/// A repository that was made before the latest time was recorded.
#[tokio::test]
async fn doubt_begins_with_the_newest_snapshot() {
    let world = World::make(Place::Disk).await;
    for number in 0..3 {
        world.back_up(number, right).await;
    }
    let seen = backup_core::sink::Key::new("x-store/seen").unwrap();
    world.repository.sink().delete_one(&seen).await.unwrap();
    let ahead = |now: Timestamp| now + SignedDuration::from_hours(8 * 365 * 24);
    assert!(world.back_up(3, ahead).await.clock_doubt.is_some());
    let plan = world.plan(r#"{"last":1}"#).await;
    assert_eq!(plan.doubt.map(|doubt| doubt.seen), Some(day(2)));
}

fn both_places() -> impl Iterator<Item = (Place, &'static Case)> {
    CASES.iter().flat_map(|case| [(Place::Disk, case), (Place::Store, case)])
}

/// A backup by a clock that is a little ahead and the next one count for the same time. The next one is
/// newer.
#[tokio::test]
async fn newest_backup_stays_after_a_clock_that_was_ahead() {
    let ahead = |now| now + SignedDuration::from_mins(40);
    for place in [Place::Disk, Place::Store] {
        let world = World::make(place).await;
        for number in 0..8 {
            let earlier = world.back_up(number, ahead).await.snapshot.unwrap();
            let newest = world.back_up(number, right).await.snapshot.unwrap();
            let times: Vec<Timestamp> =
                world.list().await.iter().rev().take(2).map(SnapshotInfo::time).collect();
            assert_eq!(times[0], times[1], "{place:?}");
            let dropped = world.plan(r#"{"last":1}"#).await.dropped();
            assert!(dropped.contains(&earlier) && !dropped.contains(&newest), "{place:?} {number}");
        }
    }
}
