//! Leases and the probe of the store that they rely on.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backup_core::context::Context;
use backup_core::error::ErrorKind;
use backup_core::repository::{Lease, LeaseOptions};
use backup_core::sink::{
    Custody, Key, ObjectMeta, Payload, Prefix, PutMode, PutOutcome, Sink, SinkCapabilities,
    SinkOps, SinkResult, Upload,
};
use backup_core::testing::{FakeClock, MemorySink};
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};

use crate::support::repo::{Repo, local};

/// A store that takes no notice of conditions, as some do.
#[derive(Debug, Clone)]
struct Careless(MemorySink);

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("careless")
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for Careless {
    fn capabilities(&self) -> SinkCapabilities {
        self.0.capabilities()
    }

    async fn put(&self, key: &Key, payload: Payload, _: PutMode) -> SinkResult<PutOutcome> {
        self.0.put(key, payload, PutMode::Overwrite).await
    }

    async fn upload(&self, key: &Key) -> SinkResult<Box<dyn Upload>> {
        self.0.upload(key).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> SinkResult<BoxStream<'static, SinkResult<Bytes>>> {
        self.0.get(key, range).await
    }

    async fn head(&self, key: &Key) -> SinkResult<ObjectMeta> {
        self.0.head(key).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'static, SinkResult<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn delete(&self, keys: BoxStream<'static, Key>) -> BoxStream<'static, SinkResult<Key>> {
        self.0.delete(keys)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.0.free_bytes()
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        None
    }
}

fn held_by(holder: &str) -> LeaseOptions {
    let settle = Duration::from_millis(200);
    LeaseOptions {
        period: Duration::from_secs(30),
        holder: holder.to_owned(),
        dead: Vec::new(),
        settle,
        ..LeaseOptions::default()
    }
}

/// A context whose clock the test moves; the tests that use it run on tokio's paused time.
fn clocked() -> (Context, Arc<FakeClock>) {
    let clock =
        Arc::new(FakeClock::at(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000)));
    (Context { clock: clock.clone(), ..Context::silent() }, clock)
}

