//! The log of a source: captured, rolled up, restored to any moment.
//!
//! | file | what is in it |
//! |---|---|
//! | `capturing.rs` | nothing that was acknowledged is lost, whatever fails |
//! | `idle.rs` | nothing happens, and that is known |
//! | `measured.rs` | how far behind, how much memory |
//! | `rolling.rs` | from slices to snapshots |

mod capturing;
mod idle;
mod measured;
mod rolling;

use std::sync::Arc;

use backup_core::clock::SharedClock;
use backup_core::testing::{FakeClock, FaultySink, MemorySink};

use crate::support::logs::Logged;
use crate::support::repo::Repo;

/// A repository in memory, and a source with a log, on one clock.
struct World {
    clock: Arc<FakeClock>,
    sink: MemorySink,
    /// The same store, when it is to fail.
    faulty: FaultySink,
    repo: Repo,
    logged: Logged,
}

async fn world() -> World {
    world_on(MemorySink::on_clock).await
}

/// The same on a disk: the clock of the machine dates its objects.
async fn disk_world() -> World {
    world_on(MemorySink::on_disk).await
}

async fn world_on(sink: impl FnOnce(SharedClock) -> MemorySink) -> World {
    let clock = Arc::new(FakeClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let sink = sink(clock.clone());
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let faulty = FaultySink::new(Arc::new(sink.clone()));
    let logged = Logged::new(&repo.repository, clock.clone());
    World { clock, sink, faulty, repo, logged }
}
