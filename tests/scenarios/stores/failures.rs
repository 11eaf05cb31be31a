//! What goes wrong between us and a store, and what our sink makes of it.

use std::sync::Arc;

use backup_core::sink::{Sink, SinkErrorKind, SinkOps};
use bytes::Bytes;
use futures::StreamExt;

use crate::support::fault_proxy::answers::Answer;
use crate::support::fault_proxy::rules::{Fault, When};
use crate::support::noise::noise;
use crate::support::store::{Stage, key, names, told};

/// Uploads in parts, each of 16 MiB but the last.
async fn upload(
    sink: &Arc<dyn Sink>,
    name: &str,
    content: &Bytes,
) -> Result<(), backup_core::sink::SinkError> {
    let mut upload = sink.upload(&key(name)).await?;
    upload.put_part(content.clone()).await?;
    upload.complete().await.map(drop)
}

mod needs_weed {
    use backup_core::check::ReadData;
    use backup_core::source::RestoreRequest;
    use http::Method;

    use super::*;
    use crate::support::compare::assert_same;
    use crate::support::repo::{Repo, files, options, restored};
    use crate::support::store::{BUCKET, now};
    use crate::support::tree::write;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_create_whose_response_is_lost_is_recognised_as_ours() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let lost = [Fault::AnswerAfter(Answer::internal_error()), Fault::ResetAfter];
        for (at, fault) in lost.into_iter().enumerate() {
            let name = key(&format!("data/{at}"));
            let hits = stage.proxy.inject(When::create().once(), fault.clone());
            assert!(sink.create(&name, "ours").await.unwrap(), "{fault:?}");
            assert_eq!(
                (hits.count(), &truth.get_bytes(&name).await.unwrap()[..]),
                (1, &b"ours"[..])
            );

            // And what is another's stays another's.
            let hits = stage.proxy.inject(When::create().once(), fault.clone());
            assert!(!sink.create(&name, "more").await.unwrap(), "{fault:?}");
            assert_eq!(
                (hits.count(), &truth.get_bytes(&name).await.unwrap()[..]),
                (1, &b"ours"[..])
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_conflict_without_an_object_is_tried_again() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let hits = stage.proxy.inject(When::create().times(2), Fault::Answer(Answer::conflict()));
        assert!(sink.create(&key("config"), "ours").await.unwrap());
        assert_eq!((hits.count(), stage.proxy.count("PUT", "/config")), (2, 3));
        assert_eq!(truth.get_bytes(&key("config")).await.unwrap(), "ours");

        let hits = stage.proxy.inject(When::create().once(), Fault::Answer(Answer::conflict()));
        assert!(!sink.create(&key("config"), "more").await.unwrap());
        assert_eq!(
            (hits.count(), &truth.get_bytes(&key("config")).await.unwrap()[..]),
            (1, &b"ours"[..])
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_passes_is_tried_again() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let faults = [
            Fault::Answer(Answer::slow_down()),
            Fault::Answer(Answer::internal_error()),
            Fault::Answer(Answer::too_many_requests().retry_after(1)),
            Fault::AnswerAfter(Answer::slow_down()),
            Fault::ResetBefore,
            Fault::ResetAfter,
        ];
        for (at, fault) in (0_u64..).zip(faults) {
            let content = noise(at, 200_000);
            let hits = stage.proxy.inject(When::any().times(2), fault.clone());
            sink.put_bytes(&key("index/a"), content.clone())
                .await
                .unwrap_or_else(|error| panic!("{}", told(&error)));
            assert_eq!(truth.get_bytes(&key("index/a")).await.unwrap(), content, "{fault:?}");
            assert_eq!(sink.head(&key("index/a")).await.unwrap().size, 200_000, "{fault:?}");
            assert_eq!(hits.count(), 2, "{fault:?}");
            let hits = stage.proxy.inject(When::any().once(), fault.clone());
            assert_eq!(sink.get_bytes(&key("index/a")).await.unwrap(), content, "{fault:?}");
            assert_eq!(names(&*sink, "index").await, ["index/a"], "{fault:?}");
            assert_eq!(hits.count(), 1, "{fault:?}");
            let hits = stage.proxy.inject(When::any().once(), fault.clone());
            sink.delete_one(&key("index/a")).await.unwrap();
            assert_eq!((hits.count(), names(&*truth, "index").await.len()), (1, 0), "{fault:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_completed_upload_that_failed_is_recognised() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let content = Bytes::from(noise(1, 17 << 20));
        let faults = [
            Fault::AnswerAfter(Answer::internal_error()),
            Fault::AnswerAfter(Answer::late(Answer::internal_error())),
            Fault::ResetAfter,
            Fault::Answer(Answer::late(Answer::slow_down())),
        ];
        for (at, fault) in faults.into_iter().enumerate() {
            let name = format!("data/{at}");
            let hits = stage.proxy.inject(When::completion().once(), fault.clone());
            let parts = stage.proxy.inject(When::part().once(), Fault::ResetAfter);
            upload(&sink, &name, &content)
                .await
                .unwrap_or_else(|error| panic!("{fault:?}: {}", told(&error)));
            assert_eq!((hits.count(), parts.count()), (1, 1), "{fault:?}");
            assert!(
                truth.get_bytes(&key(&name)).await.unwrap() == content,
                "{fault:?}: another content"
            );
        }
        // An object that was there before is not taken for the new one, though as long.
        let other = Bytes::from(noise(2, 17 << 20));
        let denied = stage.proxy.inject(When::completion(), Fault::Answer(Answer::access_denied()));
        let error = upload(&sink, "data/0", &other).await.unwrap_err();
        assert_eq!(
            (error.kind(), denied.count()),
            (SinkErrorKind::PermissionDenied, 1),
            "{}",
            told(&error)
        );
        assert!(
            truth.get_bytes(&key("data/0")).await.unwrap() == content,
            "what was there is still there"
        );
    }

    /// An upload of ours that nobody finished is found and thrown away; another's is left alone.
    #[tokio::test(flavor = "multi_thread")]
    async fn abandoned_uploads_are_cleared() {
        let stage = Stage::new();
        let (sink, s3) = (stage.truth("ours").sink().await, &stage.weed.s3);
        for name in ["ours/data/1", "ours/data/2", "theirs/data/1"] {
            s3.send(Method::POST, &format!("/{BUCKET}/{name}?uploads="), &[], b"").succeeded();
        }
        let custody = sink.custody().unwrap();
        let hour = jiff::SignedDuration::from_hours(1);
        assert_eq!(custody.clear_unfinished(now() - hour).await.unwrap(), 0, "they are young");
        assert_eq!(custody.clear_unfinished(now() + hour).await.unwrap(), 2);
        let left =
            s3.send(Method::GET, &format!("/{BUCKET}?uploads="), &[], b"").succeeded().text();
        assert_eq!(left.matches("<Upload>").count(), 1, "{left}");
        assert!(left.contains("theirs/data/1"), "{left}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_listing_that_is_none_is_never_an_empty_one() {
        let stage = Stage::new();
        let truth = stage.truth("x").sink().await;
        for name in ["data/1", "data/2", "data/3"] {
            truth.put_bytes(&key(name), "x").await.unwrap();
        }
        let hasty = |settings: &mut backup_storage::StoreSettings| {
            settings.retry_deadline = backup_storage::settings::Seconds::new(1);
        };
        let sink = stage.store("x").with(hasty).sink().await;
        let lies = [
            Fault::Answer(Answer::empty_xml()),
            Fault::Answer(Answer::new(200, "application/xml", "")),
            Fault::Truncate(150),
            Fault::Truncate(0),
        ];
        for lie in lies {
            let hits = stage.proxy.inject(When::listing().once(), lie.clone());
            assert_eq!((names(&*sink, "data").await.len(), hits.count()), (3, 1), "{lie:?}");
            stage.proxy.inject(When::listing(), lie.clone());
            let prefix = backup_core::sink::Prefix::new("data").unwrap();
            let listed = sink.list_all(&prefix).await;
            let error = listed.err().unwrap_or_else(|| panic!("{lie:?} was taken for a listing"));
            assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{lie:?}: {}", told(&error));
            stage.proxy.heal();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bulk_deletion_answers_for_each_key() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let keys: Vec<_> = (0..5).map(|at| key(&format!("data/{at}"))).collect();
        let put_all = async || {
            for name in &keys {
                truth.put_bytes(name, "x").await.unwrap();
            }
        };
        put_all().await;
        let hits = stage
            .proxy
            .inject(When::bulk_deletion(), Fault::AnswerAfter(Answer::not_deleted("x/data/3")));
        // Asked again by itself, it is refused again.
        stage.proxy.inject(When::method("DELETE"), Fault::Answer(Answer::access_denied()));
        let answers: Vec<_> =
            sink.delete(futures::stream::iter(keys.clone()).boxed()).collect().await;
        let errors: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!((hits.count(), answers.len(), errors.len()), (1, 5, 1), "{answers:?}");
        assert_eq!(errors[0].kind(), SinkErrorKind::PermissionDenied);
        assert!(errors[0].to_string().contains("data/3"), "{}", errors[0]);
        stage.proxy.heal();

        for lie in [
            Answer::html(),
            Answer::new(200, "application/xml", ""),
            Answer::late(Answer::internal_error()),
        ] {
            put_all().await;
            let hits = stage.proxy.inject(When::bulk_deletion().once(), Fault::Answer(lie.clone()));
            let answers: Vec<_> =
                sink.delete(futures::stream::iter(keys.clone()).boxed()).collect().await;
            let deleted = answers.iter().filter(|answer| answer.is_ok()).count();
            assert_eq!((hits.count(), answers.len()), (1, 5), "{lie:?}");
            let left = names(&*truth, "data").await.len();
            assert_eq!(deleted + left, 5, "{lie:?}: what is said to be deleted is; {answers:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_content_that_is_cut_goes_on() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let content = noise(1, 5_000_000);
        truth.put_bytes(&key("data/a"), content.clone()).await.unwrap();
        for (cut, range) in [
            (1_900_000, 0..5_000_000),
            (10, 0..5_000_000),
            (0, 7..5_000_000),
            (2_000_000, 3..4_999_999),
        ] {
            let hits = stage.proxy.inject(When::method("GET").times(2), Fault::Truncate(cut));
            let read = sink.get_range(&key("data/a"), range.clone()).await.unwrap();
            assert!(
                read == content[range.start as usize..range.end as usize],
                "cut at {cut}: another content"
            );
            let whole = sink.get_bytes(&key("data/a")).await.unwrap();
            assert!(whole == content, "cut at {cut}: another content");
            assert_eq!(hits.count(), 2);
        }
    }

    /// A bit that flips on the way up is refused by the store, which has the checksum, and sent
    /// again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_bit_that_flips_on_the_way_up_is_sent_again() {
        let stage = Stage::new();
        let (sink, truth) = (stage.store("x").sink().await, stage.truth("x").sink().await);
        let content = Bytes::from(noise(1, 17 << 20));
        let hits = stage.proxy.inject(When::put().once(), Fault::FlipRequest(100));
        sink.put_bytes(&key("data/a"), content.slice(..300_000))
            .await
            .unwrap_or_else(|e| panic!("{}", told(&e)));
        assert!(
            truth.get_bytes(&key("data/a")).await.unwrap() == content[..300_000],
            "another content"
        );
        assert_eq!(hits.count(), 1);
        let hits = stage.proxy.inject(When::part().once(), Fault::FlipRequest(10_000_000));
        upload(&sink, "data/b", &content).await.unwrap_or_else(|e| panic!("{}", told(&e)));
        assert!(truth.get_bytes(&key("data/b")).await.unwrap() == content, "another content");
        assert_eq!(hits.count(), 1);
    }
    /// Nor is one that flips on the way down ever taken for content: our own hashes tell.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_bit_that_flips_on_the_way_down_is_found() {
        let (stage, source) = (Stage::new(), tempfile::tempdir().unwrap());
        write(source.path().join("file"), noise(1, 3_000_000));
        let repo = Repo::init(stage.store("x").sink().await).await;
        let snapshot = repo.backup(&files(&[source.path()]), &options()).await.snapshot.unwrap();
        let hits =
            stage.proxy.inject(When::method("GET").target("/data/"), Fault::FlipResponse(20));
        let target = tempfile::tempdir().unwrap();
        let flipped = repo.restore_with(snapshot, &RestoreRequest::default(), target.path()).await;
        assert!(
            flipped.is_err() || flipped.as_ref().is_ok_and(|report| report.warnings > 0),
            "{flipped:?}"
        );
        let checked = repo.check(ReadData::All).await;
        assert!(checked.as_ref().map_or(true, |report| !report.problems.is_empty()), "{checked:?}");
        assert!(hits.count() >= 2);
        stage.proxy.heal();
        let target = tempfile::tempdir().unwrap();
        repo.restore(snapshot, target.path()).await;
        assert_same(source.path(), &restored(target.path(), source.path()));
    }
}
