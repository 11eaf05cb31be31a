//! Object lock: what a repository cannot do without cannot be deleted by anybody, and what comes
//! and goes is not locked.

use jiff::{SignedDuration, Timestamp};

use crate::support::servers::s3::S3;
use crate::support::store::BUCKET;

mod needs_weed {
    use std::fs;

    use backup_core::sink::{Prefix, SinkErrorKind, SinkOps};
    use backup_storage::settings::LockMode;
    use http::Method;
    use tempfile::TempDir;

    use super::*;
    use crate::support::cli::Cli;
    use crate::support::noise::noise;
    use crate::support::repo::{Repo, files, options};
    use crate::support::restic::text;
    use crate::support::servers::weed::SeaweedFs;
    use crate::support::store::{Store, key, names, now, told};
    use crate::support::tree::write;

    /// Mode and end of an object's lock, as the store tells.
    fn lock(s3: &S3, name: &str) -> Option<(String, Timestamp)> {
        let head = s3.send(Method::HEAD, &format!("/{BUCKET}/{name}"), &[], b"").succeeded();
        let mode = head.header("x-amz-object-lock-mode").to_owned();
        (!mode.is_empty())
            .then(|| (mode, head.header("x-amz-object-lock-retain-until-date").parse().unwrap()))
    }

    fn days_left(until: Timestamp) -> f64 {
        until.duration_since(now()).as_secs_f64() / 86_400.0
    }

    fn locked_bucket() -> SeaweedFs {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket(BUCKET, true);
        weed
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_without_locks_is_told() {
        let weed = SeaweedFs::start();
        weed.s3.create_bucket(BUCKET, false);
        let sink =
            Store::s3(&weed.s3, "repo").with(|settings| settings.lock_days = Some(1)).sink().await;
        let error = sink.put_bytes(&key("data/a"), "x").await.unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("object lock")), "{}", told(&error));
        // What is not locked needs none.
        sink.put_bytes(&key("x-leases/prune/1"), "x").await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_matters_is_locked_and_cannot_be_deleted() {
        let (weed, source) = (locked_bucket(), tempfile::tempdir().unwrap());
        let store = Store::s3(&weed.s3, "repo").with(|settings| settings.lock_days = Some(1));
        let sink = store.sink().await;
        let repo = Repo::init(sink.clone()).await;
        write(source.path().join("file"), noise(1, 1_000_000));
        repo.backup(&files(&[source.path()]), &options()).await;
        // In parts, of which the store knows the length only at the end; and a large one that is
        // put at once.
        let mut upload = sink.upload(&key("data/in-parts")).await.unwrap();
        upload.put_part(noise(2, 17 << 20).into()).await.unwrap();
        upload.complete().await.unwrap();
        sink.put_bytes(&key("data/large"), noise(3, 65 << 20)).await.unwrap();
        for name in ["locks/of-restic", "x-leases/prune/1"] {
            sink.put_bytes(&key(name), "x").await.unwrap();
        }

        let (mut locked, mut free) = (0, 0);
        for name in names(&*sink, "").await {
            let lock = lock(&weed.s3, &format!("repo/{name}"));
            if name.starts_with("x-") || name.starts_with("locks/") {
                assert_eq!(lock, None, "{name}");
                free += 1;
                continue;
            }
            let (mode, until) = lock.unwrap_or_else(|| panic!("{name} is not locked"));
            assert!(
                mode == "GOVERNANCE" && (0.99..1.01).contains(&days_left(until)),
                "{name}: {mode} until {until}"
            );
            locked += 1;
        }
        assert!(locked >= 7 && free >= 2, "{locked} locked, {free} not");

        // Every version, by who may do everything else.
        let versions = weed
            .s3
            .send(Method::GET, &format!("/{BUCKET}?versions=&prefix=repo/data/"), &[], b"")
            .succeeded();
        let (mut refused, listing) = (0, versions.text());
        for version in listing.split("<Version>").skip(1) {
            let tag = |name: &str| {
                version.split(&format!("<{name}>")).nth(1).unwrap().split('<').next().unwrap()
            };
            let target = format!("/{BUCKET}/{}?versionId={}", tag("Key"), tag("VersionId"));
            assert_eq!(weed.s3.send(Method::DELETE, &target, &[], b"").status, 403, "{target}");
            refused += 1;
        }
        assert!(refused >= 3, "{listing}");
        sink.delete_one(&key("locks/of-restic")).await.unwrap();
        assert!(!sink.exists(&key("locks/of-restic")).await.unwrap());
        repo_is_sound(&store, &repo).await;
    }

