//! Every store keeps the contract of sinks, or is known not to.

use std::sync::atomic::{AtomicUsize, Ordering};

use backup_core::testing::{RecordingSink, SinkDifferences, SinkHandles, sink_conformance};

use crate::support::gcs_double::GcsDouble;
use crate::support::store::{BUCKET, Store};

/// Runs the whole suite, each check below a prefix of its own.
async fn conforms(store: impl Fn(&str) -> Store, differences: SinkDifferences) {
    let next = AtomicUsize::new(0);
    let make = async || {
        let store = store(&format!("check/{}", next.fetch_add(1, Ordering::SeqCst)));
        SinkHandles::new(
            RecordingSink::new(store.sink().await),
            RecordingSink::new(store.sink().await),
        )
    };
    Box::pin(sink_conformance(make, differences)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_double_of_google() {
    let (double, room) = (GcsDouble::start(), tempfile::tempdir().unwrap());
    double.create_bucket(BUCKET);
    let endpoint = double.endpoint();
    conforms(
        |prefix| Store::gcs(&double, &endpoint, prefix, room.path()),
        SinkDifferences::default(),
    )
    .await;
    assert_eq!(double.unfinished(BUCKET), 0, "every upload was ended");
}

mod needs_weed {
    use http::Method;

    use super::*;
    use crate::support::servers::weed::SeaweedFs;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_seaweedfs() {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket(BUCKET, false);
        conforms(|prefix| Store::s3(&weed.s3, prefix), SinkDifferences::default()).await;
        let unfinished =
            weed.s3.send(Method::GET, &format!("/{BUCKET}?uploads="), &[], b"").succeeded().text();
        assert!(!unfinished.contains("<Upload>"), "every upload was ended: {unfinished}");
    }
}

mod needs_moto_server {
    use super::*;
    use crate::support::fault_proxy::FaultProxy;
    use crate::support::servers::moto::Moto;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_moto() {
        let moto = Moto::start();
        moto.s3.create_bucket(BUCKET, false);
        // It looks and stores in two steps, so that of rivals several win: through this they come
        // one after another.
        let queue = FaultProxy::one_at_a_time(&moto.s3.endpoint);
        let s3 = moto.s3.at(&queue.endpoint());
        conforms(|prefix| Store::s3(&s3, prefix), SinkDifferences::default()).await;
    }
}

mod needs_azurite_blob {
    use super::*;
    use crate::support::servers::azurite::Azurite;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_azurite() {
        let azurite = Azurite::start();
        azurite.create_bucket(BUCKET);
        // Its pages are of 5000: a few objects prove as much.
        let mut few = SinkDifferences::default();
        few.list_objects = 300;
        conforms(|prefix| Store::azure(&azurite, prefix), few).await;
    }
}

mod needs_rclone {
    use backup_core::context::Context;
    use backup_core::sink::{SinkErrorKind, SinkOps};
    use backup_storage::settings::Seconds;

    use super::*;
    use crate::support::repo::Repo;
    use crate::support::servers::rclone::Rclone;
    use crate::support::store::{key, told};

    fn weak(rclone: &Rclone) -> Store {
        rclone.s3.create_bucket(BUCKET, false);
        Store::s3(&rclone.s3, "weak").with(|settings| settings.retry_deadline = Seconds::new(1))
    }

    /// It ignores conditions without a word.
    #[tokio::test(flavor = "multi_thread")]
    async fn of_rclone_is_missed_and_noticed() {
        let rclone = Rclone::start();
        let repo = Repo::init(weak(&rclone).sink().await).await;
        let verdict = repo.repository.probe_store(&Context::silent()).await.unwrap();
        assert!(!verdict.creates_atomically() && !verdict.refuses_second_create, "{verdict:?}");
        assert!(verdict.concerns()[0].contains("ignores conditional requests"), "{verdict:?}");
        assert_eq!(
            repo.repository.store_verdict().await.unwrap().as_ref(),
            Some(&verdict),
            "kept in the repository"
        );
    }

    /// It answers ranges with status 200: that is refused, and never read as something else.
    #[tokio::test(flavor = "multi_thread")]
    async fn ranges_of_rclone_are_right_or_refused() {
        let rclone = Rclone::start();
        let sink = weak(&rclone).sink().await;
        let bytes: Vec<u8> = (0..=255).collect();
        for (name, range) in [("data/a", 100..200), ("data/b", 0..1), ("data/c", 255..256)] {
            sink.put_bytes(&key(name), bytes.clone()).await.unwrap();
            match sink.get_range(&key(name), range.clone()).await {
                Ok(read) => assert_eq!(read, bytes[range.start as usize..range.end as usize]),
                Err(error) => assert_ne!(error.kind(), SinkErrorKind::NotFound, "{}", told(&error)),
            }
            assert_eq!(sink.get_bytes(&key(name)).await.unwrap(), bytes);
        }
    }
}

/// A real bucket of Google's, if somebody has one to spare: `BACKUP_TEST_GCS_BUCKET` names it, and
/// `GOOGLE_APPLICATION_CREDENTIALS` a key file that may read, write, list and delete there.
mod needs_gcs_bucket {
    use super::super::leases::one_wins;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a real bucket: set BACKUP_TEST_GCS_BUCKET and GOOGLE_APPLICATION_CREDENTIALS"]
    async fn of_google_itself() {
        let mut few = SinkDifferences::default();
        few.list_objects = 50;
        let top = format!("backup-tests-{}", hex::encode(rand::random::<[u8; 8]>()));
        conforms(|prefix| Store::real_gcs(&format!("{top}/{prefix}")), few).await;
        one_wins(&Store::real_gcs(&format!("{top}/leases")), 3).await;
        Store::real_gcs(&top).clear().await;
    }
}
