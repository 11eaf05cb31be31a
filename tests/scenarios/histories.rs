//! Random histories of a repository: whatever happens, every snapshot that is listed restores byte
//! for byte, what was forgotten can be brought back within the grace period, a prune leaves nothing
//! to do for the next, and in the end nothing is left behind. A failure names its seed;
//! `BACKUP_TEST_SEED` repeats that history.

use crate::support::history::History;
use crate::support::long::long;

/// Steps between two looks at everything.
const CHECKPOINT: usize = 100;

#[tokio::test]
async fn any_history_keeps_every_snapshot() {
    let steps = if long() { 2_000 } else { 400 };
    let mut history = History::begin().await;
    for _ in 0..steps / CHECKPOINT {
        history.go_on(CHECKPOINT).await;
    }
    history.world.everything_can_go().await;
    let counts = &history.world.counts;
    for (what, count) in counts {
        assert!(
            *count > 0 || !long(),
            "never happened: {what}; in {}: {counts:?}",
            history.world.at
        );
    }
}
