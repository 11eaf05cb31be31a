//! A backup wakes up after hours and lists its packs while a prune deletes them: a new backup does
//! not rely on them.

use std::sync::Arc;
use std::time::Duration;

use backup_core::clock::SharedClock;
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::maintenance::{PruneOptions, prune};
use backup_core::pipeline::backup;
use backup_core::repository::Repository;
use backup_core::sink::Operation;
use backup_core::testing::{FakeClock, MemorySink, ScriptedSource};
use jiff::SignedDuration;

use super::thorough;
use crate::support::gate::{Gate, Stop};
use crate::support::noise::noise;
use crate::support::repo::{Repo, options};
use crate::support::script::assert_holds;

const GRACE: Duration = Duration::from_secs(60 * 60);

/// Moments of a prune: the index is loaded, and the packs are not listed; the first deletion is next.
const MOMENTS: [Stop; 2] = [
    Stop { operation: Operation::List, top: "data", skip: 0, done: false },
    Stop { operation: Operation::Delete, top: "data", skip: 0, done: false },
];

fn source() -> ScriptedSource {
    ScriptedSource::named("host").file("/data", noise(3, 100_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn pack_that_is_listed_too_late_is_not_relied_upon() {
    for moment in MOMENTS {
        listed_at(moment).await;
    }
}

async fn listed_at(moment: Stop) {
    let clock = Arc::new(FakeClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let memory = MemorySink::on_clock(Arc::clone(&clock) as SharedClock);
    let cx = Context { clock: Arc::clone(&clock) as SharedClock, ..Context::silent() };
    let repo = Repo::init(Arc::new(memory.clone())).await;
    let behind = async |gate: &Gate| {
        Repository::open(Arc::new(gate.clone()), &repo.passphrase).await.unwrap()
    };
    let (late_gate, prune_gate) =
        (Gate::new(Arc::new(memory.clone())), Gate::new(Arc::new(memory.clone())));
    let (late, pruning) = (behind(&late_gate).await, behind(&prune_gate).await);

    // Its packs are stored, and no index object lists them.
    late_gate.close(Stop { operation: Operation::Put, top: "index", skip: 0, done: false });
    let (late_cx, late_source) = (cx.clone(), source());
    let writing =
        tokio::spawn(async move { backup(&late, &late_source, &options(), &late_cx).await });
    late_gate.stopped().await;
    clock.advance(SignedDuration::from_hours(3));
    let prune_options = PruneOptions { holder: "test".to_owned(), ..thorough(GRACE) };
    prune(&repo.repository, &prune_options, &cx).await.unwrap();
    clock.advance(SignedDuration::from_hours(3));

    prune_gate.close(moment);
    let prune_cx = cx.clone();
    let deleting = tokio::spawn(async move { prune(&pruning, &prune_options, &prune_cx).await });
    prune_gate.stopped().await;
    late_gate.open();
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::Busy);
    let report = backup(&repo.repository, &source(), &options(), &cx).await.unwrap();
    prune_gate.open();
    let deleted = deleting.await.unwrap().unwrap().deleted_packs;
    assert!(deleted > 0, "{moment:?}: what the first backup left behind is deleted");
    assert_holds(&repo, report.snapshot.unwrap(), &source()).await;
    // The next prune removes index entries of deleted packs.
    prune(&repo.repository, &thorough(GRACE), &cx).await.unwrap();
    repo.assert_sound().await;
}
