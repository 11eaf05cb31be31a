//! Nothing that was acknowledged is lost, nothing comes twice, and what is missing is known.

use std::sync::Arc;
use std::time::Duration;

use backup_core::error::ErrorKind;
use backup_core::event::LogEvent;
use backup_core::log::{Acknowledge, CaptureOptions, Position, SpoolOptions, Target};
use backup_core::repository::Repository;
use backup_core::sink::SinkErrorKind;
use backup_core::testing::{Fault, FaultRule};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{World, world};
use crate::support::log_trouble::Told;
use crate::support::logs::{Logged, fast};
use crate::support::long::long;
use crate::support::noise::noise;

impl World {
    /// The same repository, in a store that fails now and then.
    async fn failing(&self) -> Logged {
        let opened =
            Repository::open(Arc::new(self.faulty.clone()), &self.repo.passphrase).await.unwrap();
        self.logged.through(&opened)
    }

    /// A lease of somebody who was killed runs out.
    fn pass(&self) {
        self.clock.advance(SignedDuration::from_secs(65));
    }

    fn happen_by_chance(&self, rng: &mut SmallRng, count: usize) {
        for _ in 0..count {
            // The clock of the source jumps, too.
            let jump = if rng.random_bool(0.02) { rng.random_range(-3600..3600) } else { 0 };
            let micros = rng.random_range(0..200_000);
            let time =
                self.now() + SignedDuration::from_secs(jump) + SignedDuration::from_micros(micros);
            self.clock.advance(SignedDuration::from_micros(micros));
            self.logged.source.push(time, noise(rng.random(), rng.random_range(0..900)));
        }
    }

    fn now(&self) -> Timestamp {
        self.logged.cx.clock.now()
    }
}

const FAULTS: [Fault; 6] = [
    Fault::Before(SinkErrorKind::Unavailable),
    Fault::BeforeUnknown(SinkErrorKind::Unavailable),
    Fault::After(SinkErrorKind::Unavailable),
    Fault::After(SinkErrorKind::Unavailable),
    Fault::Midway(SinkErrorKind::Unavailable),
    Fault::Delay(Duration::from_millis(70)),
];

#[tokio::test(start_paused = true)]
async fn whoever_is_killed_whatever_fails_what_is_acknowledged_is_there() {
    let rounds = if long() { 200 } else { 40 };
    let seed = std::env::var("BACKUP_TEST_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("BACKUP_TEST_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let world = world().await;
    world.logged.back_up().await;
    let failing = world.failing().await;
    for round in 0..rounds {
        world.faulty.heal();
        if rng.random_bool(0.7) {
            let fault = FAULTS[rng.random_range(0..FAULTS.len())];
            let rule = FaultRule::new(fault).under("x-lane");
            world.faulty.add(rule.after(rng.random_range(0..4)).times(rng.random_range(1..3)));
        }
        // Now and then two want to capture at once.
        let rivals = if rng.random_bool(0.3) { 2 } else { 1 };
        let capturing: Vec<_> = (0..rivals).map(|_| failing.begin(fast())).collect();
        for _ in 0..rng.random_range(1..4) {
            world.happen_by_chance(&mut rng, 8);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        }
        let gracefully = rng.random_bool(0.3);
        for capturing in capturing {
            if gracefully {
                match capturing.stop().await {
                    Ok(_) => {}
                    // Another one captures, or it could not even begin.
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable),
                        "seed {seed}: {}",
                        error.chain()
                    ),
                }
            } else {
                capturing.kill().await;
            }
        }
        world.pass();
        if rng.random_bool(0.2) {
            world.logged.roll_up().await;
        }
        if world.logged.source.acknowledged().is_some() {
            world.logged.assert_all_there().await;
        }
        let timeline = world.logged.view().await.timeline();
        assert!(timeline.gaps().is_empty(), "seed {seed}, round {round}: {:?}", timeline.gaps());
    }
    world.faulty.heal();
    world.happen_by_chance(&mut rng, 20);
    world.logged.catch_up().await;
    assert_eq!(world.logged.source.acknowledged(), Some(world.logged.source.end()), "seed {seed}");
    let end = world.logged.source.end().offset;
    for _ in 0..20 {
        let at = rng.random_range(0..=end);
        let restored = world.logged.restored(&Target::Position(Position::new("", at))).await;
        assert!(
            restored == world.logged.source.bytes_up_to(at),
            "seed {seed}: the state at {at} differs"
        );
    }
}

