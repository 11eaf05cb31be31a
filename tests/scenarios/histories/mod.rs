//! Long random histories of a repository beside a naive model of it: whatever happens, every snapshot that is listed restores
//! byte for byte, what was forgotten can be brought back within the grace period, and stock restic finds nothing to complain.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the tests: seeds, checkpoints, the end |
//! | `world.rs` | the model, and the repository beside it |
//! | `steps.rs` | what can happen |
//! | `writers.rs` | backups that take their time while everything else goes on |
//!
//! A failure names its seed and step; `BACKUP_TEST_SEED` repeats that history.

mod steps;
mod world;
mod writers;

use jiff::SignedDuration;
use rand::RngExt;

use crate::support::restic::{RESTICS, Restic};
use world::World;

/// Steps between two looks at everything.
const CHECKPOINT: usize = 250;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

/// How many steps, and with which seed: many with `BACKUP_TEST_LONG`.
fn length_and_seed() -> (usize, u64) {
    let long = std::env::var_os("BACKUP_TEST_LONG").is_some();
    (if long { 10_000 } else { 750 }, setting("BACKUP_TEST_SEED").unwrap_or_else(|| rand::rng().random()))
}

#[tokio::test]
async fn any_history_keeps_every_snapshot() {
    let (steps, seed) = length_and_seed();
    println!("{steps} steps with BACKUP_TEST_SEED={seed}");
    let mut world = World::new(seed).await;
    for step in 1..=steps {
        world.at = format!("seed {seed}, step {step}");
        world.step().await;
        world.restore_one().await;
        if step % CHECKPOINT == 0 {
            world.finish_writers().await;
            world.look_at_everything().await;
            look_with_restic(&world);
        }
    }
    world.finish_writers().await;
    world.look_at_everything().await;
    println!("{:?}", world.counts);
    for (what, count) in &world.counts {
        assert!(*count > 0 || steps < 5000, "never happened: {what}");
    }
    everything_can_go(&mut world).await;
}

/// After the last snapshot is forgotten, and the grace period is over, nothing is left of the data.
async fn everything_can_go(world: &mut World) {
    world.forget_everything().await;
    for _ in 0..3 {
        world.clock.advance(SignedDuration::from_hours(30));
        world.prune_calmly().await;
    }
    assert_eq!(world.data_objects(), 0, "{}: data is left behind", world.at);
}

fn look_with_restic(world: &World) {
    let dir = tempfile::tempdir().unwrap();
    world.write_to(dir.path());
    for version in RESTICS {
        let restic = Restic::new(version, dir.path(), world.password());
        let checked = restic.run(&["check", "--read-data", "--no-lock"]);
        assert!(checked.text().contains("no errors were found"), "{}: {version}: {checked}", world.at);
    }
}
