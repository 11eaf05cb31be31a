//! Our backups in object stores: what the issue calls done. NOT YET WIRED IN: written against the coming
//! `backup_storage::resolver`, so that it can be turned on when that is there.

use std::fs;
use std::sync::Arc;

use backup_storage::resolver::{StoreSettings, open};
use backup_storage::{Location, Sink};
use tempfile::TempDir;

use crate::support::compare::assert_same;
use crate::support::fault_proxy::FaultProxy;
use crate::support::fault_proxy::answers::Answer;
use crate::support::fault_proxy::rules::{Fault, When};
use crate::support::noise::noise;
use crate::support::servers::s3::S3;

fn location(s3: &S3, endpoint: &str, prefix: &str) -> Location {
    format!("s3://bucket/{prefix}?endpoint={endpoint}&region={}", s3.region).parse().unwrap()
}

/// With nothing but the credentials: no test depends on the environment it runs in.
fn settings(s3: &S3) -> StoreSettings {
    StoreSettings { environment: s3.environment(), allow_http: Some(true), ..StoreSettings::default() }
}

async fn sink(s3: &S3, endpoint: &str, prefix: &str) -> Arc<dyn Sink> {
    open(&location(s3, endpoint, prefix), &settings(s3)).await.unwrap()
}

fn source(files: u64, bytes: usize) -> TempDir {
    let source = tempfile::tempdir().unwrap();
    for file in 0..files {
        fs::write(source.path().join(file.to_string()), noise(file, bytes)).unwrap();
    }
    source
}

mod needs_weed {
    use super::*;
    use crate::support::repo::{Repo, restored};
    use crate::support::restic::Restic;
    use crate::support::servers::weed::{SeaweedFs, User};
    use crate::support::tools::long;

    fn weed() -> SeaweedFs {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket("bucket", false);
        weed
    }

    /// Whatever the proxy does: a backup that says it succeeded is one that stock restic reads, at the store itself.
    #[tokio::test(flavor = "multi_thread")]
    async fn heavy_backup_through_faults() {
        let (weed, source) = (weed(), source(if long() { 400 } else { 20 }, 5_000_000));
        let proxy = FaultProxy::start(&weed.s3.endpoint);
        let repo = Repo::init(sink(&weed.s3, &proxy.endpoint(), "faults").await).await;
        for (seed, fault) in (1..).zip([
            Fault::Answer(Answer::slow_down()),
            Fault::AnswerAfter(Answer::internal_error()),
            Fault::ResetBefore,
            Fault::ResetAfter,
            Fault::Slow(5_000_000),
        ]) {
            proxy.inject(When::any().share(0.05, seed), fault);
        }
        proxy.inject(When::method("GET").without("list-type").share(0.1, 9), Fault::Truncate(1000));
        proxy.inject(When::listing().share(0.3, 10), Fault::Answer(Answer::html()));
        let snapshot = repo.backup_dir(source.path()).await;
        proxy.heal();
        let repository = format!("s3:{}/bucket/faults", weed.s3.endpoint);
        let restic = Restic::remote("restic-new", repository, repo.passphrase.reveal(), weed.s3.environment());
        restic.check();
        let target = tempfile::tempdir().unwrap();
        restic.restore(&snapshot.to_string(), target.path());
        assert_same(source.path(), &restored(target.path(), source.path()));
    }

    /// Each failure of configuration names what is wrong; the hint says what to do.
    #[tokio::test]
    async fn errors_with_the_fix() {
        let user = User { key: "writer", secret: "secret", actions: &["Write:bucket/ours/*", "List:bucket"] };
        let weed = SeaweedFs::with_users(&[user]);
        weed.s3.create_bucket("bucket", false);
        let proxy = FaultProxy::start(&weed.s3.endpoint);
        for (answer, expected) in [
            (Answer::expired_token(), "expired"),
            (Answer::clock_skew(), "clock"),
            (Answer::wrong_region(), "eu-central-1"),
            (Answer::access_denied(), "denied"),
        ] {
            proxy.heal();
            proxy.inject(When::any(), Fault::Answer(answer));
            let error = Repo::try_init(sink(&weed.s3, &proxy.endpoint(), "errors").await).await.unwrap_err();
            assert!(error.chain().to_string().contains(expected), "{}", error.chain());
            assert!(error.hint().is_some(), "{}", error.chain());
        }
        let denied = sink(&weed.s3.with_key("writer", "secret"), &weed.s3.endpoint, "theirs").await;
        assert!(Repo::try_init(denied).await.is_err());
    }
}

mod needs_rclone {
    use super::*;
    use crate::support::servers::rclone::Rclone;

    /// It ignores conditions without a word: recognised, and used by one writer only.
    #[tokio::test]
    async fn is_recognised_as_weak() {
        let rclone = Rclone::start();
        rclone.s3.create_bucket("bucket", false);
        let sink = sink(&rclone.s3, &rclone.s3.endpoint, "weak").await;
        let verdict = backup_storage::probe::probe(&*sink).await.unwrap();
        assert!(!verdict.conditional_create && !verdict.multi_writer());
    }
}
