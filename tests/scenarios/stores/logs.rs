//! A log that is captured into an object store.

mod needs_weed {
    use std::sync::Arc;
    use std::time::Duration;

    use backup_core::clock::{Clock, SystemClock};
    use backup_core::log::CaptureOptions;

    use crate::support::logs::{Logged, worst_lag};
    use crate::support::repo::Repo;
    use crate::support::store::Stage;

    /// While backups into the same store go on.
    #[tokio::test(flavor = "multi_thread")]
    async fn alone_a_source_that_dies_loses_at_most_three_seconds() {
        let stage = Stage::new();
        let repo = Repo::init(stage.truth("log").sink().await).await;
        let other = Repo::init(stage.truth("load").sink().await).await;
        let logged = Logged::new(&repo.repository, Arc::new(SystemClock));
        let load = Logged::new(&other.repository, Arc::new(SystemClock));
        load.source.push(SystemClock.now(), vec![7; 20_000_000]);
        logged.back_up().await;
        let loading = tokio::spawn(async move {
            loop {
                load.back_up().await;
            }
        });
        let capturing = logged.begin(CaptureOptions::default());
        // Taking the lease lasts longer where the store does not create atomically.
        let first = logged.source.push(SystemClock.now(), vec![7; 500]);
        while logged.source.acknowledged().as_ref() != Some(&first) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let worst = worst_lag(&logged, Duration::from_secs(6)).await;
        loading.abort();
        assert!(worst < Duration::from_secs(3), "{worst:?} would be lost");
        capturing.stop().await.unwrap();
        logged.assert_all_there().await;
        logged.roll_up().await;
        logged.assert_all_there().await;
    }
}