    async fn repo_is_sound(store: &Store, repo: &Repo) {
        let again = Repo::open(store.sink().await, repo.passphrase.reveal()).await.unwrap();
        for info in again.snapshots().await {
            assert!(again.verify(info.id).await.problems.is_empty());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn locks_are_renewed_and_never_shortened() {
        let weed = locked_bucket();
        let days = |days| {
            Store::s3(&weed.s3, "x").with(|settings| {
                settings.lock_days = Some(days);
                settings.lock_mode = Some(LockMode::Governance);
            })
        };
        let sink = days(1).sink().await;
        sink.put_bytes(&key("data/a"), "x").await.unwrap();
        let custody = sink.custody().unwrap();
        assert_eq!(custody.lock_period(), Some(std::time::Duration::from_secs(86_400)));
        let first = custody.locked_until(&key("data/a")).await.unwrap().unwrap();
        assert_eq!(lock(&weed.s3, "x/data/a").unwrap().1, first);
        let later = now() + SignedDuration::from_hours(24 * 30);
        custody.lock_until(&key("data/a"), later).await.unwrap();
        let second = lock(&weed.s3, "x/data/a").unwrap().1;
        assert!(second >= later - SignedDuration::from_secs(1), "{second} is before {later}");
        // An earlier end shortens nothing, whether it is refused or ignored.
        custody.lock_until(&key("data/a"), first).await.ok();
        assert_eq!(lock(&weed.s3, "x/data/a").unwrap().1, second);
        let missing = custody.locked_until(&key("data/none")).await.unwrap_err();
        assert_eq!(missing.kind(), SinkErrorKind::NotFound);
        let unlocked = Prefix::new("locks").unwrap();
        assert!(sink.list_all(&unlocked).await.unwrap().is_empty());
    }

    /// The program with a configuration file that locks for so many days.
    fn configured(weed: &SeaweedFs, room: &TempDir, days: u32) -> Cli {
        let S3 { endpoint, region, .. } = &weed.s3;
        let config = format!(
            "[repositories.locked]\nurl = \
             \"s3://{BUCKET}/cli\"\n[repositories.locked.store]\nendpoint = \"{endpoint}\"\nregion \
             = \"{region}\"\nallow_http = true\nlock_days = {days}\n"
        );
        let file = room.path().join(format!("{days}.toml"));
        fs::write(&file, config).unwrap();
        let mut environment = weed.s3.environment();
        environment.insert("BACKUP_CONFIG".to_owned(), text(&file).to_owned());
        Cli::remote("locked", "password", environment)
    }

    #[test]
    fn the_doctor_renews() {
        let (weed, room) = (locked_bucket(), tempfile::tempdir().unwrap());
        let cli = configured(&weed, &room, 2);
        cli.run(&["init"]).succeeded();
        let source = room.path().join("source");
        write(source.join("file"), noise(1, 500_000));
        cli.run(&["run", "--source", text(&source)]).succeeded();
        let well = cli.summary(&["doctor"]);
        assert_eq!(
            (&well["creates_atomically"], &well["concerns"]),
            (&true.into(), &serde_json::json!([])),
            "{well}"
        );
        let fresh = cli.summary(&["doctor", "--renew-locks"]);
        assert_eq!(
            (&fresh["locks"]["renewed"], &fresh["locks"]["unlocked"]),
            (&0.into(), &0.into()),
            "{fresh}"
        );

        // With a longer period, what is left is less than half of it.
        let longer = configured(&weed, &room, 10);
        let renewed = longer.summary(&["doctor", "--renew-locks"]);
        let (objects, count) = (&renewed["locks"]["objects"], &renewed["locks"]["renewed"]);
        assert!(objects == count && objects.as_u64().unwrap() >= 5, "{renewed}");
        let left = days_left(lock(&weed.s3, "cli/config").unwrap().1);
        assert!((9.9..10.1).contains(&left), "{left} days");
        longer.check();
    }
}