/// A capturer is killed before it stores anything, and a newer backup is made: its successor
/// continues from the first backup.
#[tokio::test(start_paused = true)]
async fn capture_continues_from_the_first_backup_after_a_kill() {
    let world = world().await;
    let logged = &world.logged;
    let mut rng = SmallRng::seed_from_u64(6);
    world.happen_by_chance(&mut rng, 5);
    logged.back_up().await;
    let hour = Duration::from_secs(3600);
    let capturing = logged.begin(CaptureOptions { flush_after: hour, ..CaptureOptions::default() });
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.happen_by_chance(&mut rng, 10);
    tokio::time::sleep(Duration::from_millis(500)).await;
    capturing.task.abort();
    logged.back_up().await;
    world.pass();
    logged.catch_up().await;
    for moment in [5, 6, 10, 15] {
        let target = Target::Position(Position::new("", moment));
        assert_eq!(logged.restored(&target).await, logged.source.bytes_up_to(moment));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_capturers_one_waits() {
    let world = world().await;
    let first = world.logged.begin(fast());
    let mut rng = SmallRng::seed_from_u64(1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.happen_by_chance(&mut rng, 5);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = world.logged.begin(fast()).task.await.unwrap().unwrap_err();
    assert!(second.kind() == ErrorKind::Busy && second.hint().is_some(), "{}", second.chain());
    first.stop().await.unwrap();
    assert_eq!(world.logged.source.acknowledged(), Some(world.logged.source.end()));
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_nothing_is_written() {
    let world = world().await;
    let capturing = world.logged.begin(CaptureOptions::default());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let slices =
        || world.sink.objects().keys().filter(|key| key.as_str().starts_with("x-lane/")).count();
    assert_eq!(slices(), 1, "the note of who takes over");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(slices(), 1);
    capturing.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_source_has_forgotten_is_a_gap_that_no_plan_passes_over() {
    let world = world().await;
    let told = Arc::new(Told::default());
    let logged = world.logged.telling(&told);
    let mut rng = SmallRng::seed_from_u64(2);
    logged.back_up().await;
    world.happen_by_chance(&mut rng, 10);
    logged.catch_up().await;
    world.happen_by_chance(&mut rng, 10);
    logged.source.forget_before(15);
    // From now on: what happened before cannot be told from what was forgotten.
    let capturing = logged.begin(fast());
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.happen_by_chance(&mut rng, 5);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(capturing.stop().await.unwrap().gaps, 1);
    assert!(told.any(|event| matches!(event, LogEvent::Gap { .. })));

    for rolled in [false, true] {
        let timeline = logged.view().await.timeline();
        let gaps = timeline.gaps();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!((gaps[0].from, gaps[0].to), (10, Some(20)));
        assert!(
            gaps[0].reason.as_ref().unwrap().contains("forgotten")
                || gaps[0].reason.as_ref().unwrap().contains("kept")
        );
        for beyond in [11, 20, 25] {
            let refusal =
                logged.plan(&Target::Position(Position::new("", beyond))).await.unwrap_err();
            assert_eq!(
                refusal.before.as_ref().unwrap().0.offset,
                10,
                "rolled up: {rolled}: {refusal:?}"
            );
        }
        assert_eq!(logged.restored(&Target::Latest).await, logged.source.bytes_up_to(10));
        logged.roll_up().await;
    }
    // A new backup makes what comes after it of use again.
    logged.back_up().await;
    world.happen_by_chance(&mut rng, 5);
    world.pass();
    logged.catch_up().await;
    logged.assert_all_there().await;
    assert_eq!(logged.restored(&Target::Latest).await, logged.source.bytes_up_to(30));
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_followed_and_what_it_left_can_still_be_restored() {
    let world = world().await;
    let logged = &world.logged;
    let mut rng = SmallRng::seed_from_u64(3);
    logged.back_up().await;
    world.happen_by_chance(&mut rng, 20);
    logged.catch_up().await;
    let old = logged.source.bytes_up_to(20);
    logged.source.fork("b", 12);
    world.happen_by_chance(&mut rng, 9);
    // What was acknowledged of the old branch lies behind where the new one left it.
    let capturing = logged.begin(fast());
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.happen_by_chance(&mut rng, 4);
    tokio::time::sleep(Duration::from_millis(500)).await;
    capturing.stop().await.unwrap();
    for rolled in [false, true] {
        let before = logged.restored(&Target::Position(Position::new("", 20))).await;
        assert!(before == old, "rolled up: {rolled}: the end of the old branch differs");
        assert_eq!(logged.source.end(), Position::new("b", 25));
        let after = logged.restored(&Target::Latest).await;
        assert!(
            after == logged.source.bytes_up_to(25),
            "rolled up: {rolled}: the end of the new branch differs"
        );
        assert!(logged.view().await.timeline().gaps().is_empty());
        logged.roll_up().await;
    }
    logged.back_up().await;
    world.happen_by_chance(&mut rng, 6);
    world.pass();
    logged.catch_up().await;
    logged.assert_all_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_is_mapped_to_what_had_happened_by_then() {
    let world = world().await;
    let logged = &world.logged;
    let mut rng = SmallRng::seed_from_u64(4);
    logged.back_up().await;
    let begun = world.now();
    for _ in 0..300 {
        let time = world.now() + SignedDuration::from_micros(rng.random_range(1..60_000));
        world.clock.set(time);
        logged.source.push(time, noise(rng.random(), 50));
    }
    logged.catch_up().await;
    for rolled in [false, true] {
        for _ in 0..30 {
            let last = logged.source.time_of(300).unwrap();
            let span = begun.duration_until(last).as_micros();
            let time = begun
                + SignedDuration::from_micros(rng.random_range(0..i64::try_from(span).unwrap()));
            let happened =
                (1..=300).take_while(|n| logged.source.time_of(*n).unwrap() <= time).count() as u64;
            let restored = logged.restored(&Target::Time(time)).await;
            assert!(
                restored == logged.source.bytes_up_to(happened),
                "rolled up: {rolled}, {happened} events"
            );
        }
        logged.roll_up().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_taken_up_where_it_broke() {
    let world = world().await;
    let mut rng = SmallRng::seed_from_u64(5);
    world.logged.back_up().await;
    world.happen_by_chance(&mut rng, 30);
    world.logged.source.fail_after(Some(17));
    let error = world.logged.begin(fast()).task.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{}", error.chain());
    world.logged.source.fail_after(None);
    world.logged.catch_up().await;
    world.logged.assert_all_there().await;
    assert!(world.logged.view().await.timeline().gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_is_bridged_by_the_spool() {
    let world = world().await;
    let told = Arc::new(Told::default());
    let logged = world.failing().await.telling(&told);
    let place = tempfile::tempdir().unwrap();
    let spool = SpoolOptions { dir: place.path().to_owned(), max_bytes: 100 << 20 };
    let options = || CaptureOptions {
        acknowledge: Acknowledge::Spooled,
        spool: Some(spool.clone()),
        ..fast()
    };
    let mut rng = SmallRng::seed_from_u64(6);
    world.logged.back_up().await;
    let capturing = logged.begin(options());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.faulty.add(FaultRule::new(Fault::Before(SinkErrorKind::Unavailable)).forever());
    for _ in 0..600 {
        world.happen_by_chance(&mut rng, 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.clock.advance(SignedDuration::from_secs(1));
    }
    assert!(
        told.any(|event| matches!(event, LogEvent::Delayed { .. })),
        "an outage that nobody was told of"
    );
    assert_eq!(logged.source.acknowledged(), Some(logged.source.end()), "the spool is durable");
    // Killed in the middle of it: what was acknowledged lies in the spool.
    capturing.kill().await;
    logged.source.forget_before(logged.source.end().offset);
    world.faulty.heal();
    world.pass();
    let report = logged.begin(options());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(report.stop().await.unwrap().gaps, 0);
    world.logged.assert_all_there().await;
    let left = walk(place.path());
    assert_eq!(left, 0, "files are left in the spool");
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_is_told_and_loses_nothing() {
    let world = world().await;
    let told = Arc::new(Told::default());
    let logged = world.failing().await.telling(&told);
    let place = tempfile::tempdir().unwrap();
    let spool = SpoolOptions { dir: place.path().to_owned(), max_bytes: 6000 };
    let mut rng = SmallRng::seed_from_u64(7);
    world.logged.back_up().await;
    let capturing = logged.begin(CaptureOptions { spool: Some(spool), ..fast() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world
        .faulty
        .add(FaultRule::new(Fault::Before(SinkErrorKind::Unavailable)).under("x-lane").forever());
    for _ in 0..50 {
        world.happen_by_chance(&mut rng, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        told.any(|event| matches!(event, LogEvent::Full { .. })),
        "a full spool that nobody was told of"
    );
    assert!(walk(place.path()) < 8000, "the spool is not bounded");
    world.faulty.heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(capturing.stop().await.unwrap().gaps, 0);
    assert_eq!(logged.source.acknowledged(), Some(logged.source.end()));
    world.logged.assert_all_there().await;
}

/// Bytes of all files below a directory.
fn walk(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { walk(&path) } else { path.metadata().unwrap().len() })
        .sum()
}

#[tokio::test(start_paused = true)]
async fn a_damaged_slice_is_a_gap() {
    let world = world().await;
    let logged = &world.logged;
    let mut rng = SmallRng::seed_from_u64(8);
    logged.back_up().await;
    for _ in 0..3 {
        world.happen_by_chance(&mut rng, 4);
        world.pass();
        logged.catch_up().await;
    }
    let slices: Vec<_> = world
        .sink
        .objects()
        .into_keys()
        .filter(|key| key.as_str().starts_with("x-lane/"))
        .collect();
    let whole = logged.view().await.slices().filter(|header| header.to > header.from).count();
    let victim = &slices[slices.len() / 2];
    world.sink.corrupt(victim, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let view = logged.view().await;
    assert_eq!(view.damaged().len(), 1);
    if view.slices().filter(|header| header.to > header.from).count() < whole {
        assert_eq!(view.timeline().gaps().len(), 1);
        assert!(logged.plan(&Target::Position(logged.source.end())).await.is_err());
    }
    let error = backup_core::log::roll_up(
        &logged.repository,
        &logged.stream,
        &Default::default(),
        &logged.cx,
    )
    .await;
    let error = error.unwrap_err();
    assert!(error.is_damage() && error.hint().is_some(), "{}", error.chain());
}