async fn pass(clock: &FakeClock, seconds: u64) {
    clock.advance(SignedDuration::from_secs(i64::try_from(seconds).unwrap()));
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_rivals_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    for repo in [Repo::in_memory().await, Repo::init(local(dir.path())).await] {
        for round in 1..=10 {
            let rivals = (0..16).map(|rival| {
                let repository = repo.repository.clone();
                tokio::spawn(async move {
                    Lease::acquire(
                        &repository,
                        "prune",
                        &held_by(&format!("rival {rival}")),
                        &Context::silent(),
                    )
                    .await
                })
            });
            let mut won = Vec::new();
            for rival in futures::future::join_all(rivals).await {
                match rival.unwrap() {
                    Ok(lease) => won.push(lease),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{}", error.chain()),
                }
            }
            assert_eq!(won.len(), 1, "round {round}");
            let lease = won.pop().unwrap();
            assert_eq!(lease.token(), round);
            lease.confirm().await.unwrap();
            lease.release().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_lease_is_respected_and_a_dead_one_taken_over() {
    let repo = Repo::in_memory().await;
    let (cx, clock) = clocked();
    let take = |who: &str| {
        let (repository, options, cx) = (repo.repository.clone(), held_by(who), cx.clone());
        async move { Lease::acquire(&repository, "prune", &options, &cx).await }
    };
    let first = take("the first").await.unwrap();
    for _ in 0..10 {
        pass(&clock, 20).await;
        first.renew().await.unwrap();
        let error = take("the second").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.chain().contains("held by the first"), "{}", error.chain());
    }
    // The holder stops acting after one period, the other waits for two.
    pass(&clock, 31).await;
    assert!(!first.is_current());
    assert_eq!(take("the second").await.unwrap_err().kind(), ErrorKind::Busy);
    pass(&clock, 30).await;
    let second = take("the second").await.unwrap();
    assert_eq!(second.token(), 2);
    assert_eq!(first.renew().await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(first.confirm().await.unwrap_err().kind(), ErrorKind::Busy);
    // The loser's farewell does not touch the winner.
    first.release().await.unwrap();
    second.confirm().await.unwrap();
    assert_eq!(take("the third").await.unwrap_err().kind(), ErrorKind::Busy);
}

/// Who knows that a holder has died need not wait, and takes it from no other.
#[tokio::test(start_paused = true)]
async fn a_holder_that_is_known_to_be_dead_is_not_waited_for() {
    let repo = Repo::in_memory().await;
    let (cx, _clock) = clocked();
    let take = |who: &str, dead: Option<&str>| {
        let options =
            LeaseOptions { dead: dead.map(str::to_owned).into_iter().collect(), ..held_by(who) };
        let (repository, cx) = (repo.repository.clone(), cx.clone());
        async move { Lease::acquire(&repository, "run", &options, &cx).await }
    };
    assert_eq!(Lease::holder(&repo.repository, "run").await.unwrap(), None);
    let first = take("the first", None).await.unwrap();
    assert_eq!(take("the second", Some("another")).await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(Lease::holder(&repo.repository, "run").await.unwrap().as_deref(), Some("the first"));
    let second = take("the second", Some("the first")).await.unwrap();
    assert_eq!(first.confirm().await.unwrap_err().kind(), ErrorKind::Busy);
    second.confirm().await.unwrap();
    assert_eq!(take("the third", Some("the first")).await.unwrap_err().kind(), ErrorKind::Busy);
}

/// Holders that may not delete leave their tokens; whoever may removes them, but for what still
/// counts.
#[tokio::test(start_paused = true)]
async fn tokens_that_have_served_can_be_removed() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let (cx, _clock) = clocked();
    for _ in 0..3 {
        let lease = Lease::acquire(&repo.repository, "run", &held_by("me"), &cx).await.unwrap();
        lease.release().await.unwrap();
    }
    let other = Lease::acquire(&repo.repository, "prune", &held_by("me"), &cx).await.unwrap();
    // As if the first one were left.
    let first = Key::new("x-leases/run/00000000000000000001").unwrap();
    sink.put_bytes(&first, b"old".to_vec()).await.unwrap();
    assert_eq!(repo.repository.thin_out_leases().await.unwrap(), 1);
    assert_eq!(repo.repository.thin_out_leases().await.unwrap(), 0);
    let left = sink.list_all(&Prefix::new("x-leases").unwrap()).await.unwrap();
    assert_eq!(left.len(), 3, "{left:?}");
    other.confirm().await.unwrap();
    assert_eq!(
        Lease::acquire(&repo.repository, "run", &held_by("me"), &cx).await.unwrap().token(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn keeping_renews_until_the_store_says_otherwise() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let (cx, clock) = clocked();
    let kept = Lease::acquire(&repo.repository, "prune", &held_by("me"), &cx).await.unwrap().keep();
    for _ in 0..50 {
        clock.advance(SignedDuration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(10)).await;
        kept.check().unwrap();
    }
    // Somebody removes it by hand: the holder notices at its next renewal.
    let prefix = Prefix::new("x-leases/prune").unwrap();
    let taken = Key::new("x-leases/prune/00000000000000000002").unwrap();
    sink.put_bytes(&taken, b"another's".to_vec()).await.unwrap();
    assert_eq!(sink.list_all(&prefix).await.unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(kept.check().unwrap_err().kind(), ErrorKind::Busy);
    assert!(kept.lost().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_has_lost_its_lease() {
    let repo = Repo::in_memory().await;
    let (cx, clock) = clocked();
    let kept = Lease::acquire(&repo.repository, "prune", &held_by("me"), &cx).await.unwrap().keep();
    kept.confirm().await.unwrap();
    // The monotonic clock stood still.
    clock.advance(SignedDuration::from_secs(31));
    assert_eq!(kept.check().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(kept.confirm().await.unwrap_err().kind(), ErrorKind::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_dropped_expires() {
    let repo = Repo::in_memory().await;
    let (cx, clock) = clocked();
    drop(Lease::acquire(&repo.repository, "prune", &held_by("me"), &cx).await.unwrap().keep());
    clock.advance(SignedDuration::from_secs(61));
    tokio::time::sleep(Duration::from_secs(61)).await;
    Lease::acquire(&repo.repository, "prune", &held_by("another"), &cx).await.unwrap();
}

/// Whoever may put objects can name them as he likes.
#[tokio::test]
async fn a_forged_token_blocks_nobody() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    for token in [u64::MAX, u64::MAX - 1] {
        let key = Key::new(format!("x-leases/prune/{token}")).unwrap();
        sink.put_bytes(&key, b"forged".to_vec()).await.unwrap();
    }
    let lease = Lease::acquire(&repo.repository, "prune", &held_by("me"), &Context::silent())
        .await
        .unwrap();
    assert_eq!(lease.token(), 1);
}

#[tokio::test]
async fn released_is_free_at_once_and_old_tokens_go() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let cx = Context::silent();
    for token in 1..=3 {
        let lease =
            Lease::acquire(&repo.repository, "capture-1", &held_by("me"), &cx).await.unwrap();
        assert_eq!(lease.token(), token);
        lease.keep().release().await.unwrap();
    }
    assert_eq!(
        sink.list_all(&Prefix::new("x-leases").unwrap()).await.unwrap().len(),
        2,
        "the last and the one before"
    );
    let error =
        Lease::acquire(&repo.repository, "../config", &held_by("me"), &cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn the_probe_tells_stores_apart() {
    let cx = Context::silent();
    let dir = tempfile::tempdir().unwrap();
    for repo in [Repo::in_memory().await, Repo::init(local(dir.path())).await] {
        let verdict = repo.repository.probe_store(&cx).await.unwrap();
        assert!(
            verdict.creates_atomically() && verdict.lists_at_once && verdict.ranges,
            "{verdict:?}"
        );
        assert_eq!(verdict.deletes, Some(true));
        assert_eq!(verdict.concerns(), Vec::<String>::new());
        assert_eq!(repo.repository.store_verdict().await.unwrap(), Some(verdict));
    }
    let sink = Careless(MemorySink::new());
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let verdict = repo.repository.probe_store(&cx).await.unwrap();
    assert!(!verdict.refuses_second_create && !verdict.one_winner, "{verdict:?}");
    assert!(verdict.concerns()[0].contains("ignores conditional requests"));
    assert!(
        sink.0.list_all(&Prefix::new("x-probe").unwrap()).await.unwrap().is_empty(),
        "nothing stays"
    );
    // Moved elsewhere, the verdict means nothing.
    let moved = Repo::open(Arc::new(sink.0.copy()), repo.passphrase.reveal()).await.unwrap();
    assert_eq!(moved.repository.store_verdict().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_store_gets_a_second_look() {
    let repo = Repo::init(Arc::new(Careless(MemorySink::new()))).await;
    repo.repository.probe_store(&Context::silent()).await.unwrap();
    for _ in 0..5 {
        let rivals = (0..8).map(|rival| {
            let repository = repo.repository.clone();
            tokio::spawn(async move {
                Lease::acquire(
                    &repository,
                    "prune",
                    &held_by(&format!("rival {rival}")),
                    &Context::silent(),
                )
                .await
            })
        });
        let results = futures::future::join_all(rivals).await;
        let won: Vec<Lease> = results.into_iter().filter_map(|rival| rival.unwrap().ok()).collect();
        assert_eq!(won.len(), 1, "all wrote, one was last");
        for lease in won {
            lease.release().await.unwrap();
        }
    }
}

/// Something between here and the store that answers every listing with nothing.
#[tokio::test]
async fn an_empty_listing_is_not_believed() {
    let sink = MemorySink::new();
    let repo = Repo::init(Arc::new(sink.clone())).await;
    let cx = Context::silent();
    assert!(
        repo.repository.snapshots(&cx).await.unwrap().snapshots.is_empty(),
        "a new repository has none"
    );
    for meta in sink.list_all(&Prefix::new("keys").unwrap()).await.unwrap() {
        sink.remove(&meta.key);
    }
    let error = repo.repository.snapshots(&cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
