//! What the store has locked is not deleted, and it is not tried either; when the locks have ended,
//! it goes.

mod needs_weed {
    use std::sync::Arc;
    use std::time::Duration;

    use backup_core::sink::{Operation, Prefix, SinkOps};
    use backup_core::testing::RecordingSink;
    use jiff::SignedDuration;

    use super::super::thorough;
    use crate::support::noise::noise;
    use crate::support::repo::{Repo, files, options};
    use crate::support::servers::weed::SeaweedFs;
    use crate::support::store::{BUCKET, Store, now};
    use crate::support::tree::{settle, write};

    /// Packs and index objects that somebody tried to delete since the last time.
    fn tried_to_delete(recording: &RecordingSink) -> (u64, u64) {
        let tried = (
            recording.count(Operation::Delete, "data"),
            recording.count(Operation::Delete, "index"),
        );
        recording.reset();
        tried
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_locked_stays_until_its_lock_ends() {
        let (weed, source) = (SeaweedFs::start(), tempfile::tempdir().unwrap());
        weed.s3.create_bucket(BUCKET, true);
        // Stored without locks, so that they can be as short as a test: locks of the settings are
        // of whole days.
        let free = Store::s3(&weed.s3, "repo").sink().await;
        let maker = Repo::init(Arc::clone(&free)).await;
        write(source.path().join("file"), noise(1, 300_000));
        settle();
        let first = maker.backup(&files(&[source.path()]), &options()).await.snapshot.unwrap();
        write(source.path().join("file"), noise(2, 310_000));
        settle();
        let second = maker.backup(&files(&[source.path()]), &options()).await.snapshot.unwrap();

        let locking =
            Store::s3(&weed.s3, "repo").with(|settings| settings.lock_days = Some(1)).sink().await;
        let recording = RecordingSink::new(Arc::clone(&locking));
        let repo =
            Repo::open(Arc::new(recording.clone()), maker.passphrase.reveal()).await.unwrap();
        repo.forget(first).await;
        let (custody, ends) = (locking.custody().unwrap(), now() + SignedDuration::from_secs(12));
        let packs = free.list_all(&Prefix::new("data").unwrap()).await.unwrap();
        for pack in &packs {
            custody.lock_until(&pack.key, ends).await.unwrap();
        }

        // The index that says so is locked for a day, as everything is that this handle stores.
        let marked = repo.prune(&thorough(Duration::ZERO)).await;
        assert!(marked.marked_packs > 0 && marked.deleted_packs == 0, "{marked:?}");
        assert_eq!(tried_to_delete(&recording).0, 0, "{marked:?}");
        let due = repo.prune(&thorough(Duration::ZERO)).await;
        assert!(now() < ends, "this machine is too slow for the locks of this test");
        assert_eq!((due.deleted_packs, due.locked_packs), (0, marked.marked_packs), "{due:?}");
        assert_eq!(tried_to_delete(&recording), (0, 0), "it was tried: {due:?}");
        repo.assert_sound().await;

        let wait = now().duration_until(ends).as_secs().max(0) + 2;
        tokio::time::sleep(Duration::from_secs(u64::try_from(wait).unwrap())).await;
        let free_again = repo.prune(&thorough(Duration::ZERO)).await;
        assert_eq!(
            (free_again.deleted_packs, free_again.locked_packs),
            (marked.marked_packs, 0),
            "{free_again:?}"
        );
        assert_eq!(
            tried_to_delete(&recording),
            (marked.marked_packs, 0),
            "packs alone: the index is locked"
        );
        assert_eq!(repo.verify(second).await.problems, []);
        repo.assert_sound().await;
    }
}
