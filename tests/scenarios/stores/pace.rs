//! How long things take: a link that moves is waited for, one that does not is given up, and limits
//! are kept.

use std::time::{Duration, Instant};

use backup_core::sink::{SinkErrorKind, SinkOps};
use backup_storage::StoreSettings;
use backup_storage::settings::{Rate, Seconds};

use crate::support::fault_proxy::rules::{Fault, When};
use crate::support::fault_proxy::seen::Traffic;
use crate::support::noise::noise;
use crate::support::store::{Stage, key, names, told};

/// Two seconds without a byte are a failure, which is not tried again for long.
fn impatient(settings: &mut StoreSettings) {
    settings.stall_timeout = Seconds::new(2);
    settings.retry_deadline = Seconds::new(1);
}

#[track_caller]
fn assert_rate(traffic: Traffic, limit: u64) {
    let share = traffic.bytes_per_second() / limit as f64;
    assert!(traffic.lasted() > Duration::from_secs(3), "{traffic:?}");
    assert!((0.95..1.05).contains(&share), "{share} of the limit: {traffic:?}");
}

mod needs_weed {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stalled_link_fails_in_bounded_time() {
        let stage = Stage::new();
        let truth = stage.truth("x").sink().await;
        let content = noise(1, 1_000_000);
        truth.put_bytes(&key("data/there"), content.clone()).await.unwrap();
        let sink = stage.store("x").with(impatient).sink().await;
        stage.proxy.inject(When::method("PUT"), Fault::StallRequest(100_000));
        stage.proxy.inject(When::method("GET").without("list-type"), Fault::StallResponse(100_000));
        stage.proxy.inject(When::listing(), Fault::StallResponse(0));
        let timed = async |what: &str,
                           operation: &mut (
                                    dyn Future<Output = backup_core::sink::SinkResult<()>> + Unpin
                                )| {
            let started = Instant::now();
            let error = operation.await.err().unwrap_or_else(|| panic!("{what} succeeded"));
            assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{what}: {}", told(&error));
            let took = started.elapsed();
            assert!(
                (Duration::from_secs(2)..Duration::from_secs(10)).contains(&took),
                "{what} took {took:?}"
            );
        };
        let put =
            Box::pin(async { sink.put_bytes(&key("data/new"), content.clone()).await.map(drop) });
        let get = Box::pin(async { sink.get_bytes(&key("data/there")).await.map(drop) });
        let prefix = backup_core::sink::Prefix::new("data").unwrap();
        let list = Box::pin(async { sink.list_all(&prefix).await.map(drop) });
        let (mut put, mut get, mut list) = (put, get, list);
        tokio::join!(timed("put", &mut put), timed("get", &mut get), timed("list", &mut list));
        assert_eq!(names(&*truth, "data").await, ["data/there"], "half of an object is none");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_stalls_once_is_tried_again() {
        let stage = Stage::new();
        let patient = |settings: &mut StoreSettings| settings.stall_timeout = Seconds::new(2);
        let sink = stage.store("x").with(patient).sink().await;
        let content = noise(1, 1_000_000);
        let put = stage.proxy.inject(When::method("PUT").once(), Fault::StallRequest(100_000));
        sink.put_bytes(&key("data/a"), content.clone()).await.unwrap();
        let get = stage.proxy.inject(When::method("GET").once(), Fault::StallResponse(100_000));
        assert!(sink.get_bytes(&key("data/a")).await.unwrap() == content, "another content");
        assert_eq!((put.count(), get.count()), (1, 1));
    }

    /// Puts and gets over a link of so many bytes per second; returns how long that took.
    async fn over_slow_link(bytes: usize, rate: u64) -> Duration {
        let stage = Stage::new();
        let content = noise(1, bytes);
        stage.truth("x").sink().await.put_bytes(&key("data/there"), content.clone()).await.unwrap();
        let sink = stage.store("x").with(impatient).sink().await;
        stage.proxy.forget();
        stage.proxy.inject(When::any(), Fault::Slow(rate));
        let started = Instant::now();
        let (new, there) = (key("data/new"), key("data/there"));
        let (put, read) =
            tokio::join!(sink.put_bytes(&new, content.clone()), sink.get_bytes(&there));
        put.unwrap_or_else(|error| panic!("{}", told(&error)));
        assert!(read.unwrap() == content, "another content");
        // Whether the store verifies checksums is asked once, with a small object.
        let requests: Vec<_> = stage
            .proxy
            .requests()
            .into_iter()
            .filter(|request| !request.target.contains("x-probe"))
            .collect();
        assert_eq!(requests.len(), 2, "tried again: {requests:#?}");
        started.elapsed()
    }

    /// Each takes several times as long as a stall may, and none is tried again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_link_that_moves_is_waited_for() {
        let took = over_slow_link(15_000_000, 2_500_000).await;
        assert!(took > Duration::from_secs(5), "{took:?}");
    }

    /// The system takes the end of a body at once (here up to 2.5 MB, of which 2 s send 0.6 MB),
    /// and then for us nothing moves.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_that_is_slower_than_the_buffer_is_large_is_waited_for() {
        let took = over_slow_link(2_000_000, 300_000).await;
        assert!(took > Duration::from_secs(6), "{took:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn limits_are_kept_within_five_percent() {
        const UP: u64 = 3_000_000;
        const DOWN: u64 = 4_000_000;
        let stage = Stage::new();
        let limited = |settings: &mut StoreSettings| {
            settings.limit_upload = Rate::new(UP);
            settings.limit_download = Rate::new(DOWN);
        };
        let sink = stage.store("x").with(limited).sink().await;
        stage.proxy.forget();
        // Several at a time share one limit.
        let content = noise(1, 5_000_000);
        let puts = (0..4).map(|at| {
            let (sink, content) = (sink.clone(), content.clone());
            async move { sink.put_bytes(&key(&format!("data/{at}")), content).await.unwrap() }
        });
        futures::future::join_all(puts).await;
        let up = stage.proxy.uploaded();
        stage.proxy.forget();
        let started = Instant::now();
        let gets = (0..4).map(|at| {
            let (sink, content) = (sink.clone(), &content);
            async move {
                assert!(sink.get_bytes(&key(&format!("data/{at}"))).await.unwrap() == *content);
            }
        });
        futures::future::join_all(gets).await;
        // By our own clock: this machine's buffers take all of it at once, and no proxy sees how
        // slowly it is read.
        let took = started.elapsed().as_secs_f64();
        assert!(up.bytes >= 20_000_000 && stage.proxy.downloaded().bytes >= 20_000_000);
        assert_rate(up, UP);
        let share = 20_000_000.0 / took / DOWN as f64;
        assert!((0.95..1.05).contains(&share), "{share} of the limit of downloads");
    }
}
